# SPDX-License-Identifier: Apache-2.0
"""Which files a render of the open .blend reads."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator

import bpy

import paths
import relocate
from problems import Problems

Finder = Callable[[str], list[str]]


def collect(main: str, problems: Problems) -> paths.Tree:
    """Every file that exists goes into the tree; what is missing is named."""
    tree = paths.Tree(main)
    for what, raw, owner, find in wanted():
        path = bpy.path.abspath(raw, library=owner)
        found = [p for p in find(path) if os.path.isfile(p)]
        if not found:
            problems.error(what, "the file %s is missing" % path,
                           "put it back, or relink it with File > External Data > Find Missing Files")
            continue
        for each in found:
            tree.add(raw, each, bpy.path.abspath(owner.filepath) if owner else "")
    for folder in cache_folders():
        for each in paths.below(folder):
            tree.add("//", each)
    return tree


def wanted() -> Iterator[tuple[str, str, Any, Finder]]:
    """(what for people, path as written, library that writes it, finder)."""
    for lib in libraries():
        yield "Library '%s'" % lib.name, lib.filepath, lib.parent, alone
    for image in bpy.data.images:
        if used(image) and image.filepath and not packed(image):
            find = {"SEQUENCE": paths.sequence, "TILED": paths.udim}.get(image.source, alone)
            if image.source in ("FILE", "SEQUENCE", "MOVIE", "TILED"):
                yield "Image '%s'" % image.name, image.filepath, image.library, find
    for clip in bpy.data.movieclips:
        if used(clip) and clip.filepath:
            find = paths.sequence if clip.source == "SEQUENCE" else alone
            yield "Movie clip '%s'" % clip.name, clip.filepath, clip.library, find
    for font in bpy.data.fonts:
        if used(font) and font.filepath and not font.filepath.startswith("<") and not packed(font):
            yield "Font '%s'" % font.name, font.filepath, font.library, alone
    for volume in bpy.data.volumes:
        if used(volume) and volume.filepath and not packed(volume):
            find = paths.sequence if volume.is_sequence else alone
            yield "Volume '%s'" % volume.name, volume.filepath, volume.library, find
    for cache in bpy.data.cache_files:
        if used(cache) and cache.filepath:
            find = paths.sequence if cache.is_sequence else alone
            yield "Cache file '%s'" % cache.name, cache.filepath, cache.library, find
    for tree in relocate.shader_trees():
        for node in tree.nodes:
            if node.bl_idname in ("ShaderNodeTexIES", "ShaderNodeScript") and node.mode == "EXTERNAL" and node.filepath:
                yield "Node '%s'" % node.name, node.filepath, tree.library, alone
    yield from modifiers()


def modifiers() -> Iterator[tuple[str, str, Any, Finder]]:
    for obj in bpy.data.objects:
        if not used(obj):
            continue
        for mod in obj.modifiers:
            what = "Modifier '%s' of object '%s'" % (mod.name, obj.name)
            if mod.type == "MESH_CACHE" and mod.filepath:
                yield what, mod.filepath, obj.library, alone
            elif mod.type == "OCEAN" and mod.is_cached and mod.filepath:
                yield what, mod.filepath, obj.library, paths.below
            elif mod.type == "FLUID" and mod.fluid_type == "DOMAIN" and mod.domain_settings.cache_directory:
                yield what, mod.domain_settings.cache_directory.rstrip("/\\") + "/", obj.library, paths.below


def libraries() -> list[Any]:
    """Linked files, each after the one that links it."""
    ordered: list[Any] = []
    waiting = list(bpy.data.libraries)
    while waiting:
        ready = [lib for lib in waiting if lib.parent is None or lib.parent in ordered]
        ordered += ready or waiting
        waiting = [lib for lib in waiting if lib not in ordered]
    return ordered


def cache_folders() -> Iterator[str]:
    """Disk caches of physics: Blender finds them by the .blend's base name."""
    files = [bpy.data.filepath] + [bpy.path.abspath(lib.filepath) for lib in bpy.data.libraries]
    for path in files:
        folder, base = os.path.split(os.path.abspath(path))
        cache = os.path.join(folder, "blendcache_" + os.path.splitext(base)[0])
        if os.path.isdir(cache):
            yield cache


def used(item: Any) -> bool:
    """Whether anything but a fake user keeps the datablock."""
    return item.users > (1 if item.use_fake_user else 0)


def packed(item: Any) -> bool:
    return bool(getattr(item, "packed_file", None)) or bool(len(getattr(item, "packed_files", ()) or ()))


def alone(path: str) -> list[str]:
    return [path]
