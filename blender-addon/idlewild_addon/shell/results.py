# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing finished frames into Blender."""

from __future__ import annotations

import os
import re
from typing import Any, Callable

import bpy

from ..core import jobs
from ..core.errors import Trouble
from . import compat, state

MOST = 1000  # what the daemon lists at once; a longer sequence is found in its folder


def load(s: state.State, job: jobs.Job, how: str, done: Any = None) -> None:
    """Asks for the job's delivered files and shows them: "image" in the image
    editor, "strip" in the sequencer."""
    assert s.link is not None

    def answered(list_: Any, trouble: Trouble | None) -> None:
        line = str(trouble) if trouble is not None else ""
        made = None
        if not line:
            files = [f for frame in list_["frames"] for f in frame.get("files") or []]
            try:
                made = show(files, job, how)
            except Trouble as err:
                line = str(err)
            except RuntimeError as err:  # Blender does not read it
                line = "%s cannot be shown: %s; open the folder and look at the file" % (job.title, " ".join(str(err).split()))
        if line:
            s.note(line)
        if done is not None:
            done(made, line)

    s.link.do(lambda client: client.frames(job.id, "delivered", MOST), answered)


def show(files: list[str], job: jobs.Job, how: str) -> Any:
    there = sorted(f for f in files if os.path.isfile(f))
    if not files:
        raise Trouble("%s has no finished frame yet: wait for the first one" % job.title)
    if not there:
        raise Trouble("The finished frames of %s are not in %s any more: requeue them, or render again" % (job.title, os.path.dirname(files[0])))
    if len(there) == MOST and job.delivered > MOST:
        there = neighbours(there[0])
    there.sort(key=number)
    if how == "strip":
        return strip(there, job)
    return image(there)


def number(path: str) -> tuple[int, str]:
    found = re.findall(r"-?\d+", os.path.basename(path))
    return (int(found[-1]) if found else 0, path)


def neighbours(path: str) -> list[str]:
    """The files that are numbered like path."""
    folder, base = os.path.split(path)
    cut = list(re.finditer(r"\d+", base))
    if not cut:
        return [path]
    head, tail = base[: cut[-1].start()], base[cut[-1].end():]
    pattern = re.compile(re.escape(head) + r"\d+" + re.escape(tail) + r"\Z")
    return [os.path.join(folder, n) for n in os.listdir(folder) if pattern.match(n)]


def image(files: list[str]) -> Any:
    """One file as an image, several as a sequence."""
    loaded = bpy.data.images.load(files[0], check_existing=True)
    loaded.reload()  # it may be an earlier render of the same name
    if len(files) > 1:
        loaded.source = "SEQUENCE"
    if not bpy.app.background:
        in_editor(lambda space: put(space, loaded, files))
    return loaded


def put(space: Any, loaded: Any, files: list[str]) -> None:
    space.image = loaded
    if len(files) > 1:
        space.image_user.frame_duration = len(files)
        space.image_user.frame_start = number(files[0])[0]
        space.image_user.frame_offset = number(files[0])[0] - 1
        space.image_user.use_auto_refresh = True


def in_editor(show: Callable[[Any], None]) -> None:
    """Shows something in an image editor that is open, or in one where Blender
    shows its own renders: in a new window, in the largest area, or not at all,
    as the preferences say."""
    windows = bpy.context.window_manager.windows
    for window in windows:
        for area in window.screen.areas:
            if area.type == "IMAGE_EDITOR" and area.spaces.active.mode == "VIEW":
                show(area.spaces.active)
                return
    where = bpy.context.preferences.view.render_display_type
    if where == "WINDOW":
        # Opening one takes Blender longer than all else here together.
        bpy.app.timers.register(lambda: in_window(show), first_interval=0.01)
    elif where != "NONE":
        show(editor_of(windows[0]))


def in_window(show: Callable[[Any], None]) -> None:
    manager = bpy.context.window_manager
    before = set(manager.windows)
    with bpy.context.temp_override(window=manager.windows[0]):
        bpy.ops.wm.window_new()
    for window in manager.windows:
        if window not in before:
            show(editor_of(window))


def editor_of(window: Any) -> Any:
    """The window's largest area, as an image editor."""
    area = max(window.screen.areas, key=lambda a: a.width * a.height)
    area.type = "IMAGE_EDITOR"
    return area.spaces.active


def strip(files: list[str], job: jobs.Job) -> Any:
    """The frames as one strip, at their own frame, above what is there."""
    scene = bpy.context.scene
    strips = compat.strips(scene)
    channel = 1 + max((s.channel for s in strips), default=0)
    made = strips.new_image(name=job.title, filepath=files[0], channel=min(channel, 32), frame_start=number(files[0])[0])
    for path in files[1:]:
        made.elements.append(os.path.basename(path))
    return made
