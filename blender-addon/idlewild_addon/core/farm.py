# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is on the farm and what is free, as a line or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import text


@dataclass(frozen=True)
class Farm:
    name: str = ""
    machine: str = ""
    version: str = ""
    paused: str = ""
    others: int = 0  # members that are connected, this machine aside
    members: int = 0
    devices: tuple[tuple[str, str, bool, bool], ...] = ()  # whose, model, is a GPU, is free
    warnings: tuple[str, ...] = ()

    def headline(self) -> str:
        if not self.name and not self.members:
            return "This machine alone"
        return "Farm %s, %s here" % (text.clip(self.name, 30), text.count(self.others + 1, "machine"))

    def free(self) -> str:
        """"2 of 3 GPUs free, 1 CPU free"."""
        out = []
        for is_gpu, one in ((True, "GPU"), (False, "CPU")):
            all_ = [d for d in self.devices if d[2] == is_gpu]
            if all_:
                out.append("%d of %s free" % (sum(d[3] for d in all_), text.count(len(all_), one)))
        return ", ".join(out)

    def trouble(self) -> str:
        """A line where nobody would render."""
        if self.devices:
            return ""
        if self.members > 1 and not self.others:
            return "No other machine of the farm is connected: start idlewild up on one, or take work here"
        if not self.members:
            return "The farm is empty: invite a machine with idlewild farm create and idlewild farm invite"
        return "No machine of the farm offers a device now: frames wait until one does"


def read(status: dict[str, Any]) -> Farm:
    """From GET /v1/status."""
    machine, farm = status.get("machine") or {}, status.get("farm") or {}
    members = farm.get("members") or []
    devices = []
    for m in members or [{"self": True, "name": machine.get("name"), "devices": machine.get("devices")}]:
        if not (m.get("self") or m.get("connected")):
            continue
        for d in m.get("devices") or []:
            if d.get("name") == "home":
                continue
            doing = str(d.get("doing") or "idle")
            resting = m.get("self") and machine.get("paused")
            if resting or doing.startswith("disabled") or ("idle:" in doing and "takes no work" in doing):
                continue
            devices.append((str(m.get("name", "")), str(d.get("model", "")), d.get("type") == "gpu", doing.startswith("idle")))
    return Farm(
        name=str(farm.get("name", "")), machine=str(machine.get("name", "")), version=str(machine.get("version", "")),
        paused=str(machine.get("paused", "")), others=sum(1 for m in members if m.get("connected") and not m.get("self")),
        members=len(members), devices=tuple(devices), warnings=tuple(str(w) for w in machine.get("warnings") or ()))
