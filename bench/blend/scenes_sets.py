"""Scenes of what holds things together: scenes, view layers, collections, custom properties, assets."""

import bpy

from scenes import Missing, cube, material, obj, since


def layers(maker):
    scene = maker.empty()
    with maker.step("collections in collections"):
        made = {}
        for name, parent in (("A", None), ("A1", "A"), ("A2", "A"), ("B", None), ("Twice", "A1")):
            made[name] = bpy.data.collections.new(name)
            (made[parent] if parent else scene.collection).children.link(made[name])
            obj("In " + name, cube("In " + name, 0.5), (len(made) - 3, 0, 1), collection=made[name])
        made["B"].children.link(made["Twice"])
        made["A"].color_tag, made["A2"].hide_render = "COLOR_04", False
        made["B"].instance_offset = (1, 2, 3)
    with maker.step("view layers"):
        first = scene.view_layers[0]
        second = scene.view_layers.new("Second")
        second.layer_collection.children["A"].exclude = True
        second.layer_collection.children["B"].holdout = True
        second.layer_collection.children["B"].children["Twice"].indirect_only = True
        first.layer_collection.children["A"].children["A2"].hide_viewport = True
        second.material_override = material("Clay", (0.5, 0.5, 0.5, 1))
        first.active_layer_collection = first.layer_collection.children["A"].children["A1"]
        second.use, second.samples, second.pass_alpha_threshold = True, 3, 0.25
        bpy.data.objects["In B"].hide_set(True, view_layer=first)
        bpy.data.objects["In B"].select_set(True, view_layer=second)
        second.objects.active = bpy.data.objects["In B"]
    with maker.step("passes, AOVs, light groups, cryptomatte"):
        second.use_pass_z = second.use_pass_cryptomatte_object = True
        for i in range(3):
            second.aovs.add().name = "Own %d" % i
        second.lightgroups.add(name="Suns") if hasattr(second.lightgroups, "add") else None
        bpy.data.objects["Lamp"].lightgroup = "Suns"
    with maker.step("world override"):
        since(4, 3)
        second.world_override = bpy.data.worlds.new("Dark")
    with maker.step("line sets"):
        style = second.freestyle_settings
        for i in range(2):
            lines = style.linesets.new("Lines %d" % i)
            lines.select_by_collection, lines.collection = True, made["A"]
        lines.linestyle = bpy.data.linestyles.new("Ink")
        for stack in ("color", "alpha", "thickness", "geometry"):
            modifiers = getattr(lines.linestyle, stack + "_modifiers")
            for kind in [i.identifier for i in modifiers.bl_rna.functions["new"].parameters["type"].enum_items]:
                modifiers.new(kind.title(), kind)
        style.linesets.active_index = 1
        style.mode = "SCRIPT"
        style.modules.new().script = bpy.data.texts.new("style.py")
        style.mode = "EDITOR"
        second.use_freestyle = False
    with maker.step("light linking"):
        since(4, 0)
        lamp = bpy.data.objects["Lamp"]
        lamp.light_linking.receiver_collection = bpy.data.collections.new("Receivers")
        lamp.light_linking.blocker_collection = made["B"]
        lamp.light_linking.receiver_collection.objects.link(bpy.data.objects["In A"])
        lamp.light_linking.receiver_collection.collection_objects[0].light_linking.link_state = "EXCLUDE"
    with maker.step("collection exporters"):
        since(4, 2)
        with bpy.context.temp_override(collection=made["A"]):
            bpy.ops.collection.exporter_add(name="IO_FH_obj")
    with maker.step("several scenes"):
        other = bpy.data.scenes.new("Other")
        other.camera, other.render.engine, other.cycles.samples = scene.camera, "CYCLES", 2
        other.collection.children.link(made["B"])
        other.collection.objects.link(scene.camera)
        other.collection.objects.link(bpy.data.objects["Lamp"])
        other.background_set = scene
        other.world = bpy.data.worlds.new("Other")
        other.view_layers.new("Of other")
        other.render.use_multiview = False
        other.render.views.new("above") if hasattr(other.render.views, "new") else None
    with maker.step("cursor, units, tools, orientations"):
        scene.cursor.location = (1, 2, 3)
        scene.unit_settings.system = "IMPERIAL"
        scene.tool_settings.snap_elements = {"VERTEX"}
        scene.transform_orientation_slots[0].type = "NORMAL"
        scene.tool_settings.curve_paint_settings.radius_taper_start = 0.4
        scene.view_settings.use_curve_mapping = True
        scene.view_settings.curve_mapping.curves[3].points.new(0.5, 0.6)
        scene.view_settings.use_curve_mapping = False
        scene.display.shading.light = "MATCAP"
    with maker.step("the window shows another scene and layer"):
        if bpy.context.window is not None:
            bpy.context.window.scene = scene
            bpy.context.window.view_layer = second
    maker.save()


def one_of_each():
    """One local ID of every kind that Python can make."""
    yield bpy.context.scene
    for name in sorted(p.identifier for p in bpy.data.bl_rna.properties if p.type == "COLLECTION"):
        group = getattr(bpy.data, name)
        if len(group) and name not in ("scenes", "screens", "window_managers", "workspaces", "libraries"):
            yield group[0]
            continue
        for arguments in (("Own",), ("Own", 4, 4), ("Own", "CURVE"), ("Own", "SUN"), ("Own", "CLOUDS"), ("Own", "ShaderNodeTree"), ("Own", "SPHERE"), ("Own", None)):
            try:
                made = group.new(*arguments)
            except (AttributeError, TypeError, RuntimeError):
                continue
            made.use_fake_user = True
            yield made
            break


def properties(maker):
    maker.empty()
    target = obj("Target", cube("Target"))

    class Item(bpy.types.PropertyGroup):
        number: bpy.props.FloatProperty()
        words: bpy.props.StringProperty()
        who: bpy.props.PointerProperty(type=bpy.types.Object)

    class Deep(bpy.types.PropertyGroup):
        items: bpy.props.CollectionProperty(type=Item)
        one: bpy.props.PointerProperty(type=Item)
        flags: bpy.props.BoolVectorProperty(size=4)
        kind: bpy.props.EnumProperty(items=[("A", "A", ""), ("B", "B", "")])

    with maker.step("custom properties on every kind of ID"):
        count = 0
        for item in one_of_each():
            count += 1
            item["an int"], item["a float"], item["a string"], item["a bool"] = 7, 0.125, "words \u00e4", True
            item["ints"], item["floats"], item["empty"] = [1, 2, 3], [0.5, 1.5], []
            item["group"] = {"deep": {"deeper": {"n": 1, "list": [1.0, 2.0]}}, "who": target}
            item["groups"] = [{"n": 1, "who": target}, {"n": 2, "inner": [{"x": 1}, {"x": 2}]}]
            item["bytes"] = b"\x00\x01\xff"
            item["long"] = "x" * 500
            item["id"] = target
            if bpy.app.version >= (3, 5):
                item["bools"] = [True, False, True]
        if count < 20:
            raise RuntimeError("only %d kinds" % count)
    with maker.step("user interface of properties"):
        target["a float"], target["ints"], target["an int"], target["a string"] = 0.5, [1, 2, 3], 4, "x"
        target.id_properties_ui("a float").update(min=0, max=2, description="how much", subtype="DISTANCE")
        target.id_properties_ui("ints").update(min=0, max=9, default=[1, 1, 1])
        target.id_properties_ui("an int").update(soft_max=20)
        target.id_properties_ui("a string").update(default="nothing")
    with maker.step("properties of what belongs to an ID"):
        bpy.context.view_layer["layer"] = {"x": [1, 2]}
        target.modifiers.new("Nodes", "NODES")
        m = material("With properties")
        target.data.materials.append(m)
        m.node_tree.nodes["Principled BSDF"]["node"] = 5
        m.node_tree["tree"] = [{"a": 1}]
        bpy.context.scene.collection["collection"] = "master" if bpy.context.scene.collection.library is None else ""
    with maker.step("classes with collections of groups"):
        bpy.utils.register_class(Item)
        bpy.utils.register_class(Deep)
        bpy.types.Object.deep = bpy.props.PointerProperty(type=Deep)
        bpy.types.Scene.deep = bpy.props.CollectionProperty(type=Deep)
        for i in range(3):
            item = target.deep.items.add()
            item.name, item.number, item.words, item.who = "item %d" % i, i / 2, "w" * i, target
        target.deep.one.who, target.deep.flags, target.deep.kind = target, (True, False, True, False), "B"
        for i in range(2):
            for j in range(2):
                bpy.context.scene.deep.add().items.add().number = i + j
    maker.save()
    for c in (Deep, Item):
        if c.is_registered:
            bpy.utils.unregister_class(c)
    for owner in (bpy.types.Object, bpy.types.Scene):
        if hasattr(owner, "deep"):
            del owner.deep


def assets(maker):
    maker.empty()
    things = []
    with maker.step("assets with tags and catalogues"):
        o = obj("Asset", cube("Asset"))
        things = [o, o.data, material("Asset"), bpy.data.worlds.new("Asset"), bpy.data.collections.new("Asset"), bpy.data.node_groups.new("Asset", "GeometryNodeTree"),
                  bpy.data.actions.new("Asset")]
        o.data.materials.append(things[2])
        for i, item in enumerate(things):
            item.asset_mark()
            data = item.asset_data
            data.author, data.description = "somebody", "a thing"
            for tag in ("one", "two", "three")[: i % 3 + 1]:
                data.tags.new(tag)
            data.active_tag = 0
            data["rating"] = 5
            data.catalog_id = "5a54d3c7-8b5e-4c9a-9c5f-0d1e3bd1b2a%d" % i
    with maker.step("asset properties"):
        for item in things:
            for field, value in (("license", "CC0"), ("copyright", "nobody")):
                if hasattr(item.asset_data, field):
                    setattr(item.asset_data, field, value)
    with maker.step("previews"):
        image = bpy.data.images.new("preview", 4, 4)
        image.filepath_raw, image.file_format = maker.path("preview.png"), "PNG"
        image.save()
        for item in (things[0], things[2], things[3]):
            with bpy.context.temp_override(id=item):
                bpy.ops.ed.lib_id_load_custom_preview(filepath=maker.path("preview.png"))
            if item.preview is None:
                raise Missing("no previews without a window")
    with maker.step("same names and odd names"):
        for name in ("\u00c4\u00f6\u00fc", "a" * 63, "with/slash", "dot.001", "dot.002", " "):
            obj(name, bpy.data.objects["Asset"].data, (5, 5, 5))
    maker.save()


SCENES = {"layers": layers, "properties": properties, "assets": assets}
