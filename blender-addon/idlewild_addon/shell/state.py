# SPDX-License-Identifier: GPL-3.0-or-later
"""The one State of the add-on, and the timer that drains its queue."""

from __future__ import annotations

import time
from typing import Any

import bpy

from ..core import estimate, farm, jobs, link, problems, version
from ..core.client import default_data_dir
from ..core.errors import Trouble

TICK = 0.25  # seconds between two looks into the queue
MAX_LINES = 6


class State:
    def __init__(self) -> None:
        self.link: link.Link | None = None
        self.said_dir = ""  # a data folder that the command line names
        self.connected = False
        self.line = "Looking for the farm's daemon"  # of the connection
        self.gone = False  # the line is that nobody answers: Start may help
        self.starting = False
        self.farm = farm.Farm()
        self.advice = ""  # which side to update
        self.jobs = jobs.JobList()
        self.notes: list[str] = []  # what operators have to say, newest first
        self.busy = ""  # what is being done for a person right now
        self.estimate: estimate.Estimate | None = None
        self.found: list[problems.Problem] = []  # of the last check
        self.checked = ""  # the file that it was
        self.mine: set[str] = set()  # jobs that were submitted from here
        self.to_open: dict[str, str] = {}  # jobs whose result is shown when they finish -> "image" or "strip"
        self.results: dict[str, list[str]] = {}  # delivered files that were asked for
        self.blocked_s = 0.0  # of the main thread by the last submission, Blender's own save aside
        self.save_s = 0.0
        self.unsaved = ("", 0)  # the file, as it was on the disk, of which unsaved work was submitted
        self.watch_dirty = 0  # how often more Blender's mark of unsaved work is looked after
        self.redraws = 0  # that are still to come: Blender loads small pictures behind its own back

    def note(self, line: str) -> None:
        if line in self.notes:
            self.notes.remove(line)
        self.notes = [line] + self.notes[: MAX_LINES - 1]

    # What the link tells, in the main thread.

    def told(self, kind: str, value: Any) -> None:
        if kind == "up":
            self.connected, self.line, self.gone, self.starting = True, "", False, False
        elif kind == "down":
            self._down(value)
        elif kind == "status":
            self.farm = farm.read(value)
            self.advice, _ = version.compare(self.farm.version, version.API_LEVEL)
        elif kind == "jobs":
            self._jobs(value)

    def _down(self, trouble: Trouble) -> None:
        self.connected, self.gone = False, trouble.gone
        if not self.starting:
            self.line = str(trouble)

    def _jobs(self, told: list[dict[str, Any]]) -> None:
        from . import results, thumbnails
        known = {j.id for j in self.jobs.all}
        changed = self.jobs.update(told)
        if not self.busy:  # else one of the new jobs may be ours
            self._intruder(known)
        for before, now in changed:
            if now.ended and (not before.ended if before is not None else now.id in self.mine):
                self._ended(now)
            if now.ended and now.id in self.to_open:
                how = self.to_open.pop(now.id)
                if now.state == "finished":
                    results.load(self, now, how)
        thumbnails.want(self)

    def submitted(self, id_: str, known: set[str]) -> None:
        """The daemon took a job; known are those that were there before. The
        list may have told of it before, even of its end."""
        self.mine.add(id_)
        self._intruder(known)
        j = self.jobs.get(id_)
        if j is not None and j.ended:
            self._ended(j)

    def _intruder(self, known: set[str]) -> None:
        line = self.jobs.intruder(self.mine, known)
        if line:
            self.note(line)

    def _ended(self, job: jobs.Job) -> None:
        if job.state == "finished":
            self.note("%s is finished: %s" % (job.title, job.output))
        elif job.state == "cancelled":
            self.note("%s was cancelled; submit it again to go on" % job.title)
        else:
            why = [p.line() for p in job.problems if p.bad] or [job.reason or "see idlewild logs %s" % job.id]
            self.note("%s failed: %s" % (job.title, why[0]))


# The only global of the add-on; None while it is not registered.
_state: State | None = None


def get() -> State:
    global _state
    if _state is None:
        _state = State()
    return _state


def prefs() -> Any:
    """The add-on's preferences, or None where it was registered without being
    enabled, as tests do."""
    assert __package__ is not None
    package = __package__.rsplit(".", 1)[0]
    entry = bpy.context.preferences.addons.get(package)
    return entry.preferences if entry else None


def data_dir(said: str = "") -> str:
    p = prefs()
    return link.expand(said or (p.data_dir if p and p.data_dir else default_data_dir()))


def connect(said: str = "") -> State:
    """Begins to speak with the daemon, once, and again where the data folder
    changed."""
    s = get()
    s.said_dir = said or s.said_dir
    where = data_dir(s.said_dir)
    if s.link is not None and s.link.data_dir == where:
        return s
    if s.link is not None:
        s.link.close()
    s.connected, s.line, s.gone = False, "Looking for the farm's daemon", False
    s.jobs, s.farm = jobs.JobList(), farm.Farm()
    s.link = link.Link(where, s.told)
    s.link.start()
    return s


def tick() -> float | None:
    """What the timer calls: nothing but taking what threads have to say."""
    s = _state
    if s is None:
        return None
    if (s.link is not None and s.link.drain()) or s.redraws > 0:
        s.redraws = max(0, s.redraws - 1)
        redraw()
    return TICK


def redraw() -> None:
    manager = bpy.context.window_manager
    for window in manager.windows if manager else ():
        for area in window.screen.areas:
            if area.type == "PROPERTIES":
                area.tag_redraw()


def close() -> None:
    global _state
    if _state is not None and _state.link is not None:
        _state.link.close()
    _state = None


def wait_for(ok: Any, timeout: float) -> bool:
    """For the background, where timers do not fire."""
    s = connect()
    assert s.link is not None
    end = time.monotonic() + timeout
    while not ok():
        left = end - time.monotonic()
        if left <= 0:
            return False
        link.wait_for(s.link, ok, min(left, 1.0))
    return True
