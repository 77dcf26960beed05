# SPDX-License-Identifier: Apache-2.0
"""The contract with the process that started us: requests, events, outcomes.

No bpy here: this module is tested in plain Python.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import traceback
from dataclasses import dataclass, field
from typing import Any, TextIO

MAX_REASON = 2000  # characters of a reason


class Failed(Exception):
    """The request is wrong: another machine would fail too."""


class Broken(Exception):
    """This machine cannot do it; another one might."""


@dataclass
class Request:
    """One line from stdin. Zero values mean: as the file has it."""

    id: int = 0
    op: str = ""
    main: str = ""  # the file, which is open already
    frame: int = 0
    build: str = ""  # of Blender, that the job is pinned to
    scene: str = ""
    camera: str = ""
    view_layer: str = ""
    engine: str = ""
    samples: int = 0
    width: int = 0
    height: int = 0
    percent: int = 0
    denoise: str = ""  # "off": never, whatever the file says; "later": keep the guides; "guided": denoise and keep them
    depth: str = ""  # bits of the EXR's channels, "16" or "32"
    codec: str = ""  # compression of the EXR, Blender's name
    persistent: bool = False
    baked: bool = False  # the file is the one that a bake task left
    tree: bool = False  # a bake leaves a folder, and not an archive
    bake: str = ""  # the folder that it left
    bake_frames: list = field(default_factory=list)  # whose files are there: first, last
    framed: bool = False  # the file has a border that does not crop
    extension: str = ""  # of the finished file
    views: list = field(default_factory=list)  # that are rendered; of a check, the one that is compared
    suffixes: list = field(default_factory=list)  # of the finished files, one of each view
    ocio: str = ""  # the colour configuration, which this process was started with
    files: list = field(default_factory=list)  # of File Output nodes, under out
    crops: list = field(default_factory=list)
    film: dict = field(default_factory=dict)  # first, step, count, width, height, codec, sound, frame
    film_frame: bool = False  # leave a PNG for a film beside the finished file
    # Where: folders as this process sees them.
    out: str = ""
    prior: list = field(default_factory=list)
    tile: dict = field(default_factory=dict)  # x0, y0, x1, y1; half-open, bottom left
    sample_range: dict = field(default_factory=dict)  # "from", "to"
    device: dict = field(default_factory=dict)  # "type", "name"
    reads: list = field(default_factory=list)  # of numbered files: head, tail, of, own

    @classmethod
    def parse(cls, line: str) -> "Request":
        """Reads a request. What it does not know it refuses: a setting that
        is silently dropped is a wrong picture."""
        try:
            data = json.loads(line)
        except ValueError as exc:
            raise Failed("request is no JSON: %s" % exc) from None
        if not isinstance(data, dict):
            raise Failed("request is no JSON object")
        unknown = sorted(set(data) - set(cls.__dataclass_fields__))
        if unknown:
            raise Failed("request has unknown fields: %s" % ", ".join(unknown))
        defaults = cls()
        for name, value in data.items():
            want = type(getattr(defaults, name))
            if type(value) is not want and not (want is list and value is None):
                raise Failed("request field %s is %r" % (name, value))
        return cls(**{k: v for k, v in data.items() if v is not None})


class Events:
    """The stream of events, one JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str) -> "Events":
        return cls(open(path, "a" if os.path.isfile(path) else "w", encoding="utf-8"))

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stream.close()

    def write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values}, separators=(",", ":")) + "\n"
        with self._lock:  # threads of the render write too
            self._stream.write(line)
            self._stream.flush()

    def ready(self, **values: Any) -> None:
        self.write("ready", **values)

    def error(self, outcome: str, reason: str) -> None:
        self.write("error", outcome=outcome, reason=reason[:MAX_REASON])

    def done(self, id: int, outcome: str, reason: str, **values: Any) -> None:
        self.write("done", id=id, outcome=outcome, reason=reason[:MAX_REASON], **values)


class Progress:
    """Tells how far one request is."""

    def __init__(self, events: Events, id: int) -> None:
        self._events = events
        self._id = id

    def __call__(self, phase: str, fraction: float) -> None:
        self._events.write("progress", id=self._id, phase=phase, fraction=round(fraction, 4))

    def shot(self, start: float, end: float, parts: int, log: bool) -> None:
        """A render begins that is the request from start to end, in parts that
        are alike. What Blender says of it stands in the log, or follows."""
        self._events.write("shot", id=self._id, **{"from": round(start, 6), "to": round(end, 6)}, parts=parts, log=log)

    def stats(self, text: str) -> None:
        """Blender's own words about the shot."""
        self._events.write("stats", id=self._id, text=text)


# Outcomes of their own: a device with more memory may do it.
OUT_OF_MEMORY, OUT_OF_VRAM = "out of memory", "out of GPU memory"


def shortage(text: str, on_gpu: bool) -> str:
    """Which memory a render ran out of, by what it said in lower case, or "".
    Cycles says "System is out of GPU memory", backends say it in their own way."""
    if "out of gpu" in text or "out of device memory" in text:
        return OUT_OF_VRAM
    if not any(word in text for word in ("out of memory", "not enough memory", "memory_allocation", "bad_alloc", "failed to allocate")):
        return ""
    gpu = on_gpu or any(word in text for word in ("cuda", "optix", "hip ", "metal", "oneapi"))
    return OUT_OF_VRAM if gpu else OUT_OF_MEMORY


def classify(exc: BaseException, on_gpu: bool = False) -> tuple[str, str]:
    """The outcome that an exception means, and one sentence for people.

    The question is whether another machine would fail too. on_gpu: a GPU was
    at work.
    """
    text = " ".join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, Failed):
        return "failed", text
    if isinstance(exc, Broken):
        return "broken", text
    if isinstance(exc, MemoryError) or isinstance(exc, OSError) and exc.errno == errno.ENOMEM:
        return OUT_OF_MEMORY, "out of memory"
    if isinstance(exc, OSError) and exc.errno in (
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.EACCES,
    ):
        return "broken", text
    low = text.lower()
    short = shortage(low, on_gpu) if isinstance(exc, RuntimeError) else ""
    if short:
        return short, text
    if isinstance(exc, RuntimeError) and any(
        word in low for word in ("cuda error", "hip error", "optix error", "device error", "illegal address", "no space left")
    ):
        return "broken", text
    return "failed", "%s: %s" % (type(exc).__name__, text)


def log_exception() -> None:
    """Writes the current exception where Blender's own log goes."""
    sys.stdout.flush()
    traceback.print_exc()
    sys.stderr.flush()
