# SPDX-License-Identifier: Apache-2.0
"""Renders a frame, or pieces of one, into scene-linear multilayer EXR."""

from __future__ import annotations

import os
from typing import Any

import bpy

import bake
import compat
import device
import keep
import opened
import presence
from border import border_pixel, border_share
from overlay import Overlay
from protocol import Broken, Failed, Progress, Request
from stats import Stats

# What a checker renders, and a worker where nothing else is asked for: never lossy, never half.
CHECK_DEPTH, CHECK_CODEC = "32", "ZIP"

keeper = keep.Keeper()


def render(request: Request, progress: Progress) -> dict:
    """The whole frame, or the Part of it that the request names."""
    scene = current_scene(request)
    with Overlay(scene) as overlay:
        name = prepare(overlay, request)
        compat.set_multilayer(overlay, request.depth or CHECK_DEPTH, request.codec or CHECK_CODEC)
        if request.tile:
            crop(overlay, request, request.tile)
        if request.sample_range:
            samples(overlay, request.sample_range)
        path = os.path.join(request.out, "frame.exr")
        start = keeper.clock()
        shoot(overlay, request, path, progress, 0.0, 1.0)
        if kept(scene) and keeper.rendered(scene.name, request.frame, keeper.clock() - start):
            start = keeper.clock()
            same = keep.agrees(scene, request.out)
            keeper.looked(scene.name, same, keeper.clock() - start)
            keep_scene(scene, request)
            if not same:
                print("idlewild: frame %d comes out otherwise with persistent data: not used for this scene any more" % request.frame)
                shoot(overlay, request, path, progress, 0.0, 1.0)
    return {"device": name}


def crops(request: Request, progress: Progress) -> dict:
    """Rectangles of a frame, each rendered several times: as ranges of its
    samples, or with another seed. Nothing is denoised: what is compared is what
    was sampled, at most with what would guide a denoiser."""
    scene = current_scene(request)
    runs = [(i, j, c, r) for i, c in enumerate(request.crops) for j, r in enumerate(c["runs"])]
    # Another ray tracing structure is another reading of the scene: last.
    runs.sort(key=lambda run: run[3].get("other", False))
    request.denoise = "later" if request.denoise == "later" else "off"
    with Overlay(scene) as base:
        # What all runs share is laid down once: taking off the engine would
        # have Cycles read the scene again for each run.
        name = prepare(base, request)
        compat.set_multilayer(base, CHECK_DEPTH, CHECK_CODEC)
        for n, (i, j, crop_, run) in enumerate(runs):
            with Overlay(scene) as overlay:
                once_more(overlay, run)
                crop(overlay, request, crop_["rect"])
                if run.get("to", 0):
                    samples(overlay, run)
                path = os.path.join(request.out, "crop-%d-%d.exr" % (i, j))
                shoot(overlay, request, path, progress, n / len(runs), 1 / len(runs))
    # A check is what claims are held against: it starts from nothing each time.
    scene.render.use_persistent_data = False
    return {"device": name}


def current_scene(request: Request) -> Any:
    """The scene to render. It has to be the current one (`blender FILE -S
    NAME`): another scene renders with its animation stuck."""
    scene = bpy.context.scene
    if request.scene and scene.name != request.scene:
        if request.scene not in bpy.data.scenes:
            raise Failed("no scene %r in the file" % request.scene)
        raise Broken("scene %r is not the current one of this session" % request.scene)
    return scene


def prepare(overlay: Overlay, request: Request) -> str:
    """Lays the request's settings over the file's; returns the device."""
    scene = overlay.scene
    render_ = scene.render
    if request.engine:
        overlay.set(render_, "engine", request.engine)
    if render_.engine == "CYCLES":
        cycles_settings(overlay, request)
    resolution(overlay, request)
    layers(overlay, request)
    camera(overlay, request)
    # Compositing, sequencer, stamps and colour management come later, once,
    # on the requester's machine.
    overlay.set(render_, "use_compositing", False)
    overlay.set(render_, "use_sequencer", False)
    overlay.set(render_, "use_stamp", False)
    overlay.set(render_, "use_file_extension", False)
    overlay.set(render_, "use_overwrite", True)
    overlay.set(render_, "use_placeholder", False)
    keep_scene(scene, request)
    # What a claim's header would tell strangers.
    for field in ("use_stamp_filename", "use_stamp_hostname", "use_stamp_note"):
        overlay.set(render_, field, False)
    return device.choose(overlay, request.device)


def keep_scene(scene: Any, request: Request) -> None:
    """Whether Cycles keeps the scene for the next frame. Not through an overlay:
    to take it off after a frame throws away what it is there to keep."""
    wanted = request.persistent and keeper.allowed(scene.name)
    if scene.render.use_persistent_data != wanted:
        scene.render.use_persistent_data = wanted


def kept(scene: Any) -> bool:
    return scene.render.engine == "CYCLES" and scene.render.use_persistent_data


def cycles_settings(overlay: Overlay, request: Request) -> None:
    cycles = overlay.scene.cycles
    if request.samples:
        overlay.set(cycles, "samples", request.samples)
        overlay.set(cycles, "use_layer_samples", "IGNORE")
    if request.denoise in ("later", "guided"):
        for layer in overlay.scene.view_layers:
            if layer.cycles.use_denoising:
                overlay.set(layer.cycles, "denoising_store_passes", True)
    if request.denoise in ("off", "later"):
        overlay.set(cycles, "use_denoising", False)


def once_more(overlay: Overlay, run: dict) -> None:
    """What one run of a crop changes: the seed, a pass that counts samples, the
    instructions and the ray tracing structure."""
    cycles = overlay.scene.cycles
    if run.get("seed_delta", 0):
        overlay.set(cycles, "seed", cycles.seed + run["seed_delta"])
    if run.get("count", False):
        for layer in overlay.scene.view_layers:
            overlay.set(layer.cycles, "pass_debug_sample_count", True)
    if run.get("other", False):
        compat.other_hardware(overlay)


def resolution(overlay: Overlay, request: Request) -> None:
    render_ = overlay.scene.render
    if request.width and request.height:
        overlay.set(render_, "resolution_x", request.width)
        overlay.set(render_, "resolution_y", request.height)
        overlay.set(render_, "resolution_percentage", 100)
    if request.percent:
        overlay.set(render_, "resolution_percentage", request.percent)


def layers(overlay: Overlay, request: Request) -> None:
    if not request.view_layer:
        return
    if request.view_layer not in overlay.scene.view_layers:
        raise Failed("no view layer %r in scene %r" % (request.view_layer, overlay.scene.name))
    for layer in overlay.scene.view_layers:
        overlay.set(layer, "use", layer.name == request.view_layer)


def camera(overlay: Overlay, request: Request) -> None:
    if not request.camera:
        return
    obj = overlay.scene.objects.get(request.camera)
    if obj is None or obj.type != "CAMERA":
        raise Failed("no camera %r in scene %r" % (request.camera, overlay.scene.name))
    for marker in overlay.scene.timeline_markers:  # they would switch it back
        if marker.camera is not None:
            overlay.set(marker, "camera", None)
    overlay.set(overlay.scene, "camera", obj)


def frame_size(scene: Any) -> tuple[int, int]:
    """Pixels of the whole frame, before a border crops it."""
    r = scene.render
    return r.resolution_x * r.resolution_percentage // 100, r.resolution_y * r.resolution_percentage // 100


def own_border(scene: Any) -> tuple[int, int, int, int]:
    """The file's own border in pixels: all of the frame where it has none."""
    width, height = frame_size(scene)
    r = scene.render
    if not r.use_border:
        return 0, 0, width, height
    return (border_pixel(r.border_min_x, width), border_pixel(r.border_min_y, height),
            border_pixel(r.border_max_x, width), border_pixel(r.border_max_y, height))


def crop(overlay: Overlay, request: Request, rect: dict) -> None:
    """Restricts the render to a rectangle of the picture that the file's own
    settings give. The EXR then holds the rectangle; where the file has a
    border that does not crop (`framed`) the whole frame, empty elsewhere."""
    scene = overlay.scene
    render_ = scene.render
    width, height = frame_size(scene)
    bx0, by0, bx1, by1 = own_border(scene)
    keep_frame = render_.use_border and not render_.use_crop_to_border
    if keep_frame != request.framed:
        raise Failed("the file's border is not what the plan says")
    x0, y0, x1, y1 = rect["x0"], rect["y0"], rect["x1"], rect["y1"]
    if not keep_frame:
        x0, x1, y0, y1 = x0 + bx0, x1 + bx0, y0 + by0, y1 + by0
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise Failed("tile %s lies outside the frame of %d x %d" % (rect, width, height))
    x0, x1, y0, y1 = max(x0, bx0), min(x1, bx1), max(y0, by0), min(y1, by1)
    if x0 >= x1 or y0 >= y1:  # all outside the border: black, for the price of one pixel
        x0, y0, x1, y1 = bx0, by0, bx0 + 1, by0 + 1
    overlay.set(render_, "use_border", True)
    overlay.set(render_, "use_crop_to_border", not keep_frame)
    for name, value in (("border_min_x", border_share(x0, width)), ("border_max_x", border_share(x1, width)),
                        ("border_min_y", border_share(y0, height)), ("border_max_y", border_share(y1, height))):
        overlay.set(render_, name, value)


def samples(overlay: Overlay, bounds: dict) -> None:
    """Restricts Cycles to a range of the samples."""
    scene = overlay.scene
    if scene.render.engine != "CYCLES":
        raise Failed("sample ranges need Cycles")
    overlay.set(scene.cycles, "use_layer_samples", "IGNORE")
    compat.sample_range(overlay, scene.cycles, bounds.get("from", 0), bounds["to"], scene.cycles.samples)


def shoot(overlay: Overlay, request: Request, path: str, progress: Progress, start: float, share: float) -> None:
    """Renders into path."""
    scene = overlay.scene
    overlay.set(scene.render, "filepath", path)
    progress("loading", start)
    scene.frame_set(request.frame)
    presence.look(bake.roots(), request.frame, request.reads, lambda: opened.files(scene, request.frame))
    progress("rendering", start + 0.05 * share)
    with Stats(progress, scene, start + 0.05 * share, start + 0.97 * share):
        result = bpy.ops.render.render(write_still=True)
    if "FINISHED" not in result or not os.path.isfile(path):
        raise Failed("Blender wrote no picture of frame %d; see the log" % request.frame)
    progress("saving", start + share)
