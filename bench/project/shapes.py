# SPDX-License-Identifier: Apache-2.0
"""What the scenes of the benchmarks are made of. Everything follows from a
seed: the same Blender makes the same scene every time. No numpy: some
distributions ship Blender without it."""

import math
import random
from array import array

import bmesh
import bpy
from mathutils import Vector, noise


def options(**defaults):
    """The arguments behind "--", as --name value."""
    import sys

    given = dict(defaults)
    rest = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    for name, value in zip(rest[::2], rest[1::2]):
        key = name.removeprefix("--").replace("-", "_")
        if key not in given:
            raise SystemExit(f"unknown option {name}")
        given[key] = type(defaults[key])(value) if defaults[key] is not None else value
    return given


def roughen(mesh, seed, amount, scale):
    """Moves every vertex along its direction from the centre, by noise at
    five scales."""
    co = array("f", bytes(12 * len(mesh.vertices)))
    mesh.vertices.foreach_get("co", co)
    shift = Vector((seed * 7.31 % 97, seed * 3.77 % 89, seed * 1.93 % 83))
    for i in range(0, len(co), 3):
        p = Vector(co[i : i + 3])
        d = p.normalized() if p.length > 1e-6 else Vector((0, 0, 1))
        p += d * amount * noise.fractal(p * scale + shift, 1.0, 2.1, 5)
        co[i], co[i + 1], co[i + 2] = p
    mesh.vertices.foreach_set("co", co)
    mesh.update()


def mesh(name, kind, detail, seed, amount=0.25, scale=1.3):
    """A sphere or a piece of ground of about detail x detail vertices, with
    texture coordinates and noise."""
    data, bm = bpy.data.meshes.new(name), bmesh.new()
    bm.loops.layers.uv.new("UVMap")
    if kind == "ground":
        bmesh.ops.create_grid(bm, x_segments=detail, y_segments=detail, size=1, calc_uvs=True)
        for v in bm.verts:
            v.co.z = 0.35 * noise.fractal(Vector((v.co.x * 2 + seed, v.co.y * 2, seed * 0.7)), 0.9, 2.0, 6)
    else:
        bmesh.ops.create_uvsphere(bm, u_segments=detail, v_segments=detail, radius=1, calc_uvs=True)
    bm.to_mesh(data)
    bm.free()
    if kind != "ground":
        roughen(data, seed, amount, scale)
    for p in data.polygons:
        p.use_smooth = True
    return data


def material(name, rng, image=None):
    """A surface with noise in colour, roughness and bump, and a picture where
    there is one."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    nodes, links = m.node_tree.nodes, m.node_tree.links
    surface = nodes["Principled BSDF"]
    surface.inputs["Roughness"].default_value = rng.uniform(0.2, 0.9)
    surface.inputs["Metallic"].default_value = rng.choice((0.0, 0.0, 0.0, 1.0))
    grain = nodes.new("ShaderNodeTexNoise")
    grain.inputs["Scale"].default_value = rng.uniform(2, 30)
    grain.inputs["Detail"].default_value = rng.uniform(1, 8)
    ramp = nodes.new("ShaderNodeValToRGB")
    for e in ramp.color_ramp.elements:
        e.color = (rng.random(), rng.random(), rng.random(), 1)
    links.new(grain.outputs["Fac"], ramp.inputs["Fac"])
    bump = nodes.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = rng.uniform(0.05, 0.4)
    links.new(grain.outputs["Fac"], bump.inputs["Height"])
    links.new(bump.outputs["Normal"], surface.inputs["Normal"])
    if image is None:
        links.new(ramp.outputs["Color"], surface.inputs["Base Color"])
    else:
        picture = nodes.new("ShaderNodeTexImage")
        picture.image = image
        links.new(picture.outputs["Color"], surface.inputs["Base Color"])
    return m


def place(name, data, where, collection, mat=None, size=1.0, turn=0.0):
    obj = bpy.data.objects.new(name, data)
    obj.location, obj.rotation_euler, obj.scale = where, (0, 0, turn), (size,) * 3
    if mat is not None and not data.materials:
        data.materials.append(mat)
    collection.objects.link(obj)
    return obj


def collection(name, parent=None):
    c = bpy.data.collections.new(name)
    (parent or bpy.context.scene.collection).children.link(c)
    return c


def rig(name, where, into, rng, mat, bones=12, detail=48, frames=48):
    """An armature with a waving tail and the mesh that it bends."""
    data = bpy.data.armatures.new(name)
    arm = bpy.data.objects.new(name, data)
    into.objects.link(arm)
    arm.location = where
    bpy.context.view_layer.objects.active = arm
    bpy.ops.object.mode_set(mode="EDIT")
    last = None
    for i in range(bones):
        b = data.edit_bones.new(f"bone.{i:02d}")
        b.head, b.tail = (0, 0, i * 0.25), (0, 0, (i + 1) * 0.25)
        b.parent, b.use_connect = last, last is not None
        last = b
    bpy.ops.object.mode_set(mode="OBJECT")
    body = mesh(name + " Body", "sphere", detail, rng.randrange(1000), 0.1)
    for v in body.vertices:
        v.co = (v.co.x * 0.3, v.co.y * 0.3, (v.co.z + 1) * 0.5 * bones * 0.25)
    obj = place(name + " Body", body, where, into, mat)
    groups = [obj.vertex_groups.new(name=b.name) for b in data.bones]
    for v in body.vertices:
        at = min(max(v.co.z / 0.25 - 0.5, 0), bones - 1.001)
        i = int(at)
        groups[i].add([v.index], 1 - (at - i), "REPLACE")
        groups[i + 1].add([v.index], at - i, "REPLACE")
    obj.modifiers.new("Armature", "ARMATURE").object = arm
    for b in arm.pose.bones:
        b.rotation_mode = "XYZ"
        phase, swing = rng.uniform(0, 6), rng.uniform(0.03, 0.15)
        for frame in range(1, frames + 1, 4):
            b.rotation_euler = (swing * math.sin(frame / 6 + phase), swing * math.cos(frame / 9 + phase), 0)
            b.keyframe_insert("rotation_euler", frame=frame)
    arm.animation_data.action.name = name + " Wave"
    return arm


def stage(scene, samples=16):
    """Camera, lights, sky and render settings that are the same everywhere."""
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = samples, False, False
    scene.cycles.seed = 1
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 1920, 1080, 100
    scene.render.image_settings.file_format = "PNG"
    scene.frame_start, scene.frame_end = 1, 48
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0, -24, 9), (math.radians(72), 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = 3, (0.7, 0.2, 0.4)
    scene.collection.objects.link(sun)
    if scene.world is None:
        scene.world = bpy.data.worlds.new("World")
    scene.world.use_nodes = True


def pack(image, path, name):
    """Packs the file at path into an image, under a name beside the .blend."""
    if image.packed_file:
        image.unpack(method="REMOVE")
    image.filepath = path
    image.reload()
    image.pack()
    image.filepath_raw = "//textures/" + name


def hero(into, rng, detail, texture):
    """The objects that the scripted edits look for: Hero, with a material and
    a packed texture of its own, Prop to rename and Spare to delete."""
    picture = bpy.data.images.load(texture)
    picture.name = "Hero Texture"
    pack(picture, texture, "hero.png")
    mat = material("Hero Material", rng, picture)
    place("Hero", mesh("Hero", "sphere", detail, 5), (0, -8, 3), into, mat, 2)
    for i, name in enumerate(("Prop", "Spare")):
        place(name, mesh(name, "sphere", 20, 11 + i), (4 - 8 * i, -9, 2), into, material(name + " Material", rng))


def seeded(seed):
    return random.Random(seed)
