# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers for people."""

from __future__ import annotations

import datetime


def size(count: float) -> str:
    """1500000 -> "1.5 MB"."""
    if count < 1000:
        return "%d bytes" % count
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5:
            return ("%.1f %s" if count < 10 else "%.0f %s") % (count, unit)
    return "%.0f PB" % (count / 1000)


def duration(seconds: float) -> str:
    """380 -> "6 min 20 s"; about as exact as it is worth."""
    s = int(seconds + 0.5)
    if s < 60:
        return "%d s" % s
    if s < 600:
        return "%d min %d s" % divmod(s, 60) if s % 60 else "%d min" % (s // 60)
    m = (s + 30) // 60
    if m < 60:
        return "%d min" % m
    if m < 48 * 60:
        return "%d h %02d min" % divmod(m, 60)
    return "%d days" % ((m + 720) // 1440)


def count(n: int, one: str, many: str = "") -> str:
    """"1 frame", "2 frames"."""
    return "%d %s" % (n, one if n == 1 else many or one + "s")


def ago(then: str, now: float) -> str:
    """How long since an RFC 3339 time."""
    # Before 3.11 fromisoformat takes neither Z nor nine digits of a second.
    stamp, zone = then, "+00:00"
    if stamp.endswith("Z"):
        stamp = stamp[:-1]
    else:
        for sign in "+-":
            cut = stamp.rfind(sign)
            if cut > 10:
                stamp, zone = stamp[:cut], stamp[cut:]
                break
    try:
        at = datetime.datetime.fromisoformat(stamp.split(".")[0] + zone).timestamp()
    except ValueError:
        return ""
    return "just now" if now - at < 10 else duration(now - at) + " ago"


def clip(s: str, most: int) -> str:
    """One line of at most so many characters."""
    s = " ".join(s.split())
    return s if len(s) <= most else s[: most - 1].rstrip() + "…"


def wrap(s: str, width: int) -> list[str]:
    """Lines of at most width characters: Blender's labels do not wrap."""
    lines: list[str] = []
    for word in s.split():
        while len(word) > width:  # a path
            if lines and len(lines[-1]) + 1 < width:
                take = width - len(lines[-1]) - 1
                lines[-1] += " " + word[:take]
            else:
                take = width
                lines.append(word[:take])
            word = word[take:]
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        elif word:
            lines.append(word)
    return lines
