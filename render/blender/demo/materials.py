# SPDX-License-Identifier: Apache-2.0
"""The demo's materials: few nodes each, so that frames stay light."""

import bpy


def material(name, kind, color=(0.8, 0.8, 0.8), **values):
    """A material of one shader node; values are its sockets by name."""
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    tree = mat.node_tree
    tree.nodes.clear()
    out, node = tree.nodes.new("ShaderNodeOutputMaterial"), tree.nodes.new(kind)
    node.inputs[0].default_value = (*color, 1)
    for key, value in values.items():
        node.inputs[key].default_value = value
    tree.links.new(node.outputs[0], out.inputs["Surface"])
    return mat, tree, node


def metal(name, color, rough):
    return material(name, "ShaderNodeBsdfGlossy", color, Roughness=rough)[0]


def glass(name, color, ior=1.46):
    """Glass that lets lamps shine through: shadows under it are tinted, not
    black, and not noisy."""
    mat, tree, node = material(name, "ShaderNodeBsdfGlass", color, Roughness=0.0, IOR=ior)
    path, clear, both = (tree.nodes.new("ShaderNode" + n) for n in ("LightPath", "BsdfTransparent", "MixShader"))
    clear.inputs[0].default_value = (*(0.25 + 0.7 * c for c in color), 1)
    out = next(n for n in tree.nodes if n.type == "OUTPUT_MATERIAL")
    tree.links.new(path.outputs["Is Shadow Ray"], both.inputs[0])
    tree.links.new(node.outputs[0], both.inputs[1])
    tree.links.new(clear.outputs[0], both.inputs[2])
    tree.links.new(both.outputs[0], out.inputs["Surface"])
    return mat


def glazed(name, color, rough=0.1, shine=0.08):
    """Matt below, a clear reflection on top that grows towards the edge."""
    mat, tree, base = material(name, "ShaderNodeBsdfDiffuse", color)
    gloss, both, edge = (tree.nodes.new("ShaderNode" + n) for n in ("BsdfGlossy", "MixShader", "LayerWeight"))
    gloss.inputs["Roughness"].default_value = rough
    edge.inputs["Blend"].default_value = shine
    out = next(n for n in tree.nodes if n.type == "OUTPUT_MATERIAL")
    tree.links.new(edge.outputs["Fresnel"], both.inputs[0])
    tree.links.new(base.outputs[0], both.inputs[1])
    tree.links.new(gloss.outputs[0], both.inputs[2])
    tree.links.new(both.outputs[0], out.inputs["Surface"])
    return mat, tree, base


def textured(name, image, rough=0.1, shine=0.08, scale=(1, 1, 1)):
    mat, tree, base = glazed(name, (1, 1, 1), rough, shine)
    paint(tree, base.inputs[0], image, scale)
    return mat


def brushed(name, image, color):
    mat, tree, node = material(name, "ShaderNodeBsdfGlossy", color)
    image.colorspace_settings.name = "Non-Color"
    paint(tree, node.inputs["Roughness"], image)
    return mat


def paint(tree, socket, image, scale=(1, 1, 1)):
    """Connects an image texture to a socket."""
    tex, coords = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeTexCoord")
    place = tree.nodes.new("ShaderNodeMapping")
    place.inputs["Scale"].default_value = scale
    tex.image = image
    tree.links.new(coords.outputs["UV"], place.inputs["Vector"])
    tree.links.new(place.outputs["Vector"], tex.inputs["Vector"])
    tree.links.new(tex.outputs["Color"], socket)
