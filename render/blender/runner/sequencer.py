# SPDX-License-Identifier: Apache-2.0
"""Frames that are the picture of the video sequencer and not of a camera."""

from __future__ import annotations

import os
from typing import Any, Iterator

import bpy

import compat
import frame
import outputs
from movie import MOVIES
from overlay import Overlay
from problems import Problems
from protocol import Failed, Progress, Request

WITHOUT = "leave it out, or render the scene itself with --no-sequencer"


def shown(scene: Any) -> list[Any]:
    """The scenes that strips of the scene render, at whatever remove."""
    found: list[Any] = []
    waiting, seen = [scene], set()
    while waiting:
        each = waiting.pop()
        if each.name_full in seen:
            continue
        seen.add(each.name_full)
        for strip in compat.all_strips(each):
            if strip.type != "SCENE" or strip.scene is None:
                continue
            if strip.scene_input == "SEQUENCER":
                waiting.append(strip.scene)
            elif strip.scene not in found:
                found.append(strip.scene)
    return found


def composed() -> list[Any]:
    """The scenes whose strips are shown: by themselves, or by strips of others."""
    found: list[Any] = []
    waiting = [scene for scene in bpy.data.scenes if compat.uses_sequencer(scene)]
    while waiting:
        each = waiting.pop(0)
        if each not in found:
            found.append(each)
            waiting += [s.scene for s in compat.all_strips(each) if s.type == "SCENE" and s.scene is not None and s.scene_input == "SEQUENCER"]
    return found


def files(scene: Any) -> Iterator[tuple[str, str]]:
    """(what for people, path as written) of what its strips show."""
    for strip in compat.all_strips(scene):
        what = "Strip '%s' of scene '%s'" % (strip.name, scene.name)
        if strip.type == "IMAGE":
            folder = strip.directory if strip.directory.endswith(("/", "\\")) else strip.directory + "/"
            for element in strip.elements:
                yield what, folder + element.filename
        elif strip.type == "MOVIE":
            yield what, strip.filepath


def look(scene: Any, wanted: dict, facts: dict, problems: Problems) -> None:
    """What keeps frames of strips from coming out as they do here."""
    where = "Sequencer of scene '%s'" % scene.name
    for name, said in (("engine", "--engine"), ("samples", "--samples"), ("camera", "--camera"), ("view_layer", "--view-layer")):
        if wanted.get(name):
            problems.error(where, "%s changes nothing where strips make the picture" % said, WITHOUT)
    if scene.render.use_multiview:
        problems.error(where, "strips with several views are not rendered", "switch off Output > Stereoscopy, or pass --no-sequencer")
    if facts["multilayer"]:
        problems.error(where, "strips make one picture, which has no layers for a multilayer file", "choose another format, or pass --no-sequencer")
    for each in shown(scene):
        at = "Scene '%s', which a strip shows" % each.name
        if each.render.engine not in compat.engines():
            problems.error(at, "this Blender has no engine '%s'" % each.render.engine, "choose another engine for it")
        if each.camera is None and not any(s.type == "SCENE" and s.scene == each and s.scene_camera for s in compat.all_strips(scene)):
            problems.error(at, "the scene has no active camera", "make one active with Ctrl+Numpad 0")
        if outputs.nodes(compat.compositor(each)):
            problems.error(at, "the files of its File Output nodes are not delivered", "mute the nodes")
        if each.render.engine == "CYCLES" and each.cycles.use_denoising and not compat.denoisers():
            problems.error(at, "denoising is on, and this build of Blender has no denoiser", "use a Blender that has OpenImageDenoise, or switch denoising off")
        if each.render.engine == "CYCLES" and each.cycles.time_limit > 0:
            problems.warning(at, "a time limit ends its pictures early, by how fast the machine is", "set the time limit to 0")


def sequence(request: Request, progress: Progress) -> dict:
    """Writes out/frame<extension>: the picture of the strips, by Blender from
    beginning to end."""
    scene = frame.current_scene(request)
    if not compat.uses_sequencer(scene):
        raise Failed("the scene has no strips to show")
    render_ = scene.render
    if render_.image_settings.file_format in MOVIES:
        compat.set_png(render_.image_settings)
    path = os.path.join(request.out, "frame")
    with Overlay(scene) as overlay:
        frame.resolution(overlay, request)
        for name, value in (("use_file_extension", True), ("use_overwrite", True), ("use_placeholder", False), ("filepath", path)):
            overlay.set(render_, name, value)
        for each in shown(scene):
            if each.render.engine == "CYCLES":
                overlay.set(each.cycles, "device", "CPU")
        progress("rendering", 0.05)
        scene.frame_set(request.frame)
        result = bpy.ops.render.render(write_still=True)
        progress("saving", 0.9)
        if request.film_frame:
            compat.save_png(overlay, os.path.join(request.out, "film.png"))
    if "FINISHED" not in result or not os.path.isfile(path + request.extension):
        raise Failed("Blender wrote no picture of frame %d; see the log" % request.frame)
    return {"device": "cpu"}
