# SPDX-License-Identifier: Apache-2.0
"""The folder that a bake leaves, of which a frame needs a part.

`file.blend` is what was baked, saved. What else the bake made has the names that
Blender gave it, `blendcache/NAME` and `cache/N/...`; those files that only frames
of one number read are in a folder of that number, `frames/12/blendcache/NAME`, so
that a worker fetches those of its frames and no others. `index.json` says how many
files each number has: what is not there Blender leaves out without a word.

No bpy here: this module is tested in plain Python.
"""

from __future__ import annotations

import json
import os
import re
from typing import Iterator

from protocol import Broken, Failed

FOLDER = "bake"
FILE, BESIDE, FOLDERS = "file.blend", "blendcache", "cache"
FRAMES, INDEX = "frames", "index.json"

# Files of point caches, and of fluids: what all frames of one have in common, the
# number, the rest.
NUMBERED = (re.compile(r"(.+_)(\d{6,})(_\d\d\.bphys)"), re.compile(r"(.+_)(\d{4,})(\.(?:vdb|uni|bobj\.gz|obj|raw))"))
# Of a simulation zone each frame has a file that names pieces of others.
META, BLOB = re.compile(r"(.+/)meta/(\d+)_(0+)\.json"), re.compile(r'"([^"/\\]+\.blob)"')


def split(names: list[str], current: int) -> dict[str, int]:
    """Which files only frames of one number read, and that number."""
    series: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        for pattern in NUMBERED:
            found = pattern.fullmatch(name)
            if found:
                series.setdefault((found[1], found[3]), {})[int(found[2])] = name
                break
    return {name: n for files in series.values() for n, name in files.items() if alone(n, files, current)}


def alone(number: int, files: dict[int, str], current: int) -> bool:
    """Whether only frames of that number read its file.

    Where a number lacks its neighbours frames look for what is next: before the
    first file, after the last one, and where only some frames were kept. Such
    files are for all. So is number 0, where particles keep what does not change,
    and the current frame's, at which Blender opens the file.
    """
    return number > 1 and number != current and number - 1 in files and number + 1 in files


def zones(found: list[tuple[str, str]], current: int) -> dict[str, int]:
    """As split, of the files of simulation zones, by their names and paths. A piece
    that did not change is written once, and named by later frames too."""
    frames: dict[str, dict[int, str]] = {}
    users: dict[tuple[str, str], set[int]] = {}
    for name, path in found:
        meta = META.fullmatch(name)
        if not meta:
            continue
        number = int(meta[2])
        frames.setdefault(meta[1], {})[number] = name
        with open(path, encoding="utf-8") as f:
            for blob in BLOB.findall(f.read()):
                users.setdefault((meta[1], meta[1] + "blobs/" + blob), set()).add(number)
    out = {name: n for files in frames.values() for n, name in files.items() if alone(n, files, current)}
    for (folder, blob), numbers in users.items():
        number = min(numbers)
        if len(numbers) == 1 and frames[folder][number] in out:
            out[blob] = number
    return out


def write(target: str, saved: str, tops: list[tuple[str, str]], current: int) -> None:
    """Moves what a bake made into the folder target: the .blend, saved at the frame
    current, and all files below each (folder, its name in target) that are no
    links."""
    found: list[tuple[str, str]] = []
    for top, called in tops:
        for at, _, names in os.walk(top):
            for each in names:
                path = os.path.join(at, each)
                if not os.path.islink(path):
                    found.append((called + "/" + os.path.relpath(path, top).replace(os.sep, "/"), path))
    numbers = {**split([name for name, _ in found], current), **zones(found, current)}
    index: dict[str, int] = {}
    for name, path in found:
        if name in numbers:
            number = str(numbers[name])
            index[number] = index.get(number, 0) + 1
            name = "/".join((FRAMES, number, name))
        move(path, target, name)
    move(saved, target, FILE)
    with open(os.path.join(target, INDEX), "w", encoding="utf-8") as f:
        json.dump({"version": 1, "frames": index}, f, sort_keys=True)


def move(path: str, target: str, name: str) -> None:
    new = os.path.join(target, *name.split("/"))
    os.makedirs(os.path.dirname(new), exist_ok=True)
    os.replace(path, new)


def files(tree: str) -> Iterator[tuple[list[str], str]]:
    """(the steps of its name as Blender gave it, path) of all files of the folder
    that are here. It may be a stranger's."""
    for at, folders, names in os.walk(tree):
        folders.sort()
        for each in sorted(names):
            path = os.path.join(at, each)
            name = os.path.relpath(path, tree).replace(os.sep, "/")
            steps = name.split("/")
            if steps == [INDEX]:
                continue
            if steps[0] == FRAMES and len(steps) > 2 and steps[1].isdigit():
                steps = steps[2:]
            check(steps, name)
            yield steps, path


def check(steps: list[str], name: str) -> None:
    """Raises where a bake has no such file."""
    odd = any(s in ("", ".", "..") or "\\" in s or ":" in s for s in steps)
    if not odd and (steps == [FILE] or steps[0] == BESIDE and len(steps) == 2 or steps[0] == FOLDERS and len(steps) > 1):
        return
    raise Failed("the bake holds %r, which is no file of one" % name[:200])


def look(tree: str, runs: list, frame: int) -> None:
    """Raises where files of the frames that runs name are not here."""
    try:
        with open(os.path.join(tree, INDEX), encoding="utf-8") as f:
            index = {int(number): int(count) for number, count in json.load(f)["frames"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Failed("the bake has no index: %s" % exc) from None
    for number, want in sorted(index.items()):
        if runs and not any(first <= number <= last for first, last in runs):
            continue
        have = sum(len(names) for _, _, names in os.walk(os.path.join(tree, FRAMES, str(number))))
        if have != want:
            raise Broken("of the bake's %d files for frame %d, which frame %d reads, %d are here" % (want, number, frame, have))
