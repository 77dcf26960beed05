# SPDX-License-Identifier: Apache-2.0
"""Builds FOLDER/film.blend: a moving cube, a tone that lies beside the file, and
a film as output. `-- FOLDER`."""

import math
import os
import struct
import sys
import wave

import bpy

out = sys.argv[sys.argv.index("--") + 1]
bpy.ops.wm.read_factory_settings(use_empty=False)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 2
scene.cycles.use_denoising = False
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 96, 54, 100
scene.frame_start, scene.frame_end = 3, 10
cube = bpy.data.objects["Cube"]
for at, frame in ((-1.0, 1), (1.0, 15)):
    cube.location.x = at
    cube.keyframe_insert("location", frame=frame)

tone = os.path.join(out, "sounds", "tone.wav")
os.makedirs(os.path.dirname(tone))
with wave.open(tone, "wb") as f:
    f.setnchannels(1)
    f.setsampwidth(2)
    f.setframerate(44100)
    f.writeframes(b"".join(struct.pack("<h", int(12000 * math.sin(i * 0.05 * (1 + i / 90000)))) for i in range(44100)))
editor = scene.sequence_editor_create()
if bpy.app.build_options.audaspace:
    (editor.strips if hasattr(editor, "strips") else editor.sequences).new_sound("tone", tone, 1, 1)
image, ffmpeg = scene.render.image_settings, scene.render.ffmpeg
if hasattr(image, "media_type"):
    image.media_type = "VIDEO"
image.file_format = "FFMPEG"
ffmpeg.format, ffmpeg.codec, ffmpeg.constant_rate_factor, ffmpeg.audio_codec = "MPEG4", "H264", "MEDIUM", "AAC"
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(out, "film.blend"))
sys.stdout.flush()
os._exit(0)
