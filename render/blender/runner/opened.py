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


def files(scene: Any, frame: int) -> list[str]:
    """Of images as their nodes count them now (without a window Blender tells a
    node of no frame), and of volumes."""
    found: list[str] = []
    for node in nodes():
        image, user = getattr(node, "image", None), getattr(node, "image_user", node)
        if image is None or image.source != "SEQUENCE" or not hasattr(user, "frame_duration") or not image.filepath:
            continue
        path = bpy.path.abspath(paths.native(image.filepath), library=image.library)
        cut = sequences.numbered(path)
        if cut is not None:
            head, _, tail = cut
            number = sequences.number(frame, user.frame_start, user.frame_duration, user.frame_offset, "REPEAT" if user.use_cyclic else "EXTEND")
            found.append(head + str(number).zfill(len(path) - len(head) - len(tail)) + tail)
    graph = bpy.context.evaluated_depsgraph_get()
    for obj in scene.objects:
        if obj.type == "VOLUME" and obj.data.is_sequence and not obj.hide_render:
            grids = obj.evaluated_get(graph).data.grids
            if grids.load() or grids.error_message:
                found.append(bpy.path.abspath(grids.frame_filepath, library=obj.data.library))
    return found


def nodes() -> Iterator[Any]:
    trees = list(relocate.shader_trees()) + list(bpy.data.node_groups) + [compat.compositor(s) for s in bpy.data.scenes]
    for tree in {t.as_pointer(): t for t in trees if t}.values():
        for node in tree.nodes:
            yield node
