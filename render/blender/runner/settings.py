# SPDX-License-Identifier: Apache-2.0
"""What a file's render settings come to, with a person's overrides."""

from __future__ import annotations

from typing import Any

import bpy

import compat
import movie
import naming
import outputs
import sequencer
from border import border_pixel
from problems import Problems, listing

# Compressions of EXR that keep every value.
LOSSLESS = {"NONE", "ZIP", "ZIPS", "RLE", "PIZ"}


def facts(wanted: dict, problems: Problems) -> dict:
    """Facts for the planner; empty where the scene itself is not there."""
    scene = pick_scene(wanted.get("scene", ""), problems)
    if scene is None:
        return {}
    engine = pick_engine(scene, wanted.get("engine", ""), problems)
    layers = pick_layers(scene, wanted.get("view_layer", ""), problems)
    strips = compat.uses_sequencer(scene)
    if not strips:
        check_camera(scene, wanted.get("camera", ""), problems)
    width, height = size(scene, wanted)
    result = {
        "scene": scene.name,
        "view_layers": layers,
        "frame_start": scene.frame_start,
        "frame_end": scene.frame_end,
        "frame_step": scene.frame_step,
        "fps": scene.render.fps / scene.render.fps_base,
        "width": width,
        "height": height,
        "reach": compat.reach(),
        "framed": scene.render.use_border and not scene.render.use_crop_to_border,
        "engine": engine,
        "compositor": compat.compositor(scene) is not None,
        "denoisers": compat.denoisers(),
        "engines": compat.engines(),
    }
    result.update(cycles(scene, layers, wanted, problems) if engine == "CYCLES" else {})
    result.update(output(scene, result["compositor"] and not strips, problems))
    result["film"] = movie.facts(scene, wanted.get("video", ""), (width, height), problems)
    result["files"] = [] if strips else outputs.survey(scene, problems)
    shown = sequencer.shown(scene) if strips else []
    result["sequencer"] = "" if not strips else "scenes" if shown else "strips"
    result["strip_engines"] = sorted({each.render.engine for each in shown})
    result["views"] = views(scene, result, problems)
    result["views_format"] = scene.render.image_settings.views_format
    return result


MOST_VIEWS = 32


def views(scene: Any, found: dict, problems: Problems) -> list[dict]:
    """Names of the views that are rendered, and what the names of their files
    end in."""
    if not scene.render.use_multiview:
        return []
    rendered, how = compat.views(scene), scene.render.image_settings.views_format
    where = "Stereoscopy of scene '%s'" % scene.name
    result = [{"name": v.name, "suffix": v.file_suffix} for v in rendered]
    suffixes = [v["suffix"] for v in result]
    if not 2 <= len(rendered) <= MOST_VIEWS:  # of one view Blender's versions name the files in different ways
        problems.error(where, "it has %d views that are in use" % len(rendered),
                       "switch on between 2 and %d of them, or switch off Output > Stereoscopy" % MOST_VIEWS)
    for v in result:
        if "." in v["name"]:
            problems.error(where, "the name of the view '%s' has a dot, which separates names in OpenEXR files" % v["name"], "rename the view")
        if any(c in "/\\:\0" for c in v["suffix"]):
            problems.error(where, "the file suffix '%s' of a view is no part of a file's name" % v["suffix"], "rename it")
    individual = how == "INDIVIDUAL"
    if individual and len(set(s.lower() for s in suffixes)) < len(suffixes):
        problems.error(where, "two views have the same file suffix", "give each its own")
    if how == "STEREO_3D" and [v["name"] for v in result] != ["left", "right"]:
        problems.error(where, "a stereo 3D picture is made of the views left and right, and the scene renders %s" % listing([v["name"] for v in result]),
                       "choose Individual as Views Format of the output")
    if how == "MULTIVIEW" and found["format"] not in ("OPEN_EXR", "OPEN_EXR_MULTILAYER"):
        problems.error(where, "files of %s hold one view" % found["format"], "choose Individual as Views Format of the output")
    if found["files"]:
        problems.error(where, "File Output nodes would write files of each view, which are not delivered",
                       "mute the nodes, or switch off Output > Stereoscopy")
    if not found["multilayer"] and compat.switched_views(scene) and picks(compat.compositor(scene)):
        problems.error(where, "a Cryptomatte node of Blender %s picks from one view for all" % compat.version(),
                       "render it with Blender 4.5, mute the node, or switch off Output > Stereoscopy")
    if found["film"].get("extension"):
        problems.error(where, "films of several views are not made", "choose an image format, or pass --video none")
    return result


def picks(tree: Any) -> bool:
    """Whether a compositor's node picks objects of the render by Cryptomatte."""
    return tree is not None and any(n.bl_idname == "CompositorNodeCryptomatteV2" and n.source == "RENDER" and not n.mute for n in tree.nodes)


def pick_scene(name: str, problems: Problems) -> Any:
    if not name:
        return bpy.context.scene
    scene = bpy.data.scenes.get(name)
    if scene is None:
        problems.error("scene", "there is no scene '%s' in the file" % name,
                       "choose one of %s" % listing([s.name for s in bpy.data.scenes]))
    return scene


def pick_engine(scene: Any, wanted: str, problems: Problems) -> str:
    name = compat.engine_name(wanted) if wanted else scene.render.engine
    if name not in compat.engines():
        problems.error("Scene '%s'" % scene.name, "this Blender has no engine '%s'" % (wanted or name or "?"),
                       "choose one of %s" % listing(compat.engines()))
    return name


def pick_layers(scene: Any, wanted: str, problems: Problems) -> list[str]:
    if wanted:
        if wanted not in scene.view_layers:
            problems.error("Scene '%s'" % scene.name, "there is no view layer '%s'" % wanted,
                           "choose one of %s" % listing([v.name for v in scene.view_layers]))
        return [wanted]
    layers = [v.name for v in scene.view_layers if v.use]
    if not layers:
        problems.error("Scene '%s'" % scene.name, "no view layer is enabled for rendering",
                       "switch on 'Use for Rendering' of one, or name one with --view-layer")
    return layers


def check_camera(scene: Any, wanted: str, problems: Problems) -> None:
    cameras = sorted(o.name for o in scene.objects if o.type == "CAMERA")
    if wanted:
        if wanted not in cameras:
            problems.error("Scene '%s'" % scene.name, "there is no camera '%s'" % wanted,
                           "choose one of %s" % listing(cameras))
        return
    if scene.camera is not None:
        return
    first = min((m.frame for m in scene.timeline_markers if m.camera is not None), default=None)
    if first is not None and first <= scene.frame_start:
        return
    remedy = ("name one of %s with --camera" % listing(cameras) if cameras
              else "add a camera, or make one active with Ctrl+Numpad 0")
    problems.error("Scene '%s'" % scene.name, "the scene has no active camera", remedy)


def size(scene: Any, wanted: dict) -> tuple[int, int]:
    """Pixels of the picture that a render leaves."""
    render = scene.render
    if wanted.get("width"):
        width, height = wanted["width"], wanted["height"]
    else:
        percent = wanted.get("percent") or render.resolution_percentage
        width, height = render.resolution_x * percent // 100, render.resolution_y * percent // 100
    if render.use_border and render.use_crop_to_border:
        width, height = (border_pixel(render.border_max_x, width) - border_pixel(render.border_min_x, width),
                         border_pixel(render.border_max_y, height) - border_pixel(render.border_min_y, height))
    return max(width, 1), max(height, 1)


def cycles(scene: Any, layers: list[str], wanted: dict, problems: Problems) -> dict:
    """Sampling: what is checked is checked against these."""
    c = scene.cycles
    where = "Scene '%s'" % scene.name
    samples, per_layer = c.samples, False
    if wanted.get("samples"):
        samples = wanted["samples"]
    elif layers and layers[0] in scene.view_layers and c.use_layer_samples != "IGNORE":
        own = scene.view_layers[layers[0]].samples
        if own > 0:
            samples, per_layer = (own if c.use_layer_samples == "USE" else min(own, samples)), True
    keyed = sorted({curve.data_path for curve in compat.curves(scene)
                    if curve.data_path in ("cycles.samples", "cycles.seed", "cycles.use_adaptive_sampling",
                                           "cycles.adaptive_threshold", "cycles.time_limit")})
    if wanted.get("samples"):
        keyed = [k for k in keyed if k != "cycles.samples"]
    if keyed:
        problems.warning(where, "%s is animated, so frames of it cannot be checked by sampling" % listing(keyed),
                         "remove the keyframes, or name --samples")
    if c.time_limit > 0:
        problems.warning(where, "a time limit of %g s ends a frame early, by how fast the machine is" % c.time_limit,
                         "set the time limit to 0; until then frames cannot be checked by sampling")
    denoise = c.use_denoising and any(
        scene.view_layers[name].cycles.use_denoising for name in layers if name in scene.view_layers)
    if denoise and wanted.get("denoise") != "off" and not compat.denoisers():
        problems.warning(where, "denoising is on, but this build of Blender has no denoiser: frames are delivered "
                         "without denoising", "use a Blender that has OpenImageDenoise, or pass denoise off")
    if c.shading_system:
        problems.warning(where, "Open Shading Language renders on the CPU only", "nothing, if that is meant")
    rendered = [scene.view_layers[name] for name in layers if name in scene.view_layers]
    return {
        "denoise_layers": [layer.name for layer in rendered if layer.cycles.use_denoising],
        "guide_layers": [layer.name for layer in rendered if layer.cycles.denoising_store_passes],
        "denoised_alike": denoised_alike(scene),
        "untiled": untiled(scene, bool(denoise) and wanted.get("denoise") != "off" and bool(compat.denoisers())),
        "unsampled": unsampled(scene, rendered, keyed, per_layer),
        "samples": samples,
        "layer_samples": per_layer,
        "keyed": keyed,
        "time_limit": c.time_limit,
        "adaptive": bool(c.use_adaptive_sampling),
        "dithered": dithered(scene),
        "seed": c.seed,
        "denoise": bool(denoise),
        "cpu_only": bool(c.shading_system),
    }


def output(scene: Any, compositor: bool, problems: Problems) -> dict:
    """The artist's own file format."""
    image = scene.render.image_settings
    where = "Output of scene '%s'" % scene.name
    result = {
        "name": naming.pattern(scene.render.filepath),
        "format": image.file_format,
        "extension": scene.render.file_extension,
        "depth": image.color_depth,
        "codec": image.exr_codec,
        "multilayer": image.file_format == "OPEN_EXR_MULTILAYER",
    }
    if image.file_format in movie.MOVIES:
        result.update(format="PNG", extension=".png", depth=compat.movie_depth(image))
    if result["multilayer"]:
        if image.exr_codec not in LOSSLESS:
            problems.warning(where, "%s compression loses detail; frames are delivered with ZIP" % image.exr_codec,
                             "choose a lossless codec")
            result["codec"] = "ZIP"
        if compositor:
            problems.warning(where, "multilayer files are delivered with the passes of the render, without the "
                             "compositor's layer", "choose another format to get the composited picture")
    return result


def denoised_alike(scene: Any) -> bool:
    """Whether every machine with this build denoises a frame alike, and alike
    from a file: by OpenImageDenoise on the CPU, and no shadow catcher, which
    Cycles denoises by itself."""
    c = scene.cycles
    return (getattr(c, "denoiser", "") in ("", "OPENIMAGEDENOISE") and not getattr(c, "denoising_use_gpu", False)
            and not catches_shadows())


def catches_shadows() -> bool:
    return any(o.is_shadow_catcher and o.type != "LIGHT" for o in bpy.data.objects)


def untiled(scene: Any, denoised: bool) -> list[str]:
    """Why a rectangle of the frame does not come out as it is in the whole."""
    c, found = scene.cycles, []
    if compat.uses_sequencer(scene):
        found.append("strips make one picture")
    if scene.render.use_multiview:
        found.append("several views are not joined of parts")
    if scene.render.use_border and not scene.render.use_crop_to_border:
        found.append("a border that does not crop")
    if scene.render.use_freestyle:
        found.append("Freestyle draws whole lines")
    if c.time_limit > 0:
        found.append("a time limit")
    found += learns(scene)
    # Objects of instanced collections are not among the scene's own; of lights the mark means nothing and is set.
    if denoised and catches_shadows():
        found.append("a shadow catcher is denoised by itself")
    return found


def learns(scene: Any) -> list[str]:
    """What makes a pixel depend on all others that are rendered with it."""
    c, found = scene.cycles, []
    if getattr(c, "use_guiding", False):
        found.append("path guiding learns from the whole frame")
    # Since 5.0. How likely light scatters is smoothed over the picture after
    # every pass, and reaches further with each.
    if not getattr(c, "volume_biased", True) and has_volume(scene):
        found.append("unbiased volumes learn from neighbouring pixels")
    return found


def dithered(scene: Any) -> bool:
    """Whether the pattern of each sample depends on how many there are: blue
    noise, which 4.3 made the default, until 4.5 let a range of the samples keep
    the pattern of all of them."""
    return getattr(scene.cycles, "sampling_pattern", "") in ("AUTOMATIC", "BLUE_NOISE") and not hasattr(scene.cycles, "use_sample_subset")


def has_volume(scene: Any) -> bool:
    owners = [m for o in scene.objects for m in (slot.material for slot in o.material_slots) if m]
    owners += [scene.world] if scene.world else []
    return any(o.type == "VOLUME" or o.instance_collection for o in scene.objects) or any(scatters(m.node_tree) for m in owners if m.node_tree)


def scatters(tree: Any) -> bool:
    """Whether a material's or world's volume socket is in use."""
    return any(node.bl_idname in ("ShaderNodeOutputMaterial", "ShaderNodeOutputWorld") and node.inputs["Volume"].is_linked
               for node in tree.nodes)


# Passes that are no average over samples, by the switches of a view layer.
DATA_PASSES = ("z", "mist", "position", "normal", "vector", "uv", "object_index", "material_index",
               "cryptomatte_object", "cryptomatte_material", "cryptomatte_asset")


def unsampled(scene: Any, layers: list[Any], keyed: list[str], per_layer: bool) -> list[str]:
    """Why ranges of a frame's samples do not add up to it."""
    found = ["%s is animated" % k for k in keyed] + learns(scene)
    if dithered(scene):
        found.append("blue noise is another pattern for each number of samples before Blender 4.5; Tabulated Sobol is not")
    if per_layer:
        found.append("view layers have numbers of samples of their own")
    for layer in layers:
        data = [name.replace("_", " ") for name in DATA_PASSES if getattr(layer, "use_pass_" + name, False)]
        data += ["AOV " + a.name for a in layer.aovs]
        if layer.cycles.pass_debug_sample_count:
            data.append("sample count")
        found += ["the pass %s of view layer '%s'" % (name, layer.name) for name in data]
    return found
