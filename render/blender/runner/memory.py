# SPDX-License-Identifier: Apache-2.0
"""About how much memory a render takes, of a GPU and of the machine. An estimate
for people: nothing is refused by it, but by what the first frames take."""

from __future__ import annotations

import os
from typing import Any

import bpy

import deps
import paths
import pictures

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
        shape = pictures.pixels(head)
        return shape[0] * shape[1] * shape[2] if shape else 4 * os.path.getsize(path)
    except OSError:
        return 0  # said to be missing elsewhere


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
