# SPDX-License-Identifier: Apache-2.0
"""Makes a film of finished frames: Blender's own writer, with the scene's
sound and the settings of its output, or a preset's.

The frames are a strip over everything else of the sequencer. Their colours are
final: view transform Standard shows them as they are.
"""

from __future__ import annotations

import os
import tarfile
from typing import Any, Optional

import bpy

import compat
import frame
from overlay import Overlay
from protocol import Failed, Progress, Request

MAX_CHANNEL = 128  # of the sequencer


class Reels:
    """The frames of a film, in its order: a folder of each, or packed into
    tar files. One of them is a file below `at` at a time, under a name of its
    own, because Blender 5.0 remembers pictures by their names."""

    def __init__(self, folders: list[str], each: str, count: int, at: str) -> None:
        self.folders, self.each, self.count, self.at = folders, each, count, at
        self._tar: Optional[tarfile.TarFile] = None
        self._next = 0  # of the open tar's folder
        self._single = bool(folders) and not os.path.isfile(os.path.join(folders[0], "reel.tar"))
        if self._single and len(folders) != count:
            raise Failed("%d frames are here, the film has %d" % (len(folders), count))
        self.shown = -1
        self.error = ""

    def name(self, i: int) -> str:
        return "%06d.png" % i

    def show(self, i: int) -> None:
        """Makes a file of frame i (from 0), and removes the one before. Frames
        come in their order."""
        if i == self.shown:
            return
        if i != self.shown + 1 or i >= self.count:
            raise Failed("frame %d of the film was asked for after frame %d" % (i + 1, self.shown + 1))
        self.hide()
        if self._single:
            self._put(open(os.path.join(self.folders[i], self.each), "rb"), i)
        else:
            self._put(self._packed(i), i)
        self.shown = i

    def hide(self) -> None:
        try:
            os.remove(os.path.join(self.at, self.name(self.shown)))
        except FileNotFoundError:
            pass

    def _packed(self, i: int) -> Any:
        while True:
            if self._tar is None:
                if self._next == len(self.folders):
                    raise Failed("the reels end before frame %d of the film" % (i + 1))
                self._tar = tarfile.open(os.path.join(self.folders[self._next], "reel.tar"), "r:")
                self._next += 1
            member = self._tar.next()
            if member is None:
                self._tar.close()
                self._tar = None
                continue
            if member.name != self.name(i) or not member.isreg():
                raise Failed("a reel holds %r where frame %d of the film was expected" % (member.name, i + 1))
            return self._tar.extractfile(member)

    def _put(self, source: Any, i: int) -> None:
        with source, open(os.path.join(self.at, self.name(i)), "wb") as to:
            while True:
                data = source.read(1 << 20)
                if not data:
                    break
                to.write(data)

    def close(self) -> None:
        if self._tar is not None:
            self._tar.close()


def film(request: Request, progress: Progress) -> dict:
    """Writes out/film<extension> from the frames of the predecessors."""
    asked = request.film
    first, step, count = asked["first"], asked["step"], asked["count"]
    scene = frame.current_scene(request)
    path = os.path.join(request.out, "film" + request.extension)
    reels = Reels(request.prior, asked["frame"], count, request.out)
    reels.show(0)
    strip, editor = None, compat.editor(scene)
    handlers = bpy.app.handlers

    def before(*_: Any) -> None:
        # What a handler raises, Blender prints and goes on.
        i = (scene.frame_current - first) // step
        try:
            if not reels.error:
                reels.show(i)
        except (Failed, OSError, tarfile.TarError) as exc:
            reels.error = str(exc) or type(exc).__name__
        if reels.error:
            reels.hide()
        progress("encoding", i / count)

    with Overlay(scene) as overlay:
        settings(overlay, request, path)
        try:
            strip = compat.image_strip(editor, request.out, [reels.name(i // step) for i in range(step * count)], free_channel(editor), first)
            handlers.render_pre.append(before)
            result = bpy.ops.render.render(animation=True)
        finally:
            if before in handlers.render_pre:
                handlers.render_pre.remove(before)
            if strip is not None:
                compat.strips(editor).remove(strip)
            reels.hide()
            reels.close()
    if reels.error:
        raise Failed(reels.error)
    if reels.shown != count - 1:
        raise Failed("the film ended after %d of %d frames; see the log" % (reels.shown + 1, count))
    if "FINISHED" not in result or not os.path.isfile(path) or not os.path.getsize(path):
        raise Failed("Blender wrote no film; see the log")
    return {"device": "cpu"}


def settings(overlay: Overlay, request: Request, path: str) -> None:
    asked, scene = request.film, overlay.scene
    render_ = scene.render
    first, step, count = asked["first"], asked["step"], asked["count"]
    for name, value in (
        ("resolution_x", asked["width"]), ("resolution_y", asked["height"]), ("resolution_percentage", 100),
        ("use_border", False), ("use_multiview", False), ("use_stamp", False), ("use_compositing", False),
        ("use_sequencer", True), ("use_overwrite", True), ("use_placeholder", False), ("use_file_extension", False),
        ("filepath", path), ("dither_intensity", 0.0), ("frame_map_old", 100), ("frame_map_new", 100),
    ):
        overlay.set(render_, name, value)
    for name, value in (("frame_end", first + step * (count - 1)), ("frame_start", first), ("frame_end", first + step * (count - 1)),
                        ("frame_step", step)):
        overlay.set(scene, name, value)
    compat.show_as_is(overlay)
    compat.set_movie(overlay, asked["codec"])
    if not asked["sound"] and render_.image_settings.file_format == "FFMPEG":
        overlay.set(render_.ffmpeg, "audio_codec", "NONE")


def free_channel(editor: Any) -> int:
    channel = max((s.channel for s in compat.strips(editor)), default=0) + 1
    if channel > MAX_CHANNEL:
        raise Failed("the sequencer's highest channel is in use, and the film needs one above it; move its strips down")
    return channel
