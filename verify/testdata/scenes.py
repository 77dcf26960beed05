"""Renders small noisy scenes, honestly or not, for the tests of verify.

    blender -b --factory-startup -P scenes.py -- FOLDER JOBS.json

Scenes are built once and saved in FOLDER, and every process renders what it
loads from there: strands of hair, for one, come out differently in each process
that grows them anew. JOBS.json is a list of objects: scene, out, width, height,
samples, and optionally offset (first sample), seed, frame, border [x0, y0, x1,
y1] (pixels, origin bottom left), percent (of the resolution), adaptive,
threshold, bvh (another layout of the ray tracing structure, and older
instructions), half (16-bit file).
"""
import json
import math
import os
import random
import sys

import bpy


def material(name, kind, color=(0.8, 0.8, 0.8, 1), **values):
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    tree = mat.node_tree
    tree.nodes.clear()
    out = tree.nodes.new("ShaderNodeOutputMaterial")
    node = tree.nodes.new(kind)
    node.inputs["Color"].default_value = color
    for key, value in values.items():
        node.inputs[key].default_value = value
    tree.links.new(node.outputs[0], out.inputs["Volume" if "Volume" in kind else "Surface"])
    return mat


def add(op, mat, **args):
    op(**args)
    ob = bpy.context.object
    ob.data.materials.append(mat)
    return ob


def light(kind, energy, location, size=1.0, rotation=(0, 0, 0)):
    bpy.ops.object.light_add(type=kind, location=location, rotation=rotation)
    data = bpy.context.object.data
    data.energy = energy
    if kind == "AREA":
        data.size = size


def camera(location, target, lens=35, fstop=None):
    bpy.ops.object.camera_add(location=location)
    cam = bpy.context.object
    direction = [b - a for a, b in zip(location, target)]
    cam.rotation_euler = (
        math.atan2(math.hypot(direction[0], direction[1]), -direction[2]), 0,
        math.atan2(direction[1], direction[0]) - math.pi / 2)
    cam.data.lens = lens
    if fstop:
        cam.data.dof.use_dof = True
        cam.data.dof.aperture_fstop = fstop
        cam.data.dof.focus_distance = math.sqrt(sum(d * d for d in direction))
    bpy.context.scene.camera = cam
    return cam


def world(color, strength):
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new("World")
    scene.world.use_nodes = True
    bg = scene.world.node_tree.nodes["Background"]
    bg.inputs[0].default_value = color
    bg.inputs[1].default_value = strength


def move(ob, frames=(1, 2), delta=(0.15, 0.1, 0.0)):
    """Moves ob a little from one frame to the next."""
    ob.keyframe_insert("location", frame=frames[0])
    ob.location = [a + b for a, b in zip(ob.location, delta)]
    ob.keyframe_insert("location", frame=frames[1])


def glossy():
    """Glass and rough metal, out of focus."""
    world((0.5, 0.6, 0.9, 1), 0.3)
    add(bpy.ops.mesh.primitive_plane_add, material("floor", "ShaderNodeBsdfGlossy", Roughness=0.35), size=20)
    rnd = random.Random(3)
    last = None
    for i in range(9):
        mat = material("m%d" % i, ("ShaderNodeBsdfGlass", "ShaderNodeBsdfGlossy", "ShaderNodeBsdfDiffuse")[i % 3],
                       (0.3 + 0.7 * rnd.random(), 0.3 + 0.7 * rnd.random(), 0.3 + 0.7 * rnd.random(), 1), Roughness=0.15)
        last = add(bpy.ops.mesh.primitive_uv_sphere_add, mat, radius=0.5 + 0.4 * rnd.random(),
                   location=((i % 3) * 1.9 - 1.9, (i // 3) * 2.2 - 2, 0.6))
        bpy.ops.object.shade_smooth()
    light("AREA", 500, (3, -3, 6), 2, (0.5, 0.4, 0))
    move(camera((0, -7, 3.2), (0, 0, 0.4), 40, 0.6))
    move(last)


def interior():
    """A room lit through a window: diffuse light on its second bounce."""
    world((0.7, 0.8, 1, 1), 1.5)
    wall = material("wall", "ShaderNodeBsdfDiffuse", (0.75, 0.7, 0.62, 1))
    for location, scale in (((0, 0, -0.1), (3, 4, 0.1)), ((0, 0, 3.1), (3, 4, 0.1)), ((0, 4.1, 1.5), (3, 0.1, 1.6)),
                            ((-3.1, 0, 1.5), (0.1, 4, 1.6)), ((3.1, -2.4, 1.5), (0.1, 1.6, 1.6)),
                            ((3.1, 3, 1.5), (0.1, 1.2, 1.6)), ((0, -4.1, 1.5), (3, 0.1, 1.6))):
        ob = add(bpy.ops.mesh.primitive_cube_add, wall, location=location)
        ob.scale = scale
    red = material("red", "ShaderNodeBsdfDiffuse", (0.7, 0.1, 0.08, 1))
    ob = add(bpy.ops.mesh.primitive_monkey_add, red, location=(0, 1, 1), rotation=(0, 0, -0.4))
    move(ob)
    add(bpy.ops.mesh.primitive_cube_add, material("blue", "ShaderNodeBsdfDiffuse", (0.1, 0.2, 0.6, 1)), size=1.2, location=(-1.7, 1.6, 0.6))
    light("SUN", 3, (6, 0, 5), rotation=(0.3, 0.9, 0))
    camera((0.6, -3.6, 1.7), (-0.2, 2, 1.1), 24)


def volume():
    """Fog with a lamp in it."""
    world((0.1, 0.1, 0.15, 1), 0.3)
    ob = add(bpy.ops.mesh.primitive_cube_add, material("fog", "ShaderNodeVolumeScatter", (0.8, 0.85, 0.9, 1), Density=0.25), size=8, location=(0, 0, 3))
    ob.display_type = "WIRE"
    add(bpy.ops.mesh.primitive_plane_add, material("floor", "ShaderNodeBsdfDiffuse", (0.3, 0.3, 0.3, 1)), size=7.9, location=(0, 0, 0.05))
    ob = add(bpy.ops.mesh.primitive_torus_add, material("ring", "ShaderNodeBsdfGlossy", (0.9, 0.6, 0.2, 1), Roughness=0.2),
             location=(0, 0, 1.4), rotation=(1.2, 0.3, 0))
    move(ob)
    light("POINT", 700, (1.4, 0.8, 3.4))
    camera((0, -6.5, 2.4), (0, 0, 1.5), 35)


def hair():
    """Strands: the hardest case across hardware."""
    world((0.6, 0.7, 0.9, 1), 0.5)
    ob = add(bpy.ops.mesh.primitive_uv_sphere_add, material("fur", "ShaderNodeBsdfHair", (0.5, 0.3, 0.15, 1)), radius=1.2, location=(0, 0, 1.2))
    ob.modifiers.new("fur", "PARTICLE_SYSTEM")
    settings = ob.particle_systems[0].settings
    settings.type = "HAIR"
    settings.count = 3000
    settings.hair_length = 0.5
    settings.child_type = "SIMPLE"
    settings.rendered_child_count = 5
    settings.child_roundness = 0.3
    settings.roughness_2 = 0.06
    add(bpy.ops.mesh.primitive_plane_add, material("floor", "ShaderNodeBsdfDiffuse", (0.4, 0.4, 0.4, 1)), size=20)
    light("AREA", 300, (2, -3, 5), 1, (0.5, 0.3, 0))
    move(camera((0, -5, 2), (0, 0, 1.2), 45))


SCENES = {f.__name__: f for f in (glossy, interior, volume, hair)}


def load(folder, name):
    path = os.path.join(folder, name + ".blend")
    if not os.path.exists(path):
        build(name)
        bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)


def build(name):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    SCENES[name]()
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.use_persistent_data = True
    scene.cycles.use_denoising = False
    scene.render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    scene.render.image_settings.exr_codec = "ZIP"
    bpy.context.view_layer.cycles.pass_debug_sample_count = True


def render(job):
    scene = bpy.context.scene
    render, cycles = scene.render, scene.cycles
    render.resolution_x, render.resolution_y = job["width"], job["height"]
    render.resolution_percentage = job.get("percent", 100)
    render.use_border = render.use_crop_to_border = "border" in job
    if "border" in job:
        x0, y0, x1, y1 = job["border"]
        # Half a pixel inwards: Blender truncates, and k/n*n may fall below k.
        render.border_min_x, render.border_max_x = (x0 + 0.01) / job["width"], (x1 + 0.01) / job["width"]
        render.border_min_y, render.border_max_y = (y0 + 0.01) / job["height"], (y1 + 0.01) / job["height"]
    cycles.samples = job["samples"]
    cycles.sample_offset = job.get("offset", 0)
    if hasattr(cycles, "use_sample_subset"):
        cycles.use_sample_subset = True
        cycles.sample_subset_length = job["samples"]
        cycles.samples += cycles.sample_offset
    if bpy.app.version >= (4, 3):
        cycles.sampling_pattern = "BLUE_NOISE" if job.get("dithered") else "TABULATED_SOBOL"
    cycles.seed = job.get("seed", 0)
    cycles.use_adaptive_sampling = job.get("adaptive", False)
    cycles.adaptive_threshold = job.get("threshold", 0.01)
    cycles.adaptive_min_samples = job.get("min_samples", 0)
    # Cycles heeds these only with both preferences on, and then no longer the
    # CYCLES_CPU_* variables.
    other = job.get("bvh", False)
    bpy.context.preferences.view.show_developer_ui = other
    bpy.context.preferences.experimental.use_cycles_debug = other
    cycles.debug_bvh_layout = "BVH2" if other else "EMBREE"
    cycles.debug_use_cpu_avx = cycles.debug_use_cpu_avx2 = not other
    render.image_settings.color_depth = "16" if job.get("half") else "32"
    scene.frame_set(job.get("frame", 2))
    render.filepath = job["out"]
    bpy.ops.render.render(write_still=True)


def main():
    folder, path = sys.argv[sys.argv.index("--") + 1:]
    with open(path) as f:
        jobs = json.load(f)
    current = None
    for job in sorted(jobs, key=lambda j: j["scene"]):
        if job["scene"] != current:
            current = job["scene"]
            load(folder, current)
        render(job)


main()
