# SPDX-License-Identifier: Apache-2.0
"""Prints "font PATH" for a font that this Blender comes with."""

import os

import bpy

folder = os.path.join(bpy.utils.system_resource("DATAFILES"), "fonts")
for name in sorted(os.listdir(folder)):
    if name.startswith("DejaVuSans."):
        print("font", os.path.join(folder, name))
        break
else:
    print("font", os.path.join(folder, sorted(os.listdir(folder))[0]))
