# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of Xvfb's screen, from the file that it keeps it in (-fbdir). What
Blender itself reads back of its window is black under some drivers."""

from __future__ import annotations

import os
import struct
import zlib


def read(folder: str) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of RGB of the screen, top first."""
    with open(os.path.join(folder, "Xvfb_screen0"), "rb") as f:
        raw = f.read()
    head = struct.unpack(">25I", raw[:100])  # of an X window dump
    size, width, height, order, bits, line, colours = head[0], head[4], head[5], head[7], head[11], head[12], head[19]
    if bits != 32 or order != 0:
        raise ValueError("a screen of %d bits, bytes in order %d" % (bits, order))
    at = size + 12 * colours
    rows = []
    for y in range(height):
        row = raw[at + y * line:at + y * line + 4 * width]
        rgb = bytearray(3 * width)
        rgb[0::3], rgb[1::3], rgb[2::3] = row[2::4], row[1::4], row[0::4]
        rows.append(bytes(rgb))
    return width, height, rows


def crop(rows: list[bytes], left: int, top: int, width: int, height: int) -> list[bytes]:
    return [row[3 * left:3 * (left + width)] for row in rows[top:top + height]]


def png(path: str, rows: list[bytes]) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows), 9)) + chunk(b"IEND", b""))


def brightness(rows: list[bytes]) -> float:
    """The mean of all values, 0 to 255."""
    return sum(map(sum, rows)) / sum(map(len, rows))


def colours(rows: list[bytes]) -> int:
    """How many there are."""
    return len({row[i:i + 3] for row in rows for i in range(0, len(row), 3)})
