"""Prepares a small variant of a scene and renders frames of it as anybody would, without a farm.

The request is JSON, the last argument: `file`, `copy` (the variant, saved beside the file), `defaults` (adaptive sampling
and denoising on, as in a new Cycles scene), `out` (folder), `count` (frames, each rendered after the file was opened
anew), `bake` (its simulations are baked first, and it stays open). Writes out/plain.json: the frames' numbers and what
kept them from being rendered.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import _cycles  # noqa: E402
import bpy  # noqa: E402

import bakeall  # noqa: E402


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
    done = {"frames": [], "error": ""}
    read(request["file"])
    prepare(request)
    bpy.context.preferences.filepaths.save_version = 0
    try:
        bpy.ops.wm.save_as_mainfile(filepath=request["copy"], compress=False, relative_remap=False)
    except RuntimeError as e:
        print("report:", e)
    for n in range(request["count"]):
        if n == 0 or not request["bake"]:
            read(request["copy"])
        scene = bpy.context.scene
        if n == 0 and request["bake"]:
            bakeall.bake(scene)
        number = min(scene.frame_start + 2 + 3 * n, scene.frame_end)
        if number in done["frames"]:
            break
        scene.frame_set(number)
        scene.render.filepath = os.path.join(request["out"], "plain-%d" % number)
        scene.render.use_file_extension = True
        try:
            bpy.ops.render.render(write_still=True)
        except RuntimeError as e:
            done["error"] = str(e)
        done["frames"].append(number)
    with open(os.path.join(request["out"], "plain.json"), "w", encoding="utf-8") as f:
        json.dump(done, f)


def read(file):
    try:
        bpy.ops.wm.open_mainfile(filepath=file, use_scripts=False)
    except RuntimeError as e:  # missing libraries are reported as errors
        print("report:", e)


if __name__ == "__main__":
    main(json.loads(sys.argv[-1]))
    sys.stdout.flush()
    os._exit(0)
