"""Scenes of what is computed over time, with its cache in the file: particles, cloth, rigid and soft bodies, fluids."""

import glob

import bpy

from scenes import Missing, active, cube, enum_items, grid, material, obj


def bake(cache, o):
    with bpy.context.temp_override(scene=bpy.context.scene, active_object=o, object=o, point_cache=cache):
        bpy.ops.ptcache.bake(bake=True)
    if not cache.is_baked:
        raise RuntimeError("not baked")


def particles(maker):
    scene = maker.empty()
    blade = obj("Blade", cube("Blade", 0.1), (6, 6, 0))
    blade.data.materials.append(material("Blade", (0.1, 0.7, 0.1, 1)))
    group = bpy.data.collections.new("Blades")
    scene.collection.children.link(group)
    group.objects.link(blade)
    with maker.step("hair"):
        o = active(obj("Furry", grid("Furry", 2, 1.0), (-2, 0, 1)))
        o.vertex_groups.new(name="Density").add([0, 1, 2, 3], 1.0, "REPLACE")
        o.modifiers.new("Hair", "PARTICLE_SYSTEM")
        hair = o.particle_systems[0]
        s = hair.settings
        s.type, s.count, s.hair_step, s.hair_length = "HAIR", 20, 3, 0.4
        s.child_type, s.rendered_child_count = "INTERPOLATED", 2
        s.use_clump_curve = s.use_roughness_curve = True
        s.clump_curve.curves[0].points.new(0.5, 0.2)
        hair.vertex_group_density = "Density"
        slot = s.texture_slots.add()
        slot.texture = bpy.data.textures.new("Clouds", "CLOUDS")
        slot.use_map_length = True
    with maker.step("combed hair"):
        bpy.ops.particle.particle_edit_toggle()
        bpy.ops.particle.particle_edit_toggle()
    with maker.step("hair dynamics"):
        hair.use_hair_dynamics = True
        hair.cloth.settings.quality = 2
        hair.cloth.settings.effector_weights.collection = group
    with maker.step("emitter with a cache"):
        o = active(obj("Emitter", grid("Emitter", 1, 1.0), (0, 0, 1)))
        o.modifiers.new("Emit", "PARTICLE_SYSTEM")
        system = o.particle_systems[0]
        s = system.settings
        s.count, s.frame_start, s.frame_end, s.lifetime = 20, 1, 6, 20
        s.render_type, s.instance_object, s.particle_size = "OBJECT", blade, 0.8
        s.physics_type = "NEWTON"
        bpy.context.view_layer.update()
        system.point_cache.frame_end = 10
        bake(system.point_cache, o)
    with maker.step("a second cache on one system"):
        active(o)
        with bpy.context.temp_override(object=o, active_object=o, point_cache=system.point_cache):
            bpy.ops.ptcache.add()
    with maker.step("collections as instances, keyed and boids"):
        o = active(obj("Others", grid("Others", 1, 1.0), (2, 0, 1)))
        for name, physics in (("Keyed", "KEYED"), ("Boids", "BOIDS"), ("Liquid", "FLUID")):
            o.modifiers.new(name, "PARTICLE_SYSTEM")
            s = o.particle_systems[-1].settings
            s.count, s.physics_type, s.render_type, s.instance_collection = 5, physics, "COLLECTION", group
            s.use_collection_count = True
        o.particle_systems[0].settings.physics_type = "KEYED"
        o.particle_systems.active_index = 1
        bpy.ops.boid.rule_add(type="AVOID")
        bpy.ops.boid.state_add()
        bpy.ops.boid.rule_add(type="GOAL")
        bpy.ops.particle.new_target()
        bpy.ops.particle.dupliob_copy()
    with maker.step("force fields of every kind"):
        for kind in enum_items(bpy.types.FieldSettings, "type"):
            if kind == "NONE":
                continue
            f = active(obj("Field %s" % kind, None, (8, 8, 8)))
            try:
                bpy.ops.object.forcefield_toggle()
                f.field.type = kind
            except (RuntimeError, TypeError):
                continue
            f.field.strength = 0.1
    maker.save()


def bodies(maker):
    scene = maker.empty()
    scene.frame_end = 6
    with maker.step("cloth with a cache"):
        o = active(obj("Cloth", grid("Cloth", 4, 1.5), (0, 0, 2)))
        cloth = o.modifiers.new("Cloth", "CLOTH")
        o.vertex_groups.new(name="Pinned").add([0, 4], 1.0, "REPLACE")
        cloth.settings.vertex_group_mass = "Pinned"
        cloth.collision_settings.use_self_collision = True
        cloth.point_cache.frame_end = 6
        obj("Floor", cube("Floor", 1.0), (0, 0, 0.5)).modifiers.new("Collision", "COLLISION")
        bake(cloth.point_cache, o)
    with maker.step("compressed cache"):
        if not hasattr(cloth.point_cache, "compression"):
            raise Missing("all caches are compressed alike")
        cloth.point_cache.compression = "HEAVY"
    with maker.step("soft body with a cache"):
        o = active(obj("Soft", cube("Soft", 0.6), (-2, 0, 2)))
        soft = o.modifiers.new("Soft", "SOFT_BODY")
        soft.point_cache.frame_end = 6
        bake(soft.point_cache, o)
    with maker.step("rigid bodies with a cache"):
        if scene.rigidbody_world is None:
            bpy.ops.rigidbody.world_add()
        world = scene.rigidbody_world
        world.collection = bpy.data.collections.new("Bodies")
        world.constraints = bpy.data.collections.new("Constraints")
        for i in range(3):
            o = obj("Body %d" % i, cube("Body", 0.4), (2, 0.1 * i, 1 + i))
            world.collection.objects.link(o)
            active(o)
            if o.rigid_body is None:
                bpy.ops.rigidbody.object_add()
            o.rigid_body.type = "ACTIVE" if i else "PASSIVE"
        link = obj("Hinge", None, (2, 0, 1.5))
        active(link)
        bpy.ops.rigidbody.constraint_add(type="HINGE")
        link.rigid_body_constraint.object1, link.rigid_body_constraint.object2 = bpy.data.objects["Body 1"], bpy.data.objects["Body 2"]
        world.point_cache.frame_end = 6
        bake(world.point_cache, None)
    with maker.step("dynamic paint"):
        o = active(obj("Canvas", grid("Canvas", 3, 1.0), (0, 2, 1)))
        o.modifiers.new("Paint", "DYNAMIC_PAINT")
        bpy.ops.dpaint.type_toggle(type="CANVAS")
        bpy.ops.dpaint.surface_slot_add()
        surface = o.modifiers["Paint"].canvas_settings.canvas_surfaces[-1]
        surface.surface_type = "WAVE"
        brush = active(obj("Brush", cube("Brush", 0.4), (0, 2, 1)))
        brush.modifiers.new("Paint", "DYNAMIC_PAINT").ui_type = "BRUSH"
        bpy.ops.dpaint.type_toggle(type="BRUSH")
        brush.modifiers["Paint"].brush_settings.velocity_ramp.elements.new(0.6)
        surface.point_cache.frame_end = 6
        bake(surface.point_cache, o)
    with maker.step("ocean and explode"):
        o = obj("Ocean", grid("Ocean", 1, 1.0), (0, -3, 0.2))
        ocean = o.modifiers.new("Ocean", "OCEAN")
        ocean.resolution, ocean.viewport_resolution, ocean.size = 4, 4, 0.05
    maker.save()


def fog():
    m = bpy.data.materials.new("Fog")
    m.use_nodes = True
    tree = m.node_tree
    tree.links.new(tree.nodes.new("ShaderNodeVolumePrincipled").outputs[0], tree.nodes["Material Output"].inputs["Volume"])
    return m


def volumes(maker):
    scene = maker.empty()
    scene.frame_end = 3
    with maker.step("volume by modifier"):
        source = obj("Source", cube("Source", 1.0), (-2, 0, 1))
        source.hide_render = True
        volume = obj("Volume", bpy.data.volumes.new("Volume"), (-2, 0, 1))
        m = volume.modifiers.new("Fill", "MESH_TO_VOLUME")
        m.object, m.voxel_amount = source, 8
        volume.data.materials.append(fog())
    maker.save()


def fluid(maker):
    scene = maker.empty()
    scene.frame_end = 3
    with maker.step("fluid with a cache on disk"):
        if bpy.app.binary_path == "":
            raise Missing("fluids abort the Python package of Blender")
        domain = active(obj("Domain", cube("Domain", 2.0), (1, 0, 1)))
        fluid = domain.modifiers.new("Fluid", "FLUID")
        fluid.fluid_type = "DOMAIN"
        settings = fluid.domain_settings
        settings.domain_type, settings.resolution_max, settings.cache_frame_end = "GAS", 8, 3
        settings.cache_directory, settings.cache_type = "//fluid", "ALL"
        settings.cache_data_format = "OPENVDB"
        flow = obj("Flow", cube("Flow", 0.5), (1, 0, 0.6))
        flow.modifiers.new("Fluid", "FLUID").fluid_type = "FLOW"
        flow.modifiers["Fluid"].flow_settings.flow_type = "SMOKE"
        flow.modifiers["Fluid"].flow_settings.flow_behavior = "INFLOW"
        domain.data.materials.append(fog())
    with maker.step("VDB sequence"):
        if bpy.app.binary_path == "":
            raise Missing("fluids abort the Python package of Blender")
        maker.save()
        bpy.ops.fluid.bake_all()
        found = sorted(glob.glob(maker.path("fluid", "data", "*.vdb")))
        if not found:
            raise RuntimeError("the fluid wrote no VDB file")
        v = bpy.data.volumes.new("Sequence")
        v.filepath = bpy.path.relpath(found[0])
        v.is_sequence, v.frame_duration, v.frame_start = True, len(found), 1
        obj("Sequence", v, (2, 2, 1))
    maker.save()


SCENES = {"particles": particles, "bodies": bodies, "volumes": volumes, "fluid": fluid}
