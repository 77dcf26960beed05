# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inspection found, and what of it can be gone to."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """Where a problem sits: a datablock, or a path on this machine."""

    kind: str = ""  # "object", "image", ... ; "path"; empty: nowhere to go
    name: str = ""


@dataclass(frozen=True)
class Problem:
    severity: str
    where: str
    message: str
    remedy: str

    @property
    def bad(self) -> bool:
        return self.severity == "error"

    def line(self) -> str:
        s = "%s: %s" % (self.where, self.message) if self.where else self.message
        return s + "; " + self.remedy if self.remedy else s

    def target(self) -> Target:
        return target(self.where, self.message)


def read(list_: Any) -> list[Problem]:
    """From the daemon's JSON."""
    return [Problem(str(p.get("severity", "")), str(p.get("where", "")), str(p.get("message", "")), str(p.get("remedy", "")))
            for p in list_ or []]


# Words before a quoted name, longest first: "Movie clip 'x'".
KINDS = {
    "movie clip": "movieclip", "cache file": "cache_file", "view layer": "view_layer", "particle system": "",
    "object": "object", "image": "image", "library": "library", "font": "font", "volume": "volume", "scene": "scene",
    "material": "material", "world": "world", "camera": "object", "text": "text", "node": "", "modifier": "", "collection": "collection",
}
NAMED = re.compile(r"\b(%s)s? '([^']+)'" % "|".join(sorted(KINDS, key=len, reverse=True)), re.IGNORECASE)
PATH = re.compile(r"(?:the file )(/.+?|[A-Za-z]:\\.+?) is missing")


def target(where: str, message: str) -> Target:
    """The most particular thing that is named: an object rather than its
    modifier, a datablock rather than a path."""
    found = [Target(KINDS[kind.lower()], name) for kind, name in NAMED.findall(where) if KINDS[kind.lower()]]
    found.sort(key=lambda t: t.kind != "object")
    if found and found[0].kind != "library":
        return found[0]
    m = PATH.search(message)
    if m:
        return Target("path", os.path.dirname(m.group(1)))
    if os.path.isabs(where):
        return Target("path", os.path.dirname(where))
    return found[0] if found else Target()
