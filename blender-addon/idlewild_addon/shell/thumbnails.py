# SPDX-License-Identifier: GPL-3.0-or-later
"""The last finished frames as small pictures in the panel."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from typing import Any

import bpy
import bpy.utils.previews

from ..core.errors import Trouble
from . import state

PER_JOB = 3
JOBS = 2
SIDE = 128
EVERY = 3.0  # seconds, for one job


class Shelf:
    """Pictures by job. The files lie in a folder of its own, which goes with
    it."""

    def __init__(self) -> None:
        self.icons: Any = bpy.utils.previews.new()
        self.dir = tempfile.mkdtemp(prefix="idlewild-thumbnails-")
        self.of: dict[str, list[tuple[str, str]]] = {}  # job -> (label, key of the icon)
        self.asked: dict[str, tuple[int, float]] = {}  # job -> delivered then, when

    def close(self) -> None:
        bpy.utils.previews.remove(self.icons)
        shutil.rmtree(self.dir, ignore_errors=True)


_shelf: Shelf | None = None


def shelf() -> Shelf | None:
    """None in the background: nobody looks."""
    global _shelf
    if _shelf is None and not bpy.app.background:
        _shelf = Shelf()
    return _shelf


def close() -> None:
    global _shelf
    if _shelf is not None:
        _shelf.close()
    _shelf = None


def want(s: state.State) -> None:
    """Fetches what is new of the jobs that are shown, in a thread."""
    box = shelf()
    if box is None or s.link is None or time.monotonic() - s.link.watched_at > 60:
        return
    for job in s.jobs.shown(bpy.data.filepath, JOBS):
        done, when = box.asked.get(job.id, (0, 0.0))
        if job.delivered == done or (not job.ended and time.monotonic() - when < EVERY):
            continue
        box.asked[job.id] = (job.delivered, time.monotonic())
        fetch(s, box, job.id)


def fetch(s: state.State, box: Shelf, job: str) -> None:
    assert s.link is not None

    def work(client: Any) -> list[tuple[str, str]]:
        out = []
        for frame in client.frames(job, "delivered", PER_JOB)["frames"]:
            label = str(frame["label"])
            stamp = "%s-%s-%d" % (job, label, int(frame.get("attempts") or 0))
            path = os.path.join(box.dir, stamp.replace(os.sep, "_") + ".png")
            if not os.path.exists(path):
                try:
                    picture = client.thumbnail(job, label, SIDE)
                except Trouble:
                    continue  # a format without previews: the frame is fine all the same
                with open(path + ".part", "wb") as f:
                    f.write(picture)
                os.replace(path + ".part", path)
            out.append((label, path))
        return out

    def answered(found: Any, trouble: Trouble | None) -> None:
        if trouble is not None or _shelf is not box:
            return
        for label, path in found:
            if path not in box.icons:
                box.icons.load(path, path, "IMAGE")
        box.of[job] = found
        s.redraws = 8

    s.link.do(work, answered)


def icons(job: str) -> list[tuple[str, int]]:
    """(label, icon) of the newest frames."""
    if _shelf is None:
        return []
    return [(label, _shelf.icons[key].icon_id) for label, key in _shelf.of.get(job, []) if key in _shelf.icons]
