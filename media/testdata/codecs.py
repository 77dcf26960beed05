"""Renders the factory scene into multilayer files of several codecs: blender -b -P codecs.py -- FOLDER"""
import sys

import bpy

folder = sys.argv[-1]
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 4
scene.cycles.use_denoising = False
scene.cycles.use_adaptive_sampling = True
scene.render.resolution_x, scene.render.resolution_y = 56, 40
scene.render.resolution_percentage = 100
layer = bpy.context.view_layer
layer.use_pass_z = True
layer.use_pass_object_index = True
layer.use_pass_cryptomatte_object = True
layer.cycles.pass_debug_sample_count = True
settings = scene.render.image_settings
settings.file_format = "OPEN_EXR_MULTILAYER"
for codec in ("NONE", "ZIP", "PIZ", "DWAA"):
    for depth in ("16", "32"):
        settings.exr_codec = codec
        settings.color_depth = depth
        scene.render.filepath = "%s/%s_%s.exr" % (folder, codec, depth)
        bpy.ops.render.render(write_still=True)
