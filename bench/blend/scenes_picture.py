"""Scenes of pictures, sound and text: packed files, clips with tracks, masks, the sequencer, brushes."""

import glob
import math
import os
import struct
import wave

import bpy

from scenes import Missing, cube, enum_items, grid, keys, material, obj, since, until


def paint(name, size, fill):
    image = bpy.data.images.new(name, size, size)
    image.pixels = [c for y in range(size) for x in range(size) for c in fill(x / size, y / size)]
    return image


def tone(path):
    with wave.open(path, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(b"".join(struct.pack("<h", int(9000 * math.sin(i / 5))) for i in range(4000)))


def frames(maker, count):
    """Pictures of a spot that moves, as a sequence on disk."""
    os.makedirs(maker.path("plates"), exist_ok=True)
    for f in range(1, count + 1):
        image = paint("plate", 16, lambda x, y: (abs(x - f / 10), y, 0.5, 1))
        image.filepath_raw, image.file_format = maker.path("plates", "plate_%04d.png" % f), "PNG"
        image.save()
        bpy.data.images.remove(image)
    return maker.path("plates", "plate_0001.png")


def images(maker):
    scene = maker.empty()
    shown = obj("Shown", grid("Shown", 1, 2.0), (0, 0, 1), (1.2, 0, 0))
    m = material("Textured")
    shown.data.materials.append(m)
    node = m.node_tree.nodes.new("ShaderNodeTexImage")
    maker.save()
    with maker.step("packed image"):
        node.image = paint("Packed", 16, lambda x, y: (x, y, (x * 8 // 1) % 2, 1))
        node.image.pack()
        m.node_tree.links.new(node.outputs[0], m.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
    with maker.step("tiles"):
        tiles = bpy.data.images.new("Tiles", 8, 8, tiled=True)
        tiles.tiles.new(1002, label="second")
        tiles.tiles.new(1011)
    with maker.step("image on disk, sequence, views"):
        first = frames(maker, 4)
        image = bpy.data.images.load(first)
        image.filepath = "//plates/plate_0001.png"
        image.colorspace_settings.name = "Non-Color"
        sequence = image.copy()
        sequence.source = "SEQUENCE"
        other = m.node_tree.nodes.new("ShaderNodeTexImage")
        other.image, other.image_user.frame_duration, other.image_user.use_auto_refresh = sequence, 4, True
        stereo = bpy.data.images.new("Stereo", 8, 8, stereo3d=True)
        stereo.views_format = "STEREO_3D"
    with maker.step("render slots"):
        result = bpy.data.images.new("Render", 4, 4)
        slots = bpy.data.images.get("Render Result") or result
        slots.render_slots.new(name="kept")
    with maker.step("packed sound"):
        tone(maker.path("tone.wav"))
        sound = bpy.data.sounds.load(maker.path("tone.wav"))
        sound.filepath = "//tone.wav"
        sound.pack()
        obj("Loud", bpy.data.speakers.new("Loud")).data.sound = sound
    with maker.step("packed font"):
        fonts = bpy.utils.system_resource("DATAFILES", path="fonts")
        found = sorted(glob.glob(os.path.join(fonts, "*.ttf")) + glob.glob(os.path.join(fonts, "*.woff2")) + glob.glob("/usr/share/fonts/truetype/*/*.ttf"))
        if not found:
            raise Missing("no font file on this machine")
        font = bpy.data.fonts.load(min(found, key=os.path.getsize))
        font.pack()
        text = bpy.data.curves.new("Text", "FONT")
        text.font = font
        obj("Text", text, (-3, 0, 1))
    with maker.step("background images"):
        camera = scene.camera.data
        camera.show_background_images = True
        back = camera.background_images.new()
        back.image, back.alpha = node.image, 0.3
        back = camera.background_images.new()
        back.source, back.clip = "MOVIE_CLIP", bpy.data.movieclips.load(first)
        camera.dof.use_dof, camera.dof.focus_object = True, shown
    with maker.step("cache file"):
        cache = getattr(bpy.data, "cache_files", None)
        if not hasattr(cache, "new"):
            bpy.ops.cachefile.open(filepath=maker.path("none.abc"))
    maker.save()


def clips(maker):
    scene = maker.empty()
    maker.save()
    clip = bpy.data.movieclips.load(frames(maker, 6))
    clip.filepath = "//plates/plate_0001.png"
    tracking = clip.tracking
    with maker.step("tracks"):
        for i in range(8):
            track = tracking.tracks.new(name="Track %d" % i, frame=1)
            for f in range(1, 7):
                track.markers.insert_frame(f, co=(0.1 * i + 0.01 * f, 0.5 + 0.02 * f))
            track.weight = 0.5 + i / 16
        tracking.tracks.active = tracking.tracks[3]
    with maker.step("objects and stabilising"):
        thing = tracking.objects.new("Thing")
        thing.tracks.new(name="On the thing", frame=2)
        tracking.objects.active = tracking.objects[0]
        tracking.stabilization.use_2d_stabilization = True
        tracking.camera.k1 = 0.1
        tracking.dopesheet.sort_method = "TOTAL"
    with maker.step("plane tracks and reconstruction"):
        area = next((x for w in bpy.context.window_manager.windows for x in w.screen.areas), None)
        if area is None:
            raise Missing("no window in this way of running")
        kind, area.type = area.type, "CLIP_EDITOR"
        try:
            area.spaces[0].clip = clip
            for t in tracking.tracks:
                t.select = True
            with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=area, region=next(r for r in area.regions if r.type == "WINDOW")):
                bpy.ops.clip.create_plane_track()
                bpy.ops.clip.stabilize_2d_add()
                try:
                    bpy.ops.clip.solve_camera()
                except RuntimeError:
                    pass  # the tracks need not make sense
        finally:
            area.type = kind
    with maker.step("used by constraints and the scene"):
        scene.active_clip = clip
        c = scene.camera.constraints.new("FOLLOW_TRACK")
        c.clip, c.track, c.mute = clip, "Track 1", True
    with maker.step("mask"):
        mask = bpy.data.masks.new("Mask")
        for name in ("Layer", "Other"):
            layer = mask.layers.new(name=name)
            spline = layer.splines.new()
            spline.points.add(4)
            for i, p in enumerate(spline.points):
                p.co, p.handle_type = (0.2 * i, 0.1 + 0.1 * (i % 3)), "ALIGNED"
                p.feather_points if hasattr(p, "feather_points") else None
            spline.points[1].parent.id, spline.points[1].parent.parent, spline.points[1].parent.sub_parent = clip, "Camera", "Track 1"
        layer.splines.active = layer.splines[0]
        layer.splines.active_point = layer.splines[0].points[2]
        mask.active_layer_index = 1
        keys(mask.layers[0], "alpha", -1, (1, 0.2), (6, 1.0))
    with maker.step("mask shape keys"):
        area = next((x for w in bpy.context.window_manager.windows for x in w.screen.areas), None)
        if area is None:
            raise Missing("no window in this way of running")
        kind, area.type = area.type, "CLIP_EDITOR"
        try:
            area.spaces[0].clip, area.spaces[0].mode, area.spaces[0].mask = clip, "MASK", mask
            with bpy.context.temp_override(window=bpy.context.window_manager.windows[0], area=area, region=next(r for r in area.regions if r.type == "WINDOW")):
                for f in (1, 5):
                    scene.frame_set(f)
                    bpy.ops.mask.shape_key_insert()
        finally:
            area.type = kind
    maker.save()


def sequencer(maker):
    scene = maker.empty()
    maker.save()
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    end = {"length": 10} if bpy.app.version >= (5, 0) else {"frame_end": 11}
    with maker.step("colour, image and sound strips"):
        color = strips.new_effect("Color", "COLOR", 1, 1, **end)
        color.color = (0.2, 0.5, 0.1)
        first = frames(maker, 3)
        image = strips.new_image("Image", first, 2, 1)
        image.elements.append("plate_0002.png")
        image.blend_type, image.transform.scale_x = "ALPHA_OVER", 0.5
        tone(maker.path("strip.wav"))
        strips.new_sound("Sound", maker.path("strip.wav"), 3, 1)
    with maker.step("effects of every kind"):
        for kind in enum_items(bpy.types.Strip if hasattr(bpy.types, "Strip") else bpy.types.Sequence, "type"):
            inputs = {"input1": color, "input2": image} if bpy.app.version >= (4, 5) else {"seq1": color, "seq2": image}
            for given in ({}, {k: v for k, v in inputs.items() if k.endswith("1")}, inputs):
                try:
                    s = strips.new_effect(kind.title(), kind, 10, 1, **end, **given)
                except (RuntimeError, TypeError):
                    continue
                s.mute = True
                break
    with maker.step("text strip"):
        text = next(s for s in strips if s.type == "TEXT")
        text.text, text.mute, text.channel = "Words", False, 6
    with maker.step("modifiers of every kind"):
        for kind in enum_items(bpy.types.StripModifier if hasattr(bpy.types, "StripModifier") else bpy.types.SequenceModifier, "type"):
            try:
                image.modifiers.new(kind.title(), kind).mute = True
            except (RuntimeError, TypeError):
                continue
        image.modifiers[0].mute = False
        mask = bpy.data.masks.new("Strip mask")
        mask.layers.new(name="L").splines.new().points.add(3)
        image.modifiers[0].input_mask_type, image.modifiers[0].input_mask_id = "ID", mask
    with maker.step("mask, scene and clip strips"):
        strips.new_mask("Mask", mask, 12, 1).mute = True
        strips.new_scene("Scene", bpy.data.scenes.new("Shown by a strip"), 13, 1).mute = True
        strips.new_clip("Clip", bpy.data.movieclips.load(first), 14, 1).mute = True
    with maker.step("meta strips"):
        meta = strips.new_meta("Meta", 15, 1)
        inner = meta.strips if hasattr(meta, "strips") else meta.sequences
        inner.new_effect("Inside", "COLOR", 1, 1, **end)
        deeper = inner.new_meta("Deeper", 2, 1)
        (deeper.strips if hasattr(deeper, "strips") else deeper.sequences).new_effect("Deep inside", "COLOR", 1, 1, **end)
    with maker.step("an open meta strip"):
        editor.display_stack(meta)
        if hasattr(editor, "active_strip"):
            editor.active_strip = color
    with maker.step("proxies, animation, custom properties"):
        image.use_proxy = True
        image.proxy.directory = "//proxy"
        keys(image, "blend_alpha", -1, (1, 0.1), (8, 1.0))
        image["note"] = {"deep": [1, 2, 3]}
        editor.channels[3].name = "Named"
    with maker.step("retiming"):
        since(4, 0)
        raise Missing("its operators need an open sequencer")
    scene.render.use_sequencer = True
    maker.save()


def brushes(maker):
    maker.empty()
    with maker.step("brushes of every mode"):
        for mode in enum_items(bpy.types.BlendDataBrushes.bl_rna.functions["new"].parameters["mode"], "x") if False else (
                "SCULPT", "TEXTURE_PAINT", "VERTEX_PAINT", "WEIGHT_PAINT", "SCULPT_CURVES", "PAINT_GPENCIL", "PAINT_GREASE_PENCIL"):
            try:
                brush = bpy.data.brushes.new(mode.title(), mode=mode)
            except TypeError:
                continue
            brush.use_fake_user = True
    with maker.step("paint settings"):
        settings = bpy.context.tool_settings
        for mode in ("vertex_paint", "weight_paint", "sculpt", "image_paint"):
            settings.image_paint.canvas = bpy.data.images.new("Canvas", 4, 4)
        getattr(settings, "unified_paint_settings", settings.image_paint.unified_paint_settings if hasattr(settings.image_paint, "unified_paint_settings") else None).size = 33
    with maker.step("palettes and paint curves"):
        palette = bpy.data.palettes.new("Palette")
        for i in range(4):
            palette.colors.new().color = (i / 4, 0.5, 1)
        palette.colors.active = palette.colors[2]
    with maker.step("textures of every type"):
        for kind in enum_items(bpy.types.Texture, "type"):
            t = bpy.data.textures.new(kind.title(), kind)
            t.use_color_ramp = True
            t.color_ramp.elements.new(0.4)
            t.use_fake_user = True
        t.use_nodes = True
    with maker.step("texts"):
        text = bpy.data.texts.new("script.py")
        text.write("import bpy\n\n# \u00e4\u00f6\nprint('x')\n")
        text.current_line_index = 2
        text.select_set(0, 0, 2, 3)
        bpy.data.texts.new("empty")
    with maker.step("worlds and lights"):
        for kind in enum_items(bpy.types.Light, "type"):
            light = obj(kind, bpy.data.lights.new(kind, kind), (1, 1, 3)).data
            light.use_nodes = True
    maker.save()


SCENES = {"images": images, "clips": clips, "sequencer": sequencer, "brushes": brushes}
