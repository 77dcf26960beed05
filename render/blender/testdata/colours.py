# SPDX-License-Identifier: Apache-2.0
"""Steps of a test of colour configurations: `blender -b --factory-startup -P
colours.py -- config DIR` copies Blender's own configuration, with a view
"Studio" added; `... -- scene FILE`, run with OCIO naming it, saves a scene that
uses the view."""

import os
import re
import shutil
import sys

import bpy

STEP, PATH = sys.argv[sys.argv.index("--") + 1 :][:2]


def config():
    shutil.copytree(bpy.utils.system_resource("DATAFILES", path="colormanagement"), PATH)
    path = os.path.join(PATH, "config.ocio")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    text = re.sub(r"(?m)^( *- !<View> {name: Standard,.*)$", r"\1\n    - !<View> {name: Studio, colorspace: Filmic Log}", text)
    text = re.sub(r"active_views: \[\s*Standard,", "active_views: [Standard, Studio,", text)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def scene():
    sc = bpy.context.scene
    sc.view_settings.view_transform = "Studio"
    r, c = sc.render, sc.cycles
    r.engine = "CYCLES"
    r.resolution_x, r.resolution_y, r.resolution_percentage = 32, 32, 100
    c.samples, c.use_adaptive_sampling, c.use_denoising = 1, False, False
    bpy.ops.wm.save_as_mainfile(filepath=PATH, compress=False)


{"config": config, "scene": scene}[STEP]()
