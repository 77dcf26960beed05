# SPDX-License-Identifier: Apache-2.0
"""Builds a project with files of every kind that this Blender can make by
script: `blender -b --factory-startup -P assets.py -- DIR ABS` writes
DIR/shot/scene.blend. Absolute paths lie below ABS, relative ones are written
with backslashes, as on Windows."""

import os
import shutil
import sys

import bpy

DIR, ABS = sys.argv[sys.argv.index("--") + 1 :][:2]
SHOT = os.path.join(DIR, "shot")
FILE = os.path.join(SHOT, "scene.blend")
for folder in (SHOT, os.path.join(DIR, "tex"), ABS):
    os.makedirs(folder)
scene = bpy.context.scene
scene.frame_start, scene.frame_end = 1, 6


def add(kind, name, at, **how):
    getattr(bpy.ops.mesh, "primitive_%s_add" % kind)(location=at, **how)
    obj = bpy.context.object
    obj.name = name
    return obj


# An Alembic file, moving, by its absolute path. Not every build can.
if bpy.app.build_options.alembic:
    mover = add("cube", "Mover", (-2, 0, 0), size=1)
    mover.keyframe_insert("location", frame=1)
    mover.location.z = 2
    mover.keyframe_insert("location", frame=6)
    alembic = os.path.join(ABS, "a b", "mover.abc")
    os.makedirs(os.path.dirname(alembic))
    bpy.ops.object.select_all(action="DESELECT")
    mover.select_set(True)
    bpy.ops.wm.alembic_export(filepath=alembic, selected=True, start=1, end=6, as_background_job=False)
    bpy.data.objects.remove(mover)
    bpy.ops.wm.alembic_import(filepath=alembic, as_background_job=False)
    assert bpy.data.cache_files

# A picture, named as Windows names it.
image = bpy.data.images.new("tmp", 8, 8)
image.pixels = [1, 0.3, 0, 1] * 64
image.filepath_raw, image.file_format = os.path.join(DIR, "tex", "rust.png"), "PNG"
image.save()
bpy.data.images.remove(image)
bpy.ops.wm.save_as_mainfile(filepath=FILE)
image = bpy.data.images.load(os.path.join(DIR, "tex", "rust.png"))
material = bpy.data.materials["Material"]
material.use_nodes = True
node = material.node_tree.nodes.new("ShaderNodeTexImage")
node.image = image
shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
material.node_tree.links.new(node.outputs[0], shader.inputs["Base Color"])

# A cloth, baked to disk, its cache then used as an external one.
cloth = add("grid", "Flag", (2, 0, 2), x_subdivisions=8, y_subdivisions=8)
sheet = cloth.modifiers.new("Cloth", "CLOTH")
sheet.point_cache.frame_start, sheet.point_cache.frame_end = 1, 6
sheet.point_cache.name = "flag"
sheet.point_cache.use_disk_cache = True
bpy.ops.wm.save_mainfile(relative_remap=False)
bpy.ops.ptcache.bake_all(bake=True)
shutil.copytree(os.path.join(SHOT, "blendcache_scene"), os.path.join(ABS, "flags"))
shutil.rmtree(os.path.join(SHOT, "blendcache_scene"))
sheet.point_cache.use_external = True
sheet.point_cache.filepath = os.path.join(ABS, "flags")

# A sound, which no frame needs, is not even there.
speaker = bpy.data.objects.new("Speaker", bpy.data.speakers.new("Speaker"))
scene.collection.objects.link(speaker)
with open(os.path.join(ABS, "song.wav"), "wb") as f:
    f.write(b"RIFF")
speaker.data.sound = bpy.data.sounds.load(os.path.join(ABS, "song.wav"))
os.remove(os.path.join(ABS, "song.wav"))

for item in bpy.data.cache_files:
    item.filepath = alembic
image.filepath = "//..\\tex\\rust.png"
r, c = scene.render, scene.cycles
r.engine = "CYCLES"
r.resolution_x, r.resolution_y, r.resolution_percentage = 64, 48, 100
c.samples, c.use_adaptive_sampling, c.use_denoising = 2, False, False
r.image_settings.file_format = "OPEN_EXR_MULTILAYER" if not hasattr(r.image_settings, "media_type") else "OPEN_EXR"
bpy.ops.wm.save_mainfile(relative_remap=False)
print("baked:", sheet.point_cache.is_baked)
