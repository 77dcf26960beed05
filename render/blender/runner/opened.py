# SPDX-License-Identifier: Apache-2.0
"""Which files of sequences Blender opens at the current frame, as its own
datablocks say it there."""

from __future__ import annotations

from typing import Any, Iterator

import bpy

import compat
import paths
import relocate
import sequences


NO_FILE = 0x7FFFFFFF  # what Blender says of a volume outside of its frames


def files(scene: Any, frame: int) -> list[str]:
    """Of images as their nodes count them now (without a window Blender tells a
    node of no frame), and of volumes."""
    found: list[str] = []
    for node in nodes():
        image, user = getattr(node, "image", None), getattr(node, "image_user", node)
        if image is None or image.source != "SEQUENCE" or not hasattr(user, "frame_duration") or not image.filepath:
            continue
        number = sequences.number(frame, user.frame_start, user.frame_duration, user.frame_offset, "REPEAT" if user.use_cyclic else "EXTEND")
        found.append(numbered(image, number))
    graph = bpy.context.evaluated_depsgraph_get()
    for obj in scene.objects:
        if obj.type == "VOLUME" and obj.data.is_sequence and not obj.hide_render:
            number = obj.evaluated_get(graph).data.grids.frame
            if number != NO_FILE:
                found.append(numbered(obj.data, number))
    return found


def numbered(item: Any, number: int) -> str:
    """The file of a datablock's sequence with that number, or ""."""
    path = bpy.path.abspath(paths.native(item.filepath), library=item.library)
    cut = sequences.numbered(path)
    if cut is None:
        return ""
    head, _, tail = cut
    return head + str(number).zfill(len(path) - len(head) - len(tail)) + tail


def nodes() -> Iterator[Any]:
    trees = list(relocate.shader_trees()) + list(bpy.data.node_groups) + [compat.compositor(s) for s in bpy.data.scenes]
    for tree in {t.as_pointer(): t for t in trees if t}.values():
        for node in tree.nodes:
            yield node
