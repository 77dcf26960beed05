# SPDX-License-Identifier: Apache-2.0
"""Points absolute paths of the artist's disk at the files that came along."""

from __future__ import annotations

import os
from typing import Any, Iterator

import bpy

import caches
import compat
import paths


class Rewritten:
    """What was rewritten, to be taken back before the file is saved."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self._was: list[tuple[Any, str, str]] = []

    def set(self, owner: Any, name: str, value: str) -> None:
        self._was.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        while self._was:
            owner, name, value = self._was.pop()
            setattr(owner, name, value)


def relocate(root: str) -> Rewritten:
    """Rewrites, in memory, every absolute path whose file lies in the tree at
    root; `missing` of what is returned are those that are not there."""
    done = Rewritten()
    if not root:
        return done
    libraries(root, done)
    for strip in (s for scene in bpy.data.scenes for s in compat.all_strips(scene) if s.type == "IMAGE" and len(s.elements)):
        new = place(root, strip.directory.rstrip("/\\") + "/" + strip.elements[0].filename)
        if new:
            done.set(strip, "directory", os.path.dirname(new) + "/")
        elif new is None:
            done.missing.append(strip.directory)
    for owner, name in fields():
        raw = getattr(owner, name)
        new = place(root, raw)
        if new:
            done.set(owner, name, new)
        elif new is None:
            done.missing.append(raw)
    return done


def libraries(root: str, done: Rewritten) -> None:
    """One that is read now may link others."""
    seen: set[str] = set()
    while True:
        new = [lib for lib in bpy.data.libraries if lib.filepath not in seen]
        if not new:
            return
        for lib in new:
            seen.add(lib.filepath)
            if getattr(lib, "packed_file", None) or getattr(lib, "is_archive", False):
                continue
            to = place(root, lib.filepath)
            if to:
                seen.add(to)
                done.set(lib, "filepath", to)
                lib.reload()
            elif to is None:
                done.missing.append(lib.filepath)


def place(root: str, raw: str) -> str | None:
    """The new path; "" where the old one stays; None where nothing is there."""
    if not raw or raw.startswith("<") or paths.is_relative(raw):
        return ""
    new = os.path.join(root, *paths.absolute_name(raw.rstrip("/\\")).split("/"))
    if os.path.exists(new):
        return new
    if "<" in raw and os.path.isdir(os.path.dirname(new)):  # <UDIM>
        return new
    return "" if os.path.exists(raw) else None


def fields() -> Iterator[tuple[Any, str]]:
    """Every path that a render may read: (owner, property)."""
    data = bpy.data
    for group in (data.images, data.movieclips, data.volumes, data.cache_files, data.fonts, data.sounds):
        for item in group:
            if not getattr(item, "packed_file", None):
                yield item, "filepath"
    for tree in shader_trees():
        for node in tree.nodes:
            if node.bl_idname in ("ShaderNodeTexIES", "ShaderNodeScript") and node.mode == "EXTERNAL":
                yield node, "filepath"
    for cache in data.cache_files:
        for layer in getattr(cache, "layers", ()):
            yield layer, "filepath"
    for scene in data.scenes:
        yield from ((strip, "filepath") for strip in compat.all_strips(scene) if strip.type == "MOVIE")
        world = scene.rigidbody_world
        if world and caches.external(world.point_cache):
            yield world.point_cache, "filepath"
    for obj in data.objects:
        for _, _, cache in caches.points(obj):
            if caches.external(cache):
                yield cache, "filepath"
        for mod in obj.modifiers:
            if mod.type in ("MESH_CACHE", "OCEAN"):
                yield mod, "filepath"
            elif mod.type == "FLUID" and mod.fluid_type == "DOMAIN":
                yield mod.domain_settings, "cache_directory"
            elif mod.type == "NODES":
                yield from caches.folders(mod)


def shader_trees() -> Iterator[Any]:
    data = bpy.data
    for group in (data.materials, data.worlds, data.lights):
        for item in group:
            if item.use_nodes and item.node_tree:
                yield item.node_tree
    yield from (t for t in data.node_groups if t.bl_idname == "ShaderNodeTree")
