# SPDX-License-Identifier: Apache-2.0
"""Builds a project whose files lie all over: `blender -b --factory-startup -P
project.py -- DIR ABS` writes DIR/shot/scene.blend, which names files relative
to itself, above itself, and absolutely below ABS."""

import os
import sys

import bpy

DIR, ABS = sys.argv[sys.argv.index("--") + 1 :][:2]


def picture(path, color):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image = bpy.data.images.new("tmp", 8, 8)
    image.pixels = list(color) * 64
    image.filepath_raw, image.file_format = path, "PNG"
    image.save()
    bpy.data.images.remove(image)


def shown(name, image, x):
    """A plane that glows with the image."""
    bpy.ops.mesh.primitive_plane_add(size=1.6, location=(x, 0, 0))
    obj = bpy.context.object
    obj.name = name
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    tree = mat.node_tree
    tree.nodes.clear()
    out, glow, tex = (tree.nodes.new(n) for n in ("ShaderNodeOutputMaterial", "ShaderNodeEmission", "ShaderNodeTexImage"))
    tex.image = image
    if image.source == "SEQUENCE":
        tex.image_user.frame_duration, tex.image_user.use_auto_refresh = 3, True
        tex.image_user.frame_start = 1
    tree.links.new(tex.outputs[0], glow.inputs[0])
    tree.links.new(glow.outputs[0], out.inputs[0])
    obj.data.materials.append(mat)
    return obj


def library(path, name, raw, color, x):
    picture(os.path.join(os.path.dirname(path), raw[2:]), color)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    image = bpy.data.images.load(os.path.join(os.path.dirname(path), raw[2:]))
    image.filepath = raw
    shown(name, image, x)
    bpy.ops.wm.save_as_mainfile(filepath=path, relative_remap=False)


def link(path, raw, name):
    with bpy.data.libraries.load(path, link=True) as (_, to):
        to.objects = [name]
    bpy.context.scene.collection.objects.link(to.objects[0])
    to.objects[0].library.filepath = raw


library(os.path.join(DIR, "lib", "near.blend"), "near", "//t/near.png", (0, 0, 1, 1), -3)
library(os.path.join(ABS, "lib", "far.blend"), "far", "//t/far.png", (0, 1, 1, 1), 3)
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
cam = bpy.data.objects.new("cam", bpy.data.cameras.new("cam"))
scene.collection.objects.link(cam)
cam.location = (0, 0, 10)
scene.camera = cam
picture(os.path.join(DIR, "shot", "tex", "rel.png"), (1, 0, 0, 1))
picture(os.path.join(ABS, "abs.png"), (0, 1, 0, 1))
for i in (1, 2, 3):
    picture(os.path.join(DIR, "seq", "s_%03d.png" % i), (i / 3, i / 3, 0, 1))
os.makedirs(os.path.join(DIR, "shot"), exist_ok=True)
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(DIR, "shot", "scene.blend"), relative_remap=False)
for name, raw, x, source in (("rel", "//tex/rel.png", -1.5, "FILE"), ("abs", os.path.join(ABS, "abs.png"), 1.5, "FILE"),
                             ("seq", "//../seq/s_001.png", 0, "SEQUENCE")):
    image = bpy.data.images.load(bpy.path.abspath(raw))
    image.source, image.filepath = source, raw
    shown(name, image, x)
link(os.path.join(DIR, "lib", "near.blend"), "//../lib/near.blend", "near")
link(os.path.join(ABS, "lib", "far.blend"), os.path.join(ABS, "lib", "far.blend"), "far")
r = scene.render
r.engine, r.resolution_x, r.resolution_y, r.resolution_percentage = "CYCLES", 96, 32, 100
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 1, False, False
scene.frame_end = 3
r.image_settings.file_format = "OPEN_EXR_MULTILAYER"
r.image_settings.color_depth = "32"
bpy.ops.wm.save_mainfile(relative_remap=False)
