# SPDX-License-Identifier: Apache-2.0
"""Makes one library of the project that `go run ./bench project` builds:

    blender -b --factory-startup -P library.py -- --name NAME --seed N --scale F --out DIR/lib/NAME.blend

Each holds collections that the main scene links, some of which it never
uses, as in a studio. DIR/textures must be there."""

import os
import sys

import bpy

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shapes  # noqa: E402

LIBRARIES = {
    # collections, meshes in each, vertices along a side, objects in each, materials, compressed
    "town": (8, 66, 78, 100, 40, False),
    "nature": (8, 40, 84, 70, 30, False),
    "props": (10, 16, 44, 30, 40, True),
}


def pictures(folder, name):
    """External textures, by paths relative to the library: each library has
    its share of them."""
    users = sorted(LIBRARIES)
    names = sorted(n for n in os.listdir(folder) if n.startswith("paint"))
    return [bpy.data.images.load(os.path.join(folder, n)) for n in names[users.index(name) :: len(users)]]


def sets(name, rng, scale, folder):
    collections, meshes, detail, objects, materials, _ = LIBRARIES[name]
    meshes, objects = max(2, round(meshes * scale)), max(3, round(objects * scale))
    images = pictures(folder, name)
    mats = [shapes.material(f"{name} surface {i:02d}", rng, images[i] if i < len(images) else None) for i in range(materials)]
    for c in range(collections):
        into = shapes.collection(f"{name} {c}")
        data = [shapes.mesh(f"{name} {c} shape {i:03d}", "ground" if i % 4 == 0 else "sphere", detail + rng.randrange(-9, 10), rng.randrange(10000)) for i in range(meshes)]
        for i in range(objects):
            where = (rng.uniform(-6, 6), rng.uniform(-6, 6), rng.uniform(0, 2))
            shapes.place(f"{name} {c} thing {i:03d}", data[i % len(data)], where, into, rng.choice(mats), rng.uniform(0.2, 0.7), rng.uniform(0, 6))


def characters(rng, scale, folder):
    """Rigged, with textures packed into the file."""
    for c in range(4):
        into = shapes.collection(f"character {c}")
        name = f"pack{c}.png"
        image = bpy.data.images.load(os.path.join(folder, name))
        shapes.pack(image, os.path.join(folder, name), name)
        mat = shapes.material(f"skin {c}", rng, image)
        shapes.rig(f"character {c}", (0, 0, 0), into, rng, mat, bones=24, detail=max(12, round(220 * scale)))
        for i in range(12):
            data = shapes.mesh(f"garment {c} {i:02d}", "sphere", max(8, round(56 * scale)), rng.randrange(10000), 0.1)
            shapes.place(f"garment {c} {i:02d}", data, (0, 0, 0.4 * i), into, mat, 0.25)


def main():
    o = shapes.options(name=None, seed=1, scale=1.0, out=None)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    rng = shapes.seeded(f"{o['seed']} {o['name']}")
    folder = os.path.join(os.path.dirname(os.path.dirname(o["out"])), "textures")
    if o["name"] == "characters":
        characters(rng, o["scale"], folder)
    else:
        sets(o["name"], rng, o["scale"], folder)
    for image in bpy.data.images:
        if not image.packed_file:
            image.filepath = "//../textures/" + os.path.basename(image.filepath)
    # Outside a scene nothing would be saved but for a fake user.
    for c in bpy.data.collections:
        c.use_fake_user = True
    bpy.context.preferences.filepaths.save_version = 0
    compress = LIBRARIES.get(o["name"], (True,))[-1]
    bpy.ops.wm.save_as_mainfile(filepath=o["out"], compress=compress, relative_remap=False)


main()
