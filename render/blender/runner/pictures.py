# SPDX-License-Identifier: Apache-2.0
"""Of what size a picture is once it is loaded, by the beginning of its file.

No bpy here: this module is tested in plain Python.
"""

from __future__ import annotations

import struct
from typing import Optional


def pixels(head: bytes) -> Optional[tuple[int, int, int]]:
    """Width, height and bytes a pixel as Cycles loads it, of PNG, JPEG, OpenEXR and
    Radiance; None of others, which are guessed from the file's size."""
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 26:
        width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
        grey = colour == 0  # one channel stays one
        return width, height, (1 if grey else 4) * (2 if depth == 16 else 1)
    if head[:4] == b"v/1\x01":
        return openexr(head)
    if head[:2] == b"\xff\xd8":
        return jpeg(head)
    if head[:2] == b"#?":
        return radiance(head)
    return None


def openexr(head: bytes) -> Optional[tuple[int, int, int]]:
    at = head.find(b"dataWindow\0box2i\0")
    if at < 0 or len(head) < at + 37:
        return None
    x0, y0, x1, y1 = struct.unpack("<iiii", head[at + 21 : at + 37])
    if not (0 <= x1 - x0 < 1 << 17 and 0 <= y1 - y0 < 1 << 17):
        return None
    # Of each channel: name, 0, type (1: half), 12 bytes more.
    channels = head.find(b"channels\0chlist\0")
    name = head.find(b"\0", channels + 20)
    half = channels >= 0 and name >= 0 and head[name + 1 : name + 5] == b"\x01\0\0\0"
    return x1 - x0 + 1, y1 - y0 + 1, 8 if half else 16


def jpeg(head: bytes) -> Optional[tuple[int, int, int]]:
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        marker, size = head[at + 1], struct.unpack(">H", head[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return width, height, 1 if head[at + 9] == 1 else 4
        at += 2 + size
    return None


def radiance(head: bytes) -> Optional[tuple[int, int, int]]:
    for line in head.split(b"\n", 64):
        words = line.split()
        if len(words) == 4 and words[0] in (b"-Y", b"+Y") and words[1].isdigit() and words[3].isdigit():
            height, width = int(words[1]), int(words[3])
            return (width, height, 16) if width < 1 << 17 and height < 1 << 17 else None
    return None
