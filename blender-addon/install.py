# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the add-on into the Blender that runs this: `blender -b -P install.py --
ZIP RESULT.json`. The user's preferences are loaded, changed by this one add-on
and saved."""

import json
import os
import sys

import bpy

ID = "idlewild_addon"


def as_extension(zip_path):
    """Blender 4.2 and newer."""
    # One that was installed as a legacy add-on would register a second time.
    if ID in bpy.context.preferences.addons:
        bpy.ops.preferences.addon_disable(module=ID)
    bpy.ops.extensions.package_install_files(
        filepath=zip_path, directory=os.path.dirname(zip_path), files=[{"name": os.path.basename(zip_path)}],
        repo="user_default", enable_on_install=True, overwrite=True)
    return "bl_ext.user_default." + ID


def as_legacy(zip_path):
    if ID in bpy.context.preferences.addons:
        bpy.ops.preferences.addon_disable(module=ID)  # the old code goes first
    bpy.ops.preferences.addon_install(filepath=zip_path, overwrite=True)
    bpy.ops.preferences.addon_enable(module=ID)
    return ID


def main():
    zip_path, result = sys.argv[sys.argv.index("--") + 1:][:2]
    module = as_extension(zip_path) if bpy.app.version >= (4, 2, 0) else as_legacy(zip_path)
    if module not in bpy.context.preferences.addons:
        raise SystemExit("Blender did not enable the add-on; see its messages above")
    bpy.ops.wm.save_userpref()
    with open(result, "w", encoding="utf-8") as f:
        json.dump({"blender": bpy.app.version_string, "module": module,
                   "path": os.path.dirname(sys.modules[module].__file__)}, f)


main()
