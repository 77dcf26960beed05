# SPDX-License-Identifier: GPL-3.0-or-later
# flake8: noqa: F722,F821  (properties are declared in annotations)
"""What a person can press. An operator collects, hands the rest to a thread
and returns; in the background it waits for the answer."""

from __future__ import annotations

import os
from typing import Any

import bpy

from ..core.errors import Trouble
from ..core.problems import Problem
from . import goto, headless, results, state, submit


class Base:
    """Turns Trouble into a line of the panel and of Blender's status bar."""

    bl_options = {"REGISTER"}

    def execute(self, context: Any) -> set[str]:
        try:
            self.act(context, state.connect())
        except Trouble as trouble:
            state.get().note(str(trouble))
            self.report({"ERROR"}, str(trouble))  # type: ignore[attr-defined]
            state.redraw()
            return {"CANCELLED"}
        state.redraw()
        return {"FINISHED"}

    def act(self, context: Any, s: state.State) -> None:
        raise NotImplementedError

    def say(self, line: str, level: str = "INFO") -> None:
        self.report({level}, line)  # type: ignore[attr-defined]


class IDLEWILD_OT_submit(Base, bpy.types.Operator):
    """Give this file's frames to the farm; Blender stays free"""

    bl_idname = "idlewild.submit"
    bl_label = "Submit to the Farm"

    # What is not said stands in the scene's settings.
    only_frame: bpy.props.BoolProperty(name="Current Frame Only", options={"SKIP_SAVE"})  # type: ignore[valid-type]
    frames: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    output: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    scene: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    camera: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    view_layer: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    preset: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    parts: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    only_missing: bpy.props.BoolProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    bake: bpy.props.BoolProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    wait: bpy.props.BoolProperty(  # type: ignore[valid-type]
        options={"SKIP_SAVE", "HIDDEN"}, description="In the background: stay until the job ends")

    def act(self, context: Any, s: state.State) -> None:
        said = {k: getattr(self, k) for k in ("frames", "output", "camera", "view_layer", "preset", "parts", "only_missing", "bake")}
        if bpy.app.background:
            headless.submit(s, dict(said, scene=self.scene, only_frame=self.only_frame, wait=self.wait))
            return
        ready(s)
        submit.submit(s, headless.scene_named(self.scene), self.only_frame, said)


class IDLEWILD_OT_check(Base, bpy.types.Operator):
    """See what the job would take, and what is wrong with the file, before it is submitted"""

    bl_idname = "idlewild.check"
    bl_label = "Check"

    def act(self, context: Any, s: state.State) -> None:
        ready(s)
        answers: list[Any] = []
        submit.check(s, context.scene, lambda found, trouble: answers.append((found, trouble)))
        if bpy.app.background:
            headless.until(lambda: bool(answers), headless.CHECK_TIMEOUT, "The check")
            if answers[0][1] is not None:
                raise answers[0][1]


def ready(s: state.State) -> None:
    """Raises where pressing the button could only end in a wait. Blender in the
    background has not heard of the daemon yet and finds out by asking."""
    if not s.connected and not bpy.app.background:
        raise Trouble(s.line)


class IDLEWILD_OT_steer(Base, bpy.types.Operator):
    """Pause, resume or cancel the job"""

    bl_idname = "idlewild.steer"
    bl_label = "Steer Job"

    job: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    action: bpy.props.EnumProperty(  # type: ignore[valid-type]
        items=[("pause", "Pause", ""), ("resume", "Resume", ""), ("cancel", "Cancel", "")], options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        return {
            "pause": "Let no more frames of the job be begun, until it is resumed",
            "resume": "Go on with the job",
            "cancel": "End the job; frames that are finished stay",
        }[properties.action]

    def invoke(self, context: Any, event: Any) -> Any:
        if self.action == "cancel":
            return context.window_manager.invoke_confirm(self, event)
        return self.execute(context)

    def act(self, context: Any, s: state.State) -> None:
        assert s.link is not None
        answers: list[Any] = []

        def answered(_: Any, trouble: Trouble | None) -> None:
            answers.append(trouble)
            if trouble is not None:
                s.note(str(trouble))

        s.link.do(lambda client: client.steer(self.job, self.action), answered)
        if bpy.app.background:
            headless.until(lambda: bool(answers), headless.CALL_TIMEOUT, "The daemon's answer")
            if answers[0] is not None:
                raise answers[0]


def job_named(s: state.State, id_: str) -> Any:
    job = s.jobs.get(id_)
    if job is None:
        raise Trouble("That job is not in the list any more: press Refresh")
    return job


class IDLEWILD_OT_open_folder(Base, bpy.types.Operator):
    """Open the folder with the job's frames"""

    bl_idname = "idlewild.open_folder"
    bl_label = "Open Folder"

    job: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]

    def act(self, context: Any, s: state.State) -> None:
        folder = job_named(s, self.job).output
        if not os.path.isdir(folder):
            raise Trouble("There is no folder %s yet: wait for the first finished frame" % folder)
        bpy.ops.wm.path_open(filepath=folder)


class IDLEWILD_OT_load_result(Base, bpy.types.Operator):
    """Show the job's finished frames"""

    bl_idname = "idlewild.load_result"
    bl_label = "Load Result"

    job: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    how: bpy.props.EnumProperty(  # type: ignore[valid-type]
        items=[("image", "Image Editor", "One frame as an image, several as a sequence"),
               ("strip", "Sequencer", "As a strip of the sequencer, above what is there")], options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def description(cls, context: Any, properties: Any) -> str:
        return "Put the finished frames into the sequencer" if properties.how == "strip" else "Show the finished frames in the image editor"

    def act(self, context: Any, s: state.State) -> None:
        answers: list[Any] = []
        results.load(s, job_named(s, self.job), self.how, lambda made, line: answers.append((made, line)))
        if bpy.app.background:
            headless.until(lambda: bool(answers), headless.CALL_TIMEOUT, "The daemon's answer")
            if answers[0][1]:
                raise Trouble(answers[0][1])


class IDLEWILD_OT_go_to(Base, bpy.types.Operator):
    """Select what the problem is about, or open its folder"""

    bl_idname = "idlewild.go_to"
    bl_label = "Go to Problem"
    bl_options = {"REGISTER", "UNDO"}

    where: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]
    message: bpy.props.StringProperty(options={"SKIP_SAVE", "HIDDEN"})  # type: ignore[valid-type]

    def act(self, context: Any, s: state.State) -> None:
        self.say(goto.go(context, Problem("", self.where, self.message, "").target()))


class IDLEWILD_OT_refresh(Base, bpy.types.Operator):
    """Ask the daemon anew"""

    bl_idname = "idlewild.refresh"
    bl_label = "Refresh"

    def act(self, context: Any, s: state.State) -> None:
        assert s.link is not None
        s.notes = []
        s.link.refresh()


class IDLEWILD_OT_start_daemon(Base, bpy.types.Operator):
    """Start the farm's daemon on this machine; it goes on when Blender is closed"""

    bl_idname = "idlewild.start_daemon"
    bl_label = "Start the Farm's Daemon"

    always: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="From now on start it when Blender finds none", default=False)

    def invoke(self, context: Any, event: Any) -> Any:
        p = state.prefs()
        if p is None or p.asked:
            return self.execute(context)
        return context.window_manager.invoke_props_dialog(self, width=360)

    def act(self, context: Any, s: state.State) -> None:
        p = state.prefs()
        if p is not None:
            p.asked = True
            p.autostart = p.autostart or self.always
        start(s)


def start(s: state.State) -> None:
    assert s.link is not None
    p = state.prefs()
    s.starting, s.line = True, "Starting the farm's daemon"

    def answered(_: Any, trouble: Trouble | None) -> None:
        s.starting = False
        if trouble is not None:
            s.line = str(trouble)
            s.note(str(trouble))

    s.link.start_daemon(p.program if p else "", answered)


CLASSES = (
    IDLEWILD_OT_submit, IDLEWILD_OT_check, IDLEWILD_OT_steer, IDLEWILD_OT_open_folder, IDLEWILD_OT_load_result,
    IDLEWILD_OT_go_to, IDLEWILD_OT_refresh, IDLEWILD_OT_start_daemon,
)
