# SPDX-License-Identifier: Apache-2.0
"""Builds a .blend with a cloth baked to disk: `blender -b --factory-startup -P
flag.py -- FILE`."""

import sys

import bpy

scene = bpy.context.scene
scene.render.engine, scene.cycles.use_denoising = "CYCLES", False
scene.frame_end = 3
bpy.ops.mesh.primitive_plane_add()
obj = bpy.context.object
obj.name = "Flag"
cache = obj.modifiers.new("Cloth", "CLOTH").point_cache
cache.frame_end = 3
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[sys.argv.index("--") + 1])
cache.use_disk_cache = True  # there is no folder for it before
bpy.ops.ptcache.bake_all(bake=True)
bpy.ops.wm.save_mainfile()
