# SPDX-License-Identifier: Apache-2.0
"""About how much memory of a GPU the scene takes. An estimate for people: what
is refused is decided by the first frame's measurement."""

from __future__ import annotations

import os
import struct
from typing import Any, Optional

import bpy

import deps
import paths
from problems import Problems

WARN = 8 << 30  # bytes; more than most gaming GPUs have to spare
BASE = 500 << 20  # kernels and what Cycles keeps for itself
TRIANGLE = 160  # bytes, with its vertices, normals and the tree over it
PIXEL = 16 * 12  # float RGBA of a dozen passes


def estimate(scene: Any, facts: dict, problems: Problems) -> None:
    total = BASE + facts["width"] * facts["height"] * PIXEL + textures() + geometry(scene)
    facts["vram_bytes"] = total
    if total > WARN:
        problems.warning("Scene '%s'" % scene.name, "it takes about %d GB of GPU memory by estimate" % (total >> 30),
                         "GPUs with less leave its frames to larger ones or to the CPU; smaller textures and fewer "
                         "subdivisions help")


def textures() -> int:
    total = 0
    for image in bpy.data.images:
        if not deps.used(image) or image.source not in ("FILE", "SEQUENCE", "TILED", "GENERATED"):
            continue
        if image.source == "GENERATED":
            total += image.generated_width * image.generated_height * (16 if image.use_generated_float else 4)
            continue
        if deps.packed(image) or not image.filepath:
            continue  # they make the .blend itself large
        path = bpy.path.abspath(paths.native(image.filepath), library=image.library)
        for each in paths.udim(path) if image.source == "TILED" else [path]:
            total += texture(each)
    return total


def texture(path: str) -> int:
    """Bytes of one picture, unpacked."""
    try:
        with open(path, "rb") as f:
            head = f.read(4096)
        shape = pixels(head)
        return shape[0] * shape[1] * shape[2] if shape else 4 * os.path.getsize(path)
    except OSError:
        return 0  # said to be missing elsewhere


def pixels(head: bytes) -> Optional[tuple[int, int, int]]:
    """Width, height and bytes a pixel of PNG and OpenEXR; None of others, which
    are guessed from the file's size."""
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 26:
        width, height, depth = struct.unpack(">IIB", head[16:25])
        return width, height, 8 if depth == 16 else 4
    if head[:4] == b"v/1\x01":
        at = head.find(b"dataWindow\0box2i\0")
        if at >= 0 and len(head) >= at + 37:
            x0, y0, x1, y1 = struct.unpack("<iiii", head[at + 21 : at + 37])
            if 0 <= x1 - x0 < 1 << 17 and 0 <= y1 - y0 < 1 << 17:
                return x1 - x0 + 1, y1 - y0 + 1, 16
    return None


def geometry(scene: Any) -> int:
    """Triangles after subdivision. Objects that share a mesh are counted once
    where no modifier makes them differ."""
    total = 0
    seen: set[str] = set()
    for obj in scene.objects:
        if obj.hide_render or obj.type != "MESH" or not obj.data:
            continue
        shown = [m for m in obj.modifiers if m.show_render]
        if not shown:
            if obj.data.name_full in seen:
                continue
            seen.add(obj.data.name_full)
        triangles = max(len(obj.data.loops) - 2 * len(obj.data.polygons), 0)
        for mod in shown:
            if mod.type in ("SUBSURF", "MULTIRES"):
                triangles *= 4 ** min(mod.render_levels, 11)
            elif mod.type == "ARRAY" and mod.fit_type == "FIXED_COUNT":
                triangles *= max(mod.count, 1)
            elif mod.type == "MIRROR":
                triangles *= 2 ** sum(mod.use_axis)
        total += triangles * TRIANGLE
    return total
