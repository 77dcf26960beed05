# SPDX-License-Identifier: Apache-2.0
"""Which files a render of the open .blend reads."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator, Optional

import bpy

import caches
import compat
import paths
import relocate
import sequencer
import sequences
from problems import Problems

Finder = Callable[[str], list[str]]


def collect(main: str, problems: Problems, frames: set[int], heard: bool, scene: Any) -> tuple[paths.Tree, dict[str, str], Readers]:
    """Every file that exists goes into the tree; what is missing is named.
    Also returned is what each file belongs to, for sentences about it, and
    which frames read it. Of image sequences only what the frames show is taken,
    where that is sure. What is missing for other scenes than the one that is
    rendered is said, and no more."""
    written = link_here()
    tree = paths.Tree(main)
    owners: dict[str, str] = {}
    readers = Readers(compat.plays_straight())
    scenes = Scenes(scene)
    for what, raw, owner, find, item in wanted(frames, heard, written):
        if find is alone and raw.endswith(("/", "\\")):
            continue  # a folder: no file was chosen, and saving made the empty path a relative one
        path = bpy.path.abspath(paths.native(raw), library=owner)
        found = [p for p in find(path) if os.path.isfile(p)]
        if not found:
            found = [p for p in find(essential(raw)) if os.path.isfile(p)] if essential(raw) else []
        if not found:
            missing = "the file %s is missing" % (raw if paths.foreign(raw) else path)
            if scenes.elsewhere(item):
                paths.look(os.path.dirname(path))  # it may come back
                problems.warning(what, missing + ", and only scenes that are not rendered use it", "nothing, if that is meant")
                continue
            problems.error(what, missing, AWAY if paths.foreign(raw) and os.name != "nt" else
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
            readers.add(os.path.abspath(each), find, os.path.abspath(each) == os.path.abspath(path))
    for folder in cache_folders():
        for each in paths.below(folder):
            tree.add("//", each)
            readers.add(os.path.abspath(each), alone)
    return tree, owners, readers


AWAY = ("say where that disk is on this machine with [[paths.map]] in config.toml, or relink it with "
        "File > External Data > Find Missing Files")


def link_here() -> dict[str, str]:
    """Has libraries that the file names by paths of another machine read from where
    they are on this one; returns what it calls them."""
    written: dict[str, str] = {}
    done: set[str] = set()
    while True:
        new = [lib for lib in bpy.data.libraries if lib.filepath not in done]
        if not new:
            return written
        for lib in new:
            done.add(lib.filepath)
            here = "" if packed(lib) or getattr(lib, "is_archive", False) else paths.mapped(lib.filepath)
            if here and os.path.isfile(here):
                written[here] = lib.filepath
                done.add(here)
                lib.filepath = here
                lib.reload()


class Scenes:
    """Which datablocks a render of a scene cannot reach, by the pointers among
    all of them: scenes in its background, strips and compositor are reached."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._here: set[Any] = set()
        self._others: set[Any] = set()

    def elsewhere(self, item: Optional[Any]) -> bool:
        """Whether other scenes use item, and the rendered one does not. Where
        that is not sure it is said to use it."""
        others = [s for s in bpy.data.scenes if s != self._scene]
        if item is None or not others:
            return False
        if not self._here:
            uses: dict[Any, list[Any]] = {}
            for each, users in bpy.data.user_map().items():
                for user in users:
                    uses.setdefault(user, []).append(each)
            self._here = reached([self._scene], uses)
            self._others = reached([s for s in others if s not in self._here], uses)
        return item in self._others and item not in self._here


def reached(roots: list[Any], uses: dict[Any, list[Any]]) -> set[Any]:
    """The roots and all that they use, directly or not."""
    found, waiting = set(roots), list(roots)
    while waiting:
        for each in uses.get(waiting.pop(), ()):
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found


class Readers:
    """Which frames read a file: by the users of the sequence that it is of, or
    all. Not straight: what is shown at a frame may be of another one."""

    def __init__(self, straight: bool) -> None:
        self._straight = straight
        self._by: dict[str, list[Finder]] = {}
        self._named: set[str] = set()

    def add(self, path: str, find: Finder, named: bool = False) -> None:
        """named: the .blend names this very file."""
        self._by.setdefault(path, []).append(find)
        if named:
            self._named.add(path)

    def sequences(self, tree: paths.Tree) -> list[dict]:
        """The sequences whose files certain frames read: names, and users."""
        found: dict[tuple[str, str], dict] = {}
        for path, name in tree.files() if self._straight else ():
            finds = self._by.get(path, [])
            cut = sequences.numbered(name)
            if not finds or cut is None or not all(getattr(f, "sure", False) for f in finds):
                continue
            head, number, tail = cut
            each = found.setdefault((head, tail), {"head": head, "tail": tail, "numbers": [], "users": [], "named": []})
            each["numbers"].append(number)
            if path in self._named:
                each["named"].append(number)
            for user in (u for f in finds for u in f.users):
                if user not in each["users"]:
                    each["users"].append(user)
        return [dict(s, numbers=sequences.ranges(s["numbers"])) for s in found.values()]


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


def wanted(frames: set[int], heard: bool, written: dict[str, str]) -> Iterator[tuple[str, str, Any, Finder, Any]]:
    """(what for people, path as written, library that writes it, finder, the
    datablock whose file it is: None where its users are not known)."""
    for lib in libraries():
        if packed(lib) or getattr(lib, "is_archive", False):
            continue
        yield "Library '%s'" % lib.name, written.get(lib.filepath, lib.filepath), lib.parent, alone, None
    uses = Uses(frames)
    for image in bpy.data.images:
        if used(image) and image.filepath and not packed(image):
            find = paths.udim if image.source == "TILED" else alone
            if image.source == "SEQUENCE":
                find = uses.shown(image)
            if image.source in ("FILE", "SEQUENCE", "MOVIE", "TILED"):
                yield "Image '%s'" % image.name, image.filepath, image.library, find, image
    for clip in bpy.data.movieclips:
        if used(clip) and clip.filepath:
            find = shown_clip(clip) if clip.source == "SEQUENCE" else alone
            yield "Movie clip '%s'" % clip.name, clip.filepath, clip.library, find, clip
    for font in bpy.data.fonts:
        if used(font) and font.filepath and not font.filepath.startswith("<") and not packed(font):
            yield "Font '%s'" % font.name, font.filepath, font.library, alone, font
    for sound in bpy.data.sounds if heard else ():
        if used(sound) and sound.filepath and not packed(sound):
            yield "Sound '%s'" % sound.name, sound.filepath, sound.library, alone, sound
    for volume in bpy.data.volumes:
        if used(volume) and volume.filepath and not packed(volume):
            find = shown_volume(volume) if volume.is_sequence else alone
            yield "Volume '%s'" % volume.name, volume.filepath, volume.library, find, volume
    for cache in bpy.data.cache_files:
        if used(cache) and cache.filepath:
            find = shown_cache(cache) if cache.is_sequence else alone
            yield "Cache file '%s'" % cache.name, cache.filepath, cache.library, find, cache
            for layer in getattr(cache, "layers", ()):
                if not layer.hide_layer:
                    yield "Layer of cache file '%s'" % cache.name, layer.filepath, cache.library, alone, cache
    for tree in relocate.shader_trees():
        for node in tree.nodes:
            if node.bl_idname in ("ShaderNodeTexIES", "ShaderNodeScript") and node.mode == "EXTERNAL" and node.filepath:
                yield "Node '%s'" % node.name, node.filepath, tree.library, alone, None
    for scene in sequencer.composed():
        for what, raw in sequencer.files(scene):
            yield what, raw, scene.library, alone, scene
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
        counts: list[dict] = []
        users = self._nodes.get(image.as_pointer(), [])
        for tree, node in users:
            user = getattr(node, "image_user", node)
            if not hasattr(user, "frame_duration") or not user.use_auto_refresh:
                return paths.sequence
            if any("frame_" in c.data_path or "use_cyclic" in c.data_path for c in compat.curves(tree)):
                return paths.sequence
            counts.append({"start": user.frame_start, "length": user.frame_duration, "offset": user.frame_offset,
                           "mode": "REPEAT" if user.use_cyclic else "EXTEND"})
        if not self.frames or len(users) != image.users - bool(image.use_fake_user):
            return paths.sequence
        return Counted(counts, {sequences.number(f, **c) for c in counts for f in self.frames})

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


class Counted:
    """Finds the files of a sequence with the numbers that the frames show, or
    all of them; users say how they count."""

    def __init__(self, users: list[dict], numbers: Optional[set[int]]) -> None:
        self.users = users
        self.sure = True
        self._numbers = numbers

    def __call__(self, path: str) -> list[str]:
        found = paths.sequence(path)
        if self._numbers is None:
            return found
        taken = sequences.shown(found, self._numbers)
        if taken is found:
            self.sure = False
        return taken


def shown_volume(volume: Any) -> Finder:
    """Of volumes all files travel; which of them a frame reads is known."""
    if any(compat.curves(volume)):
        return paths.sequence
    return Counted([{"start": volume.frame_start, "length": volume.frame_duration, "offset": volume.frame_offset,
                     "mode": volume.sequence_mode}], None)


class Baked:
    """Finds the files of a bake, which have the numbers of the frames that read
    them."""

    def __init__(self) -> None:
        self.users, self.sure = [by_frame(0)], True

    def __call__(self, path: str) -> list[str]:
        return paths.below(path)


def baked(obj: Any, mod: Any) -> Finder:
    """Of a baked fluid each frame reads its own files, and no other."""
    if mod.domain_settings.cache_frame_offset or any("modifiers" in c.data_path for c in compat.curves(obj)):
        return paths.below
    return Baked()


FAR = 1_000_000  # frames on either side of the first


def by_frame(offset: int) -> dict:
    """A user that shows at each frame the file with the frame's number and
    offset, as far as there is one."""
    return {"start": -FAR, "length": 2 * FAR, "offset": offset - FAR - 1, "mode": "CLIP"}


def shown_clip(clip: Any) -> Finder:
    """Of movie clips that are images, as of volumes."""
    first = sequences.numbered(paths.native(clip.filepath))
    if first is None or clip.use_proxy or any(compat.curves(clip)):
        return paths.sequence
    return Counted([by_frame(first[1] - clip.frame_start + clip.frame_offset)], None)


def shown_cache(cache: Any) -> Finder:
    """Of cache files, too."""
    if cache.override_frame or cache.frame_offset or any(compat.curves(cache)):
        return paths.sequence
    return Counted([by_frame(0)], None)


def modifiers() -> Iterator[tuple[str, str, Any, Finder, Any]]:
    """Of folders the path as written ends with a slash."""
    for scene in bpy.data.scenes:
        world = scene.rigidbody_world
        if world and caches.external(world.point_cache):
            yield from external("Rigid body world of scene '%s'" % scene.name, world.point_cache, scene.library, scene)
    for obj in bpy.data.objects:
        if not used(obj):
            continue
        for _, where, cache in caches.points(obj):
            if caches.external(cache):
                yield from external(where, cache, obj.library if cache.use_library_path else None, obj)
        for mod in obj.modifiers:
            what = "Modifier '%s' of object '%s'" % (mod.name, obj.name)
            if mod.type == "MESH_CACHE" and mod.filepath:
                yield what, mod.filepath, obj.library, alone, obj
            elif mod.type == "OCEAN" and mod.is_cached and mod.filepath:
                yield what, folder(mod.filepath), obj.library, paths.below, obj
            elif mod.type == "FLUID" and mod.fluid_type == "DOMAIN" and mod.domain_settings.has_cache_baked_any:
                yield what, folder(mod.domain_settings.cache_directory), obj.library, baked(obj, mod), obj
            elif mod.type == "NODES":
                for owner, name in caches.folders(mod):
                    raw = folder(getattr(owner, name))
                    if paths.look(bpy.path.abspath(paths.native(raw), library=obj.library)):
                        yield what, raw, obj.library, paths.below, obj  # hazards says what is not baked


def external(what: str, cache: Any, owner: Any, item: Any) -> Iterator[tuple[str, str, Any, Finder, Any]]:
    yield what, folder(cache.filepath), owner, lambda path: caches.files_of(cache, path), item


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
