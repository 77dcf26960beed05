# SPDX-License-Identifier: Apache-2.0
"""The files of an OpenColorIO configuration. No bpy here."""

from __future__ import annotations

import os
import re

import paths
from problems import Problems

MAX_CONFIG = 32 << 20  # bytes; the largest public ones have 2 MB
MAX_FILES = 20000
PROBLEM = "Colour configuration (OCIO)"


def collect(config: str, tree: paths.Tree, problems: Problems) -> str:
    """Adds the configuration and its tables to the tree; returns its name
    there, or as it is where it is built in."""
    if not config or config.startswith("ocio://"):
        return config
    if not os.path.isfile(config):
        problems.error(PROBLEM, "the file %s is missing" % config, "correct the environment variable OCIO, or unset it")
        return ""
    if os.path.getsize(config) > MAX_CONFIG:
        problems.error(PROBLEM, "%s is larger than any such file" % config, "correct the environment variable OCIO")
        return ""
    config = os.path.abspath(config)
    tree.add(config, config)
    if not config.lower().endswith(".ocioz"):  # that is an archive with everything in it
        with open(config, encoding="utf-8", errors="replace") as f:
            text = f.read()
        top = os.path.dirname(config)
        for path in tables(text, top, problems):
            tree.add("//" + os.path.relpath(path, top).replace(os.sep, "/"), path, config)
    return paths.absolute_name(config)


def tables(text: str, top: str, problems: Problems) -> list[str]:
    """What the configuration may read: all files of its search path, since
    names may hold variables; without one, those beside it that it names."""
    folders = search_path(text)
    found: list[str] = []
    for folder in folders:
        path = os.path.normpath(os.path.join(top, folder))
        if os.path.isabs(folder) or "$" in folder or not (path + os.sep).startswith(top.rstrip(os.sep) + os.sep):
            problems.error(PROBLEM, "it looks for its tables in %s, which cannot travel with it" % folder,
                           "put them into a folder beside the configuration, and name that in its search_path")
        elif path != top and os.path.isdir(path):
            found += paths.below(path)
    for name in re.findall(r"\bsrc:\s*\"?([^\",}\n]+)", text):
        path = os.path.normpath(os.path.join(top, name.strip()))
        if (path + os.sep).startswith(top.rstrip(os.sep) + os.sep) and os.path.isfile(path):
            found.append(path)
    if len(found) > MAX_FILES:
        problems.error(PROBLEM, "%d files lie in its folders, at most %d can go along" % (len(found), MAX_FILES),
                       "point OCIO to a folder with nothing else in it")
        return []
    return sorted(set(found))


def search_path(text: str) -> list[str]:
    """The search_path of a configuration, in any of its three spellings."""
    match = re.search(r"^search_path:[ \t]*(.*(?:\n[ \t]*-.*)*)", text, re.MULTILINE)
    if not match:
        return []
    head, *items = match.group(1).split("\n")
    head = head.strip()
    if head.startswith("["):
        items = head.strip("[]").split(",")
    elif head:
        items = re.split(r":(?!\\)", head.strip("\"'")) if not re.match(r"[A-Za-z]:[\\/]", head) else [head]
    return [i.strip(" -\t\"'") for i in items if i.strip(" -\t\"'")]
