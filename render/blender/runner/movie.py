# SPDX-License-Identifier: Apache-2.0
"""What film a job ends in, by the scene's settings and a person's wish."""

from __future__ import annotations

from typing import Any

import bpy

import compat
from problems import Problems

MOVIES = {"FFMPEG", "AVI_JPEG", "AVI_RAW"}

# Codecs whose usual pixels are blocks of two by two.
EVEN = {"H264", "H265", "AV1"}


def wanted(scene: Any, asked: str) -> bool:
    """Whether there is a film at all; asked is a preset, "none" or empty."""
    return asked != "none" and bool(asked or scene.render.image_settings.file_format in MOVIES)


def sounds(scene: Any, asked: str) -> bool:
    """Whether the film has something to be heard in it."""
    own = scene.render.image_settings.file_format
    if not wanted(scene, asked) or own in MOVIES and (own != "FFMPEG" or scene.render.ffmpeg.audio_codec == "NONE"):
        return False
    editor = scene.sequence_editor
    strips = () if editor is None else editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all
    return any(not s.mute and s.type in ("SOUND", "SCENE") for s in strips) or any(
        o.type == "SPEAKER" and o.data.sound is not None and not o.data.muted for o in scene.objects)


def facts(scene: Any, asked: str, size: tuple[int, int], problems: Problems) -> dict:
    """The film, for the planner; empty where there is none."""
    if not wanted(scene, asked):
        return {}
    where = "Output of scene '%s'" % scene.name
    image, ffmpeg = scene.render.image_settings, scene.render.ffmpeg
    if not bpy.app.build_options.codec_ffmpeg:
        problems.error(where, "this Blender cannot write films", "use an official Blender, or pass --video none")
        return {}
    own = image.file_format in MOVIES
    preset = asked
    if own and (not asked or image.file_format == "FFMPEG" and ffmpeg.codec == compat.PRESETS[asked][1]):
        preset = ""
    if preset:
        _, codec, extension, _ = compat.PRESETS[preset]
        if codec not in compat.codecs(scene):
            problems.error(where, "Blender %s cannot write %s" % (compat.version(), preset),
                           "use Blender 4.5 or newer, or another codec with --video")
    elif image.file_format == "FFMPEG":
        codec, extension = ffmpeg.codec, compat.EXTENSIONS.get(ffmpeg.format, ".mkv")
        if codec == "NONE":
            problems.error(where, "the film has no codec for its pictures", "choose one, or pass --video none")
    else:
        codec, extension = image.file_format, ".avi"
    lossless = not preset and ffmpeg.use_lossless_output
    if codec in EVEN and not lossless and (size[0] % 2 or size[1] % 2):
        problems.error(where, "%s needs an even width and height, and the picture has %dx%d pixels" % (codec, *size),
                       "change the resolution, or pass --video none")
    heard = sounds(scene, asked)
    if heard and not getattr(bpy.app.build_options, "audaspace", True):
        problems.warning(where, "this build of Blender has no sound, so the film is silent",
                         "use an official Blender for films with sound")
    if own and image.file_format == "FFMPEG" and ffmpeg.use_autosplit:
        problems.warning(where, "the film is one file: it is not split at 2 GB", "nothing, if that is meant")
    return {
        "codec": preset,
        "extension": extension,
        "sound": heard or own,  # a film that is silent as it stands has a silent track
        "own": own,
    }
