# SPDX-License-Identifier: Apache-2.0
"""Builds a .blend in which everything is wrong that a farm trips over:
`blender -b --factory-startup -P troubles.py -- FILE`."""

import sys

import bpy

scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.camera = None
cube = bpy.data.objects["Cube"]
cube.modifiers.new("Cloth", "CLOTH")
bpy.ops.mesh.primitive_plane_add()
emitter = bpy.context.object
emitter.name = "Emitter"
emitter.modifiers.new("Dust", "PARTICLE_SYSTEM")

curve = cube.driver_add("location", 0)
curve.driver.expression = "bpy.context.scene.frame_current * 2"
simple = cube.driver_add("location", 1)
simple.driver.expression = "frame / 10"

image = bpy.data.images.new("lost", 4, 4)
image.source, image.filepath = "FILE", "//lost.png"
mat = cube.data.materials[0]
mat.node_tree.nodes.new("ShaderNodeTexImage").image = image

text = bpy.data.texts.new("rig_ui.py")
text.use_module = True

other = bpy.data.scenes.new("other")
scene.use_nodes = True
node = scene.node_tree.nodes.new("CompositorNodeRLayers")
node.name, node.scene = "Elsewhere", other
scene.node_tree.nodes.new("CompositorNodeOutputFile")

strips = scene.sequence_editor_create()
strips = getattr(strips, "strips", None) or strips.sequences
strips.new_effect("bars", "COLOR", 1, frame_start=1, frame_end=20)

scene.render.use_multiview = True
scene.cycles.time_limit = 2.0
scene.cycles.samples = 8
scene.cycles.keyframe_insert("samples", frame=1)
scene.cycles.use_denoising = True
scene.render.image_settings.file_format = "FFMPEG"
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[sys.argv.index("--") + 1], compress=False)
