# SPDX-License-Identifier: Apache-2.0
"""File Output nodes of the compositor: which files they write, and where to.

The survey says under which names their files are delivered; the finish task
finds the same writers in the same order and points them into its own folder.
"""

from __future__ import annotations

import os
from typing import Any, Iterator

import compat
import naming
from problems import Problems
from protocol import Failed

MOST = 60  # files of one frame; a task has room for 64


def nodes(tree: Any) -> list[Any]:
    """File Output nodes that run, those inside groups too, each once."""
    found: list[Any] = []
    seen: set[str] = set()

    def visit(tree: Any) -> None:
        seen.add(tree.name_full)
        for node in tree.nodes:
            if node.mute:
                continue
            if node.bl_idname == "CompositorNodeOutputFile":
                found.append(node)
            elif node.bl_idname == "CompositorNodeGroup" and node.node_tree and node.node_tree.name_full not in seen:
                visit(node.node_tree)

    if tree is not None:
        visit(tree)
    return found


def writers(scene: Any) -> Iterator[tuple[Any, int]]:
    """(node, number of its input) for every file that a frame writes; -1 where
    all inputs go into one."""
    for node in nodes(compat.compositor(scene)):
        linked = [i for i, socket in enumerate(node.inputs) if socket.is_linked]
        if compat.writes_layers(node):
            yield from [(node, -1)] if linked else []
        else:
            yield from ((node, i) for i in linked)


def survey(scene: Any, problems: Problems) -> list[str]:
    """Names of the delivered files, #### for the frame."""
    names: list[str] = []
    by_name: dict[str, str] = {}
    for node, i in writers(scene):
        where = "File Output node '%s'" % node.name
        folder, file, image = compat.file_of(node, i, scene)
        name = naming.delivered(folder, file, compat.extension(scene, image))
        other = by_name.get(name.lower())
        if other is not None:
            problems.error(where if other == where else "%s and %s" % (other, where),
                           "two of the files of a frame would be delivered as %s" % name,
                           "give each of them another folder or file name")
            continue
        by_name[name.lower()] = where
        names.append(name)
    if len(names) > MOST:
        problems.error("Compositor of scene '%s'" % scene.name,
                       "its File Output nodes write %d files a frame, at most %d are delivered" % (len(names), MOST),
                       "write OpenEXR MultiLayer, which puts all passes into one file")
    return names


class Redirect:
    """Points the File Output nodes of the scene into a folder and takes from
    there what they wrote."""

    def __init__(self, scene: Any, folder: str, names: list[str]) -> None:
        self.folder, self.names = folder, names
        self.found = list(writers(scene))
        if len(self.found) != len(names):
            raise Failed("the scene's File Output nodes write %d files a frame, the plan says %d"
                         % (len(self.found), len(names)))
        for n, (node, i) in enumerate(self.found):
            compat.send_file(node, i, self._folder(node), "f%d_" % n)

    def _folder(self, node: Any) -> str:
        """One for each node: several of its inputs may write files."""
        first = next(n for n, (other, _) in enumerate(self.found) if other == node)
        return os.path.join(self.folder, "written", str(first))

    def collect(self) -> None:
        """Gives the files the names that the task promises."""
        for n, (node, _) in enumerate(self.found):
            folder = self._folder(node)
            prefix = "f%d_" % n
            wrote = [f for f in os.listdir(folder) if f.startswith(prefix)] if os.path.isdir(folder) else []
            if len(wrote) != 1:
                raise Failed("File Output node '%s' wrote %d files where one was expected; see the log"
                             % (node.name, len(wrote)))
            to = os.path.join(self.folder, *self.names[n].split("/"))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            os.replace(os.path.join(folder, wrote[0]), to)
