# SPDX-License-Identifier: GPL-3.0-or-later
"""Registering, and its mirror."""

from __future__ import annotations

import sys
from typing import Any

import bpy

from ..core import commandline
from . import collect, headless, operators, panel, props, state, thumbnails

CLASSES = props.CLASSES + operators.CLASSES + panel.CLASSES


def register() -> None:
    for c in CLASSES:
        bpy.utils.register_class(c)
    bpy.types.Scene.idlewild = bpy.props.PointerProperty(type=props.IdlewildSettings)
    bpy.types.TOPBAR_MT_render.append(panel.menu)
    bpy.app.handlers.load_post.append(after_load)
    if bpy.app.background:
        # What asks in the background connects by itself.
        if commandline.asked(sys.argv) is not None:
            bpy.app.handlers.load_post.append(headless.after_load)
        return
    # Registration may come before there is a context to ask for preferences.
    bpy.app.timers.register(connect, first_interval=0.2, persistent=True)
    bpy.app.timers.register(state.tick, first_interval=0.5, persistent=True)


def unregister() -> None:
    for timer in (connect, state.tick, collect.keep_dirty):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    for handler in (after_load, headless.after_load):
        if handler in bpy.app.handlers.load_post:
            bpy.app.handlers.load_post.remove(handler)
    bpy.types.TOPBAR_MT_render.remove(panel.menu)
    state.close()
    thumbnails.close()
    del bpy.types.Scene.idlewild
    for c in reversed(CLASSES):
        bpy.utils.unregister_class(c)


def connect() -> float | None:
    """Connects, and starts a daemon that is not there where its person said so
    once."""
    s = state.connect()
    p = state.prefs()
    if p is not None and p.autostart:
        if s.connected or s.starting:
            return None
        if not s.gone:
            return 0.5  # not known yet
        operators.start(s)
    return None


@bpy.app.handlers.persistent
def after_load(*_: Any) -> None:
    """Another file is open: its jobs are shown, what was checked was another."""
    s = state.get()
    s.notes, s.estimate, s.found, s.checked = [], None, [], ""
    if s.link is not None:
        s.link.refresh()
