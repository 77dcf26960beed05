# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the daemon, and places in its data folder."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys

from .errors import Trouble, of_disk

COPIES = "copies"


def program(said: str) -> str:
    """The idlewild program: as the preferences say, or on PATH, or where
    people put programs."""
    if said:
        if os.path.isfile(said) and os.access(said, os.X_OK):
            return said
        raise Trouble("There is no program %s: correct the path in the add-on's preferences" % said)
    name = "idlewild.exe" if sys.platform == "win32" else "idlewild"
    places = ["~/.local/bin", "~/bin", "~/go/bin", "/usr/local/bin", "/opt/homebrew/bin"]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(os.path.expanduser(p) for p in places))
    if not found:
        raise Trouble("The program idlewild was not found: set its path in the add-on's preferences, or run idlewild up yourself")
    return found


def start(path: str, data_dir: str) -> subprocess.Popen[bytes]:
    """Starts the daemon so that it outlives Blender. That it answers shows in
    its endpoint file."""
    try:
        os.makedirs(data_dir, mode=0o700, exist_ok=True)
        log = open(os.path.join(data_dir, "up.log"), "ab")
    except OSError as err:
        raise of_disk(err, data_dir, "The daemon's folder cannot be written") from None
    # What Blender or its Python set for themselves is not for the daemon.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "BLENDER_"))}
    with log:
        try:
            if sys.platform == "win32":
                return subprocess.Popen([path, "up", "--data-dir", data_dir], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                        creationflags=0x00000008 | 0x00000200)  # detached, its own group
            return subprocess.Popen([path, "up", "--data-dir", data_dir], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                    start_new_session=True)
        except OSError as err:
            raise Trouble("%s does not start (%s): correct the path in the add-on's preferences" % (path, err.strerror)) from None


def log_tail(data_dir: str, most: int = 200) -> str:
    """The last line that the daemon wrote, for when it did not come up."""
    try:
        with open(os.path.join(data_dir, "up.log"), "rb") as f:
            f.seek(0, os.SEEK_END)
            f.seek(max(0, f.tell() - 4096))
            lines = f.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:most] if lines else ""


def place_for_copy(data_dir: str, blend: str) -> str:
    """A path for a copy of unsaved work, with the same base name: disk caches
    and linked files are found by it. The daemon removes its folder."""
    folder = os.path.join(data_dir, COPIES, secrets.token_hex(8))
    try:
        size = os.path.getsize(blend)
    except OSError:
        size = 0
    try:
        os.makedirs(folder, mode=0o700)
        free = shutil.disk_usage(folder).free
    except OSError as err:
        raise of_disk(err, data_dir, "A copy of the unsaved work cannot be written into") from None
    if free < size + size // 8 + (16 << 20):
        drop_copy(os.path.join(folder, "x"))
        raise Trouble("The disk of %s is nearly full and a copy of the unsaved work does not fit: save the file, or make room" % data_dir)
    return os.path.join(folder, os.path.basename(blend))


def drop_copy(path: str) -> None:
    """Removes a copy that was not submitted after all."""
    folder = os.path.dirname(path)
    if os.path.basename(os.path.dirname(folder)) == COPIES:
        shutil.rmtree(folder, ignore_errors=True)
