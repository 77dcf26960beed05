# SPDX-License-Identifier: Apache-2.0
"""Builds a .blend that only renders with an add-on: `blender -b
--factory-startup -P addons.py -- FILE`. The add-on is this script: it brings an
engine, a shader node and a sort of node tree, none of which a worker has."""

import os
import sys

import bpy

FILE = sys.argv[sys.argv.index("--") + 1]


class AcmeEngine(bpy.types.RenderEngine):
    bl_idname = "ACME_RENDER"
    bl_label = "Acme"


class AcmeNode(bpy.types.Node):
    bl_idname = "AcmeNode"
    bl_label = "Acme Noise"

    def init(self, context):
        self.outputs.new("NodeSocketColor", "Color")


class AcmeTree(bpy.types.NodeTree):
    bl_idname = "AcmeTree"
    bl_label = "Acme Nodes"
    bl_icon = "NODETREE"


for cls in (AcmeEngine, AcmeNode, AcmeTree):
    bpy.utils.register_class(cls)
scene = bpy.context.scene
scene.render.engine = "ACME_RENDER"
material = bpy.data.materials["Material"]
material.use_nodes = True
tree = material.node_tree
node = tree.nodes.new("AcmeNode")
node.name = "Rust"
shader = next(n for n in tree.nodes if n.type == "BSDF_PRINCIPLED")
tree.links.new(node.outputs[0], shader.inputs["Base Color"])
tree.nodes.new("AcmeNode").name = "Loose"  # reaches nothing
bpy.data.node_groups.new("Swarm", "AcmeTree").use_fake_user = True
# A linked object that its library has no more.
folder = os.path.dirname(FILE)
library = os.path.join(folder, "props.blend")
prop = bpy.data.objects.new("Barrel", bpy.data.meshes.new("barrel"))
bpy.data.libraries.write(library, {prop})
bpy.data.objects.remove(prop)
with bpy.data.libraries.load(library, link=True) as (_, to):
    to.objects = ["Barrel"]
scene.collection.objects.link(to.objects[0])
bpy.ops.wm.save_as_mainfile(filepath=FILE, compress=False)
bpy.data.libraries.write(library, {bpy.data.objects["Cube"]})
sys.stdout.flush()
os._exit(0)  # 4.5 does not survive the end of an engine that a scene uses
