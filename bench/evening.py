# The artist of `go run ./bench evening`: a Blender with a window, the add-on in it, and somebody who presses its buttons. It is given
# the scene, the add-on's zip, a file with what to do, a line each, and a file for what came of it, and goes on until it is killed.
import json
import os
import sys
import time
import traceback

import bpy

scene, addon, orders, answers = sys.argv[sys.argv.index("--") + 1:]
sys.path.insert(0, addon)
import idlewild_addon  # noqa: E402

ticks = []  # seconds that the timer of the add-on took, where there was something to hear


def edit(n):
    """Three edits that artists make."""
    if n == 1:
        bottle = bpy.data.objects["bottle"]
        bottle.location.x += 0.45
    elif n == 2:
        bpy.data.materials["clay"].diffuse_color = (0.2, 0.3, 0.6, 1)
        for node in bpy.data.materials["clay"].node_tree.nodes:
            if node.type == "BSDF_PRINCIPLED":
                node.inputs["Base Color"].default_value = (0.2, 0.3, 0.6, 1)
                node.inputs["Roughness"].default_value = 0.55
    else:
        bowl = bpy.data.objects["bowl"].data
        bowl.vertices[len(bowl.vertices) // 2].co.z += 0.05
        bowl.update()
    bpy.ops.ed.undo_push(message="edit")


def does(order):
    """A generator: yields until it is done, with nothing, and at last with what there is to say."""
    from idlewild_addon.shell import state
    s = state.get()
    what = order["do"]
    if what == "connect":
        while not s.connected:
            yield None
        yield {"version": bpy.app.version_string}
    elif what == "edit":
        edit(order["edit"])
        yield {"dirty": bool(bpy.data.is_dirty)}
    elif what == "save":
        bpy.context.preferences.filepaths.save_version = 0
        bpy.ops.wm.save_mainfile(compress=True, relative_remap=False)
        yield {}
    elif what == "submit":
        before = set(s.mine)
        window = bpy.context.window_manager.windows[0]
        clicked, start = time.time(), time.perf_counter()
        with bpy.context.temp_override(window=window, area=window.screen.areas[0]):
            bpy.ops.idlewild.submit("EXEC_DEFAULT", output=order["output"], frames=order["frames"])
        held = time.perf_counter() - start
        while not s.mine - before:
            if s.notes and s.notes[0].startswith("Not submitted"):
                raise RuntimeError(s.notes[0])
            yield None
        yield {"job": (s.mine - before).pop(), "held_s": held, "save_s": s.save_s, "clicked_unix_s": clicked}
    elif what == "ended":  # as the panel shows it
        while not (s.jobs.get(order["job"]) is not None and s.jobs.get(order["job"]).ended):
            yield None
        yield {"state": s.jobs.get(order["job"]).state, "longest_tick_s": max(ticks, default=0.0), "ticks": len(ticks)}
    else:
        raise RuntimeError("no such order: %r" % order)


def timed(drain):
    def measured(*args):
        start = time.perf_counter()
        any_ = drain(*args)
        if any_:
            ticks.append(time.perf_counter() - start)
        return any_
    return measured


def answer(n, what):
    with open(answers, "a", encoding="utf-8") as f:
        f.write(json.dumps(dict(what, n=n)) + "\n")


done, doing = 0, None


def drive():
    global done, doing
    try:
        if doing is None:
            with open(orders, encoding="utf-8") as f:
                lines = [line for line in f.read().split("\n")[:-1]]  # the last one may be half written
            if len(lines) > done:
                doing = does(json.loads(lines[done]))
        if doing is not None:
            said = next(doing)
            if said is not None:
                done, doing = done + 1, None
                answer(done, said)
    except Exception:
        done, doing = done + 1, None
        answer(done, {"failure": traceback.format_exc()})
    return 0.05


def begin():
    from idlewild_addon.shell import state
    link = state.connect().link
    link.drain = timed(link.drain)
    bpy.app.timers.register(drive, persistent=True)


bpy.context.preferences.view.show_splash = False
idlewild_addon.register()
assert os.path.samefile(bpy.data.filepath, scene)
bpy.app.timers.register(begin, first_interval=0.5, persistent=True)
