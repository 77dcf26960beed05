"""Prepares a small variant of a scene and renders one frame of it as anybody would, without a farm.

The request is JSON, the last argument: `file`, `copy` (the variant, saved beside the file), `defaults` (adaptive sampling
and denoising on, as in a new Cycles scene), `out` (folder). Writes out/plain.json: the frame's number and what kept it
from being rendered.
"""

import json
import os
import sys

import _cycles
import bpy


def prepare(request):
    for scene in bpy.data.scenes:
        if scene.library is not None:
            continue
        r = scene.render
        r.resolution_x, r.resolution_y, r.resolution_percentage = 160, 90, 100
        r.use_border = False
        if r.engine != "CYCLES":
            continue
        c = scene.cycles
        c.samples = min(c.samples, 24 if request["defaults"] else 6)
        c.use_layer_samples = "IGNORE"
        c.use_adaptive_sampling = bool(request["defaults"])
        c.use_denoising = bool(request["defaults"]) and _cycles.with_openimagedenoise
        c.time_limit = 0
        if request["defaults"]:
            c.adaptive_threshold = 0.02
            c.adaptive_min_samples = 0


def main(request):
    done = {"frame": 0, "error": ""}
    try:
        bpy.ops.wm.open_mainfile(filepath=request["file"], use_scripts=False)
    except RuntimeError as e:  # missing libraries are reported as errors
        print("report:", e)
    prepare(request)
    bpy.context.preferences.filepaths.save_version = 0
    try:
        bpy.ops.wm.save_as_mainfile(filepath=request["copy"], compress=False, relative_remap=False)
    except RuntimeError as e:
        print("report:", e)
    try:
        bpy.ops.wm.open_mainfile(filepath=request["copy"], use_scripts=False)
    except RuntimeError as e:
        print("report:", e)
    scene = bpy.context.scene
    done["frame"] = min(scene.frame_start + 2, scene.frame_end)
    scene.frame_set(done["frame"])
    scene.render.filepath = os.path.join(request["out"], "plain")
    scene.render.use_file_extension = True
    try:
        bpy.ops.render.render(write_still=True)
    except RuntimeError as e:
        done["error"] = str(e)
    with open(os.path.join(request["out"], "plain.json"), "w", encoding="utf-8") as f:
        json.dump(done, f)


if __name__ == "__main__":
    main(json.loads(sys.argv[-1]))
    sys.stdout.flush()
    os._exit(0)
