# SPDX-License-Identifier: Apache-2.0
"""Whether Cycles may keep the scene from frame to frame, found out by trying.

What Blender calls persistent data saves reading the scene again for each frame,
most of the time of a short frame of a large scene. Some scenes come out wrong
with it. So a session looks: after a frame for which the scene was kept it
renders that frame twice more with one sample and few pixels, as it is kept and
as it is read afresh, and where the two pictures differ the scene is never kept
again and the frame is rendered once more.
"""

from __future__ import annotations

import os
import time
from typing import Any, Callable

import bpy

from overlay import Overlay

# Pixels along the longer side of the two pictures.
SIDE = 480
# How much of the rendering time looking may take, after the first look.
SHARE = 0.01
# Pixels that may differ: a ray tracing structure that was mended and one that
# was made anew may disagree where two surfaces touch.
STRAY = 0.001
# From which difference on, relative to the pixel's brightness, they do.
DIFFERENT = 1e-3


class Keeper:
    """What one session knows of keeping, scene by scene."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._broken: set[str] = set()
        self._last: dict[str, int] = {}
        self._warm: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self._rendering = self._looking = 0.0

    def allowed(self, scene: str) -> bool:
        return scene not in self._broken

    def rendered(self, scene: str, frame: int, seconds: float) -> bool:
        """Notes a frame that was rendered while the scene is kept; returns
        whether to look now: at the first that follows another one, then after
        twice as many frames each time, as long as looking costs next to nothing."""
        self._rendering += seconds
        before, self._last[scene] = self._last.get(scene), frame
        if before is None or before == frame:
            return False
        self._warm[scene] = warm = self._warm.get(scene, 0) + 1
        due = self._next.get(scene, 1)
        if warm < due or due > 1 and self._looking > SHARE * self._rendering:
            return False
        self._next[scene] = 2 * warm
        return True

    def looked(self, scene: str, same: bool, seconds: float) -> None:
        self._looking += seconds
        if not same:
            self._broken.add(scene)


def agrees(scene: Any, folder: str) -> bool:
    """Whether the current frame looks the same kept and afresh. What is kept is
    dropped by it."""
    render_, cycles = scene.render, scene.cycles
    image = render_.image_settings
    with Overlay(scene) as overlay:
        width, height = render_.resolution_x, render_.resolution_y
        percent = min(render_.resolution_percentage, max(1, SIDE * 100 // max(width, height, 1)))
        overlay.set(render_, "use_border", False)
        overlay.set(render_, "resolution_percentage", percent)
        overlay.set(cycles, "use_adaptive_sampling", False)
        overlay.set(cycles, "use_denoising", False)
        overlay.set(cycles, "use_layer_samples", "IGNORE")
        for name, value in (("use_sample_subset", False), ("sample_offset", 0)):
            if hasattr(cycles, name):
                overlay.set(cycles, name, value)
        overlay.set(cycles, "samples", 1)
        if hasattr(image, "media_type"):  # 5.0
            overlay.set(image, "media_type", "IMAGE")
        overlay.set(image, "file_format", "OPEN_EXR")
        overlay.set(image, "color_depth", "32")
        overlay.set(image, "exr_codec", "ZIP")
        kept = shoot(render_, overlay, os.path.join(folder, "kept.exr"))
        render_.use_persistent_data = False
        fresh = shoot(render_, overlay, os.path.join(folder, "fresh.exr"))
    return alike(kept, fresh)


def shoot(render_: Any, overlay: Overlay, path: str) -> list[float]:
    overlay.set(render_, "filepath", path)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(path)
    try:
        pixels = [0.0] * len(image.pixels)
        image.pixels.foreach_get(pixels)
        return pixels
    finally:
        bpy.data.images.remove(image)
        os.remove(path)


def alike(a: list[float], b: list[float]) -> bool:
    """Whether two pictures of four channels are the same but for a few pixels."""
    if a == b:
        return True
    if len(a) != len(b):
        return False
    stray = 0
    for i in range(0, len(a), 4):
        for x, y in zip(a[i:i + 4], b[i:i + 4]):
            if x != y and not (x != x and y != y) and not abs(x - y) <= DIFFERENT * (abs(x) + abs(y) + 1e-3):
                stray += 1
                break
    return stray <= STRAY * (len(a) // 4)
