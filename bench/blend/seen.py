"""Writes what the dependency graph makes of the open file: every instance and every evaluated shape, at two frames."""

import bpy

import rna

SHAPES = {"MESH", "CURVES", "POINTCLOUD", "GREASEPENCIL", "GPENCIL"}
CONVERTED = {"CURVE", "SURFACE", "FONT", "META"}


def shape(w, path, item):
    """The parts of a shape, each as hashes."""
    for name in ("vertices", "edges", "loops", "polygons", "points", "curves", "attributes", "color_attributes", "uv_layers", "vertex_normals", "corner_normals", "materials"):
        if hasattr(item, name):
            try:
                w.collection("%s.%s" % (path, name), getattr(item, name), 0)
            except (TypeError, AttributeError, RuntimeError) as e:
                w.line("%s.%s" % (path, name), e)


def evaluated(w, path, o):
    w.met = {}
    w.line(path + ".matrix_world", rna.plain(o.matrix_world))
    w.line(path + ".visible", rna.plain((o.hide_render, o.hide_viewport, o.instance_type)))
    if o.type in SHAPES and o.data is not None:
        shape(w, path + ".data", o.data)
    elif o.type in CONVERTED:
        try:
            made = o.to_mesh()
        except RuntimeError as e:
            w.line(path + ".data", e)
        else:
            if made is not None:
                shape(w, path + ".data", made)
            o.to_mesh_clear()
    if o.pose is not None:
        for bone in o.pose.bones:
            w.line("%s.pose[%r]" % (path, bone.name), rna.plain(bone.matrix))
    if o.type == "MESH" and getattr(o.data, "shape_keys", None):
        for key in o.data.shape_keys.key_blocks:
            w.line("%s.key[%r]" % (path, key.name), repr(key.value))
    for i, system in enumerate(o.particle_systems):
        w.collection("%s.particles[%d]" % (path, i), system.particles, 0)
        w.collection("%s.children[%d]" % (path, i), system.child_particles, 0)


def write(path):
    w = rna.Writer()
    for scene in [s for s in bpy.data.scenes if s.library is None]:
        frame = scene.frame_current
        for at in (scene.frame_start, scene.frame_start + 3):
            scene.frame_set(at)
            for layer in scene.view_layers:
                graph = layer.depsgraph
                if graph is None:
                    continue
                where = "%s/%s@%d" % (scene.name, layer.name, at)
                w.line(where + ".instances#", len(graph.object_instances))
                for i, instance in enumerate(graph.object_instances):
                    o = instance.object
                    w.line("%s.instance[%d]" % (where, i), "%s %s %s %s %s" % (
                        rna.reference(o), rna.plain(instance.matrix_world), rna.plain(instance.persistent_id), instance.is_instance,
                        rna.reference(instance.parent) if instance.parent else None))
                for item in graph.ids:
                    if isinstance(item, bpy.types.Object):
                        evaluated(w, "%s.object[%s]" % (where, rna.reference(item)), item)
        scene.frame_set(frame)
    rna.save(path, w)
