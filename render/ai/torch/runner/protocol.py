"""Frames on two pipes: four bytes of length, JSON, and the blobs that its
"blobs" has the lengths of. Standard library only."""

import json
import struct

MAX_JSON = 64 << 20
MAX_BLOBS = 1 << 30


class Ended(Exception):
    """Whoever asked is gone."""


class Refused(ValueError):
    """What is wrong with an item, for people."""


def _read(stream, n):
    out = bytearray()
    while len(out) < n:
        piece = stream.read(n - len(out))
        if not piece:
            raise Ended
        out += piece
    return bytes(out)


def read(stream):
    """The next frame: its object, and its blobs."""
    (n,) = struct.unpack(">I", _read(stream, 4))
    if n > MAX_JSON:
        raise ValueError(f"a frame of {n} bytes")
    head = json.loads(_read(stream, n))
    lengths = head.get("blobs") or []
    if any(not isinstance(k, int) or k < 0 for k in lengths) or sum(lengths) > MAX_BLOBS:
        raise ValueError("blobs of impossible lengths")
    return head, [_read(stream, k) for k in lengths]


def write(stream, head, blobs=()):
    head = dict(head, blobs=[len(b) for b in blobs])
    text = json.dumps(head, allow_nan=False).encode()
    stream.write(struct.pack(">I", len(text)) + text)
    for b in blobs:
        stream.write(b)
    stream.flush()
