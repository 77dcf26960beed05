# SPDX-License-Identifier: Apache-2.0
"""Which simulations of a scene are not baked, and whether a task may bake them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Iterator

import bpy

import caches

BAKE = "bake it (Physics > Cache > Bake), to disk or into the file, and save"
OFFER = ", or submit with --bake: one machine of the farm then does it before all frames"
ORDER = "its frames would depend on the order they are rendered in"


@dataclass
class Unbaked:
    """A simulation without a bake."""

    where: str  # for people
    message: str
    remedy: str  # what its artist can do
    thing: Any = None  # point cache, fluid domain's modifier, or nodes modifier
    owner: Any = None  # its object, or the scene
    sort: str = "points"  # or "fluid", "nodes"
    stuck: str = ""  # why a task cannot bake it
    unsure: bool = False  # this Blender does not say whether it is baked


def unbaked(scene: Any) -> Iterator[Unbaked]:
    """Simulations that frames of the scene show and that are not baked: those
    frames depend on which were rendered before."""
    world = scene.rigidbody_world
    if world and world.enabled and world.collection:
        if any(o.rigid_body and o.rigid_body.type == "ACTIVE" for o in world.collection.objects):
            yield from points(world.point_cache, "Rigid body world of scene '%s'" % scene.name, scene, None)
    for obj in scene.objects:
        if obj.hide_render:
            continue
        for mod in obj.modifiers:
            if not mod.show_render:
                continue
            where = "Modifier '%s' of object '%s'" % (mod.name, obj.name)
            if mod.type == "FLUID" and mod.fluid_type == "DOMAIN":
                yield from fluid(mod, where, obj)
            elif mod.type == "NODES" and mod.node_group and simulates(mod.node_group):
                yield from nodes(mod, where, obj)
        for mod, where, cache in caches.points(obj):
            if mod.show_render:
                yield from points(cache, where, obj, mod)


def points(cache: Any, where: str, owner: Any, mod: Any) -> Iterator[Unbaked]:
    if not cache or cache.use_external:
        return  # of an external one the files are looked for
    if not cache.is_baked:
        yield Unbaked(where, "the simulation is not baked: " + ORDER, BAKE, cache, owner, stuck=stuck(owner, mod) or paints(cache, mod))
    elif cache.use_disk_cache and mod is not None and not caches.on_disk(cache, owner):
        yield Unbaked(where, "the simulation was baked to disk, but the folder blendcache_%s beside the file holds nothing of it"
                      % os.path.splitext(os.path.basename(bpy.data.filepath))[0],
                      "put the folder back under that name, or bake again", cache, owner,
                      stuck="its file says that it is baked, and only its artist can free that")


def fluid(mod: Any, where: str, obj: Any) -> Iterator[Unbaked]:
    domain = mod.domain_settings
    why = stuck(obj, mod)
    if not why and not getattr(bpy.app.build_options, "fluid", False):
        why = "this build of Blender has no fluids"
    if domain.cache_type == "REPLAY" or not domain.has_cache_baked_data:
        yield Unbaked(where, "the fluid is not baked", "set the cache type to All or Modular, bake and save", mod, obj, "fluid", why)
    elif domain.domain_type == "LIQUID" and domain.use_mesh and not domain.has_cache_baked_mesh:
        yield Unbaked(where, "the mesh of the fluid is not baked", "bake the mesh too (Physics > Fluid > Mesh) and save", mod, obj, "fluid", why)


def nodes(mod: Any, where: str, obj: Any) -> Iterator[Unbaked]:
    why = stuck(obj, mod)
    if not why and not hasattr(mod, "bake_target"):
        why = "before Blender 4.3 such bakes lie in folders of the artist's"
    for name, baked in caches.zones(mod, obj.library):
        zone = "%s, simulation zone '%s'" % (where, name) if name else where
        if baked is None:
            yield Unbaked(zone, "this Blender does not say whether the simulation is baked",
                          "make sure that it is (Physics > Simulation Nodes > Bake)", unsure=True)
        elif not baked:
            yield Unbaked(zone, "the simulation zone is not baked: " + ORDER,
                          "bake it (Physics > Simulation Nodes > Bake) and save", mod, obj, "nodes", why)


def stuck(owner: Any, mod: Any) -> str:
    """Why a bake of what belongs to owner would not stay in this file, or would
    be of nothing: Blender bakes what the viewport shows."""
    if owner.library:
        return "it is linked, and its bake is kept in %s" % os.path.basename(owner.library.filepath)
    if owner.override_library:
        return "it overrides a linked one, of which the file keeps no bake"
    if mod is not None and not (mod.show_viewport and owner.visible_get()):
        return "it is hidden in the viewport, and Blender bakes only what that shows"
    return ""


def paints(cache: Any, mod: Any) -> str:
    if mod is None or mod.type != "DYNAMIC_PAINT":
        return ""
    for surface in mod.canvas_settings.canvas_surfaces:
        if surface.point_cache == cache and surface.surface_format == "IMAGE":
            return "it paints into images, which Blender does not bake with the others"
    return ""


def simulates(tree: Any, seen: set | None = None) -> bool:
    """Whether a geometry node tree holds a simulation zone."""
    seen = set() if seen is None else seen
    if tree in seen:
        return False
    seen.add(tree)
    return any(n.bl_idname == "GeometryNodeSimulationOutput"
               or (n.bl_idname == "GeometryNodeGroup" and n.node_tree and simulates(n.node_tree, seen))
               for n in tree.nodes)
