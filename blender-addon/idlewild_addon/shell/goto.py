# SPDX-License-Identifier: GPL-3.0-or-later
"""Going to what a problem is about."""

from __future__ import annotations

import os
from typing import Any

import bpy

from ..core.errors import Trouble
from ..core.problems import Target


def go(context: Any, target: Target) -> str:
    """Selects objects, or opens a folder; returns what it did."""
    if target.kind == "path":
        folder = target.name
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
        bpy.ops.wm.path_open(filepath=folder)
        return "Opened %s" % folder
    if target.kind == "scene":
        scene = bpy.data.scenes.get(target.name)
        if scene is not None and context.window is not None:
            context.window.scene = scene
            return "Showing scene %s" % scene.name
    objects = users(target)
    layer = context.view_layer
    here = [o for o in objects if o.name in layer.objects and layer.objects[o.name] == o]
    if not here:
        if target.kind == "image" and target.name in bpy.data.images:
            raise Trouble("No object of this view layer uses image '%s': look for it in the image editor" % target.name)
        raise Trouble("%s '%s' is not in this view layer: switch to the scene and layer that has it" % (target.kind.capitalize(), target.name))
    for o in layer.objects:
        if o.select_get():
            o.select_set(False)
    for o in here:
        o.hide_set(False)
        o.select_set(True)
    layer.objects.active = here[0]
    return "Selected %s" % here[0].name if len(here) == 1 else "Selected %d objects" % len(here)


def users(target: Target) -> list[Any]:
    """The objects that a datablock shows on."""
    if target.kind == "object":
        found = bpy.data.objects.get(target.name)
        return [found] if found else []
    collection = getattr(bpy.data, {
        "image": "images", "material": "materials", "font": "fonts", "volume": "volumes", "cache_file": "cache_files",
        "library": "libraries", "movieclip": "movieclips", "world": "worlds", "collection": "collections",
    }.get(target.kind, ""), None)
    item = collection.get(target.name) if collection is not None else None
    if item is None:
        return []
    if target.kind == "library":
        return [o for o in bpy.data.objects if o.library == item or (o.data is not None and o.data.library == item)]
    # Whatever uses it, over as many steps as lie between.
    reached, found = {item}, []
    table = bpy.data.user_map()
    waiting = [item]
    while waiting:
        for user in table.get(waiting.pop(), ()):
            if isinstance(user, bpy.types.Object):
                found.append(user)
            elif user not in reached and not isinstance(user, (bpy.types.Scene, bpy.types.Collection)):
                reached.add(user)
                waiting.append(user)
    return sorted(set(found), key=lambda o: str(o.name))
