# SPDX-License-Identifier: Apache-2.0
"""Where the artist's files lie in the tree that workers see.

Files that the .blend names relative to itself keep their layout. A file that
it names absolutely lies in a folder of its own, named for the hash of the
folder it came from, so that names do not collide, sequences stay together and
every file keeps its base name. Where a path is of another system, and the
machine knows where that disk is here, the file is found there. No bpy here.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from typing import Optional

ABSOLUTE = "_abs"
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
LAST = re.compile(r"(.*?)(\d+)(\D*)\Z", re.DOTALL)  # the last number of a name
looked: set[str] = set()  # folders whose names decided something, there or not


def look(folder: str) -> bool:
    """Whether there is such a folder. That it was asked is remembered: what a
    look at a file found holds while these folders stay as they are."""
    looked.add(os.path.abspath(folder))
    return os.path.isdir(folder)


def is_relative(raw: str) -> bool:
    """Whether Blender reads the path as relative to its .blend."""
    return raw.startswith("//")


def split(raw: str) -> tuple[str, str]:
    """Folder and base name, whatever system the path came from."""
    cut = max(raw.rfind("/"), raw.rfind("\\"))
    return raw[: cut + 1], raw[cut + 1 :]


def foreign(raw: str) -> bool:
    """Whether only Windows has such a path."""
    return bool(DRIVE.match(raw)) or raw.startswith("\\\\")


def slashed(raw: str) -> tuple[str, bool]:
    """A path of any system with slashes, clean, and whether it is one of
    Windows, where case does not count."""
    windows = foreign(raw) or raw.startswith("//")
    return posixpath.normpath(raw.replace("\\", "/") if windows else raw), windows


def under(folder: str, raw: str) -> Optional[str]:
    """What of a path of any system is below a folder, with slashes."""
    top, windows = slashed(folder)
    path, also = slashed(raw)
    if windows != also or not path.startswith(top + "/") and not (windows and path.lower().startswith(top.lower() + "/")):
        return None
    return path[len(top) + 1 :]


disks: list[tuple[str, str]] = []  # names of disks that several machines have, and where they are here


def know(found: list[dict]) -> None:
    """Takes note of disks; the furthest in counts first."""
    disks[:] = sorted(((each["from"], each["to"]) for each in found), key=lambda d: -len(d[0]))


def mapped(raw: str) -> str:
    """Where a file that is named absolutely lies on this machine, by what is known
    of disks; "" where nothing is, and where the path is one of this machine."""
    if not raw or is_relative(raw) or os.path.isdir(split(raw)[0] or "."):
        return ""
    for name, here in disks:
        way = under(name, raw)
        if way is not None:
            return cased(here, way.split("/")) if slashed(raw)[1] and os.name != "nt" else os.path.join(here, *way.split("/"))
    return ""


def cased(top: str, steps: list[str]) -> str:
    """A path whose steps are written in whatever case, as it is on the disk."""
    at = top
    for step in steps:
        if not os.path.lexists(os.path.join(at, step)) and look(at):
            step = names_in(at).get(step.lower(), step)
        at = os.path.join(at, step)
    return at


listed: dict[str, dict[str, str]] = {}


def names_in(folder: str) -> dict[str, str]:
    """The names in a folder by how they are in lower case."""
    if folder not in listed:
        listed[folder] = {name.lower(): name for name in sorted(os.listdir(folder), reverse=True)}
    return listed[folder]


def as_written(raw: str, base: str) -> str:
    """The name of a file in the case in which its path is written: there another
    system looks for it. Of a sequence the numbers are the file's."""
    written = split(raw)[1]
    if written.lower() == base.lower():
        return written
    a, b = LAST.match(written), LAST.match(base)
    if a and b and (a[1] + a[3]).lower() == (b[1] + b[3]).lower() and a[1].lower() == b[1].lower():
        return a[1] + b[2] + a[3]
    return base


def native(raw: str) -> str:
    """The path as it is looked for on this system: on a disk that is known, else
    as Blender does. Elsewhere than on Windows, for that, backslashes are slashes,
    and C:\\a is /c/a; a share of a server is nowhere."""
    here = mapped(raw)
    if here:
        return here
    if os.name == "nt" or "\\" not in raw and not DRIVE.match(raw) or raw.startswith("\\\\"):
        return raw
    if not is_relative(raw) and not DRIVE.match(raw) and os.path.exists(raw):
        return raw  # a name with a backslash in it
    raw = raw.replace("\\", "/")
    return "/" + raw[0].lower() + "/" + raw[2:].lstrip("/") if DRIVE.match(raw) else raw


def absolute_name(raw: str) -> str:
    """The tree name of a file that the .blend names absolutely."""
    folder, base = split(raw)
    digest = hashlib.sha256(folder.replace("\\", "/").rstrip("/").encode("utf-8", "surrogatepass")).hexdigest()
    return "%s/%s/%s" % (ABSOLUTE, digest[:12], base)


class Tree:
    """Names for the files of one job.

    Files reached by relative paths from the main file are kept by where they
    are (zone one); files reached by an absolute path, and what such a library
    names relative to itself, lie below _abs (zone two).
    """

    def __init__(self, main: str) -> None:
        self.main = os.path.abspath(main)
        self._near = {self.main}  # zone one, by path
        self._far: dict[str, list[str]] = {}  # zone two: path -> tree names

    def add(self, raw: str, path: str, owner: str = "") -> None:
        """Adds the file at path, which the .blend `owner` (the main one where
        empty) names as raw. One file may get two names."""
        path = os.path.abspath(path)
        owner = os.path.abspath(owner) if owner else self.main
        if not is_relative(raw):
            folder, _ = split(raw)
            self._place(path, absolute_name(folder + as_written(raw, os.path.basename(path))))
        elif owner in self._far:
            step = os.path.relpath(path, os.path.dirname(owner)).replace(os.sep, "/")
            for its in self._far[owner]:
                name = os.path.normpath(os.path.join(os.path.dirname(its), step)).replace(os.sep, "/")
                self._place(path, name if name.startswith(ABSOLUTE + "/") else absolute_name(path))
        if is_relative(raw) and (owner in self._near or owner not in self._far):
            self._near.add(path)

    def _place(self, path: str, name: str) -> None:
        """Gives a file of zone two one name more: two paths may lead to it."""
        names = self._far.setdefault(path, [])
        if name not in names:
            names.append(name)

    def add_below(self, raw: str, folder: str, path: str, owner: str = "") -> None:
        """Adds a file below a folder that the .blend `owner` names as raw. Its
        way from the folder is kept."""
        step = os.path.relpath(path, folder).replace(os.sep, "/")
        raw = raw.rstrip("/\\")
        if is_relative(raw) or not raw:
            self.add("//", path, owner)
        else:
            self._place(os.path.abspath(path), absolute_name(raw) + "/" + step)

    def root(self) -> str:
        """The folder that is the tree's top."""
        return os.path.commonpath([os.path.dirname(p) for p in self._near])

    def main_name(self) -> str:
        return self._name(self.main, self.root())

    def _name(self, path: str, root: str) -> str:
        return os.path.relpath(path, root).replace(os.sep, "/")

    def files(self) -> list[tuple[str, str]]:
        """(path, tree name) of every file, by name."""
        root = self.root()
        found = {(path, self._name(path, root)) for path in self._near}
        found |= {(path, name) for path, names in self._far.items() for name in names}
        return sorted(found, key=lambda f: (f[1], f[0]))


def sequence(path: str) -> list[str]:
    """The files that are numbered like path, path itself among them."""
    folder, base = os.path.split(path)
    numbers = list(re.finditer(r"\d+", base))
    if not numbers or not look(folder):
        return [path]
    last = numbers[-1]
    head, tail = base[: last.start()], base[last.end() :]
    pattern = re.compile(re.escape(head) + r"\d+" + re.escape(tail) + r"\Z")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if pattern.match(name))


def udim(path: str) -> list[str]:
    """The tiles of an image whose path holds <UDIM> or <UVTILE>."""
    folder, base = os.path.split(path)
    pattern = re.escape(base).replace(re.escape("<UDIM>"), r"\d{4}").replace(re.escape("<UVTILE>"), r"u\d+_v\d+")
    if not look(folder):
        return []
    match = re.compile(pattern + r"\Z")
    return sorted(os.path.join(folder, name) for name in os.listdir(folder) if match.match(name))


def below(folder: str) -> list[str]:
    """Every file below a folder."""
    found = []
    look(folder)
    for top, _, names in os.walk(folder):
        look(top)
        found += [os.path.join(top, name) for name in names]
    return sorted(found)
