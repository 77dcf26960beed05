# SPDX-License-Identifier: Apache-2.0
"""Makes a scene for the scripted edits of `go run ./bench diff --edits`:

    blender -b --factory-startup -P scene.py -- --size small|big --texture PNG --out FILE.blend

small is about 3.7 MB, big about 104 MB, both without compression."""

import os
import sys

import bpy

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shapes  # noqa: E402

SIZES = {
    # vertices of the hero and of a prop along each side, meshes, objects, materials, vertices of the rig's body
    "small": (104, 15, 24, 40, 8, 24),
    "big": (256, 48, 275, 420, 60, 64),
}


def main():
    o = shapes.options(size="small", texture=None, out=None)
    detail, small, meshes, objects, materials, body = SIZES[o["size"]]
    rng = shapes.seeded(o["size"])
    bpy.ops.wm.read_factory_settings(use_empty=False)
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    scene = bpy.context.scene
    shapes.stage(scene)
    mats = [shapes.material(f"Surface {i:02d}", rng) for i in range(materials)]
    data = [shapes.mesh(f"Shape {i:03d}", "ground" if i % 3 == 0 else "sphere", small + rng.randrange(-4, 5), i) for i in range(meshes)]
    sets = [shapes.collection(f"Set {i}") for i in range(6)]
    for i in range(objects):
        where = (rng.uniform(-14, 14), rng.uniform(-4, 20), rng.uniform(0, 6))
        shapes.place(f"Thing {i:03d}", data[i % meshes], where, sets[i % len(sets)], mats[i % materials], rng.uniform(0.3, 1.2), rng.uniform(0, 6))
    shapes.rig("Rig", (-6, -6, 0), sets[0], rng, mats[0], detail=body)
    shapes.hero(sets[0], rng, detail, o["texture"])
    bpy.ops.outliner.orphans_purge(do_recursive=True)
    bpy.context.preferences.filepaths.save_version = 0
    bpy.ops.wm.save_as_mainfile(filepath=o["out"], compress=False)


main()
