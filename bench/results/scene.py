# SPDX-License-Identifier: Apache-2.0
"""Builds the scenes of `bench results`: one picture of metal, cloth and stone
with fine textures, saved once for each format that artists deliver.

    blender -b --factory-startup -P scene.py -- DIR WIDTH HEIGHT SAMPLES

writes DIR/NAME.blend for each name of CASES.
"""

import math
import os
import random
import sys

import bpy

# name: file format, colour depth, EXR compression, many passes.
CASES = {
    "exr-half-dwaa": ("OPEN_EXR_MULTILAYER", "16", "DWAA", False),
    "exr-half-zip": ("OPEN_EXR_MULTILAYER", "16", "ZIP", False),
    "exr-float-passes": ("OPEN_EXR_MULTILAYER", "32", "ZIP", True),
    "png8": ("PNG", "8", "ZIP", False),
    "png16": ("PNG", "16", "ZIP", False),
    "jpeg": ("JPEG", "8", "ZIP", False),
}


def material(name, color, metallic, scale):
    """A principled material whose colour and roughness are noise."""
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    nodes, links = mat.node_tree.nodes, mat.node_tree.links
    shader = nodes["Principled BSDF"]
    noise = nodes.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 6.0
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (*(0.3 * c for c in color), 1.0)
    ramp.color_ramp.elements[1].color = (*color, 1.0)
    links.new(noise.outputs["Fac"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
    links.new(noise.outputs["Fac"], shader.inputs["Roughness"])
    shader.inputs["Metallic"].default_value = metallic
    return mat


def build(width, height, samples):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    rng = random.Random(4)
    bpy.ops.mesh.primitive_plane_add(size=60.0)
    bpy.context.object.data.materials.append(material("ground", (0.5, 0.42, 0.35), 0.0, 3.0))
    for i in range(24):
        x, y = 2.2 * (i % 6 - 2.5), 2.2 * (i // 6)
        add = bpy.ops.mesh.primitive_monkey_add if i % 3 == 0 else bpy.ops.mesh.primitive_uv_sphere_add
        add(location=(x, y, 0.9), rotation=(0.0, 0.0, rng.uniform(-0.6, 0.6)))
        bpy.ops.object.shade_smooth()
        color = tuple(rng.uniform(0.1, 0.9) for _ in range(3))
        bpy.context.object.data.materials.append(material("m%d" % i, color, float(i % 2), rng.uniform(4.0, 30.0)))
    sun = bpy.data.lights.new("sun", "SUN")
    sun.energy = 3.0
    lamp = bpy.data.objects.new("sun", sun)
    lamp.rotation_euler = (0.7, 0.2, 0.4)
    scene.collection.objects.link(lamp)
    scene.world = bpy.data.worlds.new("world")
    scene.world.color = (0.25, 0.3, 0.4)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location, camera.rotation_euler = (0.0, -11.0, 6.0), (math.radians(65.0), 0.0, 0.0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    scene.frame_start = scene.frame_end = 1
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = 100
    scene.cycles.device = "CPU"
    scene.cycles.samples = samples
    scene.cycles.max_bounces = 2
    scene.cycles.use_denoising = False
    scene.cycles.use_adaptive_sampling = False
    return scene


def passes(layer, many):
    """What a compositor asks for, or nothing but the picture."""
    for name in ("z", "normal", "vector", "diffuse_direct", "diffuse_indirect", "diffuse_color",
                 "glossy_direct", "glossy_indirect", "glossy_color", "emit", "environment", "ambient_occlusion",
                 "cryptomatte_object", "cryptomatte_material"):
        setattr(layer, "use_pass_" + name, many)
    layer.pass_cryptomatte_depth = 6


def main():
    folder, width, height, samples = sys.argv[sys.argv.index("--") + 1:]
    scene = build(int(width), int(height), int(samples))
    for name, (file_format, depth, codec, many) in CASES.items():
        image = scene.render.image_settings
        image.file_format = file_format
        image.color_mode = "RGBA" if file_format == "OPEN_EXR_MULTILAYER" else "RGB"
        if file_format != "JPEG":
            image.color_depth = depth
        image.exr_codec = codec
        image.quality = 90
        passes(scene.view_layers[0], many)
        bpy.ops.wm.save_as_mainfile(filepath=os.path.join(folder, name + ".blend"))


main()
