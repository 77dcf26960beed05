# SPDX-License-Identifier: Apache-2.0
"""Names of the files that a scene and its File Output nodes write. No bpy here."""

from __future__ import annotations

import re

# Endings that Blender takes for a file type, and replaces by the right one.
IMAGES = (".png", ".tga", ".bmp", ".jpg", ".jpeg", ".sgi", ".rgb", ".rgba", ".tif", ".tiff", ".tx", ".jp2", ".j2c",
          ".hdr", ".dds", ".dpx", ".cin", ".exr", ".psd", ".webp", ".avif", ".svg")
FILMS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".ogv", ".ogg", ".mpg", ".mpeg", ".m2v", ".flv", ".dv", ".dvd", ".vob", ".xvid")


def delivered(folder: str, file: str, extension: str) -> str:
    """Where the file goes below the output folder: with the folders that the
    node names relative to the .blend; of an absolute path, which says nothing
    on another machine, only the last folder stays. The frame's number is ####
    where the name has no place for it, as in Blender."""
    raw = folder.replace("\\", "/")
    parts = steps(raw)
    if not raw.startswith("//"):
        if parts and re.match(r"[A-Za-z]:\Z", raw.split("/")[0]):
            parts = parts[1:]
        parts = parts[-1:]
    file = file.replace("\\", "/")
    inside = steps(file)
    base = inside.pop() if inside and not file.endswith("/") else ""
    if "#" not in base:
        base += "####"
    stem, dot, ending = base.rpartition(".")
    if dot and (dot + ending).lower() in IMAGES:
        base = stem
    return "/".join(parts + inside + [base + extension])


def pattern(raw: str) -> str:
    """How Blender would name the frames of a scene whose output path is raw,
    without folder and ending; "" where it is the number alone, or where the name
    depends on more than the frame (templates of 5.0). A film's ending, which
    would stand before the number, is left out."""
    raw = raw.replace("\\", "/")
    base = raw.rsplit("/", 1)[-1]
    stem, dot, ending = base.rpartition(".")
    if dot and (dot + ending).lower() in FILMS:
        base = stem
    if not base.strip(" .") or "{" in base:
        return ""
    return delivered("//", base, "")


def steps(path: str) -> list[str]:
    """The folders of a path, none of which leads upwards."""
    found: list[str] = []
    for part in path.split("/"):
        if part.strip(" ") == "..":
            del found[-1:]
        elif clean(part):
            found.append(clean(part))
    return found


def clean(part: str) -> str:
    """A folder or file name that every system takes; empty for one that leads
    nowhere or upwards."""
    part = re.sub(r'[\x00-\x1f<>:"|?*]', "_", part).strip(" ")
    return "" if part in ("", ".", "..") else part[:120]
