"""Pictures to learn from: random objects with procedural surfaces.

blender -b --python-exit-code 1 -P pictures.py -- FOLDER COUNT [SIDE]

Surfaces emit their colour, so that a few samples give a picture without noise
in which only edges are filtered: what a renderer leaves of a clean frame.
Picture N is the same on every machine with the same Blender.
"""
import math
import random
import sys

import bpy

folder, count = sys.argv[-3:-1] if sys.argv[-1].isdigit() and sys.argv[-2].isdigit() else sys.argv[-2:]
side = int(sys.argv[-1]) if sys.argv[-2].isdigit() else 384
TEXTURES = ("ShaderNodeTexNoise", "ShaderNodeTexVoronoi", "ShaderNodeTexWave", "ShaderNodeTexChecker",
            "ShaderNodeTexBrick", "ShaderNodeTexMagic", "ShaderNodeTexMusgrave")
SHAPES = (bpy.ops.mesh.primitive_cube_add, bpy.ops.mesh.primitive_uv_sphere_add, bpy.ops.mesh.primitive_torus_add,
          bpy.ops.mesh.primitive_cone_add, bpy.ops.mesh.primitive_monkey_add, bpy.ops.mesh.primitive_ico_sphere_add)


def surface(rng, scale):
    """A material whose light is a texture, darker where it faces away."""
    m = bpy.data.materials.new("m")
    m.use_nodes = True
    nodes, links = m.node_tree.nodes, m.node_tree.links
    nodes.clear()
    kinds = [t for t in TEXTURES if hasattr(bpy.types, t)]
    tex = nodes.new(rng.choice(kinds))
    if "Scale" in tex.inputs:
        tex.inputs["Scale"].default_value = scale * rng.uniform(0.5, 4)
    ramp = nodes.new("ShaderNodeValToRGB")
    for e in ramp.color_ramp.elements:
        e.color = (rng.random() ** 2, rng.random() ** 2, rng.random() ** 2, 1)
    if rng.random() < 0.5:
        ramp.color_ramp.interpolation = "CONSTANT"
        ramp.color_ramp.elements[1].position = rng.uniform(0.3, 0.7)
    facing = nodes.new("ShaderNodeLayerWeight")
    dim = nodes.new("ShaderNodeMath")
    dim.operation = "SUBTRACT"
    dim.inputs[0].default_value = 1.2
    light, out = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    coords = nodes.new("ShaderNodeTexCoord")
    links.new(coords.outputs["Object"], tex.inputs["Vector"])
    links.new(tex.outputs["Fac" if "Fac" in tex.outputs else 0], ramp.inputs[0])
    links.new(ramp.outputs[0], light.inputs["Color"])
    links.new(facing.outputs["Facing"], dim.inputs[1])
    links.new(dim.outputs[0], light.inputs["Strength"])
    links.new(light.outputs[0], out.inputs["Surface"])
    return m


def scene(n):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    rng = random.Random(n)
    s = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=40, location=(0, 12, 0), rotation=(math.radians(90), 0, 0))
    bpy.context.object.data.materials.append(surface(rng, 0.5))
    for _ in range(rng.randint(5, 14)):
        rng.choice(SHAPES)(location=(rng.uniform(-3.5, 3.5), rng.uniform(-2, 8), rng.uniform(-3.5, 3.5)),
                           rotation=[rng.uniform(0, 6.3) for _ in range(3)])
        o = bpy.context.object
        o.scale = [rng.uniform(0.3, 1.6)] * 3
        if rng.random() < 0.3:
            o.modifiers.new("w", "WIREFRAME").thickness = rng.uniform(0.02, 0.1)
        o.data.materials.append(surface(rng, 1.5))
    camera = bpy.data.objects.new("c", bpy.data.cameras.new("c"))
    s.collection.objects.link(camera)
    camera.location, camera.rotation_euler = (0, -9, 0), (math.radians(90), 0, 0)
    s.camera = camera
    s.render.engine = "CYCLES"
    s.cycles.samples, s.cycles.use_denoising, s.cycles.use_adaptive_sampling = 12, False, False
    s.cycles.max_bounces = 0
    s.view_settings.view_transform = "Standard"
    s.render.resolution_x = s.render.resolution_y = side
    s.render.resolution_percentage = 100
    s.render.image_settings.file_format = "PNG"
    s.render.image_settings.color_mode = "RGB"
    s.render.filepath = f"{folder}/picture-{n:04d}.png"
    bpy.ops.render.render(write_still=True)


for n in range(int(count)):
    scene(n)
