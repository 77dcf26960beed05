# SPDX-License-Identifier: Apache-2.0
"""Renders frames as a warm session does, in Blender: `blender -b -Y --factory-startup -P keep.py -- DIR`.
What is kept from frame to frame must not change a pixel, and where it seems to, it is not kept any more."""

import os
import sys

import bpy

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "runner"))

import frame  # noqa: E402
import keep  # noqa: E402
import protocol  # noqa: E402


def build():
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 48, 100
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 4, False, False
    cube = bpy.data.objects["Cube"]
    for number, place in ((1, -1.0), (9, 1.0)):
        cube.location.x = place
        cube.keyframe_insert("location", frame=number)
        cube.hide_render = number > 1
        cube.keyframe_insert("hide_render", frame=number)
    return scene


def shot(folder, name, number, persistent=True):
    out = os.path.join(folder, "%s-%d" % (name, number))
    os.makedirs(out, exist_ok=True)
    request = protocol.Request(id=1, op="render", frame=number, out=out, persistent=persistent)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        frame.render(request, protocol.Progress(protocol.Events(nowhere), 1))
    assert os.listdir(out) == ["frame.exr"], os.listdir(out)


def main(folder):
    scene = build()
    looks = []
    agrees = keep.agrees

    def counted(*args):
        looks.append(scene.frame_current)
        return agrees(*args)

    keep.agrees = counted
    for n in (1, 5, 5, 9, 3):
        shot(folder, "warm", n)
    assert looks[0] == 5, looks
    assert scene.render.use_persistent_data and frame.keeper.allowed(scene.name)
    for n in (3, 1, 9, 5):
        shot(folder, "fresh", n, persistent=False)
    assert not scene.render.use_persistent_data

    # A scene that comes out wrong when it is kept.
    frame.keeper = keep.Keeper()
    keep.alike = lambda a, b: False
    shot(folder, "wrong", 1)
    assert scene.render.use_persistent_data
    shot(folder, "wrong", 5)
    assert not scene.render.use_persistent_data and not frame.keeper.allowed(scene.name)
    shot(folder, "wrong", 9)
    assert not scene.render.use_persistent_data
    print("KEPT")


main(sys.argv[sys.argv.index("--") + 1])
