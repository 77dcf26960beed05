# SPDX-License-Identifier: Apache-2.0
"""Builds one .blend with a scene for each way a file can finish its frames:
`blender -b --factory-startup -P scenes.py -- DIR`. The tests render each with
plain Blender and with the farm's two steps and compare pixels."""

import os
import sys

import bpy


def texture(folder):
    """A picture that is loaded from disk, so that dependencies matter."""
    image = bpy.data.images.new("check", 32, 32)
    px = []
    for y in range(32):
        for x in range(32):
            on = (x // 4 + y // 4) % 2
            px += [0.9 * on + 0.05, x / 40, 0.2 + 0.5 * (1 - on), 1.0]
    image.pixels = px
    image.filepath_raw = os.path.join(folder, "textures", "check.png")
    image.file_format = "PNG"
    image.save()
    image.filepath = "//textures/check.png"
    return image


def material(name, image=None, color=(0.8, 0.8, 0.8, 1), rough=0.4, glass=0.0):
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    bsdf = next(n for n in mat.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    bsdf.inputs["Base Color"].default_value = color
    bsdf.inputs["Roughness"].default_value = rough
    name = "Transmission" if "Transmission" in bsdf.inputs else "Transmission Weight"
    bsdf.inputs[name].default_value = glass
    if image:
        node = mat.node_tree.nodes.new("ShaderNodeTexImage")
        node.image = image
        mat.node_tree.links.new(node.outputs["Color"], bsdf.inputs["Base Color"])
    return mat


def scene(name, mats, layers=1):
    """A small animated scene; every scene has objects of its own."""
    sc = bpy.data.scenes.new(name)
    objects = []

    def put(ob):
        sc.collection.objects.link(ob)
        objects.append(ob)
        return ob

    def mesh(kind, mat, loc, scale=1.0):
        bpy.ops.mesh.primitive_cube_add() if kind == "cube" else (
            bpy.ops.mesh.primitive_monkey_add() if kind == "monkey" else bpy.ops.mesh.primitive_plane_add(size=12))
        ob = bpy.context.object
        for coll in list(ob.users_collection):
            coll.objects.unlink(ob)
        ob.location, ob.scale = loc, (scale, scale, scale)
        ob.data.materials.append(mat)
        return put(ob)

    mesh("plane", mats["check"], (0, 0, -1))
    cube = mesh("cube", mats["red"], (-1.4, 0, 0), 0.8)
    mesh("monkey", mats["glass"], (1.2, 0, 0.1))
    cube.rotation_euler = (0, 0, 0)
    cube.keyframe_insert("rotation_euler", frame=1)
    cube.rotation_euler = (0.7, 0.4, 1.5)
    cube.keyframe_insert("rotation_euler", frame=10)
    lamp = put(bpy.data.objects.new("lamp", bpy.data.lights.new("lamp", "AREA")))
    lamp.data.energy, lamp.data.size, lamp.location = 300, 2, (1, -2, 4)
    cam = put(bpy.data.objects.new("cam", bpy.data.cameras.new("cam")))
    cam.rotation_euler, cam.location = (1.2, 0, 0.35), (2.2, -6, 2)
    cam.keyframe_insert("location", frame=1)
    cam.location = (1.2, -5, 2.4)
    cam.keyframe_insert("location", frame=10)
    sc.camera = cam
    sc.world = bpy.data.worlds[0]
    sc.frame_start, sc.frame_end = 1, 10
    r, c = sc.render, sc.cycles
    r.engine = "CYCLES"
    r.resolution_x, r.resolution_y, r.resolution_percentage = 96, 64, 100
    c.samples, c.use_adaptive_sampling, c.use_denoising = 4, False, False
    r.image_settings.file_format = "PNG"
    if layers > 1:
        second = sc.view_layers.new("Second")
        second.material_override = mats["blue"]
        hidden = bpy.data.collections.new(name + " hidden")
        sc.collection.children.link(hidden)
        hidden.objects.link(cube)
        sc.collection.objects.unlink(cube)
        second.layer_collection.children[hidden.name].exclude = True
    return sc


def nodes(sc):
    sc.use_nodes = True
    tree = sc.node_tree
    tree.nodes.clear()
    return tree, tree.nodes.new, tree.links.new


def compositor(sc):
    """Two layers, data passes, animated mixing, glare, grading, alpha, a cryptomatte picked from the render."""
    for layer in sc.view_layers:
        layer.use_pass_z = layer.use_pass_normal = layer.use_pass_mist = True
        layer.use_pass_diffuse_direct = layer.use_pass_cryptomatte_object = True
    _, new, link = nodes(sc)
    first, second = new("CompositorNodeRLayers"), new("CompositorNodeRLayers")
    for node, layer in ((first, sc.view_layers[0].name), (second, "Second")):
        node.scene = sc
        node.layer = layer
    glare, mix, balance = new("CompositorNodeGlare"), new("CompositorNodeMixRGB"), new("CompositorNodeColorBalance")
    glare.glare_type, glare.threshold = "FOG_GLOW", 0.3
    balance.lift = (1.1, 1.0, 0.9)
    mix.inputs[0].default_value = 0.2
    mix.inputs[0].keyframe_insert("default_value", frame=1)
    mix.inputs[0].default_value = 0.9
    mix.inputs[0].keyframe_insert("default_value", frame=10)
    norm, deep, bump = new("CompositorNodeNormalize"), new("CompositorNodeMixRGB"), new("CompositorNodeMixRGB")
    deep.blend_type, bump.blend_type = "MULTIPLY", "ADD"
    deep.inputs[0].default_value, bump.inputs[0].default_value = 0.3, 0.1
    alpha, out = new("CompositorNodeSetAlpha"), new("CompositorNodeComposite")
    link(first.outputs["Image"], glare.inputs[0])
    link(glare.outputs[0], mix.inputs[1])
    link(second.outputs["Image"], mix.inputs[2])
    link(mix.outputs[0], balance.inputs[1])
    link(first.outputs["Depth"], norm.inputs[0])
    link(balance.outputs[0], deep.inputs[1])
    link(norm.outputs[0], deep.inputs[2])
    link(deep.outputs[0], bump.inputs[1])
    link(first.outputs["Normal"], bump.inputs[2])
    matte, marked = new("CompositorNodeCryptomatteV2"), new("CompositorNodeMixRGB")
    matte.source, matte.scene, matte.layer_name = "RENDER", sc, "Second.CryptoObject"
    matte.matte_id = ",".join(ob.name for ob in sc.objects if ob.type == "MESH" and len(ob.data.vertices) > 100)
    marked.blend_type = "ADD"
    marked.inputs[0].default_value = 0.4
    link(bump.outputs[0], marked.inputs[1])
    link(matte.outputs["Matte"], marked.inputs[2])
    link(marked.outputs[0], alpha.inputs[0])
    link(first.outputs["Alpha"], alpha.inputs[1])
    link(alpha.outputs[0], out.inputs[0])


def build(folder):
    image = texture(folder)
    mats = {
        "check": material("check", image),
        "red": material("red", color=(0.8, 0.05, 0.03, 1), rough=0.2),
        "blue": material("blue", color=(0.05, 0.1, 0.8, 1)),
        "glass": material("glass", rough=0.05, glass=1.0),
    }
    plain = scene("plain", mats)
    plain.render.use_motion_blur = True
    plain.render.dither_intensity = 1.5
    plain.view_settings.exposure = 0.4

    comp = scene("comp", mats, layers=2)
    comp.render.film_transparent = True
    comp.render.image_settings.color_mode, comp.render.image_settings.color_depth = "RGBA", "16"
    compositor(comp)

    jpeg = scene("jpeg", mats)
    if bpy.app.version >= (4, 3):  # not the default any more; these two are cut into ranges of samples
        plain.cycles.sampling_pattern = jpeg.cycles.sampling_pattern = "TABULATED_SOBOL"
    jpeg.render.image_settings.file_format, jpeg.render.image_settings.quality = "JPEG", 80
    jpeg.render.use_border = jpeg.render.use_crop_to_border = True
    r = jpeg.render
    r.border_min_x, r.border_max_x, r.border_min_y, r.border_max_y = 0.2, 0.9, 0.1, 0.8

    exr = scene("exr", mats)
    exr.render.image_settings.file_format, exr.render.image_settings.color_depth = "OPEN_EXR", "16"
    exr.render.image_settings.color_mode = "RGBA"
    exr.render.film_transparent = True
    exr.render.use_border = True
    r = exr.render
    r.border_min_x, r.border_max_x, r.border_min_y, r.border_max_y = 0.25, 0.75, 0.25, 0.75

    scene("layers", mats, layers=2)

    multi = scene("multi", mats)
    multi.render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    multi.render.image_settings.color_depth, multi.render.image_settings.exr_codec = "32", "ZIP"
    multi.cycles.samples = 10

    adaptive = scene("adaptive", mats)
    adaptive.cycles.use_adaptive_sampling = True
    adaptive.cycles.samples, adaptive.cycles.adaptive_threshold = 32, 0.1

    keyed = scene("keyed", mats)
    for value, at in ((2, 1), (20, 10)):
        keyed.cycles.samples = value
        keyed.cycles.keyframe_insert("samples", frame=at)
    other = bpy.data.objects.new("other cam", bpy.data.cameras.new("other cam"))
    other.location, other.rotation_euler = (0, 0, 9), (0, 0, 0)
    keyed.collection.objects.link(other)
    for at, cam in ((1, keyed.camera), (6, other)):
        keyed.timeline_markers.new("to %s" % cam.name, frame=at).camera = cam

    bpy.data.scenes.remove(bpy.data.scenes["Scene"])
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(folder, "scenes.blend"), compress=True, relative_remap=False)


build(sys.argv[sys.argv.index("--") + 1])
