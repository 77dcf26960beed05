# SPDX-License-Identifier: Apache-2.0
"""When objects are hidden from a render: `blender -b -Y --factory-startup
-P unseen.py -- CHANGED.json OUT.json FILE...`.

OUT gets for each file, for each object of which it is sure that it matters only to what
points at it while it is hidden, the times at which that is so; and doubts, why
nothing can be said of this file. Where it is not sure it leaves an object out.

CHANGED lists datablocks. Where some of them are animated, the file is written
again as it is at frame 1: what differs then is not the frame at which it was
saved.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Iterator

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402

import compat  # noqa: E402

EVER = 1e9  # frames
MAX_OBJECTS = 20_000

# What has no effect on others but through pointers to it. Empties, armatures and
# lattices are never drawn; metaballs of one family find each other by name.
TYPES = {"MESH", "CURVE", "SURFACE", "FONT", "LIGHT", "VOLUME", "CURVES", "POINTCLOUD"}

# Modifiers by which an object shapes only itself. Physics finds its colliders,
# brushes and effectors in the whole scene.
MODIFIERS = {
    "ARRAY", "BEVEL", "BOOLEAN", "BUILD", "DECIMATE", "EDGE_SPLIT", "MASK", "MIRROR", "MULTIRES", "NODES", "REMESH", "SCREW", "SKIN",
    "SOLIDIFY", "SUBSURF", "TRIANGULATE", "WELD", "WIREFRAME", "ARMATURE", "CAST", "CURVE", "DISPLACE", "HOOK", "LAPLACIANDEFORM",
    "LATTICE", "MESH_DEFORM", "SHRINKWRAP", "SIMPLE_DEFORM", "SMOOTH", "CORRECTIVE_SMOOTH", "LAPLACIANSMOOTH", "SURFACE_DEFORM", "WARP",
    "WAVE", "WEIGHTED_NORMAL", "NORMAL_EDIT", "UV_PROJECT", "UV_WARP", "DATA_TRANSFER", "VERTEX_WEIGHT_EDIT", "VERTEX_WEIGHT_MIX",
    "VERTEX_WEIGHT_PROXIMITY", "VOLUME_DISPLACE", "VOLUME_TO_MESH", "MESH_TO_VOLUME",
}


def hidden() -> dict[str, list[list[float]]]:
    """By object: times from which, and before which, it is hidden."""
    found = {}
    for obj in bpy.data.objects:
        if len(found) < MAX_OBJECTS and plain(obj):
            times = times_of(obj)
            if times:
                found[obj.name] = times
    return found


def plain(obj: Any) -> bool:
    """Whether the object matters only to what points at it, while hidden."""
    if obj.library is not None or obj.override_library is not None or obj.type not in TYPES:
        return False
    if obj.instance_type != "NONE" or len(obj.particle_systems) or obj.rigid_body is not None or obj.rigid_body_constraint is not None:
        return False
    if obj.field is not None and obj.field.type != "NONE":
        return False
    if obj.collision is not None and obj.collision.use:
        return False
    return all(mod.type in MODIFIERS for mod in obj.modifiers)


def times_of(obj: Any) -> list[list[float]]:
    """When the object is hidden; none where that is not sure."""
    data = obj.animation_data
    always = [[-EVER, EVER]] if obj.hide_render else []
    if data is None:
        return always
    if any(d.data_path == "hide_render" for d in data.drivers) or len(data.nla_tracks):
        return []
    if data.action is None:
        return always
    curves = compat.action_curves(data)
    if curves is None or data.action_influence != 1 or data.action_blend_type != "REPLACE":
        return []
    own = [c for c in curves if c.data_path == "hide_render"]
    if not own:
        return always
    return steps(own[0]) if len(own) == 1 else []


def steps(curve: Any) -> list[list[float]]:
    """When a curve of steps is at one."""
    keys = [(key.co[0], key.co[1]) for key in curve.keyframe_points]
    if not keys or curve.mute or len(curve.modifiers) or curve.extrapolation != "CONSTANT" or curve.group and curve.group.mute:
        return []
    for (a, value), (b, _) in zip(keys, keys[1:]):
        if b <= a or any(curve.evaluate(a + (b - a) * part) != value for part in (0.01, 0.25, 0.5, 0.75, 0.99)):
            return []
    if curve.evaluate(keys[0][0] - 10) != keys[0][1] or curve.evaluate(keys[-1][0] + 10) != keys[-1][1]:
        return []
    found: list[list[float]] = []
    starts = [-EVER] + [at for at, _ in keys[1:]]
    ends = [at for at, _ in keys[1:]] + [EVER]
    for (_, value), start, end in zip(keys, starts, ends):
        if value < 1:
            continue
        if found and found[-1][1] == start:
            found[-1][1] = end
        else:
            found.append([start, end])
    return found


def doubts() -> Iterator[str]:
    """Ways in which a hidden object may matter that no pointer tells of."""
    for path in driver_paths():
        if "objects" in path:
            yield "a driver looks for an object by its name"
            break
    for obj in bpy.data.objects:
        mods = list(obj.modifiers) + list(getattr(obj, "grease_pencil_modifiers", ()))
        if any(mod.type in ("LINEART", "GP_LINEART") for mod in mods):
            yield "line art looks at the whole scene"
            break
    for scene in bpy.data.scenes:
        render = scene.render
        if render.use_freestyle:
            yield "Freestyle runs scripts"
        if render.frame_map_old != render.frame_map_new:
            yield "time is remapped"
        if any("motion_blur" in c.data_path for c in compat.curves(scene)):
            yield "motion blur is animated"


def driver_paths() -> Iterator[str]:
    for group in dir(bpy.data):
        items = getattr(bpy.data, group)
        if not isinstance(items, bpy.types.bpy_prop_collection):
            continue
        for item in items:
            for owner in (item, getattr(item, "node_tree", None), getattr(item, "shape_keys", None)):
                data = getattr(owner, "animation_data", None)
                for curve in data.drivers if data else ():
                    for variable in curve.driver.variables:
                        for target in variable.targets:
                            yield target.data_path


# Types of datablocks in files, by where bpy.data has them.
CODES = {
    "objects": "OB", "materials": "MA", "meshes": "ME", "lights": "LA", "cameras": "CA", "curves": "CU", "worlds": "WO", "scenes": "SC",
    "node_groups": "NT", "shape_keys": "KE", "textures": "TE", "armatures": "AR", "metaballs": "MB", "lattices": "LT", "volumes": "VO",
    "particles": "PA", "hair_curves": "CV", "images": "IM", "cache_files": "CF", "movieclips": "MC", "masks": "MSK",
}


def settled() -> list[str]:
    """Datablocks whose animated values are set at every frame, so that those in
    the file are only of the frame at which it was saved."""
    found = []
    for group, code in CODES.items():
        for item in getattr(bpy.data, group, ()):
            owners = [item] + [t for t in (getattr(item, "node_tree", None),) if t]
            data = [o.animation_data for o in owners if o.animation_data]
            if item.library is None and data and all(simple(d) for d in data):
                found.append(code + item.name)
    return found


def simple(data: Any) -> bool:
    """Whether what animates a datablock has a value at every frame."""
    if len(data.nla_tracks) or data.action_influence != 1 or data.action_blend_type != "REPLACE":
        return False
    curves = compat.action_curves(data) if data.action else []
    return curves is not None and not any(len(c.modifiers) for c in curves)


def save_at(frame: int, file: str) -> None:
    """Writes the open file as it is at a frame."""
    window = bpy.context.window
    shown = bpy.context.scene
    for scene in bpy.data.scenes if window else [bpy.context.scene]:
        if window:
            window.scene = scene
        scene.frame_set(frame)
    if window:
        window.scene = shown
    bpy.ops.wm.save_as_mainfile(filepath=file, copy=True, compress=False, relative_remap=False)


def look(file: str, changed: set[str]) -> dict:
    try:
        bpy.ops.wm.open_mainfile(filepath=file, load_ui=False, use_scripts=False)
    except RuntimeError as exc:
        print("idlewild: not opened:", exc)
        return {"opened": False}
    result = {"opened": True, "hidden": hidden(), "doubts": sorted(set(doubts())), "reach": compat.reach(),
              "settled": [key for key in settled() if key in changed]}
    if result["settled"]:
        save_at(1, file)
    return result


def main() -> None:
    ask, out, *files = sys.argv[sys.argv.index("--") + 1 :]
    with open(ask, encoding="utf-8") as f:
        changed = set(json.load(f))
    result = [look(file, changed) for file in files]
    with open(out + ".part", "w", encoding="utf-8") as f:
        json.dump(result, f)
    os.replace(out + ".part", out)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
