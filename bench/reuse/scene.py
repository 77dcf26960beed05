# SPDX-License-Identifier: Apache-2.0
"""Builds the two projects of `go run ./bench reuse`, or changes them:
`blender -b -P scene.py -- sequence|object|edit DIR FRAMES CHANGED`."""

import os
import struct
import sys
import zlib

import bpy

WHAT, DIR = sys.argv[sys.argv.index("--") + 1 :][:2]
FRAMES, CHANGED = (int(n) for n in sys.argv[-2:])


def png(path, colour):
    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
    rows = b"".join(b"\0" + bytes(colour) * 8 for _ in range(8))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def start():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 4
    scene.cycles.use_denoising = False
    scene.cycles.use_adaptive_sampling = False
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 48, 32, 100
    scene.render.image_settings.file_format = "PNG"
    scene.frame_start, scene.frame_end = 1, FRAMES
    bpy.ops.object.camera_add(location=(0, -7, 3), rotation=(1.2, 0, 0))
    scene.camera = bpy.context.object
    bpy.ops.object.light_add(type="SUN", location=(3, -3, 5))
    bpy.ops.mesh.primitive_plane_add(size=20)
    return bpy.context.object


def sequence():
    plane = start()
    os.makedirs(os.path.join(DIR, "tex"), exist_ok=True)
    for n in range(1, FRAMES + 1):
        png(os.path.join(DIR, "tex", "a_%04d.png" % n), (n % 256, 255 - n % 256, 80))
    image = bpy.data.images.load(os.path.join(DIR, "tex", "a_0001.png"))
    image.source = "SEQUENCE"
    material = bpy.data.materials.new("M")
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    node.image_user.frame_duration, node.image_user.frame_start, node.image_user.frame_offset = FRAMES, 1, 0
    node.image_user.use_auto_refresh = True
    material.node_tree.links.new(node.outputs[0], material.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
    plane.data.materials.append(material)
    image.filepath = "//tex/a_0001.png"
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(DIR, "sequence.blend"), relative_remap=False)


def changed_images():
    first = FRAMES // 3
    for n in range(first, first + CHANGED):
        png(os.path.join(DIR, "tex", "a_%04d.png" % n), (200, n % 256, 10))


def objects():
    start()
    bpy.ops.mesh.primitive_monkey_add(location=(0, 0, 1))
    monkey = bpy.context.object
    for frame, turn in ((1, 0), (FRAMES, 3)):
        monkey.rotation_euler[2] = turn
        monkey.keyframe_insert("rotation_euler", frame=frame)
    bpy.ops.mesh.primitive_cube_add(location=(2, -1, 1))
    cube = bpy.context.object
    cube.name = "Passer-by"
    cube.data.materials.append(bpy.data.materials.new("Coat"))
    cube.data.materials[0].use_nodes = True
    for frame, hide in ((1, False), (CHANGED + 1, True)):
        cube.hide_render = hide
        cube.keyframe_insert("hide_render", frame=frame)
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(DIR, "object.blend"), compress=True)


def edit():
    """In the file that is open: the shape, the place, the colour, and what an
    artist leaves behind: another frame, another selection."""
    cube = bpy.data.objects["Passer-by"]
    for v in cube.data.vertices:
        v.co *= 1.3
    cube.location.z += 0.2
    cube.data.materials[0].node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (1, 0.1, 0, 1)
    bpy.context.view_layer.objects.active = cube
    for obj in bpy.data.objects:
        obj.select_set(obj == cube)
    bpy.ops.wm.save_mainfile(compress=True)


{"sequence": sequence, "images": changed_images, "object": objects, "edit": edit}[WHAT]()
sys.stdout.flush()
os._exit(0)
