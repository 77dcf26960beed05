"""Scenes of node trees: geometry with its zones and bakes, and one node of every type there is."""

import bpy

from scenes import active, cube, grid, material, obj, since


def tree_input(tree, name, kind, value=None):
    """Adds an input to a node group, in either of the two ways that Blender had."""
    if hasattr(tree, "interface"):
        item = tree.interface.new_socket(name=name, in_out="INPUT", socket_type=kind)
    else:
        item = tree.inputs.new(kind, name)
    if value is not None:
        item.default_value = value
    return item


def tree_output(tree, name, kind):
    if hasattr(tree, "interface"):
        return tree.interface.new_socket(name=name, in_out="OUTPUT", socket_type=kind)
    return tree.outputs.new(kind, name)


def geometry_tree(name):
    tree = bpy.data.node_groups.new(name, "GeometryNodeTree")
    tree_input(tree, "Geometry", "NodeSocketGeometry")
    tree_output(tree, "Geometry", "NodeSocketGeometry")
    return tree, tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")


def geometry(maker):
    maker.empty()
    host = obj("Host", grid("Host", 5, 3.0), (0, 0, 0.5))
    leaf = obj("Leaf", cube("Leaf", 0.3), (5, 5, 0))
    leaf.data.materials.append(material("Leaf", (0.1, 0.8, 0.2, 1)))
    tree, start, end = geometry_tree("Scatter")
    with maker.step("instances"):
        points = tree.nodes.new("GeometryNodeInstanceOnPoints")
        info = tree.nodes.new("GeometryNodeObjectInfo")
        info.inputs["Object"].default_value = leaf
        store = tree.nodes.new("GeometryNodeStoreNamedAttribute")
        store.inputs["Name"].default_value = "height"
        tree.links.new(start.outputs[0], store.inputs[0])
        tree.links.new(store.outputs[0], points.inputs["Points"])
        tree.links.new(info.outputs["Geometry"], points.inputs["Instance"])
        joined = tree.nodes.new("GeometryNodeJoinGeometry")
        tree.links.new(points.outputs[0], joined.inputs[0])
        tree.links.new(start.outputs[0], joined.inputs[0])
        tree.links.new(joined.outputs[0], end.inputs[0])
    with maker.step("inputs of every kind"):
        for kind, value in (("Float", 2.5), ("Int", 7), ("Bool", True), ("Vector", (1, 2, 3)), ("Color", (1, 0, 1, 1)), ("String", "words"), ("Object", leaf),
                            ("Collection", None), ("Material", leaf.data.materials[0]), ("Image", None)):
            tree_input(tree, kind, "NodeSocket" + kind, value)
    with maker.step("frames and reroutes"):
        frame = tree.nodes.new("NodeFrame")
        frame.label, frame.text = "Frame", bpy.data.texts.new("Explained")
        reroute = tree.nodes.new("NodeReroute")
        reroute.parent, store.parent = frame, frame
    with maker.step("groups in groups"):
        inner, a, b = geometry_tree("Inner")
        move = inner.nodes.new("GeometryNodeTransform")
        move.inputs["Translation"].default_value = (0, 0, 0.25)
        inner.links.new(a.outputs[0], move.inputs[0])
        inner.links.new(move.outputs[0], b.inputs[0])
        group = tree.nodes.new("GeometryNodeGroup")
        group.node_tree = inner
        tree.links.new(joined.outputs[0], group.inputs[0])
        tree.links.new(group.outputs[0], end.inputs[0])
    with maker.step("panels"):
        since(4, 0)
        panel = tree.interface.new_panel("Panel", description="what is in it")
        tree.interface.new_socket(name="Within", in_out="INPUT", socket_type="NodeSocketFloat", parent=panel)
    with maker.step("menus"):
        since(4, 1)
        switch = tree.nodes.new("GeometryNodeMenuSwitch")
        items = getattr(switch, "enum_items", None) or switch.enum_definition.enum_items
        items.new("Third").description = "the third"
        tree_input(tree, "Menu", "NodeSocketMenu")
        tree.links.new(start.outputs["Menu"], switch.inputs[0])
    modifier = host.modifiers.new("Scatter", "NODES")
    modifier.node_group = tree
    with maker.step("inputs of the modifier"):
        for item in (tree.interface.items_tree if hasattr(tree, "interface") else tree.inputs):
            if getattr(item, "in_out", "INPUT") != "INPUT" or getattr(item, "item_type", "SOCKET") != "SOCKET":
                continue
            value = {"Object": bpy.data.objects["Lamp"], "Float": 9.5}.get(item.name)
            if value is not None and hasattr(modifier, "properties"):
                getattr(modifier.properties.inputs, item.identifier).value = value
            elif value is not None:
                modifier[item.identifier] = value
    second = obj("Zones", grid("Zones", 3, 1.0), (2, 1, 1))
    tree, start, end = geometry_tree("Zones")
    last = start
    with maker.step("simulation zone"):
        since(3, 6)
        a, b = tree.nodes.new("GeometryNodeSimulationInput"), tree.nodes.new("GeometryNodeSimulationOutput")
        a.pair_with_output(b)
        b.state_items.new("FLOAT", "Age")
        move = tree.nodes.new("GeometryNodeTransform")
        move.inputs["Translation"].default_value = (0, 0, 0.1)
        tree.links.new(start.outputs[0], a.inputs[0])
        tree.links.new(a.outputs["Geometry"], move.inputs[0])
        tree.links.new(move.outputs[0], b.inputs["Geometry"])
        last = b
    with maker.step("repeat zone"):
        since(4, 0)
        a, b = tree.nodes.new("GeometryNodeRepeatInput"), tree.nodes.new("GeometryNodeRepeatOutput")
        a.pair_with_output(b)
        b.repeat_items.new("FLOAT", "Value")
    with maker.step("for each zone"):
        since(4, 3)
        a, b = tree.nodes.new("GeometryNodeForeachGeometryElementInput"), tree.nodes.new("GeometryNodeForeachGeometryElementOutput")
        a.pair_with_output(b)
        b.input_items.new("FLOAT", "In")
        b.generation_items.new("GEOMETRY", "Out")
    with maker.step("bake node"):
        since(4, 1)
        bake = tree.nodes.new("GeometryNodeBake")
        if "Geometry" not in bake.bake_items:
            bake.bake_items.new("GEOMETRY", "Geometry")
        bake.bake_items.new("FLOAT", "Weight")
        tree.links.new(last.outputs["Geometry"], bake.inputs[0])
        last = bake
    with maker.step("closures and bundles"):
        since(5, 0)
        a, b = tree.nodes.new("NodeClosureInput"), tree.nodes.new("NodeClosureOutput")
        a.pair_with_output(b)
        b.input_items.new("FLOAT", "In")
        b.output_items.new("FLOAT", "Out")
        tree.nodes.new("NodeCombineBundle").bundle_items.new("FLOAT", "Item")
    with maker.step("viewer, index switch, capture"):
        since(4, 2)
        tree.nodes.new("GeometryNodeIndexSwitch").index_switch_items.new()
        tree.nodes.new("GeometryNodeCaptureAttribute").capture_items.new("FLOAT", "Captured")
    tree.links.new(last.outputs["Geometry"], end.inputs[0])
    modifier = second.modifiers.new("Zones", "NODES")
    modifier.node_group = tree
    maker.save()
    with maker.step("baked simulation"):
        since(3, 6)
        if hasattr(modifier, "bake_target"):
            modifier.bake_target = "PACKED"
        elif hasattr(modifier, "bake_directory"):
            modifier.bake_directory = "//simulation"
        elif hasattr(modifier, "simulation_bake_directory"):
            modifier.simulation_bake_directory = "//simulation"
        active(second)
        bpy.context.scene.frame_end = 4
        bpy.context.view_layer.update()
        for bake in getattr(modifier, "bakes", ()):
            if hasattr(bake, "bake_target"):
                bake.bake_target = "PACKED"
        bpy.ops.object.simulation_nodes_cache_bake(selected=True)
    with maker.step("baked node"):
        since(4, 1)
        for bake in modifier.bakes:
            if bake.node is not None and bake.node.bl_idname == "GeometryNodeBake":
                bake.bake_mode = "STILL"
                bpy.ops.object.geometry_node_bake_single(session_uid=second.session_uid, modifier_name=modifier.name, bake_id=bake.bake_id)
    maker.save()


def every_node(maker):
    """A node of every type in a tree of its kind; most are not linked."""
    scene = maker.empty()
    image = bpy.data.images.new("Image", 8, 8)
    trees = {
        "ShaderNode": (material("Every").node_tree,),
        "GeometryNode": (geometry_tree("Every Geometry Node")[0],),
        "CompositorNode": (bpy.data.node_groups.new("Every Compositor Node", "CompositorNodeTree"),),
        "TextureNode": (bpy.data.node_groups.new("Every Texture Node", "TextureNodeTree"),),
        "FunctionNode": (bpy.data.node_groups.new("Every Function Node", "GeometryNodeTree"),),
    }
    obj("Shown", cube("Shown")).data.materials.append(bpy.data.materials["Every"])
    with maker.step("every node"):
        count = 0
        for name in sorted(dir(bpy.types)):
            for prefix, (tree,) in trees.items():
                if name.startswith(prefix) and "CustomGroup" not in name:
                    try:
                        node = tree.nodes.new(name)
                    except Exception:  # a base class
                        continue
                    node.name, count = name, count + 1
                    if getattr(node, "image", 0) is None:
                        node.image = image
        if count < 300:
            raise RuntimeError("only %d types of node" % count)
    with maker.step("curves and ramps"):
        nodes = bpy.data.materials["Every"].node_tree.nodes
        nodes["ShaderNodeRGBCurve"].mapping.curves[0].points.new(0.4, 0.9)
        nodes["ShaderNodeValToRGB"].color_ramp.elements.new(0.3).color = (0, 1, 0, 1)
        nodes["ShaderNodeScript"].mode = "INTERNAL"
        nodes["ShaderNodeScript"].script = bpy.data.texts.new("shader.osl")
    with maker.step("unlinked sockets with values"):
        links = bpy.data.materials["Every"].node_tree.links
        links.new(nodes["ShaderNodeTexNoise"].outputs[0], nodes["ShaderNodeMapping"].inputs[0])
        links.new(nodes["ShaderNodeTexChecker"].outputs[0], nodes["Principled BSDF"].inputs["Base Color"])
    scene.world = bpy.data.worlds.new("World")
    maker.save()


def compositor(maker):
    scene = maker.empty()
    obj("Thing", cube("Thing"), (0, 0, 1)).data.materials.append(material("Red"))
    with maker.step("world nodes"):
        world = scene.world = bpy.data.worlds.new("Sky")
        world.use_nodes = True
        sky = world.node_tree.nodes.new("ShaderNodeTexSky")
        world.node_tree.links.new(sky.outputs[0], world.node_tree.nodes["Background"].inputs[0])
    with maker.step("compositor"):
        if hasattr(scene, "compositing_node_group"):
            tree = scene.compositing_node_group = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
            tree_output(tree, "Image", "NodeSocketColor")
            end = tree.nodes.new("NodeGroupOutput")
        else:
            scene.use_nodes = True
            tree = scene.node_tree
            tree.nodes.clear()
            end = tree.nodes.new("CompositorNodeComposite")
        layers = tree.nodes.new("CompositorNodeRLayers")
        group = bpy.data.node_groups.new("Grade", "CompositorNodeTree")
        tree_input(group, "Image", "NodeSocketColor")
        tree_output(group, "Image", "NodeSocketColor")
        a, b, gamma = group.nodes.new("NodeGroupInput"), group.nodes.new("NodeGroupOutput"), group.nodes.new("CompositorNodeHueSat")
        group.links.new(a.outputs[0], gamma.inputs["Image"])
        group.links.new(gamma.outputs[0], b.inputs[0])
        node = tree.nodes.new("CompositorNodeGroup")
        node.node_tree = group
        tree.links.new(layers.outputs["Image"], node.inputs[0])
        tree.links.new(node.outputs[0], end.inputs[0])
        tree.nodes.new("CompositorNodeViewer")
    with maker.step("file output"):
        out = tree.nodes.new("CompositorNodeOutputFile")
        if hasattr(out, "file_slots"):
            out.file_slots.new("second")
            out.mute = True
        else:
            out.file_output_items.new("RGBA", "second")
            out.mute = True
    with maker.step("cryptomatte"):
        node = tree.nodes.new("CompositorNodeCryptomatteV2")
        node.matte_id = "Thing"
    with maker.step("image user"):
        node = tree.nodes.new("CompositorNodeImage")
        node.image = bpy.data.images.new("Plate", 8, 8)
    maker.save()


SCENES = {"geometry": geometry, "every_node": every_node, "compositor": compositor}
