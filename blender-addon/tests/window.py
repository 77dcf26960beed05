# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside a Blender with a window: `blender -P window.py -- FOLDER PICTURES SCREEN`,
the last being what Xvfb was given as -fbdir.

It does what an artist does, with the timers that only a window has, takes
pictures of the panel, and measures what the main thread spends. The last line
of its output is JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, Callable, Generator

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.dirname(HERE), HERE]

import bpy  # noqa: E402

import framebuffer  # noqa: E402
import idlewild_addon  # noqa: E402
from idlewild_addon.shell import collect, panel, results, state  # noqa: E402

PATIENCE = 300.0
FOLDER, PICTURES, SCREEN = sys.argv[sys.argv.index("--") + 1:][:3]
shown: dict[str, dict[str, float]] = {}
spent: dict[str, list[float]] = {"draw": [], "tick": []}


def timed_draw(draw: Callable[..., Any]) -> Callable[..., Any]:
    def measured(self: Any, context: Any) -> None:  # Blender counts the arguments
        start = time.perf_counter()
        draw(self, context)
        spent["draw"].append(time.perf_counter() - start)
    return measured


def timed_tick(tick: Callable[..., Any]) -> Callable[..., Any]:
    def measured() -> Any:
        start = time.perf_counter()
        again = tick()
        spent["tick"].append(time.perf_counter() - start)
        return again
    return measured


def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any, **said: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **said)
        finally:
            spent.setdefault(name, []).append(time.perf_counter() - start)
    return measured


for c in panel.CLASSES:
    c.draw = timed_draw(c.draw)  # type: ignore[method-assign]
state.tick = timed_tick(state.tick)
collect.keep_dirty = timed("mark", collect.keep_dirty)
results.in_window = timed("window", results.in_window)


def scene(path: str) -> None:
    s = bpy.context.scene
    for o in list(s.objects):
        bpy.data.objects.remove(o)
    bpy.ops.mesh.primitive_plane_add(size=20)
    bpy.ops.mesh.primitive_monkey_add(location=(0, 0, 1))
    monkey = bpy.context.object
    bpy.ops.object.shade_smooth()
    material = bpy.data.materials.new("Clay")
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.8, 0.3, 0.1, 1)
    monkey.data.materials.append(material)
    for frame, turn in ((1, -0.6), (12, 0.6)):
        monkey.rotation_euler[2] = turn
        monkey.keyframe_insert("rotation_euler", frame=frame)
    bpy.ops.object.light_add(type="AREA", location=(3, -3, 5))
    bpy.context.object.data.energy = 600
    bpy.ops.object.camera_add(location=(0, -5.5, 2.4), rotation=(1.3, 0, 0))
    s.camera = bpy.context.object
    s.render.engine = "CYCLES"
    s.cycles.samples = 24
    s.cycles.use_denoising = False
    s.render.resolution_x, s.render.resolution_y, s.render.resolution_percentage = 192, 108, 100
    s.render.filepath = "//render/shot_"
    s.frame_start, s.frame_end = 1, 12
    bpy.ops.wm.save_as_mainfile(filepath=path)


def properties() -> Any:
    """The largest area, as Properties > Output."""
    window = bpy.context.window_manager.windows[0]
    area = max(window.screen.areas, key=lambda a: a.width * a.height)
    if area.type != "PROPERTIES":
        area.type = "PROPERTIES"
    return window, area


def shows_output() -> bool:
    """A properties editor knows its tabs only once it was drawn."""
    _, area = properties()
    try:
        area.spaces.active.context = "OUTPUT"
    except TypeError:
        return False
    return True


def picture(name: str) -> None:
    window, area = properties()
    _, height, rows = framebuffer.read(SCREEN)
    rows = framebuffer.crop(rows, window.x + area.x, height - window.y - area.y - area.height, area.width, area.height)
    framebuffer.png(os.path.join(PICTURES, name + ".png"), rows)
    shown[name] = {"colours": framebuffer.colours(rows), "brightness": framebuffer.brightness(rows)}


def theme(name: str) -> None:
    for folder in bpy.utils.preset_paths("interface_theme"):
        path = os.path.join(folder, name + ".xml")
        if os.path.isfile(path):
            bpy.ops.script.execute_preset(filepath=path, menu_idname="USERPREF_MT_interface_theme_presets")
            return
    raise AssertionError("no theme %s" % name)


def pressed(operator: Any, **said: Any) -> None:
    window, area = properties()
    with bpy.context.temp_override(window=window, area=area):
        operator("EXEC_DEFAULT", **said)


def steps() -> Generator[Callable[[], bool], None, None]:
    """What is done; each step yields what it waits for."""
    s = state.get()

    def redrawn(times: int = 2) -> Callable[[], bool]:
        state.redraw()
        before = len(spent["draw"])
        return lambda: len(spent["draw"]) >= before + 3 * times

    yield lambda: bool(bpy.context.window_manager.windows)
    scene(os.path.join(FOLDER, "monkey.blend"))
    yield shows_output
    yield lambda: s.connected
    bpy.data.objects["Suzanne"].location.z = 1.1
    bpy.ops.ed.undo_push(message="edit")
    assert bpy.data.is_dirty
    lost = bpy.data.images.new("wood.png", 4, 4)
    lost.source, lost.filepath = "FILE", "//tex/wood.png"
    node = bpy.data.materials["Clay"].node_tree.nodes.new("ShaderNodeTexImage")
    node.image = lost
    pressed(bpy.ops.idlewild.check)
    yield lambda: s.estimate is not None
    assert s.estimate is not None and s.estimate.refused, s.found
    yield redrawn()
    picture("addon-check")
    # The copy must not make Blender believe that the artist's file is saved.
    yield lambda: not s.watch_dirty
    yield lambda: bool(bpy.data.is_dirty)
    assert bpy.context.preferences.edit.use_global_undo
    bpy.data.materials["Clay"].node_tree.nodes.remove(node)
    bpy.data.images.remove(lost)
    pressed(bpy.ops.idlewild.check)
    yield lambda: s.estimate is not None
    assert s.estimate is not None and not s.estimate.refused, s.found
    pressed(bpy.ops.idlewild.submit)
    assert s.save_s > 0, "unsaved work was not sent"
    yield lambda: bool(s.mine)
    job = next(iter(s.mine))
    from idlewild_addon.shell import thumbnails
    yield lambda: (s.jobs.get(job) or panel.jobs.Job("")).delivered >= 3 and len(thumbnails.icons(job)) == 3
    yield redrawn(4)
    picture("addon-dark")
    theme("Blender_Light")
    yield redrawn(4)
    picture("addon-light")
    pressed(bpy.ops.idlewild.submit, only_frame=True)
    yield lambda: len(s.mine) == 2
    yield lambda: len(s.jobs.all) == 2 and all(j.ended for j in s.jobs.all)
    assert [j.state for j in s.jobs.all] == ["finished", "finished"], s.jobs.all
    # A still opens by itself.
    yield lambda: any(a.type == "IMAGE_EDITOR" and a.spaces.active.image is not None and a.spaces.active.image.name == "shot_0001.png"
                      for w in bpy.context.window_manager.windows for a in w.screen.areas)
    pressed(bpy.ops.idlewild.load_result, job=job, how="strip")
    yield lambda: bool(bpy.context.scene.sequence_editor)
    yield redrawn()


def report(failure: str) -> None:
    numbers = {k + "_ms": {"n": len(v), "median": round(1000 * sorted(v)[len(v) // 2], 3), "worst": round(1000 * max(v), 3)}
               for k, v in spent.items() if v}
    s = state.get()
    print(json.dumps({"failure": failure, "blocked_ms": round(1000 * s.blocked_s, 2), "save_ms": round(1000 * s.save_s, 2),
                      "notes": s.notes, "pictures": shown, **numbers}), flush=True)
    os._exit(1 if failure else 0)


def drive() -> float:
    global waiting, since
    try:
        if waiting():
            print("window: line %d" % todo.gi_frame.f_lineno, flush=True)
            waiting, since = next(todo), time.monotonic()
        elif time.monotonic() - since > PATIENCE:
            raise AssertionError("waited in vain: %r %r %r" % (state.get().line, state.get().notes, [
                (a.type, getattr(a.spaces.active, "image", None)) for w in bpy.context.window_manager.windows for a in w.screen.areas]))
    except StopIteration:
        report("")
    except Exception:
        report(traceback.format_exc())
    return 0.1


try:
    bpy.context.preferences.view.show_splash = False
    idlewild_addon.register()
    todo = steps()
    waiting, since = next(todo), time.monotonic()
except Exception:
    report(traceback.format_exc())
bpy.app.timers.register(drive, first_interval=0.5, persistent=True)
