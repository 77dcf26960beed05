# SPDX-License-Identifier: Apache-2.0
"""Reads a picture and writes it again with Blender's own encoder:

    blender -b --factory-startup -P resave.py -- --from PNG --to PNG"""

import os
import sys

import bpy

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shapes  # noqa: E402

o = shapes.options(**{"from": "", "to": ""})
image = bpy.data.images.load(o["from"])
image.alpha_mode = "CHANNEL_PACKED"
image.pixels[0]  # reads the file
image.filepath_raw = o["to"]
image.file_format = "PNG"
image.save()
