# SPDX-License-Identifier: Apache-2.0
"""Says what this Blender can do: `blender -b --factory-startup -P probe.py --
OUT.json [ENGINE]`. With an engine it also renders a few pixels with it; an
engine that crashes takes only this process down. Beside the answer it saves an
empty file, OUT.json.blend: much of it is in every file that this Blender saves."""

from __future__ import annotations

import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402

import compat  # noqa: E402


def renders(engine: str, path: str) -> bool:
    """Whether the engine brings out a picture of the default scene."""
    scene = bpy.context.scene
    try:
        scene.render.engine = engine
    except TypeError:
        return False
    scene.render.resolution_x = scene.render.resolution_y = 16
    scene.render.resolution_percentage = 100
    if engine == "CYCLES":
        scene.cycles.samples = 1
        scene.cycles.use_denoising = False
    else:
        scene.eevee.taa_render_samples = 1
    scene.render.image_settings.file_format = "PNG"
    scene.render.use_file_extension = False
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True)
    return os.path.isfile(path)


def main() -> None:
    out, engine = sys.argv[sys.argv.index("--") + 1 :][:2]
    result = {
        "version": compat.version(),
        "build": compat.build(),
        "engines": compat.engines(),
        "denoisers": compat.denoisers(),
        "folders": compat.folders(),
        "module": compat.module(),
        "rendered": [engine] if engine and renders(engine, out + ".png") else [],
    }
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.save_as_mainfile(filepath=out + ".blend", compress=False, check_existing=False)
    with open(out + ".part", "w", encoding="utf-8") as f:
        json.dump(result, f)
    os.replace(out + ".part", out)
    sys.stdout.flush()
    os._exit(0)


main()
