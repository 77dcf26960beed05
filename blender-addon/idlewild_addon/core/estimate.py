# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job would take, in lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import problems, text


@dataclass(frozen=True)
class Estimate:
    found: tuple[problems.Problem, ...] = ()
    tasks: int = 0
    skipped: int = 0
    files: int = 0
    size_bytes: int = 0
    changed_bytes: int = 0
    task_s: float = 0.0
    basis: str = ""
    devices: int = 0
    left_s: float = 0.0

    @property
    def refused(self) -> bool:
        return any(p.bad for p in self.found)

    def lines(self) -> list[str]:
        out = []
        if self.tasks:
            what = text.count(self.tasks - self.skipped, "frame") + " to render"
            if self.skipped:
                what += ", %d are there already" % self.skipped
            out.append(what)
        moved = "nothing has to move" if not self.changed_bytes else "at most %s to move" % text.size(self.changed_bytes)
        out.append("%s, %s in all; %s" % (text.count(self.files, "file"), text.size(self.size_bytes), moved))
        if self.left_s:
            out.append("About %s on %s, from %s" % (text.duration(self.left_s), text.count(self.devices, "device"), self.basis))
        elif not self.devices and self.task_s:
            out.append("%s a frame on one device; none is free now" % text.duration(self.task_s))
        elif self.basis:
            out.append("Time unknown: " + self.basis)
        return out


def read(d: dict[str, Any]) -> Estimate:
    keys = [k for k in Estimate.__dataclass_fields__ if k != "found"]
    return Estimate(found=tuple(problems.read(d.get("problems"))), **{k: d[k] for k in keys if d.get(k) is not None})
