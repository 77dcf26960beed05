# SPDX-License-Identifier: Apache-2.0
"""Whether the numbered files that a frame reads are here. A worker fetches those
of its tasks only, and what Blender does not find it leaves out of the picture
without a word."""

from __future__ import annotations

import os
from typing import Callable, Iterator

from protocol import Broken

DIGITS = 9  # of a number in a file's name


def look(roots: list[str], frame: int, reads: list, opened: Callable[[], list]) -> None:
    """Raises where a file that the frame reads is not here: of those that the
    task says, in the first of the folders, and of those that Blender opens."""
    if not reads or not roots[0]:
        return
    lacking = absent(roots[0], reads) or unread(roots, reads, opened())
    if lacking:
        raise Broken("the file %s, which frame %d reads, is not among the job's files here" % (lacking, frame))


def absent(root: str, reads: list) -> str:
    """The first of the task's own files that is not in the tree at root, or ""."""
    for each in reads:
        for first, last in each["own"] or ():
            for n in range(first, last + 1):
                if not any(os.path.isfile(path) for path in named(root, each, n)):
                    return each["head"] + str(n) + each["tail"]
    return ""


def named(root: str, each: dict, number: int) -> Iterator[str]:
    """The files of a sequence that have a number: it may have zeros before it."""
    seen = ""
    for width in range(1, DIGITS + 1):
        digits = str(number).zfill(width)
        if digits != seen:
            yield os.path.join(root, *(each["head"] + digits + each["tail"]).split("/"))
        seen = digits


def unread(roots: list[str], reads: list, opened: list) -> str:
    """The first of the files that Blender opens for the frame which is of a
    sequence in reads, and not here, or ""."""
    for path in opened:
        if not path or os.path.isfile(path):
            continue
        names = [os.path.relpath(os.path.abspath(path), os.path.abspath(root)).replace(os.sep, "/") for root in roots]
        for name, each in ((name, each) for name in names for each in reads):
            digits = name[len(each["head"]) : len(name) - len(each["tail"])]
            if name == each["head"] + digits + each["tail"] and digits.isdigit() and within(each["of"] or (), int(digits)):
                return name
    return ""


def within(runs: list, number: int) -> bool:
    return any(first <= number <= last for first, last in runs)
