# SPDX-License-Identifier: Apache-2.0
"""A project with a library above it and a disk cache beside it, and a copy of
it with unsaved work in another folder: FOLDER."""

import os
import sys

import bpy

top = sys.argv[-1]
project, library, elsewhere = (os.path.join(top, n) for n in ("ein projekt", "library", "elsewhere"))
for folder in (os.path.join(project, "tex"), os.path.join(project, "blendcache_szene ä"), library, elsewhere):
    os.makedirs(folder)
with open(os.path.join(project, "blendcache_szene ä", "x_000001_00.bphys"), "wb") as f:
    f.write(b"BPHYSICS")

bpy.ops.wm.read_factory_settings(use_empty=True)
linked = bpy.data.objects.new("Linked", bpy.data.meshes.new("Linked"))
bpy.context.scene.collection.objects.link(linked)
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(library, "l.blend"))

bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.use_denoising = False
scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
scene.collection.objects.link(scene.camera)
made = bpy.data.images.new("made", 4, 4)
made.filepath_raw, made.file_format = os.path.join(project, "tex", "a.png"), "PNG"
made.save()
bpy.data.images.remove(made)
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(project, "szene ä.blend"))
with bpy.data.libraries.load(os.path.join(library, "l.blend"), link=True, relative=True) as (_, into):
    into.objects = ["Linked"]
scene.collection.objects.link(into.objects[0])
world = bpy.data.worlds.new("World")
scene.world = world
world.use_nodes = True
world.node_tree.nodes.new("ShaderNodeTexEnvironment").image = bpy.data.images.load("//tex/a.png")
bpy.ops.wm.save_mainfile()
scene.frame_end = 77
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(elsewhere, "szene ä.blend"), copy=True, relative_remap=False)
