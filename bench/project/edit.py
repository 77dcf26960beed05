# SPDX-License-Identifier: Apache-2.0
"""Does one edit to the open file and saves it under other names, without and
with compression:

    blender -b --factory-startup BASE.blend -P edit.py -- --edit NAME --raw FILE --packed FILE [--texture PNG] [--coordinates FILE]

With --coordinates it writes the hero's vertices before and after, as float32."""

import os
import sys
from array import array

import bpy
from mathutils import Vector, noise

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shapes  # noqa: E402


def none(_):
    pass


def move(_):
    bpy.data.objects["Hero"].location.x += 0.5


def material(_):
    bpy.data.materials["Hero Material"].node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = 0.37


def render(_):
    bpy.context.scene.cycles.samples = 96


def vertex(_):
    bpy.data.objects["Hero"].data.vertices[1234].co.z += 0.05


def rename(_):
    bpy.data.objects["Prop"].name = "Garden gnome"


def delete(_):
    bpy.data.objects.remove(bpy.data.objects["Spare"])


def keyframes(_):
    obj = bpy.data.objects["Hero"]
    for frame, z in ((1, 3.0), (12, 4.2), (24, 3.1)):
        obj.location.z = z
        obj.keyframe_insert("location", frame=frame)


def sculpt(_):
    """A clay-like stroke: the 5 % of vertices that are nearest to a point move
    outward, less towards the rim, with some noise."""
    mesh = bpy.data.objects["Hero"].data
    co = array("f", bytes(12 * len(mesh.vertices)))
    mesh.vertices.foreach_get("co", co)
    points = [Vector(co[i : i + 3]) for i in range(0, len(co), 3)]
    centre = points[len(points) // 3]
    near = sorted(range(len(points)), key=lambda i: (points[i] - centre).length_squared)[: len(points) // 20]
    reach = (points[near[-1]] - centre).length
    for i in near:
        t = 1 - ((points[i] - centre).length / reach) ** 2
        push = 0.12 * t * t * (1 + 0.2 * noise.noise(points[i] * 9))
        points[i] = points[i] + points[i].normalized() * push
        co[3 * i : 3 * i + 3] = array("f", points[i])
    mesh.vertices.foreach_set("co", co)
    mesh.update()


def add(_):
    bpy.ops.mesh.primitive_monkey_add(location=(2, -10, 4))


def texture(path):
    shapes.pack(bpy.data.images["Hero Texture"], path, "hero.png")


EDITS = {f.__name__: f for f in (none, move, material, render, vertex, rename, delete, keyframes, sculpt, add, texture)}


def dump(path):
    mesh = bpy.data.objects["Hero"].data
    co = array("f", bytes(12 * len(mesh.vertices)))
    mesh.vertices.foreach_get("co", co)
    with open(path, "wb") as f:
        co.tofile(f)


def main():
    o = shapes.options(edit="none", raw="", packed="", texture="", coordinates="")
    if o["coordinates"]:
        dump(o["coordinates"] + ".old")
    EDITS[o["edit"]](o["texture"])
    if o["coordinates"]:
        dump(o["coordinates"] + ".new")
    bpy.context.preferences.filepaths.save_version = 0
    for path, compress in ((o["raw"], False), (o["packed"], True)):
        if path:
            bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, compress=compress, relative_remap=False)


main()
