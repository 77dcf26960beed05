# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions understand each other."""

from __future__ import annotations

import re

# The add-on's own: bl_info, the manifest and the daemon hold the same, and a
# test compares them.
VERSION = (0, 1, 0)
# The level of the local API that this add-on was written for.
API_LEVEL = 1

TEXT = ".".join(str(n) for n in VERSION)


def parse(text: str) -> tuple[int, ...]:
    """"0.10.2-rc1" -> (0, 10, 2); what is no number ends it."""
    found = []
    for step in text.strip().lstrip("v").split("."):
        m = re.match(r"\d+", step)
        if not m:
            break
        found.append(int(m.group()))
        if m.group() != step:
            break
    return tuple(found)


def compare(daemon_version: str, daemon_api: int) -> tuple[str, bool]:
    """A line for the panel, empty where both match, and whether they can talk
    at all. It says which side to update."""
    daemon = parse(daemon_version)
    name = "idlewild %s" % (daemon_version or "of an unknown version")
    if daemon_api > API_LEVEL:
        return "The daemon is %s and newer than this add-on (%s): run idlewild addon install" % (name, TEXT), False
    if daemon_api < API_LEVEL:
        return "The daemon is %s and older than this add-on (%s): update idlewild and restart it" % (name, TEXT), False
    if daemon > VERSION:
        return "The add-on (%s) is older than the daemon (%s): run idlewild addon install" % (TEXT, daemon_version), True
    if daemon < VERSION:
        return "The daemon (%s) is older than the add-on (%s): update idlewild and restart it" % (
            daemon_version or "unknown", TEXT), True
    return "", True
