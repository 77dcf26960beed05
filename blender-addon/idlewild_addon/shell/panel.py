# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel in Properties > Output, and entries of the Render menu. Drawing
asks nobody: it shows what the State holds."""

from __future__ import annotations

from typing import Any

import bpy

from ..core import jobs, text
from . import compat, state, thumbnails

MOST_JOBS = 5
MOST_PROBLEMS = 6


def width(context: Any) -> int:
    """About how many characters fit into a line of the panel."""
    scale = context.preferences.system.ui_scale
    return max(20, int((context.region.width - 60 * scale) / (6.3 * scale)))


def paragraph(layout: Any, context: Any, s: str, icon: str = "NONE") -> None:
    column = layout.column(align=True)
    column.scale_y = 0.8
    for i, line in enumerate(text.wrap(s, width(context))[:6]):
        column.label(text=line, icon=icon if i == 0 else ("BLANK1" if icon != "NONE" else "NONE"))


class Panel:
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "output"


class IDLEWILD_PT_main(Panel, bpy.types.Panel):
    bl_label = "idlewild Farm"
    bl_idname = "IDLEWILD_PT_main"

    def draw(self, context: Any) -> None:
        s = state.get()
        if s.link is not None:
            s.link.watched()
        layout = self.layout
        self.farm(layout, context, s)
        layout.use_property_split = True
        layout.use_property_decorate = False
        self.settings(layout, context)
        layout.use_property_split = False
        self.buttons(layout, context, s)
        for line in s.notes[:2]:
            paragraph(layout, context, line, "INFO")

    def farm(self, layout: Any, context: Any, s: state.State) -> None:
        row = layout.row()
        if s.connected:
            row.label(text=s.farm.headline(), icon="NETWORK_DRIVE")
            row.operator("idlewild.refresh", text="", icon="FILE_REFRESH", emboss=False)
            if s.farm.free():
                layout.label(text=s.farm.free(), icon="MEMORY")
            if s.farm.trouble():
                paragraph(layout, context, s.farm.trouble(), "ERROR")
            if s.farm.paused:
                paragraph(layout, context, "This machine takes no work from others: %s; go on with idlewild resume" % s.farm.paused, "PAUSE")
        else:
            paragraph(row, context, s.line, "SORTTIME" if s.starting else "ERROR")
            row.operator("idlewild.refresh", text="", icon="FILE_REFRESH", emboss=False)
            if s.gone and not s.starting:
                layout.operator("idlewild.start_daemon", text="Start", icon="PLAY")
        if s.advice:
            paragraph(layout, context, s.advice, "ERROR")
        if not compat.online():
            paragraph(layout, context, "Blender is offline; the farm's daemon on this machine is used all the same", "INFO")

    def settings(self, layout: Any, context: Any) -> None:
        scene = context.scene
        p = scene.idlewild
        column = layout.column()
        column.prop(p, "what")
        if p.what == "LIST":
            column.prop(p, "frames")
        hint = compat.hint
        column.prop(p, "camera", icon="CAMERA_DATA", **hint(scene.camera.name if scene.camera else "none"))
        column.prop(p, "view_layer", icon="RENDERLAYERS", **hint("all that are in use"))
        column.prop(p, "preset")
        column.prop(p, "parts")
        column.prop(p, "bake")
        column.prop(p, "output", **hint(scene.render.filepath))

    def buttons(self, layout: Any, context: Any, s: state.State) -> None:
        if s.busy:
            layout.label(text=s.busy, icon="SORTTIME")
        if not bpy.data.filepath:
            paragraph(layout, context, "The file was never saved: save it once, then submit", "ERROR")
        column = layout.column()
        column.enabled = s.connected and bool(bpy.data.filepath) and not s.busy
        row = column.row(align=True)
        row.scale_y = 1.4
        row.operator("idlewild.submit", text="Submit", icon="RENDER_ANIMATION")
        row.operator("idlewild.submit", text="Submit Frame as Tiles", icon="RENDER_STILL").only_frame = True
        column.operator("idlewild.check", icon="VIEWZOOM")


class IDLEWILD_PT_checks(Panel, bpy.types.Panel):
    bl_label = "Checks"
    bl_parent_id = "IDLEWILD_PT_main"

    @classmethod
    def poll(cls, context: Any) -> bool:
        s = state.get()
        return bool(s.found or s.estimate) and jobs.same_file(s.checked, bpy.data.filepath)

    def draw(self, context: Any) -> None:
        s, layout = state.get(), self.layout
        if s.estimate is not None:
            column = layout.column(align=True)
            for line in s.estimate.lines():
                paragraph(column, context, line)
        if not s.found:
            layout.label(text="Nothing is wrong with the file", icon="CHECKMARK")
        for p in sorted(s.found, key=lambda p: not p.bad)[:MOST_PROBLEMS]:
            row = layout.row()
            paragraph(row, context, p.line(), "CANCEL" if p.bad else "ERROR")
            target = p.target()
            if target.kind:
                go = row.operator("idlewild.go_to", text="", icon="FILE_FOLDER" if target.kind == "path" else "RESTRICT_SELECT_OFF")
                go.where, go.message = p.where, p.message
        if len(s.found) > MOST_PROBLEMS:
            layout.label(text="and %d more: idlewild inspect lists all" % (len(s.found) - MOST_PROBLEMS))


class IDLEWILD_PT_jobs(Panel, bpy.types.Panel):
    bl_label = "Jobs"
    bl_parent_id = "IDLEWILD_PT_main"

    def draw(self, context: Any) -> None:
        s, layout = state.get(), self.layout
        shown = s.jobs.shown(bpy.data.filepath, MOST_JOBS)
        if not shown:
            layout.label(text="No job of this file" if s.connected else "Not connected")
        for job in shown:
            self.job(layout.box(), context, job)
        more = len(s.jobs.all) - len(shown)
        if more > 0:
            layout.label(text="%s: idlewild status lists all" % text.count(more, "other job"))

    def job(self, layout: Any, context: Any, job: jobs.Job) -> None:
        head = layout.row()
        head.label(text=job.headline(), icon=job.look[1])
        buttons = head.row(align=True)
        if not job.ended:
            if job.state == "paused":
                self.steer(buttons, job, "resume", "PLAY")
            else:
                self.steer(buttons, job, "pause", "PAUSE")
            self.steer(buttons, job, "cancel", "X")
        if job.delivered:
            for how, icon in (("image", "IMAGE_DATA"), ("strip", "SEQUENCE")):
                op = buttons.operator("idlewild.load_result", text="", icon=icon)
                op.job, op.how = job.id, how
        buttons.operator("idlewild.open_folder", text="", icon="FILE_FOLDER").job = job.id
        if job.tasks and hasattr(layout, "progress"):  # 4.0
            layout.progress(factor=job.fraction, text=job.progress())
        else:
            layout.label(text=job.progress())
        for line in job.remarks():
            paragraph(layout, context, line, "ERROR")
        icons = thumbnails.icons(job.id)
        if icons:
            row = layout.row()
            for label, picture in icons:
                column = row.column(align=True)
                column.template_icon(icon_value=picture, scale=4.0)
                column.label(text=label)

    def steer(self, row: Any, job: jobs.Job, action: str, icon: str) -> None:
        op = row.operator("idlewild.steer", text="", icon=icon)
        op.job, op.action = job.id, action


def menu(self: Any, context: Any) -> None:
    s = state.get()
    self.layout.separator()
    column = self.layout.column()
    column.enabled = s.connected and bool(bpy.data.filepath)
    column.operator("idlewild.submit", text="Render Animation on the Farm", icon="NETWORK_DRIVE")
    column.operator("idlewild.submit", text="Render Image on the Farm").only_frame = True


CLASSES = (IDLEWILD_PT_main, IDLEWILD_PT_checks, IDLEWILD_PT_jobs)
