# SPDX-License-Identifier: Apache-2.0
"""Border edges as Blender counts them: a share of the frame, in single
precision, cut off to whole pixels."""

from __future__ import annotations

from ctypes import c_float


def border_pixel(share: float, size: int) -> int:
    """The pixel that an edge at this share of `size` pixels falls on."""
    return int(c_float(c_float(share).value * size).value)


def border_share(pixel: int, size: int) -> float:
    """A share that falls on `pixel`: a quarter of a pixel inside it, so that no
    rounding reaches its neighbours, whether it cuts off or rounds."""
    return min((pixel + 0.25) / size, 1.0)
