"""Scenes of shapes: meshes with every layer and modifier, curves, text, metaballs, volumes, grease pencil."""

import math

import bpy

from scenes import Missing, active, cube, enum_items, grid, material, obj, since, until


def mesh(maker):
    maker.empty()
    o = obj("Layers", grid("Layers", 4, 2.0), (0, 0, 1))
    me = o.data
    with maker.step("materials on data and object"):
        me.materials.append(material("One"))
        me.materials.append(None)
        me.materials.append(material("Two", (0, 0.2, 0.9, 1)))
        o.material_slots[1].link = "OBJECT"
        o.material_slots[1].material = material("Object's", (0, 1, 0, 1))
        for i, p in enumerate(me.polygons):
            p.material_index = i % 3
    with maker.step("attributes of every type and domain"):
        count = 0
        for domain in ("POINT", "EDGE", "FACE", "CORNER"):
            for kind in enum_items(bpy.types.Attribute, "data_type"):
                try:
                    layer = me.attributes.new("%s %s" % (domain, kind), kind, domain)
                except (RuntimeError, TypeError):
                    continue
                count += 1
                for i, item in enumerate(layer.data):
                    if hasattr(item, "value") and not isinstance(item.value, (str, bytes)):
                        try:
                            item.value = type(item.value)(i % 2)
                        except TypeError:
                            if not hasattr(item.value[0], "__len__"):
                                item.value = [i % 3] * len(item.value)
        if count < 20:
            raise RuntimeError("only %d attributes" % count)
    with maker.step("colours and UV maps"):
        me.color_attributes.new("Painted", "BYTE_COLOR", "CORNER")
        me.color_attributes.new("Second", "FLOAT_COLOR", "POINT")
        me.color_attributes.active_color_index = 1
        me.color_attributes.render_color_index = 0
        me.uv_layers.new(name="Second UV").active_render = True
        for i, item in enumerate(me.color_attributes["Painted"].data):
            item.color = (i % 2, i % 3 / 2, i % 5 / 4, 1)
    with maker.step("edges: seams, creases, bevel weights, freestyle marks"):
        me.edges[0].use_seam = me.edges[1].use_edge_sharp = True
        for name in ("crease_edge", "bevel_weight_edge"):
            if bpy.app.version >= (4, 0):
                me.attributes.new(name, "FLOAT", "EDGE").data[2].value = 0.7
        if hasattr(me.edges[0], "crease"):
            me.edges[2].crease = me.edges[2].bevel_weight = 0.5
        if hasattr(me.edges[0], "use_freestyle_mark"):
            me.edges[3].use_freestyle_mark = me.polygons[0].use_freestyle_mark = True
    with maker.step("custom normals"):
        if hasattr(me, "use_auto_smooth"):
            me.use_auto_smooth = True
        me.normals_split_custom_set([(0, math.sin(i), math.cos(i)) for i in range(len(me.loops))])
    with maker.step("vertex groups"):
        for g in range(3):
            o.vertex_groups.new(name="Group %d" % g).add([i for i in range(25) if i % (g + 2) == 0], 0.1 * (g + 1), "REPLACE")
        o.vertex_groups[1].lock_weight = True
    sculpted = active(obj("Sculpted", grid("Sculpted", 2, 1.0), (2, 0, 1)))
    with maker.step("multires"):
        sculpted.modifiers.new("Multires", "MULTIRES")
        bpy.ops.object.multires_subdivide(modifier="Multires", mode="CATMULL_CLARK")
        bpy.ops.object.multires_subdivide(modifier="Multires", mode="LINEAR")
    with maker.step("sculpt mask and face sets"):
        if bpy.app.version >= (4, 1):
            for name, kind, domain in ((".sculpt_mask", "FLOAT", "POINT"), (".sculpt_face_set", "INT", "FACE")):
                layer = me.attributes.new(name, kind, domain)
                for i, item in enumerate(layer.data):
                    item.value = i % 4
        else:
            o.face_maps.new(name="Faces").add([1, 2])
            raise Missing("masks are made by brushes only; there are face maps")
    with maker.step("skin vertices"):
        skinned = active(obj("Skinned", bpy.data.meshes.new("Skinned"), (-2, 0, 1)))
        skinned.data.from_pydata([(0, 0, 0), (0, 0, 1), (0.5, 0, 1.5)], [(0, 1), (1, 2)], [])
        skinned.modifiers.new("Skin", "SKIN")
        skinned.data.skin_vertices[0].data[1].radius = (0.1, 0.4)
    with maker.step("loose vertices, hidden and selected parts"):
        me.vertices[3].hide = me.vertices[4].select = True
        me.polygons[2].select = me.polygons[3].hide = True
    with maker.step("texture space and symmetry"):
        me.use_mirror_x, me.use_auto_texspace = True, False
        me.texspace_size = (2, 3, 4)
        me.texture_mesh = sculpted.data
    maker.save()


def modifiers(maker):
    maker.empty()
    other = obj("Other", cube("Other", 0.4), (1, 1, 1))
    curve = obj("Along", bpy.data.curves.new("Along", "CURVE"))
    curve.data.splines.new("BEZIER").bezier_points.add(2)
    for i, (name, make) in enumerate((("mesh", lambda: grid("Many", 2, 1.0)), ("curve", lambda: curve.data), ("lattice", lambda: bpy.data.lattices.new("Many")),
                                      ("gpencil", lambda: bpy.data.grease_pencils.new("Many")), ("gpencil3", lambda: bpy.data.grease_pencils_v3.new("Many")),
                                      ("curves", lambda: bpy.data.hair_curves.new("Many")), ("volume", lambda: bpy.data.volumes.new("Many")))):
        with maker.step("every modifier of %s" % name):
            try:
                o = obj("Modified %s" % name, make(), (i - 3, 2, 1))
            except (AttributeError, TypeError, RuntimeError):
                raise Missing("no such data here")
            o.vertex_groups.new(name="Group") if name == "mesh" else None
            stacks = [(o.modifiers, bpy.types.Modifier)]
            if hasattr(o, "grease_pencil_modifiers"):
                stacks += [(o.grease_pencil_modifiers, bpy.types.GpencilModifier), (o.shader_effects, bpy.types.ShaderFx)]
            elif hasattr(o, "shader_effects"):
                stacks += [(o.shader_effects, bpy.types.ShaderFx)]
            for stack, kinds in stacks:
                for kind in enum_items(kinds, "type"):
                    try:
                        m = stack.new(kind, kind)
                    except (RuntimeError, TypeError):
                        continue
                    if m is None:
                        continue
                    m.show_viewport = m.show_render = False
                    for field, value in (("object", other), ("target", other), ("mirror_object", other), ("curve", curve), ("vertex_group", "Group"),
                                         ("start_position_object", other), ("texture", None)):
                        if hasattr(m, field):
                            try:
                                setattr(m, field, value)
                            except (AttributeError, TypeError):
                                pass
    with maker.step("curves inside modifiers"):
        many = bpy.data.objects["Modified mesh"]
        many.modifiers["BEVEL"].profile_type = "CUSTOM"
        many.modifiers["BEVEL"].custom_profile.points.add(0.3, 0.6)
        many.modifiers["WARP"].falloff_type = "CURVE"
        many.modifiers["WARP"].falloff_curve.curves[0].points.new(0.5, 0.9)
    with maker.step("modifiers that work"):
        o = obj("Worked", cube("Worked", 1.0), (0, 0, 1.5))
        o.modifiers.new("Subdivision", "SUBSURF").levels = 1
        o.modifiers.new("Bevel", "BEVEL").width = 0.05
        mirror = o.modifiers.new("Mirror", "MIRROR")
        mirror.mirror_object = other
        o.modifiers.active = mirror
    with maker.step("hooks"):
        hook = o.modifiers.new("Hook", "HOOK")
        hook.object = other
        hook.vertex_indices_set([0, 1, 2])
    with maker.step("bound deformers"):
        lattice = obj("Cage", bpy.data.lattices.new("Cage"), (0, 0, 1.5))
        lattice.data.points_u = 3
        for i, p in enumerate(lattice.data.points):
            p.co_deform.z += 0.1 * (i % 3)
        o.modifiers.new("Lattice", "LATTICE").object = lattice
        cage = obj("Bind cage", cube("Bind cage", 3.0), (0, 0, 1.5))
        cage.hide_render = True
        soft = active(obj("Soft", grid("Soft", 3, 1.0), (0, 0, 1.5)))
        soft.modifiers.new("Deform", "MESH_DEFORM").object = cage
        bpy.context.view_layer.update()
        bpy.ops.object.meshdeform_bind(modifier="Deform")
        soft.modifiers.new("Surface", "SURFACE_DEFORM").target = cage
        bpy.ops.object.surfacedeform_bind(modifier="Surface")
        soft.modifiers.new("Smooth", "CORRECTIVE_SMOOTH").rest_source = "BIND"
        bpy.ops.object.correctivesmooth_bind(modifier="Smooth")
    with maker.step("laplacian deform"):
        soft.vertex_groups.new(name="Anchors").add([0, 3, 12, 15], 1, "REPLACE")
        soft.modifiers.new("Laplacian", "LAPLACIANDEFORM").vertex_group = "Anchors"
        bpy.ops.object.laplaciandeform_bind(modifier="Laplacian")
    maker.save()


def curves(maker):
    maker.empty()
    with maker.step("curves"):
        data = bpy.data.curves.new("Curve", "CURVE")
        data.dimensions, data.bevel_depth, data.bevel_mode = "3D", 0.1, "PROFILE"
        data.bevel_profile.points.add(0.4, 0.7)
        for kind in ("BEZIER", "NURBS", "POLY"):
            s = data.splines.new(kind)
            (s.bezier_points if kind == "BEZIER" else s.points).add(4)
            for i, p in enumerate(s.bezier_points if kind == "BEZIER" else s.points):
                p.co = (i, math.sin(i), 1) if kind == "BEZIER" else (i, math.sin(i), 1.5, 1)
                p.radius, p.tilt = 1 + i / 5, 0.1 * i
        data.splines.active = data.splines[1]
        curve = obj("Curve", data)
        round_ = obj("Round", bpy.data.curves.new("Round", "CURVE"), (4, 4, 0))
        round_.data.splines.new("NURBS").points.add(5)
        flat = obj("Flat", bpy.data.curves.new("Flat", "CURVE"), (4, 4, 0))
        flat.data.bevel_mode, flat.data.bevel_object, flat.data.taper_object = "OBJECT", round_, curve
        curve.shape_key_add(name="Basis")
        curve.shape_key_add(name="Bent").value = 0.5
    with maker.step("surfaces"):
        surface = bpy.data.curves.new("Surface", "SURFACE")
        surface.splines.new("NURBS").points.add(3)
        obj("Surface", surface)
    with maker.step("text"):
        text = bpy.data.curves.new("Words", "FONT")
        text.body, text.extrude = "Two words\nand more", 0.05
        text.body_format[0].use_bold = True
        text.body_format[4].material_index = 1
        text.materials.append(material("Letter"))
        text.materials.append(material("Other letter", (0, 0, 1, 1)))
        active(obj("Words", text, (-2, 0, 1), (1.2, 0, 0)))
        bpy.ops.object.mode_set(mode="EDIT")
        bpy.ops.font.textbox_add()
        bpy.ops.object.mode_set(mode="OBJECT")
        text.text_boxes[1].width = 3
        text.follow_curve = curve
    with maker.step("metaballs"):
        ball = bpy.data.metaballs.new("Ball")
        for i, kind in enumerate(enum_items(bpy.types.MetaElement, "type")):
            e = ball.elements.new(type=kind)
            e.co, e.radius = (i * 0.8, 0, 0), 0.7
        obj("Ball", ball, (0, 1, 1))
        obj("Ball.001", bpy.data.metaballs.new("Ball.001"), (0, 2, 1)).data.elements.new().radius = 0.5
    with maker.step("hair curves"):
        until(99)
        hair = bpy.data.hair_curves.new("Hair")
        hair.surface, hair.surface_uv_map = bpy.data.objects["Ground"], "UVMap"
        if hasattr(hair, "add_curves"):
            hair.add_curves([3, 4, 5])
            for i, p in enumerate(hair.points):
                p.position = (i * 0.1, 0, i * 0.1)
        obj("Hair", hair)
    with maker.step("point clouds"):
        cloud = bpy.data.pointclouds.new("Cloud")
        if hasattr(cloud, "resize"):
            cloud.resize(10)
        obj("Cloud", cloud)
    with maker.step("lattice"):
        lattice = bpy.data.lattices.new("Lattice")
        lattice.points_w, lattice.interpolation_type_u = 4, "KEY_LINEAR"
        obj("Lattice", lattice).shape_key_add(name="Basis")
    with maker.step("empties and images, speakers, probes"):
        empty = obj("Empty", None)
        empty.empty_display_type = "IMAGE"
        empty.data = bpy.data.images.new("Reference", 4, 4)
        obj("Speaker", bpy.data.speakers.new("Speaker"))
        for kind in enum_items(bpy.types.LightProbe, "type"):
            try:
                obj(kind, bpy.data.lightprobes.new(kind, kind))
            except TypeError:
                continue
    maker.save()


def grease_pencil(maker):
    maker.empty()
    with maker.step("strokes of version 3"):
        until(4, 3)
        data = bpy.data.grease_pencils.new("Drawing")
        for name in ("Lines", "Fills"):
            layer = data.layers.new(name)
            for frame in (1, 5):
                stroke = layer.frames.new(frame).strokes.new()
                stroke.points.add(4)
                for i, p in enumerate(stroke.points):
                    p.co, p.pressure = (i, frame / 5, 1), 0.5 + i / 4
                stroke.line_width = 40
        data.layers[1].parent = bpy.data.objects["Camera"]
        data.layers[1].mask_layers.add(data.layers[0])
        m = bpy.data.materials.new("Ink")
        bpy.data.materials.create_gpencil_data(m)
        data.materials.append(m)
        obj("Drawing", data).vertex_groups.new(name="Weights")
    with maker.step("strokes of the new kind"):
        since(4, 3)
        new = bpy.data.grease_pencils if bpy.app.version >= (5, 0) else bpy.data.grease_pencils_v3
        data = new.new("Drawing 3")
        group = data.layer_groups.new("Group")
        for name in ("Lines", "Fills"):
            layer = data.layers.new(name, layer_group=group)
            for frame in (1, 5):
                drawing = layer.frames.new(frame).drawing
                drawing.add_strokes([3, 4])
                for s in drawing.strokes:
                    for i, p in enumerate(s.points):
                        p.position, p.radius = (i, frame / 5, 1), 0.1
        data.layers[1].parent = bpy.data.objects["Camera"]
        data.layers[1].mask_layers.new(data.layers[0]) if hasattr(data.layers[1].mask_layers, "new") else None
        data.layers.active = data.layers[0]
        m = bpy.data.materials.new("Ink 3")
        bpy.data.materials.create_gpencil_data(m)
        data.materials.append(m)
        obj("Drawing 3", data)
    with maker.step("annotations"):
        notes = (bpy.data.annotations if hasattr(bpy.data, "annotations") else bpy.data.grease_pencils).new("Notes")
        layer = notes.layers.new("Note")
        frame = layer.frames.new(1)
        if hasattr(frame.strokes, "new"):
            frame.strokes.new().points.add(2)
        scene = bpy.context.scene
        if hasattr(scene, "annotation"):
            scene.annotation = notes
        else:
            scene.grease_pencil = notes
    with maker.step("line art"):
        host = next(o for o in bpy.data.objects if o.name.startswith("Drawing"))
        if hasattr(host, "grease_pencil_modifiers"):
            art = host.grease_pencil_modifiers.new("Art", "GP_LINEART")
        else:
            art = host.modifiers.new("Art", "LINEART")
        art.source_type, art.source_object = "OBJECT", bpy.data.objects["Ground"]
        art.show_render = art.show_viewport = False
    maker.save()


SCENES = {"mesh": mesh, "modifiers": modifiers, "curves": curves, "grease_pencil": grease_pencil}
