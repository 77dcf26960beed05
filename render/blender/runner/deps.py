# SPDX-License-Identifier: Apache-2.0
"""Which files a render of the open .blend reads."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator

import bpy

import caches
import compat
import paths
import relocate
import sequences
from problems import Problems

Finder = Callable[[str], list[str]]


def collect(main: str, problems: Problems, frames: set[int], heard: bool) -> tuple[paths.Tree, dict[str, str]]:
    """Every file that exists goes into the tree; what is missing is named.
    Also returned is what each file belongs to, for sentences about it. Of
    image sequences only what the frames show is taken, where that is sure."""
    tree = paths.Tree(main)
    owners: dict[str, str] = {}
    for what, raw, owner, find in wanted(frames, heard):
        if find is alone and raw.endswith(("/", "\\")):
            continue  # a folder: no file was chosen, and saving made the empty path a relative one
        path = bpy.path.abspath(paths.native(raw), library=owner)
        found = [p for p in find(path) if os.path.isfile(p)]
        if not found:
            found = [p for p in find(essential(raw)) if os.path.isfile(p)] if essential(raw) else []
        if not found:
            problems.error(what, "the file %s is missing" % (raw if paths.DRIVE.match(raw) else path),
                           "put it back, or relink it with File > External Data > Find Missing Files")
            continue
        for each in found:
            trouble = unusable(each)
            if trouble:
                problems.error(what, "the file %s %s" % (each, trouble), "put a good copy in its place, or relink it")
            if raw.endswith(("/", "\\")):
                tree.add_below(raw, path, each, bpy.path.abspath(paths.native(owner.filepath)) if owner else "")
            else:
                tree.add(raw, each, bpy.path.abspath(paths.native(owner.filepath)) if owner else "")
            owners.setdefault(os.path.abspath(each), what)
    for folder in cache_folders():
        for each in paths.below(folder):
            tree.add("//", each)
    return tree, owners


def unusable(path: str) -> str:
    if not os.access(path, os.R_OK):
        return "cannot be read: this user has no permission"
    if os.path.getsize(path) == 0:
        return "is empty"
    return ""


def essential(raw: str) -> str:
    """Where this Blender has an asset of the bundled library which the file
    names inside the folder of another installation, also one on Windows."""
    _, mark, rest = raw.replace("\\", "/").partition("/datafiles/assets/")
    top = bpy.utils.system_resource("DATAFILES", path="assets") if mark else ""
    return os.path.join(top, *rest.split("/")) if top and ".." not in rest else ""


def wanted(frames: set[int], heard: bool) -> Iterator[tuple[str, str, Any, Finder]]:
    """(what for people, path as written, library that writes it, finder)."""
    for lib in libraries():
        if packed(lib) or getattr(lib, "is_archive", False):
            continue
        yield "Library '%s'" % lib.name, lib.filepath, lib.parent, alone
    uses = Uses(frames)
    for image in bpy.data.images:
        if used(image) and image.filepath and not packed(image):
            find = paths.udim if image.source == "TILED" else alone
            if image.source == "SEQUENCE":
                find = uses.shown(image)
            if image.source in ("FILE", "SEQUENCE", "MOVIE", "TILED"):
                yield "Image '%s'" % image.name, image.filepath, image.library, find
    for clip in bpy.data.movieclips:
        if used(clip) and clip.filepath:
            find = paths.sequence if clip.source == "SEQUENCE" else alone
            yield "Movie clip '%s'" % clip.name, clip.filepath, clip.library, find
    for font in bpy.data.fonts:
        if used(font) and font.filepath and not font.filepath.startswith("<") and not packed(font):
            yield "Font '%s'" % font.name, font.filepath, font.library, alone
    for sound in bpy.data.sounds if heard else ():
        if used(sound) and sound.filepath and not packed(sound):
            yield "Sound '%s'" % sound.name, sound.filepath, sound.library, alone
    for volume in bpy.data.volumes:
        if used(volume) and volume.filepath and not packed(volume):
            find = paths.sequence if volume.is_sequence else alone
            yield "Volume '%s'" % volume.name, volume.filepath, volume.library, find
    for cache in bpy.data.cache_files:
        if used(cache) and cache.filepath:
            find = paths.sequence if cache.is_sequence else alone
            yield "Cache file '%s'" % cache.name, cache.filepath, cache.library, find
            for layer in getattr(cache, "layers", ()):
                if not layer.hide_layer:
                    yield "Layer of cache file '%s'" % cache.name, layer.filepath, cache.library, alone
    for tree in relocate.shader_trees():
        for node in tree.nodes:
            if node.bl_idname in ("ShaderNodeTexIES", "ShaderNodeScript") and node.mode == "EXTERNAL" and node.filepath:
                yield "Node '%s'" % node.name, node.filepath, tree.library, alone
    yield from modifiers()


class Uses:
    """Which nodes show an image sequence, and so which of its files the frames
    show."""

    def __init__(self, frames: set[int]) -> None:
        self.frames = frames
        self._nodes: dict[int, list[tuple[Any, Any]]] | None = None  # by image: tree, node

    def shown(self, image: Any) -> Finder:
        """Finds the files of the sequence that the frames show. Where anything
        but the nodes found here uses it, or how they count is animated: all."""
        if self._nodes is None:
            self._nodes = self._look()
        numbers: set[int] = set()
        users = self._nodes.get(image.as_pointer(), [])
        for tree, node in users:
            user = getattr(node, "image_user", node)
            if not hasattr(user, "frame_duration") or any("frame_" in c.data_path or "use_cyclic" in c.data_path
                                                          for c in compat.curves(tree)):
                return paths.sequence
            numbers.update(sequences.number(f, user.frame_start, user.frame_duration, user.frame_offset,
                                            user.use_cyclic) for f in self.frames)
        if not self.frames or len(users) != image.users - bool(image.use_fake_user):
            return paths.sequence
        return lambda path: sequences.shown(paths.sequence(path), numbers)

    def _look(self) -> dict[int, list[tuple[Any, Any]]]:
        trees = list(relocate.shader_trees()) + list(bpy.data.node_groups)
        trees += [t for t in (getattr(scene, "node_tree", None) for scene in bpy.data.scenes) if t]
        found: dict[int, list[tuple[Any, Any]]] = {}
        for tree in {t.as_pointer(): t for t in trees}.values():
            for node in tree.nodes:
                image = getattr(node, "image", None)
                if image is not None:
                    found.setdefault(image.as_pointer(), []).append((tree, node))
        return found


def modifiers() -> Iterator[tuple[str, str, Any, Finder]]:
    """Of folders the path as written ends with a slash."""
    for scene in bpy.data.scenes:
        world = scene.rigidbody_world
        if world and caches.external(world.point_cache):
            yield from external("Rigid body world of scene '%s'" % scene.name, world.point_cache, scene.library)
    for obj in bpy.data.objects:
        if not used(obj):
            continue
        for _, where, cache in caches.points(obj):
            if caches.external(cache):
                yield from external(where, cache, obj.library if cache.use_library_path else None)
        for mod in obj.modifiers:
            what = "Modifier '%s' of object '%s'" % (mod.name, obj.name)
            if mod.type == "MESH_CACHE" and mod.filepath:
                yield what, mod.filepath, obj.library, alone
            elif mod.type == "OCEAN" and mod.is_cached and mod.filepath:
                yield what, folder(mod.filepath), obj.library, paths.below
            elif mod.type == "FLUID" and mod.fluid_type == "DOMAIN" and mod.domain_settings.has_cache_baked_any:
                yield what, folder(mod.domain_settings.cache_directory), obj.library, paths.below
            elif mod.type == "NODES":
                for owner, name in caches.folders(mod):
                    raw = folder(getattr(owner, name))
                    if paths.look(bpy.path.abspath(paths.native(raw), library=obj.library)):
                        yield what, raw, obj.library, paths.below  # hazards says what is not baked


def external(what: str, cache: Any, owner: Any) -> Iterator[tuple[str, str, Any, Finder]]:
    yield what, folder(cache.filepath), owner, lambda path: caches.files_of(cache, path)


def folder(raw: str) -> str:
    return raw.rstrip("/\\") + "/"


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
    files = [bpy.data.filepath] + [bpy.path.abspath(paths.native(lib.filepath)) for lib in bpy.data.libraries]
    for path in files:
        folder, base = os.path.split(os.path.abspath(path))
        cache = os.path.join(folder, "blendcache_" + os.path.splitext(base)[0])
        if paths.look(cache):
            yield cache


def used(item: Any) -> bool:
    """Whether anything but a fake user keeps the datablock."""
    return item.users > (1 if item.use_fake_user else 0)


def packed(item: Any) -> bool:
    return bool(getattr(item, "packed_file", None)) or bool(len(getattr(item, "packed_files", ()) or ()))


def alone(path: str) -> list[str]:
    return [path]
