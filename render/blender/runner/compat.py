# SPDX-License-Identifier: Apache-2.0
"""Everything that differs between Blender versions, 3.3 to 5.x."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any, Iterator, Optional

import bpy

EEVEE = ("BLENDER_EEVEE_NEXT", "BLENDER_EEVEE")


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def origin() -> str:
    """Who built this Blender: builds of one commit may still differ."""
    path = bpy.app.binary_path
    if not path:
        return "bpy"
    if _text(bpy.app.build_hash) == "Unknown" and path.startswith("/usr/"):
        return distribution()
    if "steam" in path.lower():
        return "steam"
    if _text(bpy.app.build_branch).startswith(("blender-v", "main", "master")):
        return "blender.org"
    return "unknown"


def distribution() -> str:
    """Whose package this is. A sandbox shows /usr and little of /etc, and the
    answer must be the same inside."""
    try:
        with open("/usr/lib/os-release", encoding="utf-8", errors="replace") as f:
            lines = f.read(1 << 16).splitlines()
    except OSError:
        return "distribution"
    names = [line[3:].strip("\"' ") for line in lines if line.startswith("ID=")]
    return names[0] if names and names[0].isalnum() and len(names[0]) <= 32 else "distribution"


def build() -> str:
    """Version, commit and origin: results compare only within one."""
    return "%s %s %s" % (version(), _text(bpy.app.build_hash).lower(), origin())


def version() -> str:
    return "%d.%d.%d" % tuple(bpy.app.version)


def folders() -> list[str]:
    """What a sandbox has to show of a Blender that is a Python package: the
    environment, the Python that it was made of, and the package. Empty for the
    program, which lies in one folder."""
    if bpy.app.binary_path:
        return []
    package = os.path.dirname(bpy.utils.resource_path("LOCAL"))
    return sorted({os.path.abspath(p) for p in (sys.prefix, sys.base_prefix, package) if p})


def module() -> str:
    """A file that changes when the package is replaced; empty for the program."""
    return "" if bpy.app.binary_path else os.path.abspath(bpy.__file__)


def denoisers() -> list[str]:
    """Denoisers that work on every machine with this build."""
    try:
        import _cycles
    except ImportError:
        return []
    found = []
    if getattr(_cycles, "with_openimagedenoise", False):
        found.append("openimagedenoise")
    return found


def engines() -> list[str]:
    """Names of the engines that this Blender has."""
    names = ["BLENDER_WORKBENCH"]
    prop = bpy.types.RenderSettings.bl_rna.properties["engine"]
    listed = {item.identifier for item in prop.enum_items}
    # EEVEE's name is in the list of 3.x-5.x only where it is built in.
    names += [name for name in EEVEE if name in listed or bpy.app.version < (4, 2, 0) and name == "BLENDER_EEVEE"]
    names += [e.bl_idname for e in bpy.types.RenderEngine.__subclasses__() if getattr(e, "bl_idname", "")]
    return sorted(set(names))


def engine_name(wanted: str) -> str:
    """Blender's name of an engine that a person named ("cycles", "EEVEE")."""
    have = engines()
    upper = wanted.upper()
    if upper in EEVEE or upper == "EEVEE":
        return next((name for name in EEVEE if name in have), "")
    for name in (upper, "BLENDER_" + upper):
        if name in have:
            return name
    return ""


def platform_name() -> str:
    return "%s %s" % (platform.system().lower(), platform.machine().lower())


# Compositor: up to 4.x a tree of the scene, since 5.0 a node group.

def compositor(scene: Any) -> Optional[Any]:
    """The compositor's tree where it is in use, else None."""
    if not scene.render.use_compositing:
        return None
    if hasattr(scene, "compositing_node_group"):
        return scene.compositing_node_group
    return scene.node_tree if scene.use_nodes else None


def plain_compositor(scene: Any) -> tuple[Any, Any]:
    """Makes an empty compositor that only shows one picture; returns the tree
    and the socket that takes the picture."""
    if hasattr(scene, "compositing_node_group"):
        tree = bpy.data.node_groups.new("idlewild", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        scene.compositing_node_group = tree
        output = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
    scene.render.use_compositing = True
    return tree, output.inputs[0]


# File Output nodes: up to 4.x a base path and slots with paths, since 5.0 a
# folder, a file name and items that add theirs.

def writes_layers(node: Any) -> bool:
    """Whether all inputs go into one file."""
    return node.format.file_format == "OPEN_EXR_MULTILAYER"


def file_of(node: Any, i: int, scene: Any) -> tuple[str, str, Any]:
    """Folder and name of the file of input i (-1: of all), as written in the
    node, and the settings of its format."""
    if hasattr(node, "file_output_items"):
        folder, name = template(node.directory, node, scene), template(node.file_name, node, scene)
        if i < 0:
            return folder, name, node.format
        item = node.file_output_items[i]
        # A slash in an item's name is no folder.
        name += item.name.replace("/", "_").replace("\\", "_")
        return folder, name, item.format if item.override_node_format else node.format
    if i < 0:
        cut = max(node.base_path.rfind("/"), node.base_path.rfind("\\")) + 1
        return node.base_path[:cut], node.base_path[cut:], node.format
    slot = node.file_slots[i]
    return node.base_path, slot.path, node.format if slot.use_node_format else slot.format


def template(text: str, node: Any, scene: Any) -> str:
    """Text with {variables} of 5.0 filled in, by Blender itself but for the
    node's name, which a render's path does not know."""
    if "{" not in text:
        return text
    text = text.replace("{node_name}", node.name)
    render = scene.render
    before = render.filepath, render.use_file_extension
    try:
        # The number of the frame has to come out as it went in.
        render.filepath, render.use_file_extension = text.replace("#", "\x01") + "#", False
        return render.frame_path(frame=1)[:-1].replace("\x01", "#")
    except (RuntimeError, TypeError):
        return text.replace("{", "_").replace("}", "_")
    finally:
        render.filepath, render.use_file_extension = before


def send_file(node: Any, i: int, folder: str, name: str) -> None:
    """Makes the node write the file of input i (-1: of all) into folder, with
    a name that starts so."""
    if hasattr(node, "file_output_items"):
        node.directory = folder + os.sep
        node.file_name = name if i < 0 else ""
        if i >= 0:
            node.file_output_items[i].name = name
        return
    if i < 0:
        node.base_path = os.path.join(folder, name)
    else:
        node.base_path = folder + os.sep
        node.file_slots[i].path = name


def extension(scene: Any, image: Any) -> str:
    """The ending of files with such settings: Blender says it of the scene's."""
    own = scene.render.image_settings
    media = getattr(own, "media_type", None)
    before = own.file_format
    try:
        if media is not None:
            own.media_type = image.media_type
        own.file_format = image.file_format
        return scene.render.file_extension or ".png"
    finally:
        if media is not None:
            own.media_type = media
        own.file_format = before


def missing_output(tree: Any) -> Optional[Any]:
    """Where the tree shows no picture, the input of an output made for it."""
    if hasattr(bpy.types, "CompositorNodeComposite"):
        if any(n.bl_idname == "CompositorNodeComposite" for n in tree.nodes):
            return None
        return tree.nodes.new("CompositorNodeComposite").inputs[0]
    if any(n.bl_idname == "NodeGroupOutput" and n.inputs[:-1] for n in tree.nodes):
        return None
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    return tree.nodes.new("NodeGroupOutput").inputs[0]


def vector(tree: Any) -> tuple[Any, Any]:
    """An input that takes a colour, and an output that gives it as a vector."""
    try:
        apart, together = (tree.nodes.new("CompositorNode" + name) for name in ("SeparateXYZ", "CombineXYZ"))
    except RuntimeError:  # 5.0
        apart, together = (tree.nodes.new("ShaderNode" + name) for name in ("SeparateXYZ", "CombineXYZ"))
    for i in range(3):
        tree.links.new(apart.outputs[i], together.inputs[i])
    return apart.inputs[0], together.outputs[0]


# Films. Codecs that a person may ask for: container, codec, extension, sound.
PRESETS = {
    "h264": ("MPEG4", "H264", ".mp4", "AAC"),
    "h265": ("MPEG4", "H265", ".mp4", "AAC"),
    "av1": ("MPEG4", "AV1", ".mp4", "AAC"),
    "prores": ("QUICKTIME", "PRORES", ".mov", "PCM"),
}
EXTENSIONS = {"MPEG1": ".mpg", "MPEG2": ".dvd", "MPEG4": ".mp4", "AVI": ".avi", "QUICKTIME": ".mov", "DV": ".dv",
              "OGG": ".ogv", "MKV": ".mkv", "FLASH": ".flv", "WEBM": ".webm"}


def codecs(scene: Any) -> list[str]:
    """Codecs of films that this Blender knows."""
    return [item.identifier for item in scene.render.ffmpeg.bl_rna.properties["codec"].enum_items]


def set_movie(overlay: Any, preset: str) -> None:
    """Output as a film: as the scene says where preset is empty, or where what
    it says is of that codec."""
    render = overlay.scene.render
    image, ffmpeg = render.image_settings, render.ffmpeg
    if hasattr(image, "color_management"):
        overlay.set(image, "color_management", "FOLLOW_SCENE")
    own = image.file_format
    if own == "FFMPEG":
        overlay.set(ffmpeg, "use_autosplit", False)
    if not preset or own == "FFMPEG" and ffmpeg.codec == PRESETS[preset][1]:
        return
    container, codec, _, sound = PRESETS[preset]
    if hasattr(image, "media_type"):
        overlay.set(image, "media_type", "VIDEO")
    overlay.set(image, "file_format", "FFMPEG")
    overlay.set(image, "color_mode", "RGB")
    overlay.set(ffmpeg, "format", container)
    overlay.set(ffmpeg, "codec", codec)
    overlay.set(image, "color_depth", "10" if codec == "PRORES" else "8")
    overlay.set(ffmpeg, "use_autosplit", False)
    overlay.set(ffmpeg, "use_lossless_output", False)
    overlay.set(ffmpeg, "constant_rate_factor", "HIGH")
    if own != "FFMPEG":
        overlay.set(ffmpeg, "audio_codec", sound)
        overlay.set(ffmpeg, "audio_bitrate", 192)


def show_as_is(overlay: Any) -> None:
    """Colour management that leaves pictures whose colours are final alone."""
    scene = overlay.scene
    view = scene.view_settings
    overlay.set(scene.display_settings, "display_device", "sRGB")
    overlay.set(view, "view_transform", "Standard")
    overlay.set(view, "look", "None")
    overlay.set(view, "exposure", 0.0)
    overlay.set(view, "gamma", 1.0)
    overlay.set(view, "use_curve_mapping", False)
    if hasattr(view, "use_white_balance"):
        overlay.set(view, "use_white_balance", False)
    overlay.set(scene.sequencer_colorspace_settings, "name", "sRGB")


def editor(scene: Any) -> Any:
    """The scene's sequencer, made where there is none."""
    return scene.sequence_editor or scene.sequence_editor_create()


def strips(editor: Any) -> Any:
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def image_strip(editor: Any, folder: str, names: list[str], channel: int, start: int) -> Any:
    """A strip that shows pictures, one a frame, and nothing of those below it.
    The first of them has to be there."""
    strip = strips(editor).new_image("idlewild", os.path.join(folder, names[0]), channel, start, fit_method="ORIGINAL")
    for name in names[1:]:
        strip.elements.append(name)
    strip.frame_final_duration = len(names)
    strip.blend_type = "REPLACE"
    strip.colorspace_settings.name = "sRGB"
    return strip


def uses_sequencer(scene: Any) -> bool:
    """Whether strips of the sequencer would replace the rendered picture."""
    editor = scene.sequence_editor
    if not scene.render.use_sequencer or editor is None:
        return False
    return any(not s.mute and s.type != "SOUND" for s in strips(editor))


def all_strips(scene: Any) -> list[Any]:
    """The strips of a scene that are not muted, those inside of others too."""
    editor = scene.sequence_editor
    if editor is None:
        return []
    return [s for s in (editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all) if not s.mute]


def set_multilayer(overlay: Any, depth: str, codec: str) -> None:
    """Output as one EXR with every pass of every view layer."""
    image = overlay.scene.render.image_settings
    if hasattr(image, "media_type"):  # 5.0
        overlay.set(image, "media_type", "MULTI_LAYER_IMAGE")
    overlay.set(image, "file_format", "OPEN_EXR_MULTILAYER")
    overlay.set(image, "color_mode", "RGBA")
    overlay.set(image, "color_depth", depth)
    if overlay.scene.render.use_multiview:
        overlay.set(image, "views_format", "MULTIVIEW")
    overlay.set(image, "exr_codec", codec)
    if hasattr(image, "color_management"):
        overlay.set(image, "color_management", "FOLLOW_SCENE")


def views(scene: Any) -> list[Any]:
    """The views that a render of the scene makes; none where it makes one
    picture that has no name."""
    render = scene.render
    if not render.use_multiview:
        return []
    found = render.stereo_views if render.views_format == "STEREO_3D" else render.views
    return [view for view in found if view.use]


def switch(tree: Any, value: bool) -> tuple[dict, Any]:
    """Makes, in a compositor, what shows another picture in each view; returns the
    sockets that take these, by the view's name, and the one that gives. value: it
    is a single number, which as a colour would be rounded."""
    node = tree.nodes.new("CompositorNodeSwitchView")
    give = node.outputs[0]
    if value:
        part = tree.nodes.new("CompositorNodeSeparateColor")
        tree.links.new(give, part.inputs[0])
        give = part.outputs[0]
    return {socket.name: socket for socket in node.inputs}, give


def switched_views(scene: Any) -> list[str]:
    """The views that an Image node does not tell apart by itself: since 5.0 it
    shows all as the one that it is set to."""
    return [v.name for v in views(scene)] if bpy.app.version >= (5, 0, 0) else []


def set_png(image: Any) -> None:
    """Output as PNG files that hold what the frames of a movie would: for
    files that ask for one."""
    mode, depth = image.color_mode, movie_depth(image)
    if hasattr(image, "media_type"):
        image.media_type = "IMAGE"
    image.file_format = "PNG"
    image.color_mode = mode if mode in ("BW", "RGBA") else "RGB"
    image.color_depth = depth


def save_png(overlay: Any, path: str) -> None:
    """Writes what was just rendered a second time, as a frame of a film."""
    image = overlay.scene.render.image_settings
    if hasattr(image, "media_type"):
        overlay.set(image, "media_type", "IMAGE")
    overlay.set(image, "file_format", "PNG")
    overlay.set(image, "color_mode", "RGB")
    overlay.set(image, "color_depth", "8")
    if hasattr(image, "color_management"):
        overlay.set(image, "color_management", "FOLLOW_SCENE")
    bpy.data.images["Render Result"].save_render(path, scene=overlay.scene)


def movie_depth(image: Any) -> str:
    """Bits of a PNG file that holds what a movie's frames have."""
    return "16" if image.color_depth in ("10", "12", "16") else "8"


def sample_range(overlay: Any, cycles: Any, first: int, end: int, total: int) -> None:
    """Render only the samples first <= s < end of total."""
    if hasattr(cycles, "use_sample_subset"):  # 4.5 and later
        overlay.set(cycles, "samples", total)
        overlay.set(cycles, "use_sample_subset", True)
        overlay.set(cycles, "sample_offset", first)
        overlay.set(cycles, "sample_subset_length", end - first)
    elif hasattr(cycles, "sample_offset"):
        overlay.set(cycles, "sample_offset", first)
        overlay.set(cycles, "samples", end - first)
    elif first:
        raise RuntimeError("this Blender cannot render a range of samples")
    else:
        overlay.set(cycles, "samples", end)


def other_hardware(overlay: Any) -> None:
    """Another ray tracing structure and older instructions, for the CPU: what
    honest machines may differ by. Cycles heeds these settings only with both
    preferences on."""
    preferences = bpy.context.preferences
    overlay.set(preferences.view, "show_developer_ui", True)
    overlay.set(preferences.experimental, "use_cycles_debug", True)
    cycles = overlay.scene.cycles
    overlay.set(cycles, "debug_bvh_layout", "BVH2")
    for name in ("debug_use_cpu_avx", "debug_use_cpu_avx2"):
        if hasattr(cycles, name):
            overlay.set(cycles, name, False)


def curves(owner: Any) -> Iterator[Any]:
    """Animation curves of a datablock: of its action, and its drivers."""
    data = getattr(owner, "animation_data", None)
    if data is None:
        return
    action = data.action
    if action is not None:
        if hasattr(action, "fcurves"):
            yield from action.fcurves
        else:  # 5.0: layers, strips and a bag per slot
            for layer in action.layers:
                for strip in layer.strips:
                    for bag in strip.channelbags:
                        if bag.slot == data.action_slot:
                            yield from bag.fcurves
    yield from data.drivers


def action_curves(data: Any) -> Optional[list[Any]]:
    """Curves of the action by which a datablock is animated; None where it is
    not one layer of them."""
    action = data.action
    layers = getattr(action, "layers", None)
    if layers is None or not len(layers) and hasattr(action, "fcurves"):
        return list(action.fcurves)  # before 4.4
    if len(layers) != 1 or len(layers[0].strips) != 1:
        return [] if not len(layers) else None
    strip = layers[0].strips[0]
    if strip.type != "KEYFRAME" or data.action_slot is None:
        return None
    return [c for bag in strip.channelbags if bag.slot == data.action_slot for c in bag.fcurves]


def plays_straight() -> bool:
    """Whether a picture of a frame shows that frame of everything: no scene's
    time is mapped to another, and no strips show scenes or clips."""
    for scene in bpy.data.scenes:
        if scene.render.frame_map_old != scene.render.frame_map_new:
            return False
        if scene.sequence_editor is not None and any(s.type != "SOUND" for s in strips(scene.sequence_editor)):
            return False
    return True


def reach() -> float:
    """How far from a frame its picture looks, in frames."""
    far = 0.0
    for scene in bpy.data.scenes:
        if scene.render.use_motion_blur or getattr(getattr(scene, "eevee", None), "use_motion_blur", False):
            shutters = [scene.render.motion_blur_shutter, getattr(getattr(scene, "eevee", None), "motion_blur_shutter", 0)]
            far = max([far, 1.0] + shutters)
        if any(layer.use_pass_vector for layer in scene.view_layers):
            far = max(far, 1.0)
    return far
