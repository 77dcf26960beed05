# SPDX-License-Identifier: Apache-2.0
"""Where simulations keep what they computed, and whether they did."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Iterator, Optional

import bpy

import paths


def points(obj: Any) -> Iterator[tuple[Any, str, Any]]:
    """(modifier, what for people, point cache) of the simulations of an
    object."""
    for mod in obj.modifiers:
        where = "Modifier '%s' of object '%s'" % (mod.name, obj.name)
        if mod.type in ("CLOTH", "SOFT_BODY"):
            yield mod, where, mod.point_cache
        elif mod.type == "PARTICLE_SYSTEM":
            system = mod.particle_system
            where = "Particle system '%s' of object '%s'" % (system.name, obj.name)
            if system.settings.type == "EMITTER" and system.settings.physics_type != "NO":
                yield mod, where, system.point_cache
            elif system.settings.type == "HAIR" and system.use_hair_dynamics and system.cloth:
                yield mod, where, system.cloth.point_cache
        elif mod.type == "DYNAMIC_PAINT" and mod.canvas_settings:
            for surface in mod.canvas_settings.canvas_surfaces:
                if surface.is_active:
                    yield mod, where, surface.point_cache


def external(cache: Any) -> bool:
    """Whether the cache is read from a folder of its own."""
    return bool(cache and cache.use_external and cache.filepath)


def files_of(cache: Any, folder: str) -> list[str]:
    """The files of an external cache: Blender finds them by its name."""
    if not paths.look(folder):
        return []
    return sorted(os.path.join(folder, name) for name in os.listdir(folder)
                  if name.startswith(cache.name + "_") and name.endswith((".bphys", ".abc", ".ptcache")))


def on_disk(cache: Any, obj: Any) -> bool:
    """Whether a cache that says it is baked to disk lies there. Its files are
    named for the cache, or for the object in hexadecimal, and stand in a folder
    named for the .blend: of a file that was copied or renamed they are not
    found, and the simulation rests, baked as it says it is."""
    owner = bpy.data.filepath
    if obj.library and cache.use_library_path:
        owner = bpy.path.abspath(obj.library.filepath)
    folder, base = os.path.split(owner)
    folder = os.path.join(folder, "blendcache_" + os.path.splitext(base)[0])
    prefix = (cache.name or "".join("%02X" % b for b in obj.name.encode())) + "_"
    return paths.look(folder) and any(n.startswith(prefix) and n.endswith(".bphys") for n in os.listdir(folder))


def folders(mod: Any) -> Iterator[tuple[Any, str]]:
    """(owner, property) of the folders that a nodes modifier bakes into."""
    for name in ("bake_directory", "simulation_bake_directory"):
        if getattr(mod, name, ""):
            yield mod, name
    for bake in getattr(mod, "bakes", ()):
        if bake.use_custom_path and bake.directory:
            yield bake, "directory"


def zones(mod: Any, library: Any) -> Iterator[tuple[str, Optional[bool]]]:
    """(name, whether it is baked) of the simulation zones of a nodes modifier;
    None where this Blender does not say."""
    if not hasattr(mod, "bakes"):  # 3.6 and 4.0
        yield "", baked_below(getattr(mod, "simulation_bake_directory", ""), library)
        return
    for bake in mod.bakes:
        if not bake.node or bake.node.bl_idname != "GeometryNodeSimulationOutput":
            continue
        target = getattr(bake, "bake_target", "DISK")
        if target == "INHERIT":
            target = mod.bake_target
        if target == "PACKED":
            yield bake.node.name, is_packed(bake)
        elif bake.use_custom_path:
            yield bake.node.name, baked_below(bake.directory, library)
        else:
            yield bake.node.name, bool(mod.bake_directory) and baked_below(
                os.path.join(mod.bake_directory, str(bake.bake_id)), library)


def baked_below(raw: str, library: Any) -> bool:
    """Whether a folder holds a bake: one small file of a frame's shape each."""
    top = bpy.path.abspath(paths.native(raw), library=library) if raw else ""
    return bool(top) and any(os.path.basename(os.path.dirname(path)) == "meta" for path in paths.below(top))


class _Bake(ctypes.Structure):
    """The start of NodesModifierBake, 4.4 to 5.x. Its `packed` has no other
    way to Python."""

    _fields_ = [("id", ctypes.c_int), ("flag", ctypes.c_uint32), ("mode", ctypes.c_uint8), ("target", ctypes.c_int8),
                ("pad", ctypes.c_char * 6), ("directory", ctypes.c_void_p), ("first", ctypes.c_int),
                ("last", ctypes.c_int), ("blocks_num", ctypes.c_int), ("active", ctypes.c_int),
                ("blocks", ctypes.c_void_p), ("packed", ctypes.c_void_p)]


def is_packed(bake: Any) -> Optional[bool]:
    raw = _Bake.from_address(bake.as_pointer())
    known = (bake.bake_id, bake.frame_start, bake.frame_end, len(bake.data_blocks))
    if (raw.id, raw.first, raw.last, raw.blocks_num) != known:
        return None  # another layout
    return bool(raw.packed)
