# SPDX-License-Identifier: Apache-2.0
"""Where the artist's files lie in the tree that workers see.

Files that the .blend names relative to itself keep their layout. A file that
it names absolutely lies in a folder of its own, named for the hash of the
folder it came from, so that names do not collide, sequences stay together and
every file keeps its base name. No bpy here.
"""

from __future__ import annotations

import hashlib
import os
import re

ABSOLUTE = "_abs"
DRIVE = re.compile(r"[A-Za-z]:[\\/]")
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


def native(raw: str) -> str:
    """The path as Blender looks for it on this system: elsewhere than on
    Windows, backslashes are slashes, and C:\\a is /c/a."""
    if os.name == "nt" or "\\" not in raw and not DRIVE.match(raw):
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
        self._far: dict[str, str] = {}  # zone two: path -> tree name

    def add(self, raw: str, path: str, owner: str = "") -> None:
        """Adds the file at path, which the .blend `owner` (the main one where
        empty) names as raw. One file may get two names."""
        path = os.path.abspath(path)
        owner = os.path.abspath(owner) if owner else self.main
        if not is_relative(raw):
            folder, _ = split(raw)
            self._far.setdefault(path, absolute_name(folder + os.path.basename(path)))
        elif owner in self._near:
            self._near.add(path)
        elif owner in self._far:
            step = os.path.relpath(path, os.path.dirname(owner)).replace(os.sep, "/")
            name = os.path.normpath(os.path.join(os.path.dirname(self._far[owner]), step)).replace(os.sep, "/")
            if name.startswith(ABSOLUTE + "/"):
                self._far.setdefault(path, name)
            else:
                self._far.setdefault(path, absolute_name(path))
        else:
            self._near.add(path)

    def add_below(self, raw: str, folder: str, path: str, owner: str = "") -> None:
        """Adds a file below a folder that the .blend `owner` names as raw. Its
        way from the folder is kept."""
        step = os.path.relpath(path, folder).replace(os.sep, "/")
        raw = raw.rstrip("/\\")
        if is_relative(raw) or not raw:
            self.add("//", path, owner)
        else:
            self._far.setdefault(os.path.abspath(path), absolute_name(raw) + "/" + step)

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
        found |= set(self._far.items())
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
