# SPDX-License-Identifier: Apache-2.0
"""Turns a rendered EXR into the artist's own file: compositing, colour
management, format, dither, stamp. No engine is started for it.

Every Render Layers node of the compositor is replaced by an Image node that
reads the EXR, so what follows is what Blender does after any render.
"""

from __future__ import annotations

import os
from typing import Any, Optional

import bpy

import compat
import frame
import opened
import outputs
import presence
from movie import MOVIES
from overlay import Overlay
from protocol import Broken, Failed, Progress, Request


class Stage:
    """The scene's compositor with the render taken out of it, built once per
    session; each request shows it another EXR."""

    def __init__(self, scene: Any, request: Request) -> None:
        self.scene = scene
        self._black: Any = None
        self._views = compat.switched_views(scene)
        self._images: list[tuple[Any, str, str]] = []  # node, view layer, view
        self._mattes: list[tuple[Any, str, str]] = []  # node, its layer, what it picks
        # node, view layer, pass, tree, target socket
        self._links: list[tuple[Any, str, str, Any, Any]] = []
        tree = compat.compositor(scene)
        if tree is None:
            tree, target = compat.plain_compositor(scene)
        else:
            self._replace(tree)
            target = compat.missing_output(tree)
        if target is not None:
            # What Blender saves without a compositor, and where that only
            # writes files: the first layer.
            layer = rendered_layers(scene, request)[0]
            self._connect(self._pictures(tree, layer), layer, "Image", tree, [target], False)
        if not request.files:
            self._quiet(tree)
        if scene.render.image_settings.file_format in MOVIES:
            compat.set_png(scene.render.image_settings)

    def _replace(self, tree: Any) -> None:
        for old in [n for n in tree.nodes if n.bl_idname == "CompositorNodeRLayers"]:
            if old.scene not in (None, self.scene):
                raise Failed("compositor node %r shows another scene" % old.name)
            pictures = self._pictures(tree, old.layer)
            for new in pictures.values():
                new.mute = old.mute
            for socket in old.outputs:
                targets = [link.to_socket for link in socket.links]
                if targets and socket.type == "VECTOR":
                    # An Image node gives colours, which File Output nodes
                    # would write as such, with an alpha that means nothing.
                    take, give = compat.vector(tree)
                    for target in targets:
                        tree.links.new(give, target)
                    targets = [take]
                self._connect(pictures, old.layer, socket.name, tree, targets, socket.type == "VALUE")
            tree.nodes.remove(old)
        for node in tree.nodes:
            if node.bl_idname == "CompositorNodeCryptomatteV2" and node.source == "RENDER":
                if node.scene not in (None, self.scene):
                    raise Failed("compositor node %r shows another scene" % node.name)
                # A file's cryptomattes are picked by the same names.
                self._mattes.append((node, node.layer_name, node.matte_id))
                node.source = "IMAGE"

    def _pictures(self, tree: Any, layer: str) -> dict[str, Any]:
        """Image nodes that show a layer: one, or one of each view."""
        made = {view: tree.nodes.new("CompositorNodeImage") for view in self._views or [""]}
        self._images += [(node, layer, view) for view, node in made.items()]
        return made

    def _connect(self, pictures: dict, layer: str, name: str, tree: Any, targets: list, value: bool) -> None:
        """Notes which pass of the pictures the targets are to get."""
        if not self._views:
            self._links += [(pictures[""], layer, name, tree, target) for target in targets]
        elif targets:
            take, give = compat.switch(tree, value)
            for target in targets:
                tree.links.new(give, target)
            self._links += [(node, layer, name, tree, take[view]) for view, node in pictures.items()]

    def _quiet(self, tree: Any) -> None:
        """File Output nodes would write to the artist's own paths."""
        for node in outputs.nodes(tree):
            node.mute = True

    def show(self, path: str, rendered: list[str]) -> Any:
        """Connects the EXR at path, which holds the view layers `rendered`;
        returns its image, to be removed later."""
        image = bpy.data.images.load(path, check_existing=False)
        width, _ = image.size  # reading it loads the file; only then is the type known
        if image.type != "MULTILAYER" and not width:
            raise Failed("the rendered file cannot be read")
        image.use_multiview = self.scene.render.use_multiview  # each view is composited of its own passes
        for node, layer, view in self._images:
            node.image = image
            if node.has_layers and layer in rendered:
                node.layer = layer
            if view and node.has_views:
                node.view = view
        for node, layer, matte in self._mattes:
            node.image = image
            try:
                node.layer_name = layer
            except TypeError:  # no such pass was rendered: nothing is picked, as in the render
                continue
            node.matte_id = matte
        for node, layer, name, tree, target in self._links:
            source = find_output(node, name) if layer in rendered else None
            tree.links.new(source or self._black_socket(tree), target)
        return image

    def _black_socket(self, tree: Any) -> Any:
        """What a Render Layers node gives for a pass that was not rendered."""
        if self._black is None:
            self._black = tree.nodes.new("CompositorNodeRGB")
            self._black.outputs[0].default_value = (0.0, 0.0, 0.0, 0.0)
        return self._black.outputs[0]


def find_output(node: Any, name: str) -> Optional[Any]:
    """The socket of an Image node that gives what a Render Layers node's
    socket of that name gave. Should Blender take an EXR with a single pass
    for a plain picture, its only pass is Image."""
    wanted = "Combined" if name == "Image" and node.image.type == "MULTILAYER" else name
    for socket in node.outputs:
        if socket.name == wanted and socket.enabled:
            return socket
    return None


def rendered_layers(scene: Any, request: Request) -> list[str]:
    """The view layers that the render task rendered, in order."""
    if request.view_layer:
        return [request.view_layer]
    used = [layer.name for layer in scene.view_layers if layer.use]
    if not used:
        raise Failed("no view layer of scene %r is rendered" % scene.name)
    return used


_built: dict[str, Stage] = {}  # by view layer; never more than one


def stage_for(scene: Any, request: Request) -> Stage:
    """This session's Stage. Building one takes the render out of the tree, so
    there is no second."""
    if request.view_layer not in _built:
        if _built:
            raise Broken("this session shows another view layer")
        _built[request.view_layer] = Stage(scene, request)
    return _built[request.view_layer]


def finish(request: Request, progress: Progress) -> dict:
    """Writes out/frame<extension> from prior[0]/frame.exr, and what the File
    Output nodes write as request.files."""
    scene = frame.current_scene(request)
    source = os.path.join(request.prior[0], "frame.exr")
    stage = stage_for(scene, request)
    with Overlay(scene) as overlay:
        render_ = scene.render
        frame.resolution(overlay, request)
        frame.camera(overlay, request)
        image = stage.show(source, rendered_layers(scene, request))
        try:
            base = os.path.join(request.out, "frame")
            overlay.set(render_, "use_sequencer", False)
            overlay.set(render_, "use_file_extension", True)
            overlay.set(render_, "use_overwrite", True)
            overlay.set(render_, "use_placeholder", False)
            overlay.set(render_, "filepath", base)
            files = outputs.Redirect(scene, request.out, request.files) if request.files else None
            progress("saving", 0.1)
            scene.frame_set(request.frame)
            presence.look([os.environ.get("IDLEWILD_IN", "")], request.frame, request.reads, lambda: opened.files(scene, request.frame))
            result = bpy.ops.render.render(write_still=True)
            if request.film_frame:
                compat.save_png(overlay, os.path.join(request.out, "film.png"))
        finally:
            bpy.data.images.remove(image)
    paths = [base + suffix + request.extension for suffix in request.suffixes or [""]]
    if "FINISHED" not in result or not all(os.path.isfile(path) for path in paths):
        raise Failed("Blender wrote no finished picture of frame %d; see the log" % request.frame)
    if files:
        files.collect()
    return {"device": "cpu"}  # compositing and writing, whatever the slot is called


def denoise(request: Request, progress: Progress) -> dict:
    """Writes out/denoised.exr from prior[0]/guides.exr: a frame that was
    rendered in parts, denoised as Cycles would have done after rendering it."""
    scene = frame.current_scene(request)
    target = os.path.join(request.out, "denoised.exr")
    with Overlay(scene) as overlay:
        scene.frame_set(request.frame)
        overlay.set(scene.render, "engine", "CYCLES")
        overlay.set(scene.cycles, "device", "CPU")
        overlay.set(scene.cycles, "use_denoising", True)
        overlay.set(scene.cycles, "denoiser", "OPENIMAGEDENOISE")
        if hasattr(scene.cycles, "denoising_use_gpu"):
            overlay.set(scene.cycles, "denoising_use_gpu", False)
        overlay.set(bpy.context.view_layer.cycles, "use_denoising", True)
        progress("rendering", 0.0)
        bpy.ops.cycles.denoise_animation(input_filepath=os.path.join(request.prior[0], "guides.exr"), output_filepath=target)
    if not os.path.isfile(target):
        raise Failed("Blender denoised nothing; see the log")
    return {"device": "cpu"}
