# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of this machine as the panel shows them. A job of ten thousand
frames is as small here as one of two: only counts are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import AbstractSet, Any, Iterable

from . import problems, text

ENDED = ("finished", "failed", "cancelled")
# What a state is called in the panel, and Blender's icon for it.
LOOKS = {
    "accepted": ("Preparing", "SORTTIME"),
    "planned": ("Rendering", "RENDER_ANIMATION"),
    "paused": ("Paused", "PAUSE"),
    "finished": ("Finished", "CHECKMARK"),
    "failed": ("Failed", "ERROR"),
    "cancelled": ("Cancelled", "X"),
}


@dataclass(frozen=True)
class Job:
    id: str
    title: str = ""
    state: str = ""
    reason: str = ""
    file: str = ""
    output: str = ""
    submitted: str = ""
    tasks: int = 0
    delivered: int = 0
    running: int = 0
    waiting: int = 0
    failed: int = 0
    skipped: int = 0
    rejected: int = 0
    under_way: float = 0.0
    left_s: float = 0.0
    wall_s: float = 0.0
    uploaded_bytes: int = 0
    problems: tuple[problems.Problem, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def fraction(self) -> float:
        if not self.tasks:
            return 0.0
        return min(1.0, (self.delivered + self.skipped + min(max(self.under_way, 0.0), self.running)) / self.tasks)

    @property
    def look(self) -> tuple[str, str]:
        return LOOKS.get(self.state, (self.state, "QUESTION"))

    def headline(self) -> str:
        return "%s: %s" % (text.clip(self.title, 40), self.look[0])

    def progress(self) -> str:
        """"12 of 51 frames, 3 at work (40 %), 6 min left"."""
        if not self.tasks:
            return self.reason or "its files are being looked at"
        parts = ["%d of %s" % (self.delivered + self.skipped, text.count(self.tasks, "frame"))]
        if not self.ended:
            if self.running:
                far = " (%d %%)" % round(100 * min(self.under_way / self.running, 1)) if self.under_way > 0 else ""
                parts.append("%d at work%s" % (self.running, far))
            if self.left_s:
                parts.append(text.duration(self.left_s) + " left")
        elif self.wall_s:
            parts.append("took " + text.duration(self.wall_s))
        return ", ".join(parts)

    def remarks(self) -> list[str]:
        """What a person should know beyond progress; a line each."""
        out = []
        if self.rejected:
            out.append("%s rejected and rendered again elsewhere" % text.count(self.rejected, "wrong frame was", "wrong frames were"))
        if self.failed:
            out.append("%s failed: see idlewild logs %s" % (text.count(self.failed, "frame"), self.id))
        if self.reason and self.tasks and self.reason not in (self.state, ""):
            out.append(self.reason)
        elif self.state == "failed" and self.problems:
            out += [p.line() for p in self.problems if p.bad][:3]
        return out


def read(d: dict[str, Any]) -> Job:
    """From the daemon's JSON; what it lacks or has too much is no matter."""
    fields = {k: d[k] for k in Job.__dataclass_fields__ if k in d and k != "problems" and d[k] is not None}
    return Job(id=str(d.get("job", "")), problems=tuple(problems.read(d.get("problems"))), **{k: v for k, v in fields.items() if k != "id"})


class JobList:
    """Newest first, as the daemon tells."""

    def __init__(self) -> None:
        self.all: list[Job] = []
        self._by_id: dict[str, Job] = {}

    def update(self, told: Iterable[dict[str, Any]]) -> list[tuple[Job | None, Job]]:
        """Takes the daemon's list and returns what changed, as before and
        after."""
        jobs = [read(d) for d in told]
        changed = [(self._by_id.get(j.id), j) for j in jobs if self._by_id.get(j.id) != j]
        self.all = jobs
        self._by_id = {j.id: j for j in jobs}
        return changed

    def get(self, id_: str) -> Job | None:
        return self._by_id.get(id_)

    def shown(self, file: str, most: int = 5) -> list[Job]:
        """This file's jobs, then others' that go on."""
        own = [j for j in self.all if file and same_file(j.file, file)]
        own.sort(key=lambda j: j.ended)  # stable: newest first within
        rest = [j for j in self.all if not j.ended and j not in own]
        return (own + rest)[:most]

    def clash(self, output: str, file: str) -> str:
        """A line where an open job writes into the same folder."""
        for j in self.all:
            if not j.ended and output and same_file(j.output, output):
                who = "This file" if same_file(j.file, file) else "%s" % text.clip(j.title, 40)
                return "%s is being rendered into that folder already: cancel that job, or choose another folder" % who
        return ""

    def intruder(self, mine: AbstractSet[str], known: AbstractSet[str]) -> str:
        """A line where an open job that is neither mine nor known writes into
        the folder of one of mine: another program submitted it meanwhile."""
        folders = [j.output for j in self.all if j.id in mine and not j.ended]
        for j in self.all:
            if not j.ended and j.id not in mine and j.id not in known and any(same_file(j.output, f) for f in folders):
                return "%s was submitted elsewhere too, into the same folder: cancel one of the jobs" % text.clip(j.title, 40)
        return ""


def same_file(a: str, b: str) -> bool:
    return bool(a) and bool(b) and os.path.normcase(os.path.normpath(a)) == os.path.normcase(os.path.normpath(b))
