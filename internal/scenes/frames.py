# SPDX-License-Identifier: Apache-2.0
"""Renders frames of a file as anybody would, without a farm. The request is JSON, the last argument: `file`, `frames`,
`to` (a folder; files are named by four digits) and `bake` (everything, first)."""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402

import bakeall  # noqa: E402

request = json.loads(sys.argv[-1])
bpy.ops.wm.open_mainfile(filepath=request["file"])
scene = bpy.context.scene
if request["bake"]:
    bakeall.bake(scene)
for frame in request["frames"]:
    scene.frame_set(frame)
    scene.render.filepath = os.path.join(request["to"], "%04d" % frame)
    bpy.ops.render.render(write_still=True)
