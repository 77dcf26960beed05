# SPDX-License-Identifier: Apache-2.0
"""Writes two versions of files: OUT/PAIR-was.blend and OUT/PAIR-now.blend. In
the file "main" each scene is a case: an object "X SCENE" that is hidden from
frame 31 on is edited, and something else may look at it."""

import os
import sys

import bpy

OUT = sys.argv[-1]


def keyed(obj, path, values):
    for frame, value in values:
        setattr(obj, path, value)
        obj.keyframe_insert(path, frame=frame)


def empty_file():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for scene in list(bpy.data.scenes)[1:]:
        bpy.data.scenes.remove(scene)


def mesh(name):
    m = bpy.data.meshes.new(name)
    m.from_pydata([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1)], [], [(0, 1, 2, 3)])
    return m


class Case:
    def __init__(self, name, kind="MESH", hide=True):
        self.scene = scene = bpy.data.scenes.new(name)
        self.name = name
        scene.frame_end = 250
        scene.render.engine = "CYCLES"
        scene.camera = self.add("C", bpy.data.cameras.new("C " + name))
        self.y = self.add("Y", mesh("Y " + name))
        self.y.data.materials.append(self.material("Y"))
        data = {"MESH": mesh, "LIGHT": lambda n: bpy.data.lights.new(n, "POINT"), "META": bpy.data.metaballs.new,
                "CAMERA": bpy.data.cameras.new, "EMPTY": lambda n: None}[kind]("X " + name)
        self.x = self.add("X", data)
        if kind == "MESH":
            data.materials.append(self.material("X"))
        if hide:
            keyed(self.x, "hide_render", [(1, False), (31, True)])

    def add(self, letter, data):
        obj = bpy.data.objects.new(letter + " " + self.name, data)
        self.scene.collection.objects.link(obj)
        return obj

    def material(self, letter):
        m = bpy.data.materials.new(letter + " " + self.name)
        m.use_nodes = True
        return m

    def move(self):
        self.x.location.x += 1

    def shape(self):
        self.x.data.vertices[0].co.z += 0.5

    def node_group(self):
        return bpy.data.node_groups.new(self.name, "GeometryNodeTree")


def geometry_nodes(c, node_type, socket, item):
    tree = c.node_group()
    node = tree.nodes.new(node_type)
    node.inputs[socket].default_value = item
    out = tree.nodes.new("NodeGroupOutput")
    if hasattr(tree, "interface"):
        tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    else:
        tree.outputs.new("NodeSocketGeometry", "Geometry")
    tree.links.new(node.outputs["Geometry" if "Geometry" in node.outputs else "Instances"], out.inputs[0])
    c.y.modifiers.new("N", "NODES").node_group = tree


def cases():
    """(case, edit)"""
    c = Case("mesh")
    yield c, c.shape
    c = Case("move")
    yield c, c.move
    c = Case("material")

    def colour(c=c):
        c.x.data.materials[0].diffuse_color = (1, 0, 0, 1)
        c.x.data.materials[0].node_tree.nodes[0].inputs[0].default_value = (1, 0, 0, 1)
    yield c, colour
    c = Case("light", "LIGHT")
    yield c, lambda c=c: setattr(c.x.data, "energy", 77)
    c = Case("always hidden", hide=False)
    c.x.hide_render = True
    yield c, c.shape
    c = Case("frame and selection")

    def idle(c=c):
        c.scene.frame_current = 77
        c.x.select_set(True, view_layer=c.scene.view_layers[0])
        c.scene.view_layers[0].objects.active = c.y
        c.shape()
    yield c, idle

    def show(c, frame):
        bpy.context.window.scene = c.scene
        c.scene.frame_set(frame)
    c = Case("saved at another frame")
    keyed(c.y, "location", [(1, (0, 0, 0)), (250, (9, 0, 0))])
    keyed(c.y.data.materials[0].node_tree.nodes[0].inputs[1], "default_value", [(1, 0.0), (250, 1.0)])
    if bpy.context.window:  # the module has none, and animates one scene only
        show(c, 1)  # meshes keep some of what is computed of them first
        yield c, lambda c=c: (show(c, 77), c.shape())
    c = Case("saved at another frame of strips")
    keyed(c.y, "location", [(1, (0, 0, 0)), (250, (9, 0, 0))])
    strips = c.y.animation_data_create()
    action = strips.action
    strips.action = None
    strips.nla_tracks.new().strips.new("s", 1, action)

    def moved(c=c):
        c.y.location.x = 3  # as showing another frame does
        c.shape()
    yield c, moved

    c = Case("visible", hide=False)
    yield c, c.shape
    c = Case("parent")
    c.y.parent = c.x
    yield c, c.move
    c = Case("grandparent")
    between = c.add("B", None)
    between.parent, c.y.parent = c.x, between
    yield c, c.move
    c = Case("constraint")
    c.y.constraints.new("COPY_LOCATION").target = c.x
    yield c, c.move
    c = Case("driver")
    variable = c.y.driver_add("location", 0).driver.variables.new()
    variable.targets[0].id, variable.targets[0].data_path = c.x, "location.x"
    yield c, c.move
    c = Case("material driver")
    variable = c.y.data.materials[0].node_tree.nodes[0].inputs[1].driver_add("default_value").driver.variables.new()
    variable.type = "TRANSFORMS"
    variable.targets[0].id = c.x
    yield c, c.move
    c = Case("boolean")
    c.y.modifiers.new("B", "BOOLEAN").object = c.x
    yield c, c.shape
    c = Case("array offset")
    array = c.y.modifiers.new("A", "ARRAY")
    array.use_object_offset, array.offset_object = True, c.x
    yield c, c.move
    c = Case("shrinkwrap")
    c.y.modifiers.new("S", "SHRINKWRAP").target = c.x
    yield c, c.shape
    c = Case("boolean collection")
    operands = bpy.data.collections.new("operands")
    operands.objects.link(c.x)
    boolean = c.y.modifiers.new("B", "BOOLEAN")
    boolean.operand_type, boolean.collection = "COLLECTION", operands
    yield c, c.shape
    c = Case("collection instance")
    inner = bpy.data.collections.new("inner")
    c.scene.collection.objects.unlink(c.x)
    c.scene.collection.children.link(inner)
    inner.objects.link(c.x)
    instance = c.add("I", None)
    instance.instance_type, instance.instance_collection = "COLLECTION", inner
    yield c, c.shape
    c = Case("collection")  # the same without an instance
    inner = bpy.data.collections.new("plain")
    c.scene.collection.objects.unlink(c.x)
    c.scene.collection.children.link(inner)
    inner.objects.link(c.x)
    yield c, c.shape
    c = Case("object info")
    geometry_nodes(c, "GeometryNodeObjectInfo", "Object", c.x)
    yield c, c.shape
    c = Case("collection info")
    inner = bpy.data.collections.new("info")
    inner.objects.link(c.x)
    geometry_nodes(c, "GeometryNodeCollectionInfo", "Collection", inner)
    yield c, c.shape
    c = Case("object coordinates")
    c.y.data.materials[0].node_tree.nodes.new("ShaderNodeTexCoord").object = c.x
    yield c, c.move
    c = Case("shared material")
    c.y.data.materials[0] = c.x.data.materials[0]

    def shared(c=c):
        c.x.data.materials[0].node_tree.nodes[0].inputs[0].default_value = (0, 1, 0, 1)
    yield c, shared
    c = Case("shared mesh")
    c.y.data = c.x.data
    yield c, c.shape
    c = Case("shared action")
    keyed(c.x, "location", [(1, (0, 0, 0)), (250, (1, 0, 0))])
    camera = c.scene.camera.animation_data_create()
    camera.action = c.x.animation_data.action
    if hasattr(camera, "action_slot"):
        camera.action_slot = c.x.animation_data.action_slot
    yield c, lambda c=c: keyed(c.x, "location", [(250, (2, 0, 0))])
    c = Case("force field")
    with bpy.context.temp_override(scene=c.scene, object=c.x, active_object=c.x):
        bpy.ops.object.forcefield_toggle()
    c.x.field.type = "WIND"
    yield c, c.move
    c = Case("collision")
    c.x.modifiers.new("C", "COLLISION")
    yield c, c.move
    c = Case("dynamic paint brush")
    c.x.modifiers.new("D", "DYNAMIC_PAINT")
    yield c, c.move
    c = Case("fluid")
    c.x.modifiers.new("F", "FLUID").fluid_type = "EFFECTOR"
    yield c, c.move
    c = Case("particles")
    c.x.modifiers.new("P", "PARTICLE_SYSTEM")
    yield c, c.move
    c = Case("instanced particles")
    c.y.modifiers.new("P", "PARTICLE_SYSTEM")
    settings = c.y.particle_systems[0].settings
    settings.render_type, settings.instance_object = "OBJECT", c.x
    yield c, c.shape
    c = Case("instancer")
    c.y.parent, c.x.instance_type = c.x, "VERTS"
    yield c, c.shape
    c = Case("instancer alone")
    c.x.instance_type = "FACES"
    yield c, c.shape
    c = Case("focus")
    c.scene.camera.data.dof.use_dof, c.scene.camera.data.dof.focus_object = True, c.x
    yield c, c.move
    c = Case("camera", "CAMERA")
    c.scene.camera = c.x
    yield c, c.move
    c = Case("marker camera", "CAMERA")
    c.scene.timeline_markers.new("m", frame=90).camera = c.x
    yield c, c.move
    c = Case("metaball", "META")
    yield c, c.move
    c = Case("empty", "EMPTY")
    yield c, c.move
    c = Case("not for the camera", hide=False)
    c.x.visible_camera = False
    yield c, c.shape
    c = Case("holdout", hide=False)
    c.x.is_holdout = True
    yield c, c.shape
    c = Case("indirect only", hide=False)
    inner = bpy.data.collections.new("indirect")
    c.scene.collection.objects.unlink(c.x)
    c.scene.collection.children.link(inner)
    inner.objects.link(c.x)
    c.scene.view_layers[0].layer_collection.children[0].indirect_only = True
    yield c, c.shape
    c = Case("hidden in the viewport", hide=False)
    c.x.hide_viewport = True
    yield c, c.shape
    c = Case("hiding moved")
    yield c, lambda c=c: (keyed(c.x, "hide_render", [(90, False), (110, True)]), c.shape())
    c = Case("hiding by NLA")
    action = c.x.animation_data.action
    c.x.animation_data.nla_tracks.new().strips.new("s", 1, action)
    c.x.animation_data.action = None
    yield c, c.shape
    c = Case("hiding driven", hide=False)
    c.x.driver_add("hide_render").driver.expression = "frame > 30"
    yield c, c.shape
    c = Case("hiding modulated")
    curves = c.x.animation_data.action
    curves = curves.fcurves if hasattr(curves, "fcurves") else curves.layers[0].strips[0].channelbags[0].fcurves
    curves[0].modifiers.new("NOISE")
    yield c, c.shape
    c = Case("hiding muted")
    curves = c.x.animation_data.action
    curves = curves.fcurves if hasattr(curves, "fcurves") else curves.layers[0].strips[0].channelbags[0].fcurves
    curves[0].mute = True
    yield c, c.shape
    c = Case("background set")
    other = Case("other of the set", hide=False)
    c.scene.background_set = other.scene
    yield c, other.shape
    c = Case("compositor")
    other = Case("other of the compositor", hide=False)
    if hasattr(c.scene, "compositing_node_group"):
        tree = c.scene.compositing_node_group = bpy.data.node_groups.new("comp", "CompositorNodeTree")
    else:
        c.scene.use_nodes = True
        tree = c.scene.node_tree
    tree.nodes.new("CompositorNodeRLayers").scene = other.scene
    yield c, other.shape
    c = Case("scene setting")
    yield c, lambda c=c: setattr(c.scene.cycles, "samples", 7)
    c = Case("world")
    c.scene.world = bpy.data.worlds.new("W")
    yield c, lambda c=c: setattr(c.scene.world, "color", (1, 0, 0))
    c = Case("override")
    c.scene.view_layers[0].material_override = c.x.data.materials[0]
    yield c, lambda c=c: setattr(c.x.data.materials[0], "diffuse_color", (1, 0, 0, 1))
    if bpy.app.version >= (4, 0, 0):
        c = Case("light linking")
        lamp = c.add("L", bpy.data.lights.new("L", "POINT"))
        blockers = bpy.data.collections.new("blockers")
        blockers.objects.link(c.x)
        lamp.light_linking.blocker_collection = blockers
        yield c, c.shape


def save(pair, version):
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(OUT, "%s-%s.blend" % (pair, version)), copy=True)


def pair(name, prepare):
    empty_file()
    c = Case("only")
    prepare(c)
    save(name, "was")
    c.shape()
    save(name, "now")


def named(c):
    variable = c.y.driver_add("location", 0).driver.variables.new()
    variable.targets[0].id_type = "SCENE"
    variable.targets[0].id, variable.targets[0].data_path = c.scene, 'collection.objects["X only"].location.x'


def blurred(c):
    c.scene.render.use_motion_blur, c.scene.render.motion_blur_shutter = True, 3


def freestyle(c):
    c.scene.render.use_freestyle = True


def remapped(c):
    c.scene.render.frame_map_old, c.scene.render.frame_map_new = 100, 200


empty_file()
todo = list(cases())
with open(os.path.join(OUT, "cases.txt"), "w", encoding="utf-8") as f:
    f.write("\n".join(case.name for case, _ in todo))
save("main", "was")
for _, edit in todo:
    edit()
save("main", "now")
pair("named", named)
pair("blurred", blurred)
pair("freestyle", freestyle)
pair("remapped", remapped)
sys.stdout.flush()
os._exit(0)
