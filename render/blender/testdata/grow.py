# SPDX-License-Identifier: Apache-2.0
"""Builds a .blend with a baked simulation zone: `blender -b --factory-startup
-P grow.py -- FILE TARGET`, where TARGET is DISK or PACKED."""

import sys

import bpy

FILE, TARGET = sys.argv[sys.argv.index("--") + 1 :][:2]
scene = bpy.context.scene
scene.render.engine, scene.cycles.use_denoising = "CYCLES", False
scene.frame_end = 3
bpy.ops.mesh.primitive_plane_add()
obj = bpy.context.object
tree = bpy.data.node_groups.new("Grow", "GeometryNodeTree")
for way in ("INPUT", "OUTPUT"):
    tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
first, last = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
enter, leave = tree.nodes.new("GeometryNodeSimulationInput"), tree.nodes.new("GeometryNodeSimulationOutput")
enter.pair_with_output(leave)
for a, b in ((first, enter), (enter, leave), (leave, last)):
    source = a.outputs.get("Geometry") or a.outputs[0]
    tree.links.new(source, b.inputs.get("Geometry") or b.inputs[0])
mod = obj.modifiers.new("Nodes", "NODES")
mod.node_group = tree
bpy.ops.wm.save_as_mainfile(filepath=FILE)
bpy.context.view_layer.update()
if hasattr(mod, "bake_target"):
    mod.bake_target = TARGET
bpy.ops.object.geometry_node_bake_single(session_uid=obj.session_uid, modifier_name="Nodes", bake_id=mod.bakes[0].bake_id)
bpy.ops.wm.save_mainfile()
