"""Opens a .blend and writes down what Blender sees in it.

    blender -b --factory-startup [FILE] -P look.py -- '{"file": FILE, "out": FOLDER, ...}'
    python look.py '{"file": FILE, "out": FOLDER, ...}'

Of the request, "own" says that the file is ours: its scripts run, its compositor and sequencer are used, all its scenes
are rendered. "save", "evaluate" and "render" switch those parts on. Into the folder go

    rna.txt        every property of every datablock, one a line
    evaluated.txt  what the dependency graph makes of each view layer at two frames
    saved.blend    the file as Blender saves it again
    SCENE.exr      a small picture of each scene
    done.json      which of it was reached
"""

import json
import os
import sys

import bpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import rna  # noqa: E402
import seen  # noqa: E402


def load(request, windows):
    try:
        bpy.ops.wm.open_mainfile(filepath=request["file"], use_scripts=bool(request.get("own")), load_ui=windows)
    except RuntimeError as e:
        print("report:", e)


def open_file(request):
    """Opens the file unless the command line did. Blender reports missing libraries as errors; the file is open then."""
    if bpy.data.filepath and os.path.samefile(bpy.data.filepath, request["file"]):
        return
    load(request, True)
    if not bpy.data.filepath or not os.path.samefile(bpy.data.filepath, request["file"]):
        raise SystemExit("not opened: " + request["file"])


def save(path):
    bpy.context.preferences.filepaths.save_version = 0
    bpy.context.preferences.filepaths.file_preview_type = "NONE"
    try:
        bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, compress=False, relative_remap=False)
    except RuntimeError as e:  # reports about libraries, again
        print("report:", e)


def render(request, folder):
    scenes = [s for s in bpy.data.scenes if s.library is None] if request.get("own") else [bpy.context.scene]
    for number, scene in enumerate(scenes):
        if scene.camera is None and not request.get("own"):
            camera = bpy.data.objects.new("idle camera", bpy.data.cameras.new("idle camera"))
            scene.collection.objects.link(camera)
            camera.location, camera.rotation_euler, scene.camera = (12, -12, 9), (1.05, 0, 0.78), camera
        elif scene.camera is None:
            continue
        settings = scene.render
        settings.engine = "CYCLES"
        for name, value in (("samples", 2), ("seed", 3), ("use_animated_seed", False), ("use_denoising", False), ("use_adaptive_sampling", False), ("device", "CPU"),
                            ("max_bounces", 2), ("shading_system", False), ("time_limit", 0), ("texture_limit_render", "128")):
            if hasattr(scene.cycles, name):
                setattr(scene.cycles, name, value)
        for layer in scene.view_layers:
            layer.samples = 0
            if hasattr(layer, "cycles") and hasattr(layer.cycles, "use_denoising"):
                layer.cycles.use_denoising = False
        if not request.get("own"):
            settings.use_compositing = settings.use_sequencer = False
        settings.use_simplify, settings.simplify_subdivision_render = True, 1
        settings.resolution_x, settings.resolution_y, settings.resolution_percentage = 64, 36, 100
        settings.threads_mode, settings.threads = "FIXED", 1
        settings.use_multiview = settings.use_border = settings.use_motion_blur = settings.use_freestyle = False
        for stamp in [p.identifier for p in settings.bl_rna.properties if p.identifier.startswith("use_stamp")]:
            setattr(settings, stamp, False)
        if hasattr(settings.image_settings, "media_type"):
            settings.image_settings.media_type = "IMAGE"
        settings.image_settings.file_format, settings.image_settings.color_depth, settings.image_settings.color_mode = "OPEN_EXR", "32", "RGBA"
        settings.use_file_extension = True
        settings.filepath = os.path.join(folder, "%02d" % number)
        scene.frame_set(scene.frame_start + 2)
        bpy.ops.render.render(write_still=True, scene=scene.name)


def main(request):
    folder, done = request["out"], {"version": bpy.app.version_string}
    os.makedirs(folder, exist_ok=True)

    def reached(part):
        done[part] = True
        with open(os.path.join(folder, "done.json"), "w", encoding="utf-8") as f:
            json.dump(done, f)

    open_file(request)
    # The windows of a file name the view layer. A canonical file has none, and who renders one names it; without the
    # windows of the original too, Blender evaluates view layers of both at the same moment.
    scene, layer = request.get("scene", bpy.context.scene.name), request.get("view_layer", bpy.context.view_layer.name)
    if sum(len(s.view_layers) for s in bpy.data.scenes) > 1:
        bpy.ops.wm.read_homefile(use_factory_startup=True)  # else the next file is opened into this one's window
        load(request, False)
    bpy.context.window.scene = bpy.data.scenes[scene]
    bpy.context.window.view_layer = bpy.context.scene.view_layers[layer]
    done["scene"], done["view_layer"] = bpy.context.scene.name, bpy.context.view_layer.name
    reached("open")
    rna.write(os.path.join(folder, "rna.txt"), all_items=bool(request.get("all")))
    reached("rna")
    if request.get("save"):
        save(os.path.join(folder, "saved.blend"))
        reached("save")
    if request.get("evaluate"):
        seen.write(os.path.join(folder, "evaluated.txt"))
        reached("evaluate")
    if request.get("render"):
        render(request, folder)
        reached("render")


if __name__ == "__main__":
    main(json.loads(sys.argv[-1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Blender 4.5 as a package may wait for its own thread for ever when it ends
