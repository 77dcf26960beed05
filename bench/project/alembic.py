# SPDX-License-Identifier: Apache-2.0
"""Writes an Alembic cache of a creature that changes its shape in 48 frames:

    blender -b --factory-startup -P alembic.py -- --seed N --scale F --out FILE.abc

or with the Python package bpy: python alembic.py -- ... Where Blender was
built without Alembic it writes nothing and prints "no alembic"."""

import math
import os
import sys

import bpy

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shapes  # noqa: E402


def main():
    o = shapes.options(seed=1, scale=1.0, out=None)
    if not bpy.app.build_options.alembic:
        print("no alembic")
        return
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 48
    data = shapes.mesh("Creature", "sphere", max(16, round(280 * math.sqrt(o["scale"]))), o["seed"])
    obj = shapes.place("Creature", data, (0, 0, 0), scene.collection)
    wave = obj.modifiers.new("Wave", "WAVE")
    wave.height, wave.width, wave.speed = 0.1, 0.4, 0.05
    grain = bpy.data.textures.new("Grain", "CLOUDS")
    grain.noise_scale = 0.3
    push = obj.modifiers.new("Breath", "DISPLACE")
    push.texture, push.texture_coords = grain, "LOCAL"
    for frame, strength in ((1, 0.0), (24, 0.3), (48, 0.05)):
        push.strength = strength
        push.keyframe_insert("strength", frame=frame)
    bpy.ops.wm.alembic_export(filepath=o["out"], start=1, end=48, flatten=False, as_background_job=False)


main()
