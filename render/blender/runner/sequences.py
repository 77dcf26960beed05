# SPDX-License-Identifier: Apache-2.0
"""Which files of an image sequence the frames of a job show. No bpy here."""

from __future__ import annotations

import os
import re
from typing import Optional

MAX_FRAMES = 100_000


def frames(text: str) -> set[int]:
    """The frames of "1-250x5,300", which was checked before; empty where it is
    not said."""
    found: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        match = re.match(r"\s*(-?\d+)(?:\s*-\s*(-?\d+)(?:x(\d+))?)?\s*\Z", part)
        if not match:
            return set()
        first = int(match.group(1))
        found.update(range(first, int(match.group(2) or first) + 1, max(int(match.group(3) or 1), 1)))
        if len(found) > MAX_FRAMES:
            return set()
    return found


def number(frame: int, start: int, length: int, offset: int, mode: str) -> int:
    """The number of the file that a user of the sequence shows at a frame.
    render/blender/sequence.go says the same."""
    at = frame - start + 1
    if length <= 0:
        return offset
    return (min(max(at, 1), length) if mode == "EXTEND" else (at - 1) % length + 1) + offset


def numbered(name: str) -> Optional[tuple[str, int, str]]:
    """A file's name around its number, the last one in it."""
    base = os.path.basename(name)
    digits = list(re.finditer(r"\d+", os.path.splitext(base)[0]))
    if not digits:
        return None
    last, before = digits[-1], len(name) - len(base)
    return name[: before + last.start()], int(last.group()), base[last.end() :]


def ranges(numbers: list[int]) -> list[list[int]]:
    """First and last of each run of numbers."""
    found: list[list[int]] = []
    for n in sorted(set(numbers)):
        if found and found[-1][1] == n - 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return found


def shown(found: list[str], wanted: set[int]) -> list[str]:
    """The files with these numbers; where one of them is not there, all: then
    the sequence is counted in a way that is not understood here."""
    by_number: dict[int, str] = {}
    for path in found:
        digits = list(re.finditer(r"\d+", os.path.splitext(os.path.basename(path))[0]))
        if not digits or int(digits[-1].group()) in by_number:
            return found
        by_number[int(digits[-1].group())] = path
    if not wanted or not wanted <= set(by_number):
        return found
    return [by_number[n] for n in sorted(wanted)]
