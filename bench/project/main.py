# SPDX-License-Identifier: Apache-2.0
"""Makes the main scene of the project that `go run ./bench project` builds,
and bakes its simulations to disk:

    blender -b --factory-startup -P main.py -- --seed N --scale F --out DIR/main.blend

DIR/lib, textures, footage, volumes and fonts must be there. Prints one line
"datablocks N" at the end."""

import math
import os
import sys

import bpy

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shapes  # noqa: E402

USED = {"town": 4, "nature": 4, "props": 10, "characters": 4}  # collections of each library that are linked


def link(folder, scene, rng):
    """Instances of linked collections, several of each."""
    linked = {}
    for name, count in USED.items():
        with bpy.data.libraries.load(os.path.join(folder, "lib", name + ".blend"), link=True, relative=False) as (there, here):
            here.collections = sorted(there.collections)[:count]
        linked[name] = here.collections
        into = shapes.collection("Linked " + name)
        if name == "characters":
            continue
        for i in range(count * 2):
            empty = bpy.data.objects.new(f"{name} instance {i:02d}", None)
            empty.instance_type, empty.instance_collection = "COLLECTION", here.collections[i % count]
            empty.location = (rng.uniform(-30, 30), rng.uniform(2, 40), 0)
            into.objects.link(empty)
    for library in bpy.data.libraries:
        library.filepath = "//lib/" + os.path.basename(library.filepath)
    return linked


def override(collections, scene, layer, rng):
    """Library overrides of the characters, each with a pose of its own."""
    for i, c in enumerate(collections):
        local = c.override_hierarchy_create(scene, layer)
        if local is None:
            raise RuntimeError(f"no override of {c.name}")
        for obj in local.all_objects:
            if obj.type == "ARMATURE":
                obj.location = (-6 + 4 * i, -3, 0)
                bone = obj.pose.bones[3 + i]
                bone.rotation_euler = (rng.uniform(-0.3, 0.3), 0, 0)


def scatter(ground, what):
    """Geometry nodes: instances of a collection on the faces of the ground."""
    tree = bpy.data.node_groups.new("Scatter", "GeometryNodeTree")
    if hasattr(tree, "interface"):
        tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
        tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    else:
        tree.inputs.new("NodeSocketGeometry", "Geometry")
        tree.outputs.new("NodeSocketGeometry", "Geometry")
    new, wire = tree.nodes.new, tree.links.new
    start, end = new("NodeGroupInput"), new("NodeGroupOutput")
    points = new("GeometryNodeDistributePointsOnFaces")
    points.inputs["Density"].default_value = 0.4
    info = new("GeometryNodeCollectionInfo")
    info.inputs["Collection"].default_value = what
    info.inputs["Separate Children"].default_value = True
    info.inputs["Reset Children"].default_value = True
    put = new("GeometryNodeInstanceOnPoints")
    put.inputs["Pick Instance"].default_value = True
    put.inputs["Scale"].default_value = (0.15, 0.15, 0.15)
    join = new("GeometryNodeJoinGeometry")
    wire(start.outputs[0], points.inputs["Mesh"])
    wire(points.outputs["Points"], put.inputs["Points"])
    wire(info.outputs[0], put.inputs["Instance"])
    wire(put.outputs[0], join.inputs[0])
    wire(start.outputs[0], join.inputs[0])
    wire(join.outputs[0], end.inputs[0])
    ground.modifiers.new("Scatter", "NODES").node_group = tree


def footage(folder, into):
    """A picture behind the scene that is an image sequence."""
    frames = sorted(os.listdir(os.path.join(folder, "footage")))
    image = bpy.data.images.load(os.path.join(folder, "footage", frames[0]))
    image.name, image.source = "Footage", "SEQUENCE"
    image.filepath = "//footage/" + frames[0]
    m = shapes.material("Footage", shapes.seeded(0), image)
    node = next(n for n in m.node_tree.nodes if n.type == "TEX_IMAGE")
    node.image_user.frame_duration, node.image_user.frame_start, node.image_user.use_auto_refresh = len(frames), 1, True
    board = shapes.place("Backdrop", shapes.mesh("Backdrop", "ground", 2, 1), (0, 46, 12), into, m, 26)
    board.rotation_euler = (math.pi / 2, 0, 0)


def cloud(folder, into):
    frames = sorted(os.listdir(os.path.join(folder, "volumes")))
    v = bpy.data.volumes.new("Smoke")
    v.filepath, v.is_sequence, v.frame_duration, v.frame_start = "//volumes/" + frames[0], True, len(frames), 1
    m = bpy.data.materials.new("Smoke")
    m.use_nodes = True
    m.node_tree.nodes.clear()
    shade, out = m.node_tree.nodes.new("ShaderNodeVolumePrincipled"), m.node_tree.nodes.new("ShaderNodeOutputMaterial")
    shade.inputs["Density"].default_value = 4
    m.node_tree.links.new(shade.outputs[0], out.inputs["Volume"])
    v.materials.append(m)
    into.objects.link(bpy.data.objects.new("Smoke", v))


def title(folder, into):
    name = sorted(os.listdir(os.path.join(folder, "fonts")))[0]
    text = bpy.data.curves.new("Title", "FONT")
    text.body, text.extrude, text.size = "idlewild", 0.1, 2
    text.font = bpy.data.fonts.load(os.path.join(folder, "fonts", name))
    text.font.filepath = "//fonts/" + name
    obj = bpy.data.objects.new("Title", text)
    obj.location, obj.rotation_euler = (-3, -10, 6), (math.pi / 2, 0, 0)
    into.objects.link(obj)


def simulations(into, scale, mat):
    """A flag of cloth and a fountain of particles, cached on disk."""
    flag = shapes.mesh("Flag", "ground", max(10, round(110 * math.sqrt(scale))), 3)
    obj = shapes.place("Flag", flag, (7, -6, 5), into, mat, 1.5)
    pins = obj.vertex_groups.new(name="pins")
    pins.add([v.index for v in flag.vertices if v.co.x < -0.95], 1, "REPLACE")
    cloth = obj.modifiers.new("Cloth", "CLOTH")
    cloth.settings.vertex_group_mass = "pins"
    cloth.settings.quality = 2
    caches = [cloth.point_cache]
    source = shapes.place("Fountain", shapes.mesh("Fountain", "sphere", 24, 9), (-9, -4, 2), into, mat, 0.6)
    source.modifiers.new("Sparks", "PARTICLE_SYSTEM")
    system = source.particle_systems[0]
    s = system.settings
    s.count, s.frame_start, s.frame_end, s.lifetime, s.normal_factor = max(500, round(130000 * scale)), -30, 20, 60, 4
    s.render_type, s.display_method = "HALO", "DOT"
    caches.append(system.point_cache)
    return caches


def bake(caches):
    """Blender must know the file's name before."""
    for c in caches:
        c.use_disk_cache, c.frame_start, c.frame_end = True, 1, 48
    bpy.ops.ptcache.free_bake_all()
    bpy.ops.ptcache.bake_all(bake=True)
    if not all(c.is_baked and c.use_disk_cache for c in caches):
        raise RuntimeError("a simulation was not baked to disk")


def alembic(folder, into, mat):
    path = os.path.join(folder, "cache", "creature.abc")
    if not os.path.exists(path):
        return
    bpy.ops.cachefile.open(filepath=path)
    cache = bpy.data.cache_files[0]
    cache.filepath = "//cache/creature.abc"
    obj = shapes.place("Creature", shapes.mesh("Creature", "sphere", 40, 21), (10, 2, 2), into, mat)
    m = obj.modifiers.new("Cache", "MESH_SEQUENCE_CACHE")
    m.cache_file, m.object_path = cache, "/Creature/Creature"


def local(rng, into, scale):
    """What only this scene has: things with drivers, curves and lights."""
    mats = [shapes.material(f"Local {i:02d}", rng) for i in range(30)]
    data = [shapes.mesh(f"Local {i:03d}", "sphere", max(6, round(30 * scale)), 300 + i) for i in range(80)]
    for i in range(300):
        where = (rng.uniform(-16, 16), rng.uniform(-7, 16), rng.uniform(0, 3))
        obj = shapes.place(f"Local {i:03d}", data[i % len(data)], where, into, mats[i % len(mats)], rng.uniform(0.1, 0.4))
        if i % 20 == 0:
            obj.driver_add("rotation_euler", 2).driver.expression = f"frame * {0.01 + i / 5000:.4f}"
        if i % 15 == 0:
            for frame in (1, 24, 48):
                obj.location.z = rng.uniform(0, 3)
                obj.keyframe_insert("location", frame=frame)
    for i in range(24):
        lamp = bpy.data.objects.new(f"Lamp {i:02d}", bpy.data.lights.new(f"Lamp {i:02d}", "POINT"))
        lamp.location, lamp.data.energy = (rng.uniform(-16, 16), rng.uniform(-7, 16), 5), 200
        into.objects.link(lamp)
    return mats[0]


def sky(folder, scene):
    image = bpy.data.images.load(os.path.join(folder, "textures", "sky.exr"))
    image.filepath = "//textures/sky.exr"
    nodes = scene.world.node_tree.nodes
    node = nodes.new("ShaderNodeTexEnvironment")
    node.image = image
    scene.world.node_tree.links.new(node.outputs[0], nodes["Background"].inputs[0])


def heights(folder, ground):
    for name in sorted(os.listdir(os.path.join(folder, "textures"))):
        if not name.startswith("height"):
            continue
        image = bpy.data.images.load(os.path.join(folder, "textures", name))
        image.filepath = "//textures/" + name
        texture = bpy.data.textures.new(name, "IMAGE")
        texture.image = image
        m = ground.modifiers.new(name, "DISPLACE")
        m.texture, m.strength, m.texture_coords = texture, 0.3, "UV"


def datablocks():
    return sum(len(getattr(bpy.data, p.identifier)) for p in bpy.data.bl_rna.properties if p.type == "COLLECTION")


def main():
    o = shapes.options(seed=1, scale=1.0, out=None)
    folder = os.path.dirname(o["out"])
    rng = shapes.seeded(f"{o['seed']} main")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    shapes.stage(scene, samples=8)
    scene.render.resolution_percentage = 25
    stuff = shapes.collection("Local")
    mat = local(rng, stuff, o["scale"])
    shapes.hero(stuff, rng, max(40, round(160 * o["scale"])), os.path.join(folder, "textures", "pack0.png"))
    linked = link(folder, scene, rng)
    override(linked["characters"], scene, bpy.context.view_layer, rng)
    ground = shapes.place("Ground", shapes.mesh("Ground", "ground", max(20, round(200 * o["scale"])), 77), (0, 8, -1), stuff, mat, 24)
    heights(folder, ground)
    scatter(ground, linked["props"][0])
    footage(folder, stuff)
    cloud(folder, stuff)
    title(folder, stuff)
    alembic(folder, stuff, mat)
    sky(folder, scene)
    caches = simulations(stuff, o["scale"], mat)
    bpy.context.preferences.filepaths.save_version = 0
    bpy.ops.wm.save_as_mainfile(filepath=o["out"], compress=True, relative_remap=False)
    bake(caches)
    scene.frame_set(1)
    bpy.ops.wm.save_as_mainfile(filepath=o["out"], compress=True, relative_remap=False)
    print("datablocks", datablocks())


main()
