# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between Blender 3.4 and 5.x, in one place."""

from __future__ import annotations

import os
from typing import Any

import bpy

from ..core import frames
from ..core.errors import Trouble


def online() -> bool:
    """Blender's switch for the network, 4.2 and newer. The add-on speaks to
    this machine alone, which the guidelines exempt; it is shown all the same."""
    return bool(getattr(bpy.app, "online_access", True))


def hint(text: str) -> dict[str, str]:
    """What an empty field means, where Blender can show that: 4.2 and newer."""
    return {"placeholder": text} if bpy.app.version >= (4, 2, 0) else {}


def strips(scene: Any) -> Any:
    """The sequencer's strips; named sequences before 4.4."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def dirty_images() -> list[Any]:
    """Images with painted pixels that no saved file has."""
    return [i for i in bpy.data.images if i.is_dirty and i.source in ("FILE", "TILED") and not i.packed_file]


def output_path(scene: Any) -> str:
    """The scene's output path with // and {} resolved, its # as they are."""
    path = scene.render.filepath
    if bpy.app.version >= (5, 0, 0) and "{" in path:
        try:
            path = frames.from_probe(path, scene.render.frame_path(frame=frames.PROBE), scene.render.file_extension)
        except RuntimeError as err:
            raise Trouble("The output path cannot be read (%s): correct it in Output > Output" % " ".join(str(err).split())) from None
    path = bpy.path.abspath(path)
    if path and not os.path.isabs(path):
        # Relative to the folder that Blender was started in, as Blender does.
        end = "/" if path.endswith(("/", "\\")) else ""
        path = os.path.abspath(path) + end
    return path
