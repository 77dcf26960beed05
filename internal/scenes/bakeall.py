# SPDX-License-Identifier: Apache-2.0
"""What an artist does before rendering a scene of bakes.py: bakes everything, here."""

import bpy


def bake(scene):
    for o in scene.objects:
        for m in o.modifiers:
            if m.type == "FLUID" and m.fluid_type == "DOMAIN":
                m.domain_settings.cache_type = "ALL"
                m.domain_settings.cache_directory = "//own"
                with bpy.context.temp_override(object=o, active_object=o):
                    bpy.ops.fluid.bake_all()
            if m.type == "NODES":
                with bpy.context.temp_override(object=o, active_object=o):
                    bpy.ops.object.simulation_nodes_cache_bake(selected=False)
    bpy.ops.ptcache.bake_all(bake=True)
