# SPDX-License-Identifier: Apache-2.0
"""About how much memory a render takes, of a GPU and of the machine. An estimate
for people: nothing is refused by it, but by what the first frames take."""

from __future__ import annotations

import os
import struct
from typing import Any, Optional

import bpy

import deps
import paths

VRAM_BASE = 500 << 20  # kernels and what Cycles keeps for itself
MEMORY_BASE = 350 << 20  # Blender with an empty scene
TRIANGLE = 160  # bytes for Cycles, with its vertices, normals and the tree over it
MESH = 130  # bytes a triangle that Blender itself keeps, before and after modifiers
OBJECT = 1 << 10  # bytes of an object, instances too
STRAND = 48  # bytes of a key of hair
PASS = 16  # bytes of a pixel: float RGBA
FILM = 4  # passes that there always are: the picture, what denoisers and samplers keep
MAX_DEPTH = 8  # of collections that are instances in instances


def estimate(scene: Any, facts: dict) -> None:
    pixels = facts["width"] * facts["height"]
    film = pixels * PASS * sum(FILM + passes(layer) for layer in scene.view_layers if layer.use)
    pictures = textures()
    triangles, rest = geometry(scene)
    shared = film + pictures + triangles * TRIANGLE + rest
    facts["vram_bytes"] = VRAM_BASE + shared
    # Blender has the picture once more, where it puts it together.
    facts["memory_bytes"] = MEMORY_BASE + shared + film + triangles * MESH


def passes(layer: Any) -> int:
    """Passes of a view layer beside the picture."""
    n = sum(bool(getattr(layer, name)) for name in dir(layer) if name.startswith("use_pass_"))
    cycles = getattr(layer, "cycles", None)
    return n + (3 if getattr(cycles, "denoising_store_passes", False) else 0)


def textures() -> int:
    total = 0
    for image in bpy.data.images:
        if not deps.used(image) or image.source not in ("FILE", "SEQUENCE", "TILED", "GENERATED"):
            continue
        if image.source == "GENERATED":
            total += image.generated_width * image.generated_height * (16 if image.use_generated_float else 4)
            continue
        if deps.packed(image):
            total += sum(4 * f.packed_file.size for f in image.packed_files if f.packed_file)
            continue
        if not image.filepath:
            continue
        path = bpy.path.abspath(paths.native(image.filepath), library=image.library)
        for each in paths.udim(path) if image.source == "TILED" else [path]:
            total += texture(each)
    return total


def texture(path: str) -> int:
    """Bytes of one picture, unpacked."""
    try:
        with open(path, "rb") as f:
            head = f.read(64 << 10)
        shape = pixels(head)
        return shape[0] * shape[1] * shape[2] if shape else 4 * os.path.getsize(path)
    except OSError:
        return 0  # said to be missing elsewhere


def pixels(head: bytes) -> Optional[tuple[int, int, int]]:
    """Width, height and bytes a pixel as Cycles loads it, of PNG, JPEG, OpenEXR and
    Radiance; None of others, which are guessed from the file's size."""
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 26:
        width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
        grey = colour == 0  # one channel stays one
        return width, height, (1 if grey else 4) * (2 if depth == 16 else 1)
    if head[:4] == b"v/1\x01":
        return openexr(head)
    if head[:2] == b"\xff\xd8":
        return jpeg(head)
    if head[:2] == b"#?":
        return radiance(head)
    return None


def openexr(head: bytes) -> Optional[tuple[int, int, int]]:
    at = head.find(b"dataWindow\0box2i\0")
    if at < 0 or len(head) < at + 37:
        return None
    x0, y0, x1, y1 = struct.unpack("<iiii", head[at + 21 : at + 37])
    if not (0 <= x1 - x0 < 1 << 17 and 0 <= y1 - y0 < 1 << 17):
        return None
    # Of each channel: name, 0, type (1: half), 12 bytes more.
    channels = head.find(b"channels\0chlist\0")
    name = head.find(b"\0", channels + 20)
    half = channels >= 0 and name >= 0 and head[name + 1 : name + 5] == b"\x01\0\0\0"
    return x1 - x0 + 1, y1 - y0 + 1, 8 if half else 16


def jpeg(head: bytes) -> Optional[tuple[int, int, int]]:
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker, size = head[at + 1], struct.unpack(">H", head[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return width, height, 1 if head[at + 9] == 1 else 4
        at += 2 + size
    return None


def radiance(head: bytes) -> Optional[tuple[int, int, int]]:
    for line in head.split(b"\n", 64):
        words = line.split()
        if len(words) == 4 and words[0] in (b"-Y", b"+Y") and words[1].isdigit() and words[3].isdigit():
            height, width = int(words[1]), int(words[3])
            return (width, height, 16) if width < 1 << 17 and height < 1 << 17 else None
    return None


def geometry(scene: Any) -> tuple[int, int]:
    """Triangles after subdivision, and bytes of objects and hair. Objects that
    share a mesh are counted once where no modifier makes them differ."""
    seen: set[str] = set()
    triangles = rest = 0

    def add(objects: Any, depth: int) -> None:
        nonlocal triangles, rest
        for obj in objects:
            if obj.hide_render:
                continue
            rest += OBJECT
            if obj.instance_type == "COLLECTION" and obj.instance_collection and depth < MAX_DEPTH:
                if obj.instance_collection.name_full not in seen:
                    seen.add(obj.instance_collection.name_full)
                    add(obj.instance_collection.all_objects, depth + 1)
                else:
                    rest += OBJECT * len(obj.instance_collection.all_objects)
            if obj.type == "MESH" and obj.data:
                triangles += mesh(obj, seen)
                rest += hair(obj)

    add(scene.objects, 0)
    return triangles, rest


def mesh(obj: Any, seen: set) -> int:
    shown = [m for m in obj.modifiers if m.show_render]
    if not shown:
        if obj.data.name_full in seen:
            return 0
        seen.add(obj.data.name_full)
    triangles = max(len(obj.data.loops) - 2 * len(obj.data.polygons), 0)
    for mod in shown:
        if mod.type in ("SUBSURF", "MULTIRES"):
            triangles *= 4 ** min(mod.render_levels, 11)
        elif mod.type == "ARRAY" and mod.fit_type == "FIXED_COUNT":
            triangles *= max(mod.count, 1)
        elif mod.type == "MIRROR":
            triangles *= 2 ** sum(mod.use_axis)
    return triangles


def hair(obj: Any) -> int:
    total = 0
    for system in obj.particle_systems:
        what = system.settings
        many = what.count * (max(what.rendered_child_count, 1) if what.child_type != "NONE" else 1)
        total += many * (STRAND * 2 ** min(what.render_step, 8) if what.type == "HAIR" and what.render_type == "PATH" else OBJECT)
    return total
