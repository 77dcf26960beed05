"""Builds and renders the scenes of the bench of cheats.

    blender -b --factory-startup -P scenes.py -- FOLDER JOBS.json

Scenes are built once and saved in FOLDER, and every process renders what it
loads from there: strands of hair, for one, come out differently in each process
that grows them anew. A scene is FAMILY-VARIANT: the variant seeds the layout, so
that training and test scenes share what they are about and nothing else.
JOBS.json is a list of objects: scene, out, width, height, samples, adaptive, and
optionally offset (first sample), seed, frame, percent (of the resolution),
threshold, min_samples, bvh ("bvh2" or "splits"), tile (pixels), removed (without
the object called "mark"). A job whose file is there is passed over.
"""
import json
import math
import os
import random
import sys

import bpy

PI = math.pi


def material(name, kind, color=(0.8, 0.8, 0.8, 1), **values):
    mat = bpy.data.materials.new(name)
    mat.use_nodes = True
    tree = mat.node_tree
    tree.nodes.clear()
    out = tree.nodes.new("ShaderNodeOutputMaterial")
    node = tree.nodes.new(kind)
    for key in ("Color", "Base Color"):
        if key in node.inputs:
            node.inputs[key].default_value = color
    for key, value in values.items():
        node.inputs[key.replace("_", " ")].default_value = value
    tree.links.new(node.outputs[0], out.inputs["Volume" if "Volume" in kind else "Surface"])
    return mat


def textured(name, scale, bump=0.0):
    """Noise, checks and a bump, mixed."""
    mat = material(name, "ShaderNodeBsdfPrincipled", Roughness=0.5)
    tree = mat.node_tree
    shader = next(n for n in tree.nodes if n.type == "BSDF_PRINCIPLED")
    coords = tree.nodes.new("ShaderNodeTexCoord")
    noise = tree.nodes.new("ShaderNodeTexNoise")
    check = tree.nodes.new("ShaderNodeTexChecker")
    mix = tree.nodes.new("ShaderNodeMixRGB")
    noise.inputs["Scale"].default_value = scale
    noise.inputs["Detail"].default_value = 8
    check.inputs["Scale"].default_value = scale * 2
    tree.links.new(coords.outputs["Object"], noise.inputs["Vector"])
    tree.links.new(coords.outputs["Object"], check.inputs["Vector"])
    tree.links.new(noise.outputs["Color"], mix.inputs[1])
    tree.links.new(check.outputs["Color"], mix.inputs[2])
    tree.links.new(mix.outputs[0], shader.inputs["Base Color"])
    if bump:
        node = tree.nodes.new("ShaderNodeBump")
        node.inputs["Strength"].default_value = bump
        tree.links.new(noise.outputs["Fac"], node.inputs["Height"])
        tree.links.new(node.outputs[0], shader.inputs["Normal"])
    return mat


def add(op, mat, **args):
    op(**args)
    ob = bpy.context.object
    ob.data.materials.append(mat)
    return ob


def sphere(mat, radius, location, smooth=True):
    ob = add(bpy.ops.mesh.primitive_uv_sphere_add, mat, radius=radius, location=location, segments=48, ring_count=24)
    if smooth:
        bpy.ops.object.shade_smooth()
    return ob


def floor(mat, size=24):
    return add(bpy.ops.mesh.primitive_plane_add, mat, size=size)


def light(kind, energy, location, size=1.0, rotation=(0, 0, 0)):
    bpy.ops.object.light_add(type=kind, location=location, rotation=rotation)
    data = bpy.context.object.data
    data.energy = energy
    if kind == "AREA":
        data.size = size


def camera(location, target, lens=35, fstop=None):
    bpy.ops.object.camera_add(location=location)
    cam = bpy.context.object
    d = [b - a for a, b in zip(location, target)]
    cam.rotation_euler = (math.atan2(math.hypot(d[0], d[1]), -d[2]), 0, math.atan2(d[1], d[0]) - PI / 2)
    cam.data.lens = lens
    if fstop:
        cam.data.dof.use_dof = True
        cam.data.dof.aperture_fstop = fstop
        cam.data.dof.focus_distance = math.sqrt(sum(x * x for x in d))
    bpy.context.scene.camera = cam
    return cam


def world(color, strength):
    scene = bpy.context.scene
    scene.world = bpy.data.worlds.new("World")
    scene.world.use_nodes = True
    bg = scene.world.node_tree.nodes["Background"]
    bg.inputs[0].default_value = (*color, 1)
    bg.inputs[1].default_value = strength


def move(ob, delta=(0.2, 0.12, 0.05)):
    """Moves ob a little from frame 1 to frame 2."""
    end = list(ob.location)
    ob.location = [a - b for a, b in zip(end, delta)]
    ob.keyframe_insert("location", frame=1)
    ob.location = end
    ob.keyframe_insert("location", frame=2)


def mark(ob):
    """The object that a cheat leaves out."""
    ob.name = "mark"
    return ob


def colour(rnd, low=0.15):
    return (low + (1 - low) * rnd.random(), low + (1 - low) * rnd.random(), low + (1 - low) * rnd.random(), 1)


def grid(rnd, n, spread):
    """n places on a floor, apart."""
    side = math.ceil(math.sqrt(n))
    cells = [(x, y) for x in range(side) for y in range(side)]
    rnd.shuffle(cells)
    step = 2 * spread / side
    return [(-spread + step * (x + 0.5 + 0.3 * (rnd.random() - 0.5)), -spread + step * (y + 0.5 + 0.3 * (rnd.random() - 0.5)))
            for x, y in cells[:n]]


def glossy(rnd):
    """Rough metals before a sky."""
    world((0.5, 0.6, 0.9), 0.4)
    floor(material("floor", "ShaderNodeBsdfGlossy", (0.6, 0.6, 0.65, 1), Roughness=0.3))
    for i, (x, y) in enumerate(grid(rnd, 9, 3)):
        ob = sphere(material("m%d" % i, "ShaderNodeBsdfGlossy" if i % 3 else "ShaderNodeBsdfDiffuse", colour(rnd, 0.3)), 0.5 + 0.3 * rnd.random(), (x, y, 0.6))
    mark(ob)
    light("AREA", 500, (3, -3, 6), 2, (0.5, 0.4, 0))
    move(camera((0, -7, 3.2), (0, 0, 0.4), 38))


def glass(rnd):
    """Glass on a light floor, with caustics."""
    world((0.7, 0.8, 1), 0.2)
    bpy.context.scene.cycles.caustics_refractive = True
    bpy.context.scene.cycles.blur_glossy = 0
    floor(material("floor", "ShaderNodeBsdfDiffuse", (0.8, 0.76, 0.7, 1)))
    for i, (x, y) in enumerate(grid(rnd, 7, 2.6)):
        mat = material("g%d" % i, "ShaderNodeBsdfGlass", colour(rnd, 0.6), Roughness=0.0 if i % 2 else 0.1, IOR=1.3 + 0.3 * rnd.random())
        ob = sphere(mat, 0.5 + 0.3 * rnd.random(), (x, y, 0.8))
    mark(ob)
    light("AREA", 400, (2.5, -1, 5), 0.8, (0.4, 0.3, 0))
    move(camera((0, -6.5, 3.5), (0, 0, 0.4), 36))


def volume(rnd):
    """Fog with a lamp in it."""
    world((0.1, 0.1, 0.15), 0.3)
    fog = add(bpy.ops.mesh.primitive_cube_add, material("fog", "ShaderNodeVolumeScatter", (0.8, 0.85, 0.9, 1), Density=0.2 + 0.1 * rnd.random()),
              size=8, location=(0, 0, 3))
    fog.display_type = "WIRE"
    floor(material("floor", "ShaderNodeBsdfDiffuse", (0.3, 0.3, 0.3, 1)), 7.9).location.z = 0.05
    for i, (x, y) in enumerate(grid(rnd, 4, 2)):
        ob = add(bpy.ops.mesh.primitive_torus_add, material("r%d" % i, "ShaderNodeBsdfDiffuse", colour(rnd)), location=(x, y, 1.0 + rnd.random()),
                 rotation=(rnd.random() * 3, rnd.random(), 0), major_radius=0.7, minor_radius=0.22)
    move(mark(ob), (0.3, 0.1, 0.1))
    light("POINT", 700, (1.4 - rnd.random(), 0.8, 3.4))
    camera((0, -6.5, 2.4), (0, 0, 1.5), 35)


def hair(rnd):
    """Strands: the hardest case across hardware."""
    world((0.6, 0.7, 0.9), 0.5)
    for i in range(2):
        ob = sphere(material("fur%d" % i, "ShaderNodeBsdfHair", colour(rnd)), 1.0, (2.4 * i - 1.2, rnd.random() - 0.5, 1.2))
        ob.modifiers.new("fur", "PARTICLE_SYSTEM")
        s = ob.particle_systems[0].settings
        s.type, s.count, s.hair_length, s.child_type, s.rendered_child_count = "HAIR", 3000, 0.5, "SIMPLE", 5
        s.child_roundness, s.roughness_2 = 0.3, 0.06
    mark(ob)
    floor(material("floor", "ShaderNodeBsdfDiffuse", (0.4, 0.4, 0.4, 1)))
    light("AREA", 300, (2, -3, 5), 1, (0.5, 0.3, 0))
    move(camera((0, -5.4, 2), (0, 0, 1.2), 42))


def subsurface(rnd):
    """Wax and skin."""
    world((0.8, 0.8, 0.9), 0.4)
    floor(material("floor", "ShaderNodeBsdfDiffuse", (0.5, 0.45, 0.4, 1)))
    for i, (x, y) in enumerate(grid(rnd, 5, 2.2)):
        mat = material("s%d" % i, "ShaderNodeBsdfPrincipled", colour(rnd, 0.4), Subsurface=0.8, Subsurface_Radius=(0.5, 0.25, 0.12), Roughness=0.4)
        ob = add(bpy.ops.mesh.primitive_monkey_add, mat, location=(x, y, 0.8), rotation=(0, 0, rnd.random() * 2 - 1), size=1.5)
        bpy.ops.object.shade_smooth()
    move(mark(ob), (0.25, 0.1, 0))
    light("AREA", 250, (-3, -3, 4), 1, (0.6, -0.5, 0))
    camera((0, -6, 2.6), (0, 0, 0.6), 38)


def motion(rnd):
    """Motion blur and depth of field."""
    world((0.6, 0.7, 0.9), 0.6)
    bpy.context.scene.render.use_motion_blur = True
    bpy.context.scene.render.motion_blur_shutter = 0.8
    floor(textured("floor", 3))
    for i, (x, y) in enumerate(grid(rnd, 9, 3)):
        ob = sphere(material("m%d" % i, "ShaderNodeBsdfPrincipled", colour(rnd), Roughness=0.3), 0.5, (x, y, 0.6))
        if i % 2:
            move(ob, (rnd.random() - 0.5, rnd.random() - 0.5, 0.3 * rnd.random()))
    mark(ob)
    light("SUN", 3, (4, -3, 6), rotation=(0.5, 0.4, 0))
    move(camera((0, -7, 2.8), (0, 0, 0.5), 45, 0.4), (0.05, 0, 0))


def fireflies(rnd):
    """Small strong emitters seen through reflections."""
    world((0, 0, 0), 0)
    wall = material("wall", "ShaderNodeBsdfPrincipled", (0.6, 0.6, 0.6, 1), Roughness=0.25, Specular=0.8)
    floor(wall)
    add(bpy.ops.mesh.primitive_plane_add, wall, size=24, location=(0, 4, 0), rotation=(PI / 2, 0, 0))
    for i, (x, y) in enumerate(grid(rnd, 12, 3)):
        if i % 2:
            sphere(material("e%d" % i, "ShaderNodeEmission", colour(rnd), Strength=150), 0.05, (x, y, 0.5 + 1.5 * rnd.random()))
        else:
            ob = sphere(material("g%d" % i, "ShaderNodeBsdfGlossy", colour(rnd, 0.4), Roughness=0.15), 0.4 + 0.2 * rnd.random(), (x, y, 0.5))
    mark(ob)
    move(camera((0, -6.5, 2.6), (0, 0, 0.7), 36))


def particles(rnd):
    """Thousands of instances."""
    world((0.7, 0.8, 1), 0.8)
    floor(material("floor", "ShaderNodeBsdfDiffuse", (0.35, 0.3, 0.25, 1)))
    leaf = add(bpy.ops.mesh.primitive_ico_sphere_add, material("leaf", "ShaderNodeBsdfPrincipled", (0.2, 0.5, 0.12, 1), Roughness=0.6),
               radius=0.3, subdivisions=1, location=(0, 0, -5))
    for i in range(3):
        ob = sphere(material("t%d" % i, "ShaderNodeBsdfDiffuse", colour(rnd)), 0.9, (2.2 * i - 2.2, rnd.random(), 1.2))
        ob.modifiers.new("leaves", "PARTICLE_SYSTEM")
        s = ob.particle_systems[0].settings
        s.type, s.count, s.render_type, s.instance_object, s.particle_size, s.size_random = "HAIR", 1200, "OBJECT", leaf, 0.35, 0.6
        ob.particle_systems[0].seed = rnd.randrange(1000)
    move(mark(ob), (0.2, 0, 0.1))
    light("SUN", 4, (4, -3, 6), rotation=(0.6, 0.5, 0))
    camera((0, -6.5, 2.4), (0, 0, 1.1), 38)


def textures(rnd):
    """Fine textures and bumps under a clear sky."""
    world((0.6, 0.75, 1), 0.7)
    floor(textured("floor", 4, 0.4))
    for i, (x, y) in enumerate(grid(rnd, 8, 3)):
        ob = add(bpy.ops.mesh.primitive_cube_add, textured("t%d" % i, 2 + 6 * rnd.random(), 0.6), size=1.1, location=(x, y, 0.6),
                 rotation=(0, 0, rnd.random()))
    move(mark(ob), (0.2, 0.1, 0))
    light("SUN", 3, (4, -3, 6), rotation=(0.5, 0.3, 0))
    camera((0, -7, 3.4), (0, 0, 0.3), 36)


def interior(rnd):
    """A room lit through a window: diffuse light on its second bounce."""
    world((0.7, 0.8, 1), 1.5)
    wall = material("wall", "ShaderNodeBsdfDiffuse", (0.75, 0.7, 0.62, 1))
    for location, scale in (((0, 0, -0.1), (3, 4, 0.1)), ((0, 0, 3.1), (3, 4, 0.1)), ((0, 4.1, 1.5), (3, 0.1, 1.6)),
                            ((-3.1, 0, 1.5), (0.1, 4, 1.6)), ((3.1, -2.4, 1.5), (0.1, 1.6, 1.6)),
                            ((3.1, 3, 1.5), (0.1, 1.2, 1.6)), ((0, -4.1, 1.5), (3, 0.1, 1.6))):
        add(bpy.ops.mesh.primitive_cube_add, wall, location=location).scale = scale
    ob = add(bpy.ops.mesh.primitive_monkey_add, material("red", "ShaderNodeBsdfDiffuse", colour(rnd)), location=(0.5 * rnd.random(), 1, 1), rotation=(0, 0, -0.4))
    move(mark(ob))
    for i in range(3):
        add(bpy.ops.mesh.primitive_cube_add, material("b%d" % i, "ShaderNodeBsdfDiffuse", colour(rnd)), size=0.5 + 0.6 * rnd.random(),
            location=(-2 + 1.9 * i, 1.8 + rnd.random(), 0.5))
    light("SUN", 3, (6, 0, 5), rotation=(0.3, 0.9, 0))
    camera((0.6, -3.6, 1.7), (-0.2, 2, 1.1), 24)


def displacement(rnd):
    """Ground and stones moved by noise."""
    world((0.7, 0.75, 0.9), 0.6)
    tex = bpy.data.textures.new("clouds", "CLOUDS")
    tex.noise_scale = 0.4 + 0.3 * rnd.random()
    ground = floor(material("ground", "ShaderNodeBsdfPrincipled", (0.4, 0.33, 0.22, 1), Roughness=0.8), 14)
    bpy.context.view_layer.objects.active = ground
    shapes = [(ground, 7, 0.8)]
    for i, (x, y) in enumerate(grid(rnd, 5, 2.5)):
        ob = sphere(material("d%d" % i, "ShaderNodeBsdfPrincipled", colour(rnd), Roughness=0.5), 0.7, (x, y, 0.7))
        shapes.append((ob, 1, 0.5))
    move(mark(ob), (0.25, 0.1, 0))
    for ob, levels, strength in shapes:
        sub = ob.modifiers.new("sub", "SUBSURF")
        sub.subdivision_type = "SIMPLE"
        sub.levels = sub.render_levels = levels
        dis = ob.modifiers.new("dis", "DISPLACE")
        dis.texture, dis.strength, dis.texture_coords = tex, strength, "GLOBAL"
    light("SUN", 3.5, (4, -3, 6), rotation=(0.7, 0.5, 0))
    camera((0, -6.5, 3), (0, 0, 0.5), 38)


def animation(rnd):
    """A crowd in motion, its colours changing."""
    world((0.5, 0.6, 0.8), 0.5)
    floor(material("floor", "ShaderNodeBsdfPrincipled", (0.5, 0.5, 0.5, 1), Roughness=0.4))
    for i, (x, y) in enumerate(grid(rnd, 16, 3.2)):
        op = (bpy.ops.mesh.primitive_cube_add, bpy.ops.mesh.primitive_cone_add, bpy.ops.mesh.primitive_monkey_add, bpy.ops.mesh.primitive_cylinder_add)[i % 4]
        mat = material("c%d" % i, "ShaderNodeBsdfPrincipled", colour(rnd), Roughness=0.35)
        ob = add(op, mat, location=(x, y, 0.6))
        ob.scale = (0.45, 0.45, 0.45)
        move(ob, (rnd.random() - 0.5, rnd.random() - 0.5, 0))
        ob.rotation_euler.z = 0
        ob.keyframe_insert("rotation_euler", frame=1)
        ob.rotation_euler.z = rnd.random()
        ob.keyframe_insert("rotation_euler", frame=2)
    mark(ob)
    light("AREA", 600, (3, -4, 6), 2, (0.5, 0.4, 0))
    camera((0, -7.5, 4), (0, 0, 0.3), 36)


FAMILIES = {f.__name__: f for f in (glossy, glass, volume, hair, subsurface, motion, fireflies, particles, textures, interior, displacement, animation)}


def load(folder, name):
    path = os.path.join(folder, name + ".blend")
    if not os.path.exists(path):
        build(name)
        bpy.ops.wm.save_as_mainfile(filepath=path + ".part")
        os.rename(path + ".part", path)
    bpy.ops.wm.open_mainfile(filepath=path)


def build(name):
    family, variant = name.split("-")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    FAMILIES[family](random.Random(name + variant))
    scene.cycles.use_denoising = False
    scene.render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    scene.render.image_settings.exr_codec = "ZIP"
    scene.render.image_settings.color_depth = "32"
    layer = bpy.context.view_layer
    layer.cycles.pass_debug_sample_count = True
    layer.use_pass_diffuse_direct = True
    layer.use_pass_normal = True


def render(job):
    scene = bpy.context.scene
    r, cycles = scene.render, scene.cycles
    r.use_persistent_data = True
    r.resolution_x, r.resolution_y = job["width"], job["height"]
    r.resolution_percentage = job.get("percent", 100)
    cycles.samples = job["samples"]
    cycles.sample_offset = job.get("offset", 0)
    cycles.seed = job.get("seed", 0)
    cycles.use_adaptive_sampling = job.get("adaptive", False)
    cycles.adaptive_threshold = job.get("threshold", 0.01)
    cycles.adaptive_min_samples = job.get("min_samples", 0)
    cycles.use_auto_tile = "tile" in job
    cycles.tile_size = job.get("tile", 2048)
    # Cycles heeds these only with both preferences on, and then no longer the
    # CYCLES_CPU_* variables.
    other = job.get("bvh", "")
    bpy.context.preferences.view.show_developer_ui = bool(other)
    bpy.context.preferences.experimental.use_cycles_debug = bool(other)
    cycles.debug_bvh_layout = "BVH2" if other else "EMBREE"
    cycles.debug_use_spatial_splits = other == "splits"
    cycles.debug_use_cpu_avx = cycles.debug_use_cpu_avx2 = not other
    if "mark" in bpy.data.objects:
        bpy.data.objects["mark"].hide_render = job.get("removed", False)
    scene.frame_set(job.get("frame", 2))
    r.filepath = job["out"] + ".part.exr"
    bpy.ops.render.render(write_still=True)
    os.rename(r.filepath, job["out"])


def main():
    folder, path = sys.argv[sys.argv.index("--") + 1:]
    with open(path) as f:
        jobs = [j for j in json.load(f) if not os.path.exists(j["out"])]
    current = None
    for job in jobs:
        if job["scene"] != current:
            current = job["scene"]
            load(folder, current)
        render(job)
        print("rendered", job["out"], flush=True)


main()
