"""Scenes that use other files: links, instances, overrides, libraries of libraries, packed and missing ones."""

import os

import bpy

from scenes import Maker, Missing, active, cube, grid, keys, material, obj, since


def character(name):
    """A collection of a rig and its skin, with materials, groups and an action."""
    rig = bpy.data.armatures.new(name + " rig")
    body = bpy.data.objects.new(name + " rig", rig)
    top = bpy.data.collections.new(name)
    bpy.context.scene.collection.children.link(top)
    top.objects.link(body)
    active(body)
    bpy.ops.object.mode_set(mode="EDIT")
    for i in range(3):
        bone = rig.edit_bones.new("Bone.%d" % i)
        bone.head, bone.tail = (0, 0, i), (0, 0, i + 1)
        bone.parent = rig.edit_bones[i - 1] if i else None
    bpy.ops.object.mode_set(mode="OBJECT")
    inner = bpy.data.collections.new(name + " inner")
    top.children.link(inner)
    skin = bpy.data.objects.new(name + " skin", cube(name + " skin", 1.0))
    inner.objects.link(skin)
    skin.location = (0, 0, 1)
    skin.parent = body
    skin.data.materials.append(material(name + " cloth", (0.1, 0.3, 0.9, 1)))
    skin.shape_key_add(name="Basis")
    skin.shape_key_add(name="Smile").value = 0.3
    skin.modifiers.new("Bend", "ARMATURE").object = body
    skin["strength"] = 2.0
    constraint = skin.constraints.new("COPY_LOCATION")
    constraint.target, constraint.influence = body, 0.2
    keys(body, "location", 0, (1, 0.0), (12, 1.0))
    return top


def make_libraries(maker):
    """shared.blend, characters.blend, which uses it, and a namesake of it."""
    maker.empty()
    bpy.data.materials.new("Steel").use_nodes = True
    bpy.data.materials["Steel"].use_fake_user = True
    maker.save("shared")
    for file, name in (("characters", "Hero"), ("namesakes", "Hero")):
        maker.empty()
        maker.save(file)
        top = character(name)
        with bpy.data.libraries.load(maker.path("shared.blend"), link=True, relative=True) as (have, want):
            want.materials = ["Steel"]
        bpy.data.objects[name + " skin"].data.materials.append(bpy.data.materials["Steel"])
        top.asset_mark()
        bpy.data.scenes[0].name = "Stage of " + file
        maker.save(file)


def linked(maker):
    make_libraries(maker)
    scene = maker.empty()
    maker.save()
    with maker.step("collection instance"):
        with bpy.data.libraries.load(maker.path("characters.blend"), link=True, relative=True) as (have, want):
            want.collections = ["Hero"]
            want.materials = ["Hero cloth"]
        hero = want.collections[0]
        instance = obj("Hero instance", None, (2, 0, 0))
        instance.instance_type, instance.instance_collection = "COLLECTION", hero
    with maker.step("the same name from another library"):
        with bpy.data.libraries.load(maker.path("namesakes.blend"), link=True, relative=True) as (have, want):
            want.collections, want.objects = ["Hero"], ["Hero skin"]
        other = obj("Other instance", None, (-2, 0, 0))
        other.instance_type, other.instance_collection = "COLLECTION", want.collections[0]
        obj("Own", want.objects[0].data, (0, 2, 0))
        obj("Hero skin", cube("Hero skin", 0.5), (0, -2, 0)).data.materials.append(bpy.data.materials["Hero cloth"])
    with maker.step("linked scene as background"):
        with bpy.data.libraries.load(maker.path("characters.blend"), link=True, relative=True) as (have, want):
            want.scenes = ["Stage of characters"]
        scene.background_set = want.scenes[0]
    with maker.step("something that the library lacks"):
        with bpy.data.libraries.load(maker.path("characters.blend"), link=True, relative=True) as (have, want):
            want.worlds = ["No such world"]
    with maker.step("custom property to a linked ID"):
        scene["linked"] = hero
        scene["by name"] = {"who": bpy.data.materials["Hero cloth"]}
    with maker.step("appended with a memory"):
        bpy.ops.wm.append(filename="Hero cloth", directory=maker.path("namesakes.blend", "Material") + os.sep, do_reuse_local_id=True)
    maker.save()
    with maker.step("missing library"):
        with bpy.data.libraries.load(maker.path("shared.blend"), link=True, relative=True) as (have, want):
            want.materials = ["Steel"]
        gone = maker.path("gone.blend")
        with open(maker.path("shared.blend"), "rb") as a, open(gone, "wb") as b:
            b.write(a.read())
        with bpy.data.libraries.load(gone, link=True, relative=True) as (have, want):
            want.objects, want.worlds = ["Ground"], ["World"]
        scene.collection.objects.link(want.objects[0])
        scene["lost"] = want.objects[0]
        os.remove(gone)
    maker.save()


def overrides(maker):
    make_libraries(maker)
    scene = maker.empty()
    maker.save()
    with bpy.data.libraries.load(maker.path("characters.blend"), link=True, relative=True) as (have, want):
        want.collections = ["Hero"]
    hero = want.collections[0]
    with maker.step("override of a hierarchy"):
        scene.collection.children.link(hero)
        top = hero.override_hierarchy_create(scene, bpy.context.view_layer)
        if hero.name in scene.collection.children and scene.collection.children[hero.name] is hero:
            scene.collection.children.unlink(hero)
        mine = [o for o in top.all_objects if o.override_library is not None]
        if not mine:
            raise RuntimeError("nothing was overridden")
    body = next(o for o in mine if o.type == "ARMATURE")
    skin = next(o for o in mine if o.type == "MESH")
    with maker.step("changed properties"):
        skin.location = (1, 0.5, 1)
        skin["strength"] = 7.0
        body.pose.bones["Bone.1"].rotation_quaternion = (0.9, 0.1, 0.2, 0)
        body.pose.bones["Bone.1"].location = (0, 0.1, 0)
    with maker.step("inserted modifiers, constraints, strips"):
        skin.modifiers.new("Mine", "SUBSURF").levels = 1
        skin.modifiers.new("Mine too", "BEVEL").width = 0.02
        skin.constraints.new("LIMIT_SCALE").name = "My limit"
        body.pose.bones["Bone.2"].constraints.new("COPY_ROTATION").target = scene.camera
        track = body.animation_data.nla_tracks.new() if body.animation_data else None
        if track is not None:
            track.strips.new("My strip", 3, bpy.data.actions[0])
    with maker.step("overridden pointers"):
        skin.material_slots[0].link = "OBJECT"
        skin.material_slots[0].material = material("Mine")
    with maker.step("override of single data"):
        material_ = next(m for m in bpy.data.materials if m.name == "Hero cloth" and m.library)
        own = material_.override_create(remap_local_usages=False)
        if own is None:
            raise Missing("refused for data in use")
        own.diffuse_color = (0, 1, 0, 1)
    with maker.step("system override and operations"):
        operations = sum(len(p.operations) for p in skin.override_library.properties)
        maker.save()
        operations = sum(len(p.operations) for p in skin.override_library.properties)
        if not operations:
            raise RuntimeError("no operations were made")
    with maker.step("override whose library changed"):
        keep = maker.path(maker.name + ".blend")
        bpy.ops.wm.open_mainfile(filepath=maker.path("characters.blend"))
        bpy.data.objects["Hero skin"]["added later"] = 3
        obj("New in library", cube("New", 0.3), (0, 0, 3), collection=bpy.data.collections["Hero"])
        bpy.ops.wm.save_as_mainfile(filepath=maker.path("characters.blend"), compress=False)
        bpy.ops.wm.open_mainfile(filepath=keep)
    maker.save()


def packed_libraries(maker):
    with maker.step("packed linked data"):
        since(5, 0)
        make_libraries(maker)
        scene = maker.empty()
        maker.save()
        for file in ("characters", "namesakes"):
            with bpy.data.libraries.load(maker.path(file + ".blend"), link=True, relative=True, pack=True) as (have, want):
                want.collections, want.objects = ["Hero"], ["Hero skin"]
            instance = obj("Packed " + file, None, (2 if file == "characters" else -2, 0, 0))
            instance.instance_type, instance.instance_collection = "COLLECTION", want.collections[0]
            obj("Own of " + file, want.objects[0].data, (0, 2, 0))
        if not any(getattr(c, "is_linked_packed", False) for c in bpy.data.collections):
            raise RuntimeError("nothing was packed")
        maker.save()
        return
    maker.empty()
    maker.save()


SCENES = {"linked": linked, "overrides": overrides, "packed_libraries": packed_libraries}
