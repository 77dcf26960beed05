# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frames, and how their files are named."""

from __future__ import annotations

import os
import re
from typing import Iterable


def listing(frames: Iterable[int]) -> str:
    """[1, 2, 3, 7, 9, 11] -> "1-3,7-11x2": what the daemon reads."""
    numbers = sorted(set(frames))
    out = []
    i = 0
    while i < len(numbers):
        j = i + 1
        step = numbers[j] - numbers[i] if j < len(numbers) else 0
        while j + 1 < len(numbers) and numbers[j + 1] - numbers[j] == step:
            j += 1
        if j >= len(numbers) or j - i < 2:  # a run of two is not worth it
            out.append(str(numbers[i]))
            i += 1
            continue
        out.append("%d-%d" % (numbers[i], numbers[j]) + ("x%d" % step if step > 1 else ""))
        i = j + 1
    return ",".join(out)


def span(start: int, end: int, step: int = 1) -> str:
    """A range as the daemon reads it."""
    if end <= start:
        return str(start)
    return "%d-%d" % (start, end) + ("x%d" % step if step > 1 else "")


class Output:
    """Where Blender would put frames, from the scene's output path."""

    def __init__(self, path: str, blend: str, fallback: str = "") -> None:
        """path as it stands in the scene, // already made absolute. A # in the
        name of a folder is a # to Blender, and no number of a frame."""
        self.folder, self.name = os.path.split(path)
        if not self.folder:
            self.folder = fallback or os.path.dirname(blend)
        # Blender's own extension in the path: the file gets one anyway.
        self.name = re.sub(r"\.(png|jpe?g|exr|tiff?|bmp|tga|webp|hdr)\Z", "", self.name, flags=re.IGNORECASE)


PROBE = 987654  # a frame whose number nobody has in a path


def from_probe(path: str, rendered: str, extension: str) -> str:
    """The output path of which Blender makes rendered at frame PROBE: it has
    replaced the {} of path, and the # too, which are put back."""
    if extension and rendered.endswith(extension):
        rendered = rendered[: -len(extension)]
    head, number, tail = rendered.rpartition(str(PROBE))
    runs = re.findall("#+", os.path.basename(path))
    return head + "#" * (len(runs[-1]) if runs else 4) + tail if number else rendered


def file_name(pattern: str, frame: int, extension: str) -> str:
    """As the daemon names files: the last run of # is the number, four digits
    at the end where there is none."""
    end = pattern.rfind("#") + 1
    if end == 0:
        pattern += "####"
        end = len(pattern)
    start = end
    while start > 0 and pattern[start - 1] == "#":
        start -= 1
    digits = "%0*d" % (end - start, abs(frame))
    return pattern[:start] + ("-" if frame < 0 else "") + digits + pattern[end:] + extension
