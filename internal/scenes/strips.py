# SPDX-License-Identifier: Apache-2.0
"""Builds scenes whose frames are the sequencer's: `blender -b --factory-startup -P strips.py -- DIR`."""

import os
import sys

import bpy

top = sys.argv[-1]
scene = bpy.context.scene
scene.frame_start, scene.frame_end = 1, 8
for each in (scene, bpy.data.scenes.new("Far")):
    each.render.resolution_x, each.render.resolution_y, each.render.resolution_percentage = 96, 64, 100
    each.render.engine = "CYCLES"
    each.cycles.samples, each.cycles.use_denoising, each.cycles.use_adaptive_sampling = 4, False, False
far = bpy.data.scenes["Far"]
mesh = bpy.data.objects["Cube"].copy()
mesh.animation_data_clear()
far.collection.objects.link(mesh)
for kind in ("Camera", "Light"):
    far.collection.objects.link(bpy.data.objects[kind])
far.camera = bpy.data.objects["Camera"]
for frame, turn in ((1, 0.0), (8, 1.5)):
    mesh.rotation_euler[2] = turn
    mesh.keyframe_insert("rotation_euler", frame=frame)
far.view_settings.view_transform = "Standard"

paths = []
for folder in ("near", "far"):
    os.makedirs(os.path.join(top, folder))
    for n in range(1, 9):
        picture = bpy.data.images.new("p", 96, 64)
        picture.pixels = [c for i in range(96 * 64) for c in (i % 96 / 96, n / 9, 0.4 if folder == "far" else 0.9, 1)]
        picture.filepath_raw, picture.file_format = os.path.join(top, folder, "p%02d.png" % n), "PNG"
        picture.save()
        bpy.data.images.remove(picture)


def strips():
    editor = scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def images(folder, written, channel, start):
    strip = strips().new_image(folder, os.path.join(top, folder, "p01.png"), channel, start)
    for n in range(2, 9):
        strip.elements.append("p%02d.png" % n)
    strip.frame_final_duration = 8
    strip.directory = written
    return strip


def film(name, folder):
    """The pictures of a folder as a film."""
    maker = bpy.data.scenes.new("Maker")
    render, image = maker.render, maker.render.image_settings
    render.resolution_x, render.resolution_y, render.resolution_percentage = 96, 64, 100
    maker.view_settings.view_transform = "Standard"
    maker.frame_start, maker.frame_end = 1, 8
    editor = maker.sequence_editor_create()
    shown = (editor.strips if hasattr(editor, "strips") else editor.sequences).new_image("p", os.path.join(top, folder, "p01.png"), 1, 1)
    for n in range(2, 9):
        shown.elements.append("p%02d.png" % n)
    shown.frame_final_duration = 8
    if hasattr(image, "media_type"):
        image.media_type = "VIDEO"
    image.file_format = "FFMPEG"
    render.ffmpeg.format, render.ffmpeg.codec, render.ffmpeg.gopsize = "MPEG4", "H264", 4
    render.filepath, render.use_file_extension = os.path.join(top, name), False
    bpy.ops.render.render(animation=True, scene=maker.name)
    bpy.data.scenes.remove(maker)
    assert os.path.getsize(os.path.join(top, name)) > 0


def movies(name):
    """Films as strips: by a relative path and by an absolute one, cut, and one over the other."""
    for each in list(strips()):
        strips().remove(each)
    films = os.path.join(top, "films")
    os.makedirs(films, exist_ok=True)
    for folder in ("near", "far"):
        film(os.path.join("films", folder + ".mp4"), folder)
    near = strips().new_movie("near", os.path.join(films, "near.mp4"), 1, 1)
    near.filepath = "//films/near.mp4"
    over = strips().new_movie("far", os.path.join(films, "far.mp4"), 2, 1)
    over.frame_offset_start = 1
    over.blend_type, over.blend_alpha = "ALPHA_OVER", 0.5
    save(name)


def save(name):
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(top, name + ".blend"))


images("near", "//near/", 1, 1)
over = images("far", os.path.join(top, "far") + "/", 2, 2)
over.blend_type, over.blend_alpha = "ALPHA_OVER", 0.5
length = {"length": 8} if "length" in strips().bl_rna.functions["new_effect"].parameters else {"frame_end": 9}  # 5.0
text = strips().new_effect("words", "TEXT", 3, frame_start=1, **length)
text.text = "idlewild"
save("images")
scene.render.image_settings.file_format = "OPEN_EXR"
save("floats")
scene.render.image_settings.file_format = "PNG"
shot = strips().new_scene("shot", far, 4, 1)
shot.blend_type, shot.blend_alpha = "ALPHA_OVER", 0.7
save("scenes")
movies("movies")
shot = strips().new_scene("shot", far, 4, 1)
if hasattr(scene.render.image_settings, "media_type"):
    scene.render.image_settings.media_type = "MULTI_LAYER_IMAGE"
scene.render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
far.camera = None
save("wrong")
