# SPDX-License-Identifier: Apache-2.0
"""Builds a .blend whose files and simulations are all in a way that a farm
trips over: `blender -b --factory-startup -P broken.py -- FILE`."""

import os
import sys

import bpy

FILE = sys.argv[sys.argv.index("--") + 1]
HERE = os.path.dirname(FILE)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.use_denoising = False
cube = bpy.data.objects["Cube"]
material = bpy.data.materials["Material"]
material.use_nodes = True


def picture(name, raw):
    image = bpy.data.images.new(name, 4, 4)
    image.source, image.filepath = "FILE", raw
    material.node_tree.nodes.new("ShaderNodeTexImage").image = image


open(os.path.join(HERE, "empty.png"), "w").close()
picture("hollow", "//empty.png")
picture("from windows", "D:\\studio\\tex\\wall.png")
picture("key", "/etc/passwd")
with open(os.path.join(HERE, "outside.png"), "w") as f:
    f.write("x")
picture("outside", "//outside.png")
picture("bundled", "C:\\Program Files\\Blender\\4.2\\datafiles\\assets\\nothing\\like.this")


def plane(name):
    bpy.ops.mesh.primitive_plane_add()
    bpy.context.object.name = name
    return bpy.context.object


plane("Jelly").modifiers.new("Soft", "SOFT_BODY")
hidden = plane("Hidden").modifiers.new("Cloth", "CLOTH")
hidden.show_render = False
wet = plane("Wet").modifiers.new("Paint", "DYNAMIC_PAINT")
bpy.ops.dpaint.type_toggle(type="CANVAS")
smoke = plane("Smoke").modifiers.new("Fluid", "FLUID")
smoke.fluid_type = "DOMAIN"
hair = plane("Wig").modifiers.new("Hair", "PARTICLE_SYSTEM").particle_system
hair.settings.type = "HAIR"
hair.use_hair_dynamics = True
fall = plane("Brick")
if scene.rigidbody_world is None:
    bpy.ops.rigidbody.world_add()
bpy.ops.rigidbody.object_add()

if hasattr(bpy.types, "GeometryNodeSimulationOutput"):
    tree = bpy.data.node_groups.new("Grow", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    enter, leave = tree.nodes.new("GeometryNodeSimulationInput"), tree.nodes.new("GeometryNodeSimulationOutput")
    enter.pair_with_output(leave)
    out = tree.nodes.new("NodeGroupOutput")
    tree.links.new(leave.outputs["Geometry"], out.inputs[0])
    plane("Plant").modifiers.new("Nodes", "NODES").node_group = tree

# More triangles than a GPU holds.
heavy = plane("Heavy").modifiers.new("Subdivision", "SUBSURF")
heavy.levels, heavy.render_levels = 0, 11
plane("Heavier").modifiers.new("Subdivision", "SUBSURF").render_levels = 11
for obj in ("Heavy", "Heavier"):
    mod = bpy.data.objects[obj].modifiers[0]
    mod.levels = 0
    array = bpy.data.objects[obj].modifiers.new("Array", "ARRAY")
    array.count, array.show_viewport = 8, False

# What passes: a driver that needs no Python, one of a thing that nothing uses,
# a sound that is not there.
cube.driver_add("location", 1).driver.expression = "frame / 10"
lone = bpy.data.meshes.new("lone")
lone.use_fake_user = True
key = bpy.data.materials.new("unused")
key.use_fake_user = True
key.driver_add("pass_index").driver.expression = "bpy.app.version[0]"
path = os.path.join(HERE, "song.wav")
open(path, "w").close()
speaker = bpy.data.objects.new("Speaker", bpy.data.speakers.new("Speaker"))
speaker.data.sound = bpy.data.sounds.load(path)
scene.collection.objects.link(speaker)
os.remove(path)
bpy.ops.wm.save_as_mainfile(filepath=FILE, compress=False, relative_remap=False)
