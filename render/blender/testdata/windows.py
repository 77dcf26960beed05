# SPDX-License-Identifier: Apache-2.0
"""Builds a project whose files lie on a shared disk: `blender -b --factory-startup -P windows.py -- DIR DISK` writes
DIR/here.blend, which names them as they lie, and DIR/scene.blend, in which they are called as on a machine with Windows:
by the drive P: and by a share of a server, in whatever case."""

import os
import sys

import bpy

DIR, DISK = sys.argv[sys.argv.index("--") + 1:][:2]
for folder in (DIR, *(os.path.join(DISK, name) for name in ("Tex", "seq", "lib"))):
    os.makedirs(folder, exist_ok=True)


def picture(path, colour):
    image = bpy.data.images.new("tmp", 8, 8)
    image.pixels = colour * 64
    image.filepath_raw, image.file_format = path, "PNG"
    image.save()
    bpy.data.images.remove(image)


def painted(obj, image):
    material = bpy.data.materials.new(obj.name)
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    material.node_tree.links.new(node.outputs[0], shader.inputs["Base Color"])
    obj.data.materials.clear()
    obj.data.materials.append(material)
    return node


def cube(name, at):
    bpy.ops.mesh.primitive_cube_add(size=1, location=at)
    bpy.context.object.name = name
    return bpy.context.object


picture(os.path.join(DISK, "Tex", "Wall.png"), [1, 0.3, 0, 1])
picture(os.path.join(DISK, "Tex", "share.png"), [0, 0.3, 1, 1])
picture(os.path.join(DISK, "Tex", "linked.png"), [0, 1, 0.2, 1])
for n in range(1, 7):
    picture(os.path.join(DISK, "seq", "s_%04d.png" % n), [n / 6, 1 - n / 6, 0.5, 1])

# A library, with a picture that it names by a path of its own.
bpy.ops.wm.read_factory_settings(use_empty=True)
library = os.path.join(DISK, "lib", "lib.blend")
crate = cube("Crate", (0, 0, 1.5))
painted(crate, bpy.data.images.load(os.path.join(DISK, "Tex", "linked.png")))
bpy.ops.wm.save_as_mainfile(filepath=library)
bpy.data.images["linked.png"].filepath = "//..\\Tex\\linked.png"
bpy.ops.wm.save_mainfile(relative_remap=False)

bpy.ops.wm.read_factory_settings(use_empty=False)
scene = bpy.context.scene
bpy.data.objects.remove(bpy.data.objects["Cube"])
wall = bpy.data.images.load(os.path.join(DISK, "Tex", "Wall.png"))
share = bpy.data.images.load(os.path.join(DISK, "Tex", "share.png"))
film = bpy.data.images.load(os.path.join(DISK, "seq", "s_0001.png"))
painted(cube("Wall", (-1.5, 0, 0)), wall)
painted(cube("Share", (1.5, 0, 0)), share)
film.source = "SEQUENCE"
node = painted(cube("Film", (0, 0, 0)), film)
node.image_user.frame_duration, node.image_user.frame_start, node.image_user.use_auto_refresh = 6, 1, True
with bpy.data.libraries.load(library, link=True) as (have, want):
    want.objects = ["Crate"]
scene.collection.objects.link(want.objects[0])
r, c = scene.render, scene.cycles
r.engine = "CYCLES"
r.resolution_x, r.resolution_y, r.resolution_percentage = 64, 48, 100
c.samples, c.use_adaptive_sampling, c.use_denoising = 2, False, False
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(DIR, "here.blend"), relative_remap=False)

wall.filepath = "p:\\Ship\\TEX\\wall.png"
share.filepath = "\\\\NAS\\ship\\Tex\\share.png"
film.filepath = "P:/ship/Seq/S_0001.png"
bpy.data.libraries[0].filepath = "P:\\ship\\lib\\lib.blend"
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(DIR, "scene.blend"), relative_remap=False)
