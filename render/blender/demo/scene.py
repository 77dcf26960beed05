# SPDX-License-Identifier: Apache-2.0
"""Builds the scene of `make demo`: a still life of glass, metal, wood and
ceramics that a camera circles in 48 frames.

    blender -b --factory-startup -P scene.py -- --out DIR [--edit]

writes DIR/scene.blend and DIR/textures/*.png. With --edit it opens the
DIR/scene.blend that is there, moves one object and saves. The same Blender
writes the same scene every time.
"""

import math
import os
import sys

import bpy
from mathutils import Vector

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from materials import brushed, glass, glazed, metal, textured  # noqa: E402
from textures import label, scratches, tiles, wood  # noqa: E402

FRAMES = 48


def arguments():
    args = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    if "--out" not in args:
        raise SystemExit("usage: blender -b --factory-startup -P scene.py -- --out DIR [--edit]")
    return os.path.abspath(args[args.index("--out") + 1]), "--edit" in args


# Shapes.

def finish(obj, name, mat, smooth=True):
    obj.name = obj.data.name = name
    obj.data.materials.append(mat)
    for poly in obj.data.polygons:
        poly.use_smooth = smooth
    return obj


def lathe(name, profile, mat, location, steps=48):
    """Turns (radius, height) points around z; radii of 0 close the shape."""
    points, faces, uvs = [], [], []
    for r, z in profile:
        points += [(r * math.cos(2 * math.pi * s / steps), r * math.sin(2 * math.pi * s / steps), z) for s in range(steps)]
    for i in range(len(profile) - 1):
        for s in range(steps):
            t = (s + 1) % steps
            faces.append((i * steps + s, i * steps + t, (i + 1) * steps + t, (i + 1) * steps + s))
            v0, v1 = i / (len(profile) - 1), (i + 1) / (len(profile) - 1)
            uvs += [(s / steps, v0), ((s + 1) / steps, v0), ((s + 1) / steps, v1), (s / steps, v1)]
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(points, [], faces)
    layer = mesh.uv_layers.new(name="UVMap")
    for loop, uv in zip(layer.data, uvs):
        loop.uv = uv
    mesh.validate()
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(obj)
    obj.location = location
    sub = obj.modifiers.new("smooth", "SUBSURF")
    sub.levels = sub.render_levels = 1
    return finish(obj, name, mat)


def box(name, size, location, mat, bevel=0.03, turn=0.0):
    bpy.ops.mesh.primitive_cube_add(size=1, location=location, rotation=(0, 0, turn))
    obj = bpy.context.object
    obj.scale = size
    bpy.ops.object.transform_apply(location=False, rotation=False, scale=True)
    mod = obj.modifiers.new("bevel", "BEVEL")
    mod.width, mod.segments = bevel, 3
    return finish(obj, name, mat, smooth=False)


def build(folder):
    os.makedirs(os.path.join(folder, "textures"), exist_ok=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    furnish(folder)
    lights(scene)
    camera(scene)
    settings(scene)
    path = os.path.join(folder, "scene.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path, compress=True, relative_remap=False)
    print("idlewild: wrote", path)


def furnish(folder):
    table = textured("oak", wood(folder), rough=0.22, shine=0.06, scale=(1.3, 1.3, 1))
    wall = textured("glazed tiles", tiles(folder), rough=0.1, shine=0.12, scale=(4.0, 1.0, 1))
    band = textured("enamel", label(folder), rough=0.12, shine=0.15)
    copper = brushed("copper", scratches(folder), (0.95, 0.50, 0.32))
    gold = metal("gold", (1.0, 0.70, 0.26), 0.12)
    chrome = metal("chrome", (0.86, 0.88, 0.9), 0.03)
    clear = glass("glass", (0.97, 1.0, 0.99))
    green = glass("bottle glass", (0.32, 0.80, 0.52), ior=1.5)
    clay = glazed("clay", (0.70, 0.26, 0.13), 0.4, 0.03)[0]
    cream = glazed("glazed cream", (0.90, 0.84, 0.72), 0.08, 0.12)[0]
    fruits = [glazed("lemon", (0.95, 0.68, 0.07), 0.3, 0.05)[0],
              glazed("orange", (0.93, 0.33, 0.03), 0.35, 0.05)[0],
              glazed("plum", (0.26, 0.06, 0.19), 0.2, 0.1)[0]]

    bpy.ops.mesh.primitive_plane_add(size=1)
    top = finish(bpy.context.object, "table", table, smooth=False)
    top.scale = (14, 9, 1)
    bpy.ops.mesh.primitive_plane_add(size=1, location=(0, 2.6, 1.9), rotation=(math.pi / 2, 0, 0))
    back = finish(bpy.context.object, "wall", wall, smooth=False)
    back.scale = (24, 4.4, 1)

    # A carafe of clear glass with an inside, so that light bends twice.
    lathe("carafe", [(0, 0), (.30, 0), (.46, .05), (.52, .3), (.44, .66), (.20, .96), (.15, 1.2), (.24, 1.42),
                     (.22, 1.43), (.125, 1.2), (.165, .95), (.40, .64), (.475, .3), (.42, .1), (.26, .06), (0, .06)],
          clear, (-0.35, 0.35, 0.001))
    lathe("bottle", [(0, 0), (.24, 0), (.29, .04), (.29, .8), (.25, 1.0), (.11, 1.2), (.095, 1.62), (.125, 1.64),
                     (.125, 1.72), (.08, 1.73), (.065, 1.2), (.21, .98), (.25, .8), (.25, .07), (0, .06)],
          green, (-1.35, 1.05, 0.001))
    lathe("teapot", [(0, .02), (.34, 0), (.40, .05), (.66, .3), (.70, .52), (.56, .82), (.30, .96), (.28, 1.0), (.30, 1.02),
                     (.22, 1.10), (.10, 1.15), (.05, 1.18), (.09, 1.26), (.06, 1.33), (0, 1.34)],
          copper, (1.05, 0.75, 0.0))
    spout("spout", copper)
    lathe("jar", [(0, 0), (.34, 0), (.40, .04), (.42, .12), (.42, .62), (.40, .70), (.34, .74), (.34, .70), (.36, .6),
                  (.36, .1), (0, .08)], band, (-1.25, -0.25, 0.0))
    lathe("bowl", [(0, .04), (.22, 0), (.26, .02), (.24, .08), (.55, .30), (.72, .52), (.70, .54), (.50, .33), (.2, .12),
                   (0, .1)], cream, (0.72, -0.72, 0.0))
    lathe("cup", [(0, 0), (.17, 0), (.22, .03), (.26, .40), (.25, .41), (.20, .06), (0, .05)], clay, (1.95, -0.15, 0.0))

    for i, (x, y, z, r, kind) in enumerate([(.55, -.80, .42, .21, 0), (.88, -.90, .40, .20, 1), (.80, -.52, .43, .21, 1),
                                            (.72, -.72, .66, .20, 0), (.47, -.52, .44, .14, 2), (-.35, -.92, .15, .15, 2),
                                            (-.62, -1.08, .20, .20, 1)]):
        bpy.ops.mesh.primitive_uv_sphere_add(segments=32, ring_count=20, radius=r, location=(x, y, z))
        fruit = finish(bpy.context.object, "fruit %d" % i, fruits[kind])
        fruit.scale = (1, 1, 1.22) if kind == 0 else (1, 1, .95)
        fruit.rotation_euler = (0.9 * i, 0.5 * i, i)

    bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=32, radius=.2, location=(-.02, -.55, .2))
    finish(bpy.context.object, "chrome ball", chrome)
    bpy.ops.mesh.primitive_uv_sphere_add(segments=48, ring_count=32, radius=.15, location=(.12, -1.12, .15))
    finish(bpy.context.object, "glass ball", clear)
    bpy.ops.mesh.primitive_monkey_add(size=.52, location=(1.62, -1.02, .245), rotation=(-.62, 0, .55))
    head = finish(bpy.context.object, "gold monkey", gold)
    head.modifiers.new("smooth", "SUBSURF").render_levels = 2

    # Sugar: an array of bevelled cubes.
    sugar = box("sugar", (.13, .13, .13), (-1.05, -1.1, .066), cream, bevel=.012, turn=.5)
    for axis, count, gap in ((0, 3, 1.16), (1, 2, 1.16)):
        mod = sugar.modifiers.new("row", "ARRAY")
        mod.count = count
        mod.relative_offset_displace = (gap if axis == 0 else 0, gap if axis == 1 else 0, 0)
    box("cube on top", (.13, .13, .13), (-.98, -1.0, .198), cream, bevel=.012, turn=1.1)


def spout(name, mat):
    """The teapot's spout and handle: bevelled curves."""
    for part, points, depth in (
        ("spout", [(-.55, 0, .38), (-.92, 0, .50), (-1.02, 0, .86)], .075),
        ("handle", [(.52, 0, .78), (1.02, 0, .86), (1.0, 0, .34), (.60, 0, .28)], .045),
    ):
        curve = bpy.data.curves.new(part, "CURVE")
        curve.dimensions, curve.bevel_depth, curve.bevel_resolution, curve.resolution_u = "3D", depth, 4, 10
        curve.use_fill_caps = True
        line = curve.splines.new("NURBS")
        line.points.add(len(points) - 1)
        for p, co in zip(line.points, points):
            p.co = (*co, 1)
        line.use_endpoint_u, line.order_u = True, 3
        obj = bpy.data.objects.new("teapot " + part, curve)
        curve.materials.append(mat)
        bpy.context.collection.objects.link(obj)
        obj.location, obj.rotation_euler = (1.05, .75, 0), (0, 0, .5)


def lights(scene):
    world = bpy.data.worlds.new("evening")
    scene.world = world
    world.use_nodes = True
    tree = world.node_tree
    # Evening sky from above, warm haze at the horizon: two colours mixed by
    # height cost a fifth of a sky texture.
    back, coords = tree.nodes["Background"], tree.nodes.new("ShaderNodeTexCoord")
    height, ramp = tree.nodes.new("ShaderNodeSeparateXYZ"), tree.nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.elements[0].color = (0.95, 0.62, 0.38, 1)
    ramp.color_ramp.elements[1].color = (0.20, 0.36, 0.70, 1)
    ramp.color_ramp.elements[1].position = 0.45
    tree.links.new(coords.outputs["Generated"], height.inputs[0])
    tree.links.new(height.outputs["Z"], ramp.inputs[0])
    tree.links.new(ramp.outputs[0], back.inputs["Color"])
    back.inputs["Strength"].default_value = 0.45
    world.cycles.sampling_method = "NONE"
    for name, kind, energy, size, color, at, to in (
        ("window", "AREA", 330, 2.2, (1.0, .86, .68), (-4.2, -1.8, 3.4), (0, 0, .4)),
        ("rim", "AREA", 110, 1.4, (.70, .82, 1.0), (3.6, -1.2, 3.3), (0.4, 0, .5)),
    ):
        lamp = bpy.data.lights.new(name, kind)
        lamp.energy, lamp.size, lamp.color = energy, size, color
        obj = bpy.data.objects.new(name, lamp)
        obj.location = at
        obj.rotation_euler = (Vector(to) - Vector(at)).to_track_quat("-Z", "Y").to_euler()
        scene.collection.objects.link(obj)


def camera(scene):
    """Rides a curve in front of the table and looks at the carafe's foot."""
    curve = bpy.data.curves.new("rail", "CURVE")
    curve.dimensions, curve.path_duration = "3D", FRAMES
    line = curve.splines.new("BEZIER")
    stops = [(-2.7, -3.4, 1.45), (-0.2, -4.5, 1.85), (2.7, -3.6, 1.30)]
    line.bezier_points.add(len(stops) - 1)
    for p, co in zip(line.bezier_points, stops):
        p.co = co
        p.handle_left_type = p.handle_right_type = "AUTO"
    rail = bpy.data.objects.new("rail", curve)
    aim = bpy.data.objects.new("aim", None)
    aim.location = (0.12, 0.05, 0.52)
    cam = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    for obj in (rail, aim, cam):
        scene.collection.objects.link(obj)
    cam.data.lens = 39
    cam.data.dof.use_dof, cam.data.dof.focus_object, cam.data.dof.aperture_fstop = True, aim, 4.0
    ride = cam.constraints.new("FOLLOW_PATH")
    ride.target, ride.use_fixed_location = rail, True
    ride.offset_factor = 0.0
    ride.keyframe_insert("offset_factor", frame=1)
    ride.offset_factor = 1.0
    ride.keyframe_insert("offset_factor", frame=FRAMES)
    look = cam.constraints.new("TRACK_TO")
    look.target, look.track_axis, look.up_axis = aim, "TRACK_NEGATIVE_Z", "UP_Y"
    scene.camera = cam


def settings(scene):
    scene.frame_start, scene.frame_end = 1, FRAMES
    r, c = scene.render, scene.cycles
    r.engine = "CYCLES"
    r.resolution_x, r.resolution_y, r.resolution_percentage = 400, 224, 100
    c.samples, c.use_adaptive_sampling, c.use_denoising = 12, False, False
    c.max_bounces, c.transmission_bounces, c.glossy_bounces, c.diffuse_bounces = 7, 7, 3, 1
    c.caustics_reflective = c.caustics_refractive = False
    c.sample_clamp_indirect = 2.0
    scene.view_settings.look = "Medium High Contrast" if bpy.app.version < (4, 0, 0) else "AgX - Medium High Contrast"
    scene.view_settings.exposure = 0.1
    r.image_settings.file_format = "PNG"
    r.filepath = "//frames/####"


def edit(folder):
    """What an artist does between two submissions: move one thing."""
    bpy.ops.wm.open_mainfile(filepath=os.path.join(folder, "scene.blend"))
    bottle = bpy.data.objects["bottle"]
    bottle.location.x += 0.45
    bottle.rotation_euler.z += 0.3
    bpy.context.preferences.filepaths.save_version = 0  # no scene.blend1
    bpy.ops.wm.save_mainfile(compress=True, relative_remap=False)
    print("idlewild: moved", bottle.name)


def main():
    folder, again = arguments()
    if again:
        edit(folder)
    else:
        build(folder)


main()
