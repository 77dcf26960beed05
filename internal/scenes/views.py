# SPDX-License-Identifier: Apache-2.0
"""Builds scenes of several views: `blender -b --factory-startup -P views.py -- DIR`."""

import os
import sys

import bpy

top = sys.argv[-1]
scene = bpy.context.scene
render, image = scene.render, scene.render.image_settings
render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 8, False, False
render.resolution_x, render.resolution_y, render.resolution_percentage = 96, 64, 100
render.use_multiview = True
cube = bpy.data.objects["Cube"]
for frame, turn in ((1, 0.0), (10, 2.0)):
    cube.rotation_euler[2] = turn
    cube.keyframe_insert("rotation_euler", frame=frame)
layer = scene.view_layers[0]
layer.use_pass_normal = layer.use_pass_z = layer.use_pass_cryptomatte_object = True


def written_as(file_format):
    if hasattr(image, "media_type"):  # 5.0
        image.media_type = "MULTI_LAYER_IMAGE" if file_format == "OPEN_EXR_MULTILAYER" else "IMAGE"
    image.file_format = file_format


def save(name, file_format, views, **stereo):
    written_as(file_format)
    image.views_format = views
    for key, value in stereo.items():
        setattr(image.stereo_3d_format, key, value)
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(top, name + ".blend"))


save("individual", "PNG", "INDIVIDUAL")
save("anaglyph", "PNG", "STEREO_3D", display_mode="ANAGLYPH")
save("sidebyside", "PNG", "STEREO_3D", display_mode="SIDEBYSIDE", use_squeezed_frame=False)
save("topbottom", "PNG", "STEREO_3D", display_mode="TOPBOTTOM", use_squeezed_frame=True)
save("interlace", "PNG", "STEREO_3D", display_mode="INTERLACE")
written_as("OPEN_EXR")
image.exr_codec, image.color_depth = "ZIP", "32"
save("exr", "OPEN_EXR", "MULTIVIEW")
save("multilayer", "OPEN_EXR_MULTILAYER", "MULTIVIEW")
save("layers", "OPEN_EXR_MULTILAYER", "INDIVIDUAL")

# Cameras with names of their own, two view layers and a compositor.
camera = scene.camera
for view in ("_L", "_R", "_C"):
    each = bpy.data.objects.new("Rig" + view, camera.data)
    scene.collection.objects.link(each)
    each.matrix_world = camera.matrix_world
    each.location.x += {"_L": -0.5, "_R": 0.5, "_C": 0.0}[view]
scene.camera = bpy.data.objects["Rig_L"]
render.views_format = "MULTIVIEW"
centre = render.views.new("centre")
centre.camera_suffix, centre.file_suffix = "_C", ".mid"
scene.view_layers.new("Second")
if hasattr(scene, "compositing_node_group"):  # 5.0: a group, and nodes with other names
    tree = scene.compositing_node_group = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    source, end = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("NodeGroupOutput")
    mix, blur = tree.nodes.new("ShaderNodeMix"), tree.nodes.new("CompositorNodeBlur")
    mix.data_type = "RGBA"
    blur.inputs["Size"].default_value = 3, 3
    factor, one, other = mix.inputs["Factor"], *[i for i in mix.inputs if i.type == "RGBA"]
    mixed = next(o for o in mix.outputs if o.type == "RGBA")
else:
    scene.use_nodes = True
    tree = scene.node_tree
    source, end = tree.nodes["Render Layers"], tree.nodes["Composite"]
    mix, blur = tree.nodes.new("CompositorNodeMixRGB"), tree.nodes.new("CompositorNodeBlur")
    blur.size_x = blur.size_y = 3
    (factor, one, other), mixed = list(mix.inputs)[:3], mix.outputs[0]
second = tree.nodes.new("CompositorNodeRLayers")
second.scene = source.scene = scene
second.layer = "Second"
tree.links.new(source.outputs["Image"], blur.inputs[0])
tree.links.new(blur.outputs[0], one)
tree.links.new(source.outputs["Depth"], factor)
tree.links.new(second.outputs["Image"], other)
tree.links.new(mixed, end.inputs[0])
save("cameras", "PNG", "INDIVIDUAL")
for view in ("right", "centre"):
    render.views[view].use = False
save("single", "PNG", "INDIVIDUAL")
render.views["left"].use = False
save("none", "PNG", "INDIVIDUAL")
render.views["left"].use = render.views["right"].use = True
file = tree.nodes.new("CompositorNodeOutputFile")
if hasattr(file, "file_output_items"):
    file.directory = "//files"
    file.file_output_items.new("RGBA", "Image")
else:
    file.base_path = "//files"
tree.links.new(source.outputs["Image"], file.inputs[0])
render.views["right"].file_suffix = "_l"
save("wrong", "PNG", "INDIVIDUAL")
