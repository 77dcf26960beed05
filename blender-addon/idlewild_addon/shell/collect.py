# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken from Blender for a submission. All of it runs in the main
thread, so nothing here reads files but Blender's own save of a copy."""

from __future__ import annotations

import os
import time
from typing import Any

import bpy

from ..core import daemon, frames, problems
from ..core.errors import Trouble
from ..core.spec import Wish
from . import compat, state


def wish(scene: Any, only_frame: bool = False, said: dict[str, Any] | None = None) -> Wish:
    """What the scene's settings ask for; said replaces them."""
    said = said or {}
    s, render = scene.idlewild, scene.render
    file = bpy.data.filepath
    if not file:
        raise Trouble("The file was never saved: save it once with File > Save, then submit")
    target = frames.Output(compat.output_path(scene), file)
    folder = said.get("output") or bpy.path.abspath(s.output)
    w = Wish(
        file=os.path.abspath(file), output=os.path.abspath(folder or target.folder), name=target.name, scene=scene.name,
        camera=said.get("camera") or s.camera, view_layer=said.get("view_layer") or s.view_layer,
        preset=said.get("preset") or s.preset, base_percent=render.resolution_percentage,
        only_missing=not render.use_overwrite or bool(said.get("only_missing")), parts=said.get("parts") or s.parts,
        bake=s.bake or bool(said.get("bake")),
        frames=said.get("frames") or which_frames(scene, only_frame),
    )
    if w.parts == "auto":
        w.parts = ""
    return w


def which_frames(scene: Any, only_frame: bool) -> str:
    s = scene.idlewild
    if only_frame or s.what == "FRAME":
        return str(scene.frame_current)
    if s.what == "MARKED":
        marked = [m.frame for m in scene.timeline_markers]
        if not marked:
            raise Trouble("No frame is marked: add markers in the timeline with M, or choose the frame range")
        return frames.listing(marked)
    if s.what == "LIST":
        if not s.frames.strip():
            raise Trouble("No frames are named: write a list as 1-250x5,300, or choose the frame range")
        return str(s.frames).strip()
    if scene.frame_end < scene.frame_start:
        raise Trouble("The scene's frame range is empty: its end lies before its start")
    return frames.span(scene.frame_start, scene.frame_end, scene.frame_step)


def local_problems(scene: Any) -> list[problems.Problem]:
    """What only the running Blender knows."""
    found = []
    for image in compat.dirty_images():
        found.append(problems.Problem("warning", "Image '%s'" % image.name, "its painted pixels are not saved and will not be rendered",
                                      "save it with Image > Save"))
    if not scene.render.use_file_extension:
        found.append(problems.Problem("warning", "Output of scene '%s'" % scene.name, "file extensions are switched off, delivered files have one",
                                      "nothing, if that is fine"))
    return found


def needs_copy() -> bool:
    """Whether what is on the disk is not what is in Blender. A script in the
    background changes a file without Blender marking it."""
    return bool(bpy.data.is_dirty) or bpy.app.background or state.get().unsaved == stamp() or not os.path.isfile(bpy.data.filepath)


def stamp() -> tuple[str, int]:
    """What is on the disk of the open file."""
    try:
        return bpy.data.filepath, os.stat(bpy.data.filepath).st_mtime_ns
    except OSError:
        return bpy.data.filepath, 0


def keep_dirty() -> float | None:
    """Blender takes a file of which a copy was saved for saved, a moment later:
    it would let the artist quit without a question. Pushing an undo step is the
    one way to have it marked again. With global undo off no step comes of it,
    which of a large file would take seconds."""
    s = state.get()
    if s.unsaved != stamp() or s.watch_dirty <= 0:
        return None
    s.watch_dirty -= 1
    if not bpy.data.is_dirty:
        preferences = bpy.context.preferences
        before = preferences.edit.use_global_undo, preferences.is_dirty
        preferences.edit.use_global_undo = False
        try:
            with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
                bpy.ops.ed.undo_push(message="Submit to the Farm")
        finally:
            preferences.edit.use_global_undo, preferences.is_dirty = before
        s.watch_dirty = 0
        return None
    return 0.05


def copy(data_dir: str) -> tuple[str, float]:
    """Saves the open file as it is into a copy, and returns its path and how
    long Blender's own saving took. The artist's file and its path stay.

    Relative paths stay as they are (relative_remap): they mean the original's
    folder, and a copy that names them otherwise would be other bytes to send.
    """
    path = daemon.place_for_copy(data_dir, bpy.data.filepath)
    if not bpy.app.background:
        s = state.get()
        s.unsaved, s.watch_dirty = stamp(), 40
        if not bpy.app.timers.is_registered(keep_dirty):
            bpy.app.timers.register(keep_dirty, first_interval=0.05)
    start = time.perf_counter()
    try:
        bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, relative_remap=False, compress=False)
    except RuntimeError as err:
        daemon.drop_copy(path)
        raise Trouble("Blender could not write a copy of the unsaved work: %s; make room in %s, or save the file" % (
            " ".join(str(err).replace("Error: ", "").split()), data_dir)) from None
    took = time.perf_counter() - start
    if not os.path.isfile(path):
        daemon.drop_copy(path)
        raise Trouble("Blender wrote no copy of the unsaved work: save the file, then submit")
    return path, took
