# SPDX-License-Identifier: Apache-2.0
"""Builds scenes with simulations that are not baked:
`blender -b --factory-startup -P bakes.py -- DIR NAME...`."""

import os
import sys

import bpy


def start():
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 4, False, False
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 96, 64, 100
    scene.frame_end = 30
    return scene, bpy.data.objects["Cube"]


def grid(size=4, z=2.0, cuts=12):
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=cuts, y_subdivisions=cuts, size=size, location=(0, 0, z))
    return bpy.context.object


def cloth(scene, cube):
    sheet = grid()
    sheet.modifiers.new("Cloth", "CLOTH")
    cube.modifiers.new("Collision", "COLLISION")
    # What is beside the file, and what it names absolutely, has to be there too.
    picture = bpy.data.images.new("stripes", 8, 8)
    picture.pixels = [c for i in range(64) for c in ((1, 0, 0, 1) if i % 2 else (0, 0, 1, 1))]
    for name, written in (("near", "//near.png"), ("far", None)):
        path = os.path.join(top, "textures" if written is None else "", name + ".png")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        picture.filepath_raw, picture.file_format = path, "PNG"
        picture.save()
        material = bpy.data.materials.new(name)
        material.use_nodes = True
        node = material.node_tree.nodes.new("ShaderNodeTexImage")
        node.image = bpy.data.images.load(path)
        node.image.filepath = written or path
        material.node_tree.links.new(node.outputs[0], material.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
        (sheet if written else cube).data.materials.clear()
        (sheet if written else cube).data.materials.append(material)
    scene.render.use_motion_blur = True


def softbody(scene, cube):
    jelly = grid()
    jelly.modifiers.new("Soft", "SOFT_BODY").settings.use_goal = False
    cube.modifiers.new("Collision", "COLLISION")


def particles(scene, cube):
    source = grid(z=3, cuts=2)
    source.modifiers.new("Dust", "PARTICLE_SYSTEM")
    settings = source.particle_systems[0].settings
    settings.count, settings.frame_start, settings.frame_end, settings.brownian_factor = 300, 1, 10, 2
    settings.render_type, settings.particle_size = "OBJECT", 0.1
    bpy.ops.mesh.primitive_ico_sphere_add(radius=1, location=(20, 0, 0))
    settings.instance_object = bpy.context.object
    cube.modifiers.new("Collision", "COLLISION")


def rigid(scene, cube):
    bpy.ops.mesh.primitive_plane_add(size=20, location=(0, 0, -2))
    bpy.ops.rigidbody.object_add()
    bpy.context.object.rigid_body.type = "PASSIVE"
    for i in range(5):
        bpy.ops.mesh.primitive_cube_add(size=1, location=(i * 0.3 - 0.6, 0, 2 + i * 1.1))
        bpy.ops.rigidbody.object_add()


def smoke(scene, cube):
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.4)
    flow = bpy.context.object.modifiers.new("Fluid", "FLUID")
    flow.fluid_type = "FLOW"
    flow.flow_settings.flow_type = "SMOKE"
    domain = cube.modifiers.new("Fluid", "FLUID")
    domain.fluid_type = "DOMAIN"
    domain.domain_settings.domain_type, domain.domain_settings.resolution_max = "GAS", 16
    domain.domain_settings.cache_frame_end = 20
    material = bpy.data.materials.new("smoke")
    material.use_nodes = True
    volume = material.node_tree.nodes.new("ShaderNodeVolumePrincipled")
    volume.inputs["Density"].default_value = 20
    material.node_tree.links.new(volume.outputs[0], material.node_tree.nodes["Material Output"].inputs["Volume"])
    material.node_tree.nodes.remove(material.node_tree.nodes["Principled BSDF"])
    cube.data.materials[0] = material


def paint(scene, cube):
    canvas = grid(cuts=30)
    canvas.modifiers.new("Paint", "DYNAMIC_PAINT")
    bpy.ops.dpaint.type_toggle(type="CANVAS")
    canvas.modifiers["Paint"].canvas_settings.canvas_surfaces[0].surface_type = "WAVE"
    cube.modifiers.new("Brush", "DYNAMIC_PAINT")
    with bpy.context.temp_override(object=cube, active_object=cube):
        bpy.ops.dpaint.type_toggle(type="BRUSH")
    cube.scale = 0.4, 0.4, 0.4
    for frame, x in ((1, -1.5), (20, 1.5)):
        cube.location = x, 0, 2
        cube.keyframe_insert("location", frame=frame)


def nodes(scene, cube):
    """A simulation zone that moves the cube a little more each frame."""
    mod = cube.modifiers.new("Nodes", "NODES")
    tree = mod.node_group = bpy.data.node_groups.new("drift", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        tree.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    first, last = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    begin, end = tree.nodes.new("GeometryNodeSimulationInput"), tree.nodes.new("GeometryNodeSimulationOutput")
    begin.pair_with_output(end)
    move = tree.nodes.new("GeometryNodeTransform")
    move.inputs["Translation"].default_value = 0.1, 0, 0.05
    for a, b in ((first.outputs[0], begin.inputs["Geometry"]), (begin.outputs["Geometry"], move.inputs[0]),
                 (move.outputs[0], end.inputs["Geometry"]), (end.outputs["Geometry"], last.inputs[0])):
        tree.links.new(a, b)


def ondisk(scene, cube):
    """The same, baked to a folder beside the file."""
    nodes(scene, cube)
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(top, "ondisk.blend"))
    bpy.context.view_layer.update()
    mod = cube.modifiers["Nodes"]
    mod.bake_target = "DISK"
    bpy.ops.object.geometry_node_bake_single(session_uid=cube.session_uid, modifier_name="Nodes", bake_id=mod.bakes[0].bake_id)


def hidden(scene, cube):
    grid().modifiers.new("Cloth", "CLOTH").show_viewport = False


top, *names = sys.argv[sys.argv.index("--") + 1:]
for name in names:
    scene, cube = start()
    globals()[name](scene, cube)
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(top, name + ".blend"))
