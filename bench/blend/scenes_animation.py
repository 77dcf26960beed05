"""Scenes of what moves: bones, constraints, actions, the NLA, drivers, shape keys."""

import math

import bpy

from scenes import Missing, active, cube, curves_of, enum_items, grid, keys, obj, since, until


def armature(maker):
    scene = maker.empty()
    rig = bpy.data.armatures.new("Rig")
    body = obj("Rig", rig)
    active(body)
    bpy.ops.object.mode_set(mode="EDIT")
    parent = None
    for i in range(5):
        bone = rig.edit_bones.new("Bone.%d" % i)
        bone.head, bone.tail = (0, 0, i * 0.5), (0, 0.05 * i, i * 0.5 + 0.5)
        bone.parent, bone.use_connect = parent, parent is not None
        parent = bone
    target = rig.edit_bones.new("Target")
    target.head, target.tail = (0, 1, 1), (0, 1, 1.5)
    bpy.ops.object.mode_set(mode="OBJECT")
    pose = body.pose.bones
    with maker.step("every constraint on bones"):
        for kind in enum_items(bpy.types.Constraint, "type"):
            c = pose["Bone.4"].constraints.new(kind)
            c.name, c.mute = kind, kind != "COPY_ROTATION"
            if hasattr(c, "target"):
                c.target = body
                if hasattr(c, "subtarget"):
                    c.subtarget = "Target"
        c = pose["Bone.4"].constraints["ARMATURE"].targets.new()
        c.target, c.subtarget = body, "Bone.0"
    with maker.step("inverse kinematics"):
        ik = pose["Bone.2"].constraints.new("IK")
        ik.target, ik.subtarget, ik.chain_count = body, "Target", 2
        body.pose.ik_solver = "ITASC"
        body.pose.ik_solver = "LEGACY"
    with maker.step("custom shapes and custom properties"):
        pose["Bone.1"].custom_shape = obj("Shape", cube("Shape", 0.2), (9, 9, 9))
        pose["Bone.1"].custom_shape_transform = pose["Bone.0"]
        pose["Bone.1"]["weight"] = 0.5
        rig.bones["Bone.1"]["kind"] = "spine"
    with maker.step("bendy bones"):
        rig.bones["Bone.3"].bbone_segments = 4
        rig.bones["Bone.3"].bbone_handle_type_end = "TANGENT"
        rig.bones["Bone.3"].bbone_custom_handle_end = rig.bones["Bone.4"]
        rig.display_type = "BBONE"
    with maker.step("bone collections"):
        since(4, 0)
        top = rig.collections.new("Top")
        top.assign(rig.bones["Bone.0"])
        since(4, 1)
        rig.collections.new("Below", parent=top).assign(rig.bones["Bone.1"])
        rig.collections.active = top
    with maker.step("bone groups"):
        until(4, 0)
        group = body.pose.bone_groups.new(name="Group")
        pose["Bone.0"].bone_group = group
        body.pose.bone_groups.active = group
    with maker.step("skin"):
        skin = obj("Skin", cube("Skin", 0.8), (0, 0, 1))
        skin.modifiers.new("Armature", "ARMATURE").object = body
        for i in range(3):
            skin.vertex_groups.new(name="Bone.%d" % i).add(list(range(i, 8)), 0.3 * (i + 1), "REPLACE")
        skin.vertex_groups.active_index = 1
    with maker.step("motion paths"):
        active(body)
        bpy.ops.object.mode_set(mode="POSE")
        bpy.ops.pose.select_all(action="SELECT")
        try:
            bpy.ops.pose.paths_calculate()
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")
    with maker.step("a keyed pose"):
        for i in range(4):
            pose["Bone.%d" % i].rotation_mode = "XYZ"
            keys(pose["Bone.%d" % i], "rotation_euler", 0, (1, 0.0), (12, 0.2 * i))
        body.animation_data.action.pose_markers.new("Contact").frame = 4
    with maker.step("every constraint on objects"):
        hung = obj("Hung", cube("Hung"), (1, 1, 1))
        for kind in enum_items(bpy.types.Constraint, "type"):
            try:
                c = hung.constraints.new(kind)
            except (RuntimeError, TypeError):
                continue  # for bones only
            c.name = kind
            if hasattr(c, "target"):
                c.target = scene.camera
        hung.constraints.active = hung.constraints[2]
    with maker.step("parents of every kind"):
        child = obj("Child", cube("Child", 0.1))
        child.parent, child.parent_type, child.parent_bone = body, "BONE", "Bone.2"
        child = obj("Vertex child", cube("Vertex child", 0.1))
        child.parent, child.parent_type, child.parent_vertices = skin, "VERTEX_3", (0, 1, 2)
    with maker.step("pose library and selection sets"):
        body.animation_data.action.asset_mark()
        body.animation_data.action.asset_data.description = "a pose"
    maker.save()


def actions(maker):
    scene = maker.empty()
    a = obj("Mover", cube("Mover"), (0, 0, 1))
    with maker.step("curves with groups and modifiers"):
        curve = keys(a, "location", 0, (1, 0.0), (5, 2.0), (12, -1.0))
        for p, kind in zip(curve.keyframe_points, ("BEZIER", "ELASTIC", "BACK")):
            p.interpolation, p.easing, p.back = kind, "EASE_OUT", 2.5
            p.handle_left_type = p.handle_right_type = "FREE"
            p.handle_left = (p.co[0] - 1, p.co[1] + 0.5)
        for kind in enum_items(bpy.types.FModifier, "type"):
            try:
                curve.modifiers.new(kind)
            except (RuntimeError, TypeError):
                continue
        for m in curve.modifiers:
            m.mute = m.type != "NOISE"
            if m.type == "ENVELOPE":
                m.control_points.add(3.0)
            if m.type == "GENERATOR":
                m.coefficients = [0.5, 0.25]
        action = a.animation_data.action
        groups = action.groups if hasattr(action, "groups") else action.layers[0].strips[0].channelbag(a.animation_data.action_slot).groups
        group = groups.get("Object Transforms") or groups.new("Object Transforms")
        group.color_set = "CUSTOM"
        curve.group = group
        curve.color_mode, curve.color = "CUSTOM", (1, 0.5, 0.2)
    with maker.step("sampled curves"):
        b = obj("Sampled", cube("Sampled"), (2, 0, 1))
        keys(b, "scale", 2, (1, 1.0), (12, 2.0)).convert_to_samples(1, 12)
    with maker.step("layers and slots"):
        since(4, 4)
        shared = bpy.data.actions.new("Layered")
        strip = shared.layers.new("Layer").strips.new(type="KEYFRAME")
        for i, kind in enumerate(("OBJECT", "OBJECT", "MATERIAL")):
            slot = shared.slots.new(kind, "Slot %d" % i)
            curve = strip.channelbag(slot, ensure=True).fcurves.new("location" if kind == "OBJECT" else "roughness", index=0)
            curve.keyframe_points.insert(1, 0)
            curve.keyframe_points.insert(10, i + 1)
        for i in range(2):
            o = obj("Slotted %d" % i, cube("Slotted"), (i, 2, 1))
            o.animation_data_create().action = shared
            o.animation_data.action_slot = shared.slots[i]
    with maker.step("strips"):
        c = obj("Stripped", cube("Stripped"), (-2, 0, 1))
        keys(c, "location", 2, (1, 1.0), (6, 3.0))
        action = c.animation_data.action
        c.animation_data.action = None
        track = c.animation_data.nla_tracks.new()
        track.name = "Track"
        first = track.strips.new("First", 1, action)
        first.blend_in, first.repeat, first.use_animated_time = 2, 1.5, False
        second = c.animation_data.nla_tracks.new().strips.new("Second", 3, action)
        second.blend_type, second.influence, second.use_animated_influence = "ADD", 0.5, True
        second.fcurves.find("influence").keyframe_points.insert(4, 0.8)
        second.modifiers.new("NOISE") if hasattr(second.modifiers, "new") else None
        c.animation_data.use_nla = True
    with maker.step("meta and transition strips"):
        area = next((x for w in bpy.context.window_manager.windows for x in w.screen.areas), None)
        if area is None:
            raise Missing("no window in this way of running")
        kind, area.type = area.type, "NLA_EDITOR"
        try:
            track.strips.new("Third", 20, action)
            for s in track.strips:
                s.select = True
            active(c)
            with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=area, region=next(r for r in area.regions if r.type == "WINDOW")):
                bpy.ops.nla.transition_add()
                bpy.ops.nla.meta_add()
        finally:
            area.type = kind
    with maker.step("animated materials and scenes"):
        m = bpy.data.materials.new("Animated")
        m.use_nodes = True
        keys(m.node_tree.nodes["Principled BSDF"].inputs["Roughness"], "default_value", -1, (1, 0.1), (12, 0.9))
        a.data.materials.append(m)
        keys(scene.view_settings, "exposure", -1, (1, 0.0), (12, 0.5))
        keys(scene.camera.data, "lens", -1, (1, 30.0), (12, 60.0))
    with maker.step("keying sets"):
        keying = scene.keying_sets.new(idname="Set", name="Set")
        keying.paths.add(a, "location", index=1)
        keying.paths.add(a, "rotation_euler", group_method="NAMED", group_name="Turn")
        scene.keying_sets.active = keying
    with maker.step("markers with cameras"):
        far = obj("Far", bpy.data.cameras.new("Far"), (0, -12, 6), (1.05, 0, 0))
        scene.timeline_markers.new("near", frame=1).camera = scene.camera
        scene.timeline_markers.new("far", frame=6).camera = far
    maker.save()


def drivers(maker):
    scene = maker.empty()
    a, b = obj("Driven", cube("Driven"), (0, 0, 1)), obj("Driver", cube("Driver", 0.3), (1, 1, 1))
    b["power"] = 1.5
    with maker.step("simple and Python expressions"):
        for index, expression in enumerate(("var * 2 + 0.5", "sin(var) + frame / 100", "max([var, len('abc')]) / 3 if var else bpy.app.version[0]")):
            driver = a.driver_add("location", index).driver
            driver.type, driver.expression = "SCRIPTED", expression
            variable = driver.variables.new()
            variable.targets[0].id, variable.targets[0].data_path = b, '["power"]'
    with maker.step("variables of every kind"):
        driver = a.driver_add("rotation_euler", 0).driver
        driver.type = "AVERAGE"
        for kind in enum_items(bpy.types.DriverVariable, "type"):
            variable = driver.variables.new()
            variable.type, variable.name = kind, kind.lower()
            for i, target in enumerate(variable.targets):
                if kind != "CONTEXT_PROP":
                    target.id = (b, scene.camera)[i]
                target.data_path = "location.x"
    with maker.step("drivers on what belongs to an ID"):
        m = bpy.data.materials.new("Driven")
        m.use_nodes = True
        a.data.materials.append(m)
        m.node_tree.driver_add('nodes["Principled BSDF"].inputs["Metallic"].default_value').driver.expression = "0.25"
        a.modifiers.new("Array", "ARRAY").count = 2
        a.driver_add('modifiers["Array"].count').driver.expression = "3"
        a["own"] = 1.0
        a.driver_add('["own"]').driver.expression = "frame"
    with maker.step("driver curves with keys"):
        curve = a.driver_add("scale", 0)
        curve.driver.type = "SUM"
        variable = curve.driver.variables.new()
        variable.type, variable.targets[0].id = "TRANSFORMS", b
        curve.keyframe_points.insert(0, 1)
        curve.keyframe_points.insert(2, 1.5)
    with maker.step("shape keys"):
        s = obj("Shaped", grid("Shaped", 3, 1.5), (-2, 0, 1))
        s.shape_key_add(name="Basis")
        s.vertex_groups.new(name="Half").add([0, 1, 2, 3], 1.0, "REPLACE")
        for i in range(3):
            key = s.shape_key_add(name="Key %d" % i)
            for j, p in enumerate(key.data):
                p.co.z += 0.2 * math.sin(i + j)
            key.value, key.vertex_group, key.mute = 0.4, "Half" if i == 1 else "", i == 2
        s.data.shape_keys.key_blocks[2].relative_key = s.data.shape_keys.key_blocks[1]
        s.data.shape_keys.key_blocks[1].driver_add("value").driver.expression = "frame / 12"
        s.data.shape_keys["made of"] = "keys"
        s.active_shape_key_index = 2
        keys(s.data.shape_keys, "eval_time", -1, (1, 0.0), (12, 10.0))
    maker.save()


SCENES = {"armature": armature, "actions": actions, "drivers": drivers}
