# SPDX-License-Identifier: Apache-2.0
"""Bakes simulations once, for all frames: and opens files that were baked so.

A bake is kept by Blender in the .blend, in a folder beside it, or in folders
that the .blend names. So the file is opened in a project of its own: the tree of
inputs once more, as links, in which those folders can be written. What a bake
leaves is a folder (baketree.py), or for a job of an earlier version one archive of
the same files. Frames open the same project with these put in place.

A session whose file comes so is started without one; its first request opens it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tarfile
from typing import Any, Optional

import bpy

import baketree
import caches
import relocate
import simulations
from baketree import BESIDE, FILE, FOLDERS
from protocol import Failed, Progress, Request

ARCHIVE = "bake.tar"
NEW = "idlewild_bake"  # beside the .blend, the folder of FOLDERS
ZONE = re.compile(r"/(?:meta|blobs)/[^/]*\.(?:json|blob)$")  # a file of a simulation zone


def late() -> bool:
    """Whether this session's file is opened by its first request."""
    return os.environ.get("IDLEWILD_LATE", "") == "1"


class Project:
    """The tree of inputs as links, with the .blend and its caches in the open."""

    def __init__(self, tree: str, main: str, into: str) -> None:
        self.root, self._tree, self._steps = into, tree, main.split("/")[:-1]
        self.main = os.path.join(into, *main.split("/"))
        folder, base = os.path.split(self.main)
        self.beside = os.path.join(folder, "blendcache_" + os.path.splitext(base)[0])
        self.folders = os.path.join(folder, NEW)
        self._bake = ""
        self._shown: dict[str, str] = {}
        self._opened: list[tuple[str, str]] = []  # folders of the tree that are folders here too
        shutil.rmtree(into, ignore_errors=True)
        os.makedirs(into)
        self.grow()

    def grow(self) -> bool:
        """Links what is not here yet. The tree of a session gets more files: a
        task has those that it reads, and the next one others. Returns whether
        Blender has to open the file again to see them."""
        at, to = self._tree, self.root
        for step in self._steps:
            self._fill(at, to, leave=step)
            at, to = os.path.join(at, step), os.path.join(to, step)
            os.makedirs(to, exist_ok=True)
        self._fill(at, to, leave=os.path.basename(self.beside))
        if os.path.isdir(os.path.join(at, os.path.basename(self.beside))):
            os.makedirs(self.beside, exist_ok=True)
            self._fill(os.path.join(at, os.path.basename(self.beside)), self.beside)
        for source, target in self._opened:
            self._fill(source, target)
        return self._show() if self._bake else False

    def _fill(self, source: str, target: str, leave: str = "") -> None:
        for name in sorted(os.listdir(source)):
            one, other = os.path.join(source, name), os.path.join(target, name)
            if name == leave or os.path.lexists(other):
                continue
            try:
                os.symlink(one, other)
            except OSError:  # a system that does not let everybody make links
                (shutil.copytree if os.path.isdir(one) else shutil.copy2)(one, other)

    def copy(self, folder: str) -> None:
        """Has a folder of the tree here as a copy that may be written to."""
        steps = os.path.relpath(folder, self._tree).split(os.sep)
        source, target = self._tree, self.root
        for i, step in enumerate(steps, 1):
            source, target = os.path.join(source, step), os.path.join(target, step)
            if os.path.islink(target):
                os.unlink(target)
                os.mkdir(target)
                if i < len(steps):
                    self._opened.append((source, target))
                    self._fill(source, target)
        shutil.copytree(source, target, copy_function=shutil.copyfile, dirs_exist_ok=True)

    def copy_zones(self, root: str) -> bool:
        """Copies what simulation zones of the open file, which lies below root, were
        baked to. Blender opens those files as if to write, and of a folder that is
        read-only it shows nothing. Returns whether there was any."""
        inside = [f for f in (os.path.relpath(f, root) for f in zone_folders()) if not f.startswith(os.pardir)]
        for folder in inside:
            self.copy(os.path.join(self._tree, folder))
        return bool(inside)

    def show(self, bake: str) -> None:
        """Has what a bake left in its folder stand in its place."""
        self._bake = bake
        self._show()

    def _show(self) -> bool:
        looked = False
        for steps, source in baketree.files(self._bake):
            path = self._path(steps)
            if self._shown.get(path) == source:
                continue
            self._room(path, "/".join(steps))
            # Blender 5 opens the files of a zone as if to write: of a folder that is
            # read-only it shows nothing.
            link(source, path, ZONE.search(path.replace(os.sep, "/")) is not None)
            self._shown[path] = source
            # Blender looks once which frames a point cache and a zone have.
            looked = looked or path.endswith((".bphys", ".json"))
        return looked

    def _path(self, steps: list[str]) -> str:
        if steps == [FILE]:
            return self.main
        if steps[0] == BESIDE:
            return os.path.join(self.beside, steps[1])
        return os.path.join(self.folders, *steps[1:])

    def _room(self, path: str, name: str) -> None:
        """Makes room for a file of a bake, in the project's own folders."""
        folder = os.path.relpath(os.path.dirname(path), self.root)
        if os.path.realpath(os.path.dirname(path)) != os.path.normpath(os.path.join(os.path.realpath(self.root), folder)):
            raise Failed("the bake's %r would lie among the job's own files" % name[:200])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)

    def place(self, archive: str) -> None:
        """Puts what a bake left in an archive in its place. It may be a stranger's."""
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                steps = member.name.split("/")
                if not member.isreg():
                    raise Failed("the bake holds %r, which is no file" % member.name[:200])
                baketree.check(steps, member.name)
                path = self._path(steps)
                self._room(path, member.name)
                data = tar.extractfile(member)
                with open(path, "xb") as out:
                    shutil.copyfileobj(data, out, 1 << 20)

    def pack(self, saved: str, archive: str) -> None:
        """Writes what is new in the project, saved as its .blend, into an archive.
        No date and no owner is in it."""
        files = [(saved, FILE)]
        for top, name in self.made():
            for at, _, names in os.walk(top):
                for each in names:
                    path = os.path.join(at, each)
                    if not os.path.islink(path):
                        files.append((path, name + "/" + os.path.relpath(path, top).replace(os.sep, "/")))
        with tarfile.open(archive, "w:", format=tarfile.PAX_FORMAT) as tar:
            for path, name in sorted(files, key=lambda f: f[1]):
                entry = tarfile.TarInfo(name)
                entry.size = os.path.getsize(path)
                with open(path, "rb") as data:
                    tar.addfile(entry, data)

    def made(self) -> list[tuple[str, str]]:
        """The folders that a bake writes to, and what they are called in one."""
        return [(self.beside, BESIDE), (self.folders, FOLDERS)]


def link(source: str, path: str, copy: bool) -> None:
    if not copy:
        try:
            os.symlink(source, path)
            return
        except OSError:  # a system that does not let everybody make links
            pass
    shutil.copyfile(source, path)


class Opened:
    """What a late session has open."""

    def __init__(self) -> None:
        self.project: Optional[Project] = None
        self.paths: Optional[relocate.Rewritten] = None
        self._digest = ""

    def ready(self, request: Request, progress: Progress) -> None:
        """Opens the request's file, unless it is open. A bake of another machine
        is another file."""
        archive = os.path.join(request.prior[0], ARCHIVE) if request.baked and not request.bake else ""
        digest = request.bake or (hashed(archive) if archive else "unbaked")
        tree = os.environ["IDLEWILD_IN"]
        if request.bake:
            baketree.look(request.bake, request.bake_frames, request.frame)
        if digest == self._digest and self.project is not None and not self.project.grow():
            return
        self.forget()
        progress("loading", 0.0)
        # Not below a folder that this request loses at its end.
        self.project = Project(tree, request.main, os.path.join(os.environ["HOME"], "project"))
        if request.bake:
            self.project.show(request.bake)
        elif archive:
            self.project.place(archive)
        open_file(self.project.main, request.scene)
        if self.project.copy_zones(self.project.root):
            open_file(self.project.main, request.scene)
        self.paths = relocate.relocate(tree)
        for path in self.paths.missing:
            print("idlewild: not in the tree:", path)
        self._digest = digest

    def forget(self) -> None:
        """The next request opens its file, whatever it is."""
        self._digest = ""


opened = Opened()


def reopen_zones() -> None:
    """Opens a session's file once more, as a project, where it has simulation zones
    that are baked to a folder that is read-only."""
    tree = os.environ.get("IDLEWILD_IN", "")
    if not tree or not zone_folders():
        return
    main = os.path.relpath(bpy.data.filepath, tree).replace(os.sep, "/")
    project = Project(tree, main, os.path.join(os.environ["HOME"], "project"))
    if project.copy_zones(tree):
        opened.project = project
        open_file(project.main, bpy.context.scene.name)


def zone_folders() -> list[str]:
    """The folders below which nodes read what was baked, where that is read-only."""
    found = set()
    for obj in bpy.data.objects:
        for mod in obj.modifiers:
            if mod.type != "NODES" or obj.library:
                continue
            for owner, name in caches.folders(mod):
                raw = getattr(owner, name)
                path = os.path.normpath(bpy.path.abspath(raw)) if raw.startswith("//") else ""
                if path and caches.baked_below(raw, None) and not os.access(path, os.W_OK):
                    found.add(path)
    return sorted(found)


def roots() -> list[str]:
    """The folders that this session's file reads from, first the one where it
    lies."""
    tree = os.environ.get("IDLEWILD_IN", "")
    return [opened.project.root, tree] if opened.project else [tree]


def hashed(path: str) -> str:
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def open_file(path: str, scene: str) -> None:
    """Opens a .blend as the command line would have, scene being current."""
    try:
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=True, use_scripts=False)
    except RuntimeError as exc:
        raise Failed("Blender %s cannot open the file: %s" % (bpy.app.version_string, " ".join(str(exc).split()))) from None
    if bpy.context.window is not None and scene in bpy.data.scenes:
        bpy.context.window.scene = bpy.data.scenes[scene]
    if not bpy.app.binary_path and "-t" in sys.argv:  # see launch.py
        for each in bpy.data.scenes:
            each.render.threads_mode, each.render.threads = "FIXED", int(sys.argv[sys.argv.index("-t") + 1])


def bake(request: Request, progress: Progress) -> dict:
    """Writes out/bake, or out/bake.tar: the file with everything baked that was
    not, up to the frame of the request."""
    scene = bpy.context.scene
    if request.scene and scene.name != request.scene:
        raise Failed("no scene %r in the file" % request.scene)
    wanted = [s for s in simulations.unbaked(scene) if not s.unsure]
    for sim in wanted:
        if sim.stuck:
            raise Failed("%s cannot be baked: %s" % (sim.where, sim.stuck))
    end, frame = scene.frame_end, scene.frame_current
    if scene.frame_start < request.frame < end and scene.render.frame_map_old == scene.render.frame_map_new:
        scene.frame_end = request.frame  # particles and simulation zones end with the scene
        for sim in wanted:
            if sim.sort == "points" and sim.thing.frame_start < request.frame < sim.thing.frame_end:
                sim.thing.frame_end = request.frame

    if request.tree:
        to_disk(wanted)

    def step(changed: Any, *_: Any) -> None:
        done = (changed.frame_current - changed.frame_start) / max(1, changed.frame_end - changed.frame_start)
        progress("baking", min(max(done, 0.0), 1.0))

    bpy.app.handlers.frame_change_post.append(step)
    try:
        if any(s.sort == "points" for s in wanted):
            bpy.ops.ptcache.bake_all(bake=True)
        for number, sim in enumerate(unique([s for s in wanted if s.sort == "fluid"])):
            fluid(sim, number, request.frame)
        zones(unique([s for s in wanted if s.sort == "nodes"]), request.tree)
    finally:
        bpy.app.handlers.frame_change_post.remove(step)
    for sim in wanted:
        if sim.sort == "points" and not filled(sim.thing):
            raise Failed("%s: Blender baked nothing of it; see the log" % sim.where)
    left = [s.where for s in simulations.unbaked(scene) if not s.unsure]
    if left:
        raise Failed("%s is not baked after all; see the log" % left[0])
    scene.frame_end = end
    scene.frame_set(frame)
    progress("saving", 0.95)
    opened.paths.undo()
    saved = os.path.join(request.out, os.path.basename(opened.project.main))
    bpy.ops.wm.save_as_mainfile(filepath=saved, copy=True, relative_remap=False, compress=False)
    if request.tree:
        baketree.write(os.path.join(request.out, baketree.FOLDER), saved, opened.project.made(), frame)
    else:
        opened.project.pack(saved, os.path.join(request.out, ARCHIVE))
        os.remove(saved)
    opened.forget()  # another bake starts from the file as it came
    return {"device": "cpu"}


def to_disk(wanted: list[Any]) -> None:
    """Has point caches be baked into a file for each frame, where Blender offers
    that, and not into the .blend, which every frame reads whole. A cache that has a
    name of its own may share it with another one, and then the files too."""
    names = {cache.name for obj in bpy.data.objects for _, _, cache in caches.points(obj)}
    for sim in wanted:
        if sim.sort == "points" and sim.owner != bpy.context.scene and not sim.thing.name and sim.owner.name not in names:
            sim.thing.use_disk_cache = True


def unique(sims: list[Any]) -> list[Any]:
    """One of each modifier: of nodes several zones may be unbaked."""
    return list({s.thing.as_pointer(): s for s in sims}.values())


def filled(cache: Any) -> bool:
    """Whether a point cache holds frames: Blender marks as baked also what it
    had nothing to bake of."""
    found = re.match(r"\s*(\d+)", cache.info)
    return found is None or int(found.group(1)) > 0


def fluid(sim: Any, number: int, last: int) -> None:
    domain = sim.thing.domain_settings
    domain.cache_directory = "//%s/%d" % (NEW, number)
    domain.cache_type = "ALL"
    if domain.cache_frame_start < last < domain.cache_frame_end:
        domain.cache_frame_end = last
    with bpy.context.temp_override(object=sim.owner, active_object=sim.owner):
        bpy.ops.fluid.bake_all()


def zones(sims: list[Any], apart: bool) -> None:
    """Into the file, or into a file for each frame."""
    for number, sim in enumerate(sims):
        for each in sim.thing.bakes:
            if not each.node or each.node.bl_idname != "GeometryNodeSimulationOutput":
                continue
            each.bake_target = "DISK" if apart else "PACKED"
            if apart:
                each.use_custom_path = True
                each.directory = "//%s/zone%d/%d" % (NEW, number, each.bake_id)
            with bpy.context.temp_override(object=sim.owner, active_object=sim.owner):
                bpy.ops.object.geometry_node_bake_single(
                    session_uid=sim.owner.session_uid, modifier_name=sim.thing.name, bake_id=each.bake_id)
