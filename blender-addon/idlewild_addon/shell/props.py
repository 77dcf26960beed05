# SPDX-License-Identifier: GPL-3.0-or-later
# flake8: noqa: F722,F821  (properties are declared in annotations)
"""Settings that are saved with the scene, and preferences."""

from __future__ import annotations

from typing import Any

import bpy

from ..core import spec
from . import state

WHAT = (
    ("RANGE", "Frame Range", "The scene's range and step"),
    ("FRAME", "Current Frame", "One still"),
    ("MARKED", "Marked Frames", "The frames that have a marker"),
    ("LIST", "List", "Frames that you name"),
)
PARTS = (
    ("auto", "Automatic", "Long frames are cut into tiles, short ones are not"),
    ("no", "Whole Frames", "One machine renders a frame"),
    ("2x2", "2 x 2 Tiles", "Four tiles of each frame"),
    ("4x4", "4 x 4 Tiles", "Sixteen tiles of each frame"),
)


def _cameras(self: Any, context: Any, edit_text: str) -> list[str]:
    return sorted(o.name for o in self.id_data.objects if o.type == "CAMERA")


def _layers(self: Any, context: Any, edit_text: str) -> list[str]:
    return [v.name for v in self.id_data.view_layers]


class IdlewildSettings(bpy.types.PropertyGroup):
    what: bpy.props.EnumProperty(name="Render", items=WHAT, default="RANGE")  # type: ignore[valid-type]
    frames: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Frames", description="Frames to render, as 1-250x5,300", default="")
    camera: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Camera", description="Camera to use throughout, whatever markers say; empty: the scene's", search=_cameras)
    view_layer: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="View Layer", description="The only view layer to render; empty: all that are switched on", search=_layers)
    preset: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Preset", items=[(k, v[0], v[1]) for k, v in spec.PRESETS.items()], default="FILE")
    output: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Output", description="Folder for finished frames; empty: the scene's output path", subtype="DIR_PATH")
    bake: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Bake", default=False,
        description="One machine of the farm bakes simulations that are not baked, before all frames")
    parts: bpy.props.EnumProperty(name="Tiles", items=PARTS, default="auto")  # type: ignore[valid-type]


def _moved(self: Any, context: Any) -> None:
    if not bpy.app.background:
        state.connect()


class IdlewildPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__.rsplit(".", 1)[0]

    data_dir: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Data Folder", description="Of the daemon; empty: the usual one", subtype="DIR_PATH", update=_moved)
    program: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Program", description="The idlewild program; empty: the one on PATH", subtype="FILE_PATH")
    autostart: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Start the Daemon with Blender", description="Start the farm's daemon when Blender finds none", default=False)
    asked: bpy.props.BoolProperty(default=False, options={"HIDDEN"})  # type: ignore[valid-type]

    def draw(self, context: Any) -> None:
        column = self.layout.column()
        column.prop(self, "program")
        column.prop(self, "data_dir")
        column.prop(self, "autostart")
        column.label(text="In use: " + state.data_dir())


CLASSES = (IdlewildSettings, IdlewildPreferences)
