# SPDX-License-Identifier: Apache-2.0
"""What would make the farm's picture differ from the artist's."""

from __future__ import annotations

from typing import Any, Iterator

import bpy

import compat
import sequencer
import settings
import simulations
from deps import used
from problems import Problems, listing


def look(scene: Any, wanted: dict, facts: dict, problems: Problems) -> None:
    """Adds what it finds to problems, and `uncheckable` reasons to facts."""
    facts["uncheckable"] = []
    facts["bakes"] = []
    facts["bakes_by_frame"] = compat.plays_straight()
    if facts["sequencer"]:
        sequencer.look(scene, wanted, facts, problems)
        drivers(problems)
        texts(problems)
        for each in sequencer.shown(scene):
            physics(each, False, facts, problems)
            addons(each, problems)
            pipeline(each, problems)
            compositor(each, problems)
        return
    physics(scene, bool(wanted.get("bake")), facts, problems)
    drivers(problems)
    texts(problems)
    addons(scene, problems)
    pipeline(scene, problems)
    compositor(scene, problems)
    engine(scene, facts, problems)


def physics(scene: Any, bake: bool, facts: dict, problems: Problems) -> None:
    """Unbaked simulations depend on the order of frames. Where a bake is wanted,
    facts say what a task has to bake."""
    for sim in simulations.unbaked(scene):
        if sim.unsure:
            problems.warning(sim.where, sim.message, sim.remedy)
        elif bake and not sim.stuck:
            facts["bakes"].append(sim.where)
        elif bake:
            problems.error(sim.where, "%s, and no task can bake it: %s" % (sim.message, sim.stuck), sim.remedy)
        else:
            problems.error(sim.where, sim.message, sim.remedy + ("" if sim.stuck else simulations.OFFER))
    if facts["bakes"]:
        problems.warning("Simulations", "one machine bakes %s before all frames, and what it makes of them is not checked" % listing(facts["bakes"]),
                         "nothing, if you trust the members of your farm; otherwise bake here and save")


def owners() -> Iterator[tuple[str, Any]]:
    """Everything in the file that may be animated, with its name."""
    for name in dir(bpy.data):
        group = getattr(bpy.data, name)
        if not isinstance(group, bpy.types.bpy_prop_collection):
            continue
        for item in group:
            if not isinstance(item, bpy.types.ID):
                continue
            label = "%s '%s'" % (item.bl_rna.name, item.name)
            yield label, item
            tree = getattr(item, "node_tree", None)
            if tree is not None:
                yield "Nodes of %s" % label, tree
            keys = getattr(item, "shape_keys", None)
            if keys is not None:
                yield "Shape keys of %s" % label, keys


def drivers(problems: Problems) -> None:
    """Expressions that need Python do not run: scripts are off on workers."""
    for label, item in owners():
        if not used(getattr(item, "id_data", item)) and not isinstance(item, bpy.types.Scene):
            continue
        if getattr(item, "is_missing", False):
            continue  # a placeholder; the log of loading says what it stands for
        data = getattr(item, "animation_data", None)
        for curve in data.drivers if data else ():
            driver = curve.driver
            if driver.type == "SCRIPTED" and not curve.mute and not driver.is_simple_expression:
                problems.error(label, "the driver of %s needs Python ('%s'), which workers do not run"
                               % (curve.data_path, driver.expression[:80]),
                               "use a simple expression, or bake the driven property to keyframes")


def texts(problems: Problems) -> None:
    names = [t.name for t in bpy.data.texts if t.use_module]
    if names:
        problems.warning("Text %s" % listing(names), "scripts that register themselves do not run on workers",
                         "nothing, if they only draw panels; otherwise bake what they do")


FOREIGN = ("NodeTreeUndefined", "NodeTree")  # sorts of node tree that nobody registered


def addons(scene: Any, problems: Problems) -> None:
    """Nodes whose add-on is not here do nothing, and say nothing of it."""
    for group in bpy.data.node_groups:
        if group.bl_idname in FOREIGN:
            # Many such trees are tools, or logic of a game, and no frame shows
            # them; that cannot be seen from here.
            problems.warning("Node tree '%s'" % group.name, "it belongs to an add-on that workers do not have, so that "
                             "it does nothing while frames are rendered",
                             "if it moves or makes anything, bake or apply that")
    trees = [("material '%s'" % m.name, m) for m in bpy.data.materials if used(m)]
    trees += [("world '%s'" % w.name, w) for w in bpy.data.worlds if used(w)]
    trees += [("light '%s'" % d.name, d) for d in bpy.data.lights if used(d)]
    found = [(where, item.node_tree) for where, item in trees if item.use_nodes and item.node_tree]
    found += [("node group '%s'" % g.name, g) for g in bpy.data.node_groups
              if used(g) and g.bl_idname not in FOREIGN]
    found.append(("the compositor of scene '%s'" % scene.name, compat.compositor(scene)))
    for where, tree in found:
        for node in tree.nodes if tree else ():
            if node.bl_idname == "NodeUndefined" and any(s.is_linked for s in node.outputs):
                problems.error("Node '%s' in %s" % (node.name, where),
                               "it belongs to an add-on that workers do not have",
                               "replace it by nodes of Blender, or bake it to a texture")


def pipeline(scene: Any, problems: Problems) -> None:
    if scene.render.use_freestyle:
        for layer in scene.view_layers:
            if layer.use and layer.use_freestyle and layer.freestyle_settings.mode == "SCRIPT":
                problems.error("View layer '%s'" % layer.name, "Freestyle scripts do not run on workers",
                               "use the Parameter Editor mode of Freestyle")


def compositor(scene: Any, problems: Problems) -> None:
    tree = compat.compositor(scene)
    for node in tree.nodes if tree else ():
        where = "Compositor node '%s'" % node.name
        if node.bl_idname == "CompositorNodeRLayers" and node.scene not in (None, scene):
            problems.error(where, "it shows scene '%s', which would have to be rendered too" % node.scene.name,
                           "render that scene to files and read them with an Image node")
        elif node.bl_idname == "CompositorNodeCryptomatteV2" and node.source == "RENDER" and node.scene not in (None, scene):
            problems.error(where, "it picks from scene '%s', which would have to be rendered too" % node.scene.name,
                           "render that scene to files and read them with an Image node")


def engine(scene: Any, facts: dict, problems: Problems) -> None:
    where = "Scene '%s'" % scene.name
    if facts["engine"] != "CYCLES":
        facts["uncheckable"].append("engine %s" % facts["engine"])
        problems.warning(where, "frames of %s cannot be checked by sampling" % facts["engine"],
                         "share the job only with people you trust, or render with Cycles")
        return
    if scene.render.use_freestyle:
        facts["uncheckable"].append("freestyle")
        problems.warning(where, "Freestyle lines cannot be checked by sampling",
                         "share the job only with people you trust")
    if facts.get("keyed"):
        facts["uncheckable"].append("animated sampling")
    if facts.get("time_limit", 0) > 0:
        facts["uncheckable"].append("time limit")
    for reason in settings.learns(scene):
        facts["uncheckable"].append(reason)
        problems.warning(where, "%s, so rectangles of it cannot be checked" % reason,
                         "switch path guiding off, or volumes to biased, or share the job only with people you trust")
    first = scene.view_layers.get(facts["view_layers"][0]) if facts["view_layers"] else None
    if first is not None and not first.use_pass_combined:
        facts["uncheckable"].append("no combined pass")
        problems.warning("View layer '%s'" % first.name, "without a Combined pass frames cannot be checked",
                         "switch the Combined pass on")
