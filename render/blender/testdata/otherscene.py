# SPDX-License-Identifier: Apache-2.0
"""Builds files in which only scene 'other' uses a picture that is not there:
`blender -b --factory-startup -P otherscene.py -- FOLDER HOW...`. FOLDER gets
HOW.blend for each way in which the first scene comes to show the other one."""

import os
import sys

import bpy


def make(how: str) -> None:
    first = bpy.context.scene
    first.render.engine = "CYCLES"
    other = bpy.data.scenes.new("other")
    mesh = bpy.data.meshes.new("Wall")
    wall = bpy.data.objects.new("Wall", mesh)
    other.collection.objects.link(wall)
    other.camera = bpy.data.objects["Camera"]
    mat = bpy.data.materials.new("Painted")
    mat.use_nodes = True
    mesh.materials.append(mat)
    image = bpy.data.images.new("lost", 4, 4)
    image.source, image.filepath = "FILE", "//lost.png"
    group = bpy.data.node_groups.new("Paint", "ShaderNodeTree")
    group.nodes.new("ShaderNodeTexImage").image = image
    mat.node_tree.nodes.new("ShaderNodeGroup").node_tree = group

    if how == "set":
        first.background_set = other
    elif how == "strip":
        strips = first.sequence_editor_create()
        strips = getattr(strips, "strips", None) or strips.sequences
        strips.new_scene("Other", other, 1, 1)
    elif how == "layers":
        first.use_nodes = True
        first.node_tree.nodes.new("CompositorNodeRLayers").scene = other
    elif how == "pointed":
        bpy.data.objects["Cube"].constraints.new("COPY_LOCATION").target = wall
    elif how == "collection":
        stage = bpy.data.collections.new("Stage")
        stage.objects.link(wall)
        empty = bpy.data.objects.new("Empty", None)
        empty.instance_type, empty.instance_collection = "COLLECTION", stage
        first.collection.objects.link(empty)
    elif how == "nobody":
        other.collection.objects.unlink(wall)
        wall.use_fake_user = True


folder, *ways = sys.argv[sys.argv.index("--") + 1 :]
for each in ways:
    bpy.ops.wm.read_factory_settings()
    make(each)
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(folder, each + ".blend"))
