# SPDX-License-Identifier: Apache-2.0
"""Builds a .blend whose compositor writes files of its own: `blender -b
--factory-startup -P fileoutput.py -- FILE`. Scenes: "both" (a picture and
files), "multi" (passes as the picture), "only" (nothing but files), "clash"
(two files of one name)."""

import os
import sys

import bpy

FILE = sys.argv[sys.argv.index("--") + 1]
SINCE_5 = hasattr(bpy.types.Scene, "compositing_node_group") or hasattr(bpy.context.scene, "compositing_node_group")


def tree_of(scene):
    if SINCE_5:
        scene.compositing_node_group = bpy.data.node_groups.new(scene.name, "CompositorNodeTree")
        return scene.compositing_node_group
    scene.use_nodes = True
    scene.node_tree.nodes.clear()
    return scene.node_tree


def shape(image, form):
    if hasattr(image, "media_type"):
        image.media_type = "MULTI_LAYER_IMAGE" if form == "OPEN_EXR_MULTILAYER" else "IMAGE"
    image.file_format = form


def writer(tree, name, folder, form, slots, file=""):
    """A File Output node; slots: (name, socket or None, own format or "")."""
    node = tree.nodes.new("CompositorNodeOutputFile")
    node.name = name
    if SINCE_5:
        node.directory, node.file_name = folder, file
    else:
        node.base_path = folder + file
        while len(node.inputs):
            node.inputs.remove(node.inputs[0])
    shape(node.format, form)
    for i, (slot, source, own) in enumerate(slots):
        if SINCE_5:
            item = node.file_output_items.new("RGBA", slot)
            item.override_node_format = bool(own)
        else:
            node.file_slots.new(slot)
            item = node.file_slots[i]
            item.use_node_format = not own
        if own:
            shape(item.format, own)
        if source is not None:
            tree.links.new(source, node.inputs[i])
    return node


def group(tree, source):
    inner = bpy.data.node_groups.new("writes", "CompositorNodeTree")
    if hasattr(inner, "interface"):
        inner.interface.new_socket("I", in_out="INPUT", socket_type="NodeSocketColor")
    else:
        inner.inputs.new("NodeSocketColor", "I")
    entry = inner.nodes.new("NodeGroupInput")
    writer(inner, "Deep", "//deep\\er/", "PNG", [("inside", entry.outputs[0], "")])
    node = tree.nodes.new("CompositorNodeGroup")
    node.node_tree = inner
    tree.links.new(source, node.inputs[0])


def result(tree, source):
    if SINCE_5:
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        tree.links.new(source, tree.nodes.new("NodeGroupOutput").inputs[0])
    else:
        tree.links.new(source, tree.nodes.new("CompositorNodeComposite").inputs[0])


def build(scene):
    r, c = scene.render, scene.cycles
    r.engine = "CYCLES"
    r.resolution_x, r.resolution_y, r.resolution_percentage = 48, 32, 100
    c.samples, c.use_adaptive_sampling, c.use_denoising = 2, False, False
    scene.view_layers[0].use_pass_z = scene.view_layers[0].use_pass_normal = True
    tree = tree_of(scene)
    layers = tree.nodes.new("CompositorNodeRLayers")
    layers.scene = scene
    invert = tree.nodes.new("CompositorNodeInvert")
    tree.links.new(layers.outputs["Image"], invert.inputs["Color"])
    return tree, layers, invert.outputs[0]


first = bpy.context.scene
first.name = "both"
scenes = {"both": first}
for name in ("multi", "only", "clash"):
    other = first.copy()
    other.name, other.use_fake_user = name, True
    scenes[name] = other
for name, scene in scenes.items():
    tree, layers, picture = build(scene)
    image, depth, normal = (layers.outputs[n] for n in ("Image", "Depth", "Normal"))
    if name == "clash":
        writer(tree, "One", "//a/", "PNG", [("same", image, "")])
        writer(tree, "Two", "//A/", "PNG", [("Same", image, "")])
        result(tree, picture)
        continue
    writer(tree, "Single", "//passes/../passes/", "OPEN_EXR",
           [("Image", image, ""), ("sub/depth_###", depth, ""), ("free", None, ""), ("inv.png", picture, "PNG")])
    writer(tree, "Multi", os.path.join(os.path.dirname(FILE), "away", ""), "OPEN_EXR_MULTILAYER",
           [("Image", image, ""), ("Normal", normal, "")], "all_##")
    writer(tree, "Off", "//off/", "PNG", [("off", image, "")]).mute = True
    group(tree, picture)
    if name != "only":
        result(tree, picture)
    if name == "multi":
        shape(scene.render.image_settings, "OPEN_EXR_MULTILAYER")
bpy.ops.wm.save_as_mainfile(filepath=FILE, compress=False, relative_remap=False)
