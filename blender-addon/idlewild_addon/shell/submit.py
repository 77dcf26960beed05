# SPDX-License-Identifier: GPL-3.0-or-later
"""Submitting and checking: collect in the main thread, one HTTP call in
another, the answer through the queue."""

from __future__ import annotations

import os
import time
from typing import Any

import bpy

from ..core import daemon, estimate, frames, submission
from ..core.errors import Cut, Refused, Trouble
from ..core.spec import Wish
from . import collect, state


def collected(s: state.State, scene: Any, only_frame: bool, said: dict[str, Any]) -> Wish:
    """The wish, with its copy where one is needed; the time that this took
    beside Blender's own save is kept."""
    assert s.link is not None
    start = time.perf_counter()
    w = collect.wish(scene, only_frame, said)
    s.save_s = 0.0
    if collect.needs_copy():
        w.copy, s.save_s = collect.copy(s.link.data_dir)
    s.blocked_s = time.perf_counter() - start - s.save_s
    return w


def submit(s: state.State, scene: Any, only_frame: bool = False, said: dict[str, Any] | None = None, done: Any = None) -> None:
    """Raises Trouble where it does not begin; done(job id, trouble) in the main
    thread otherwise."""
    assert s.link is not None
    w = collected(s, scene, only_frame, said or {})
    clash = s.jobs.clash(w.output, w.file)
    holders = placeholders(scene, w)
    known = {j.id for j in s.jobs.all}
    s.busy = "Submitting %s" % os.path.basename(w.file)

    def work(client: Any) -> str:
        job = submission.submit(client, w, known)
        hold(holders)
        return job

    def answered(job: Any, trouble: Trouble | None) -> None:
        s.busy = ""
        if trouble is not None:
            if isinstance(trouble, Refused):
                s.found, s.checked = trouble.problems, w.file
            s.note(str(trouble) if isinstance(trouble, Cut) else "Not submitted: %s" % trouble)
        else:
            s.note("Submitted %s" % os.path.basename(w.file))
            if clash:
                s.note(clash)
            if only_frame or w.frames.lstrip("-").isdigit():
                s.to_open[job] = "image"
            s.submitted(job, known)
        if done is not None:
            done(job, trouble)

    s.link.do(work, answered)


def check(s: state.State, scene: Any, done: Any = None) -> None:
    """What the job would take and what is wrong with it."""
    assert s.link is not None
    w = collected(s, scene, False, {})
    local = collect.local_problems(scene)
    s.busy = "Checking %s" % os.path.basename(w.file)
    s.estimate = None

    def work(client: Any) -> Any:
        try:
            return estimate.read(client.estimate(w.spec()))
        finally:
            if w.copy:
                daemon.drop_copy(w.copy)

    def answered(found: Any, trouble: Trouble | None) -> None:
        s.busy = ""
        if isinstance(trouble, Refused):
            s.found, s.checked = local + trouble.problems, w.file
        elif trouble is not None:
            s.note("Not checked: %s" % trouble)
        else:
            s.estimate, s.checked = found, w.file
            s.found = local + list(found.found)
        if done is not None:
            done(found, trouble)

    s.link.do(work, answered)


def placeholders(scene: Any, w: Wish) -> list[str]:
    """The files that Blender itself would leave empty while it renders, where
    the scene asks for that: other Blenders then skip those frames."""
    render = scene.render
    if not render.use_placeholder or not scene.idlewild.what == "RANGE" or render.is_movie_format:
        return []
    extension = render.file_extension
    return [os.path.join(w.output, frames.file_name(w.name, f, extension))
            for f in range(scene.frame_start, scene.frame_end + 1, max(1, scene.frame_step))][:100_000]


def hold(files: list[str]) -> None:
    """Makes empty files where there are none. The farm takes an empty file for
    one that is missing."""
    for path in files:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            pass
        except OSError:
            return  # the daemon says what is wrong with the folder


def background() -> bool:
    return bool(bpy.app.background)
