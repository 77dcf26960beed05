# SPDX-License-Identifier: Apache-2.0
"""Passes on what Blender says of how far a render is.

Blender hands its handlers the text from 4.5 on; older ones print it, and there
only the beginning of a render is told: who started us reads the log. What the
text means is judged there too."""

from __future__ import annotations

import re
import time
from typing import Any

import bpy

from protocol import Progress

MAX_TEXT = 400  # characters, the last ones
FREELY, GAP_S = 200, 0.5  # texts of a render without a rule; then the least time between two
COUNTS = re.compile(r"\d ?/ ?\d")


class Stats:
    """Listens during one render. It is a handler only as long: nothing of it
    is left to later renders, whatever the file's scripts do to handlers."""

    def __init__(self, progress: Progress, scene: Any, start: float, end: float) -> None:
        self._progress = progress
        self._shot = (start, end, parts(scene))
        self._begun = False
        self._said = 0
        self._next = 0.0

    def __enter__(self) -> "Stats":
        bpy.app.handlers.render_stats.append(self.hear)
        return self

    def __exit__(self, *exc: Any) -> None:
        if self.hear in bpy.app.handlers.render_stats:
            bpy.app.handlers.render_stats.remove(self.hear)

    def hear(self, text: Any = None, *_: Any) -> None:
        """Runs in whatever thread of the render has something to say, once for
        each object of the scene too."""
        told = isinstance(text, str)
        if not self._begun:
            self._begun = True
            self._progress.shot(*self._shot, log=not told)
        if not told or not COUNTS.search(text):
            return
        now = time.monotonic()
        if self._said < FREELY or now >= self._next:
            self._said += 1
            self._next = now + GAP_S
            self._progress.stats(text[-MAX_TEXT:])


def parts(scene: Any) -> int:
    """How often Blender counts its samples from the start in one frame."""
    render = scene.render
    n = sum(1 + (render.use_freestyle and layer.use_freestyle) for layer in scene.view_layers if layer.use)
    if render.use_multiview:
        n *= sum(1 for view in render.views if view.use)
    return min(max(n, 1), 1000)
