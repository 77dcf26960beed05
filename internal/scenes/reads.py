# SPDX-License-Identifier: Apache-2.0
"""A scene of sequences: an image, a file of a baked gas and a volume for each
frame. Arguments: FILE.blend COUNT SIZE RESOLUTION, of the images and the gas."""
import bpy, os, random, struct, sys, zlib
out = sys.argv[-4]
count, size, resolution = (int(a) for a in sys.argv[-3:])
folder = os.path.dirname(out)
os.makedirs(folder + "/tex", exist_ok=True)
random.seed(7)
for i in range(1, count + 1):
    rows = b"".join(b"\0" + bytes(random.randrange(256) for _ in range(size * 3)) for _ in range(size))
    chunk = lambda t, d: struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))
    with open(folder + "/tex/wall_%04d.png" % i, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
bpy.ops.mesh.primitive_plane_add(size=8, location=(0, 3, 0), rotation=(1.5708, 0, 0))
wall = bpy.data.materials.new("Wall")
wall.use_nodes = True
node = wall.node_tree.nodes.new("ShaderNodeTexImage")
node.image = bpy.data.images.load(folder + "/tex/wall_0001.png")
node.image.source = "SEQUENCE"
node.image_user.frame_duration, node.image_user.frame_start, node.image_user.use_auto_refresh = count, 1, True
wall.node_tree.links.new(node.outputs["Color"], wall.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
bpy.context.object.data.materials.append(wall)
bpy.ops.mesh.primitive_cube_add(size=4)
domain = bpy.context.object
settings = domain.modifiers.new("Fluid", "FLUID")
settings.fluid_type = "DOMAIN"
settings = settings.domain_settings
settings.domain_type, settings.resolution_max = "GAS", resolution
settings.cache_type, settings.cache_frame_start, settings.cache_frame_end = "ALL", 1, count
settings.cache_directory = "//smoke"
bpy.ops.mesh.primitive_ico_sphere_add(radius=0.6, location=(0, 0, -1.2))
source = bpy.context.object
source.hide_render = True
flow = source.modifiers.new("Fluid", "FLUID")
flow.fluid_type = "FLOW"
flow.flow_settings.flow_type, flow.flow_settings.flow_behavior = "SMOKE", "INFLOW"
smoke = bpy.data.materials.new("Smoke")
smoke.use_nodes = True
smoke.node_tree.nodes.clear()
end = smoke.node_tree.nodes.new("ShaderNodeOutputMaterial")
volume = smoke.node_tree.nodes.new("ShaderNodeVolumePrincipled")
volume.inputs["Density"].default_value = 6
smoke.node_tree.links.new(volume.outputs[0], end.inputs["Volume"])
domain.data.materials.append(smoke)
bpy.ops.object.light_add(type="SUN", rotation=(0.5, 0.3, 0))
bpy.context.object.data.energy = 4
bpy.ops.object.camera_add(location=(0, -9, 0), rotation=(1.5708, 0, 0))
scene.camera = bpy.context.object
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 2, False, False
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 64, 100
scene.render.image_settings.file_format = "PNG"
scene.frame_start, scene.frame_end = 1, count
bpy.ops.wm.save_as_mainfile(filepath=out)
with bpy.context.temp_override(object=domain, active_object=domain, scene=scene):
    bpy.ops.fluid.bake_all()
# The bake once more, as volumes beside it.
os.makedirs(folder + "/vdb", exist_ok=True)
for i in range(1, count + 1):
    with open(folder + "/smoke/data/fluid_data_%04d.vdb" % i, "rb") as f, open(folder + "/vdb/cloud_%04d.vdb" % i, "wb") as g:
        g.write(f.read())
cloud = bpy.data.volumes.new("Cloud")
cloud.filepath, cloud.is_sequence, cloud.frame_duration = folder + "/vdb/cloud_0001.vdb", True, count
cloud.materials.append(smoke)
item = bpy.data.objects.new("Cloud", cloud)
item.location, item.scale = (2, 0, 0), (0.1, 0.1, 0.1)
scene.collection.objects.link(item)
bpy.ops.file.make_paths_relative()
bpy.ops.wm.save_as_mainfile(filepath=out)
