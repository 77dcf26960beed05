# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: `blender -b -P inside.py -- CASE FOLDER`, with a daemon
whose data folder IDLEWILD_DATA_DIR names. test_blender.py starts it."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from typing import Any, Callable

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(HERE))
faulthandler.enable()

import bpy  # noqa: E402

import idlewild_addon  # noqa: E402
from idlewild_addon.core import client, errors  # noqa: E402

PATIENCE = 180.0
CASES: dict[str, Callable[[str], None]] = {}


def case(f: Callable[[str], None]) -> Callable[[str], None]:
    CASES[f.__name__] = f
    return f


def equal(a: Any, b: Any) -> None:
    assert a == b, "%r is not %r" % (a, b)


def has(part: str, *lines: str) -> None:
    assert any(part in line for line in lines), "%r is in none of %r" % (part, lines)


def state() -> Any:
    from idlewild_addon.shell import state as s
    return s


def wait(ok: Callable[[], bool], what: str) -> None:
    assert state().wait_for(ok, PATIENCE), "waited in vain for %s; notes %r, line %r, jobs %r" % (
        what, state().get().notes, state().get().line, state().get().jobs.all[:2])


def refused(operator: Callable[..., Any], part: str, **said: Any) -> str:
    """The operator ends with a line that has part, which the panel shows."""
    try:
        operator(**said)
    except RuntimeError as err:
        has(part, str(err))
        has(part, *state().get().notes)
        for line in state().get().notes:
            assert "\n" not in line, line
        return str(err)
    raise AssertionError("%s was not refused" % operator)


def scene(path: str, frames: int = 3, samples: int = 4, change: Callable[[Any], None] | None = None) -> Any:
    """A small scene, saved at path."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    s = bpy.context.scene
    bpy.ops.mesh.primitive_plane_add(size=20)
    bpy.ops.mesh.primitive_monkey_add(location=(0, 0, 1))
    bpy.ops.object.light_add(type="AREA", location=(3, -3, 5))
    bpy.context.object.data.energy = 600
    bpy.ops.object.camera_add(location=(0, -7, 3), rotation=(1.2, 0, 0))
    s.camera = bpy.context.object
    s.render.engine = "CYCLES"
    s.cycles.samples = samples
    s.cycles.use_denoising = False
    s.render.resolution_x, s.render.resolution_y, s.render.resolution_percentage = 96, 54, 100
    s.render.image_settings.file_format = "PNG"
    s.render.filepath = "//render/shot_"
    s.frame_start, s.frame_end = 1, frames
    if change:
        change(s)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=path, compress=False)
    return s


def submitted(**said: Any) -> str:
    """Submits and returns the job's id."""
    before = set(state().get().mine)
    bpy.ops.idlewild.submit(**said)
    new, = state().get().mine - before
    wait(lambda: job(new) is not None, "the job in the list")
    return new


def job(id_: str) -> Any:
    return state().get().jobs.get(id_)


@case
def registers(folder: str) -> None:
    """Twice, and nothing is left behind."""
    before = {n for n in dir(bpy.types) if "IDLEWILD" in n.upper()}
    threads = threading.active_count()
    draws = len(bpy.types.TOPBAR_MT_render._dyn_ui_initialize()) if hasattr(bpy.types.TOPBAR_MT_render, "_dyn_ui_initialize") else 0
    for _ in range(2):
        idlewild_addon.register()
        assert hasattr(bpy.types, "IDLEWILD_PT_main") and hasattr(bpy.types.Scene, "idlewild")
        equal(bpy.context.scene.idlewild.what, "RANGE")
        assert bpy.ops.idlewild.submit.get_rna_type().name
        state().connect()
        idlewild_addon.unregister()
        assert not hasattr(bpy.types.Scene, "idlewild")
    equal({n for n in dir(bpy.types) if "IDLEWILD" in n.upper()}, before)
    if draws:
        equal(len(bpy.types.TOPBAR_MT_render._dyn_ui_initialize()), draws)
    end = time.monotonic() + PATIENCE
    while threading.active_count() > threads:
        assert time.monotonic() < end, "threads are left: %r" % threading.enumerate()
        threading.Event().wait(0.02)


@case
def whole_way(folder: str) -> None:
    """Submit unsaved work, see progress, load the result, open the file again."""
    path = os.path.join(folder, "ein projekt", "szene ä.blend")
    scene(path)
    idlewild_addon.register()
    stamp = os.stat(path).st_mtime_ns
    s = bpy.context.scene
    s.frame_end = 4  # unsaved
    bpy.ops.idlewild.check()
    e = state().get().estimate
    equal((e.tasks, e.refused, e.found), (4, False, ()))
    has("4 frames to render", *e.lines())

    seen: list[float] = []
    id_ = submitted()

    def ended() -> bool:
        seen.append(job(id_).fraction)
        return bool(job(id_).ended)

    wait(ended, "the end of the job")
    j = job(id_)
    equal((j.state, j.tasks, j.delivered, j.file), ("finished", 4, 4, path))
    assert seen == sorted(seen) and seen[-1] == 1.0, seen
    has("is finished", *state().get().notes)
    equal(sorted(os.listdir(os.path.join(folder, "ein projekt", "render"))), ["shot_%04d.png" % i for i in (1, 2, 3, 4)])
    # The artist's file and what is open are as they were.
    equal((os.stat(path).st_mtime_ns, bpy.data.filepath), (stamp, path))
    wait(lambda: not os.listdir(os.path.join(os.environ["IDLEWILD_DATA_DIR"], "copies")), "the daemon to remove the copy")

    bpy.ops.idlewild.load_result(job=id_, how="strip")
    from idlewild_addon.shell import compat
    strip = list(compat.strips(s))[0]
    equal((strip.frame_final_start, len(strip.elements), strip.elements[3].filename), (1, 4, "shot_0004.png"))
    bpy.ops.idlewild.load_result(job=id_, how="image")
    image = bpy.data.images["shot_0001.png"]
    equal(image.source, "SEQUENCE")
    picture = state().get().link.client.thumbnail(id_, "2", 48)
    equal(picture[:8], b"\x89PNG\r\n\x1a\n")

    # What was rendered is what Blender renders by itself.
    s.render.filepath = os.path.join(folder, "plain.png")
    s.render.use_sequencer = False
    s.frame_set(2)
    bpy.ops.render.render(write_still=True)
    a, b = (bpy.data.images.load(p) for p in (s.render.filepath, os.path.join(folder, "ein projekt", "render", "shot_0002.png")))
    worst = max(abs(x - y) for x, y in zip(a.pixels[:], b.pixels[:]))
    assert worst < 1.5 / 255, worst

    # Another file is open, then this one again: its jobs are there.
    bpy.ops.wm.read_factory_settings(use_empty=True)
    idlewild_addon.unregister()
    bpy.ops.wm.open_mainfile(filepath=path)
    idlewild_addon.register()
    state().connect()
    wait(lambda: [x.id for x in state().get().jobs.shown(bpy.data.filepath)] == [id_], "the file's job")
    equal(bpy.context.scene.frame_end, 3)


@case
def still_and_overwrite(folder: str) -> None:
    """One frame under a preset; Overwrite off leaves out what is there;
    Placeholders hold the rest."""
    path = os.path.join(folder, "s.blend")
    s = scene(path)
    idlewild_addon.register()
    s.frame_set(2)
    id_ = submitted(only_frame=True, preset="PREVIEW", wait=True)
    equal((job(id_).tasks, job(id_).state), (1, "finished"))
    equal(os.listdir(os.path.join(folder, "render")), ["shot_0002.png"])
    image = bpy.data.images.load(os.path.join(folder, "render", "shot_0002.png"))
    equal(tuple(image.size), (48, 27))

    s.render.use_overwrite, s.render.use_placeholder = False, True
    stamp = os.stat(os.path.join(folder, "render", "shot_0002.png")).st_mtime_ns
    id_ = submitted(wait=True)
    equal((job(id_).delivered, job(id_).skipped), (2, 1))
    equal(os.stat(os.path.join(folder, "render", "shot_0002.png")).st_mtime_ns, stamp)

    s.idlewild.what = "MARKED"
    refused(bpy.ops.idlewild.submit, "No frame is marked")
    for f in (1, 3):
        s.timeline_markers.new("m", frame=f)
    s.idlewild.output = os.path.join(folder, "marked")
    id_ = submitted(wait=True)
    equal(sorted(os.listdir(os.path.join(folder, "marked"))), ["shot_0001.png", "shot_0003.png"])


class Cutting:
    """Stands at the daemon's address and passes requests on, but the answer to
    a submission, for which it ends the connection: as a daemon that dies with
    the job in its journal."""

    def __init__(self, data_dir: str) -> None:
        self.file = os.path.join(data_dir, client.ENDPOINT_FILE)
        with open(self.file, encoding="utf-8") as f:
            self.before = f.read()
        said = json.loads(self.before)
        host, _, port = said["address"].rpartition(":")
        self.behind, self.cut = (host, int(port)), 0
        self.door = socket.create_server(("127.0.0.1", 0))
        said["address"] = "127.0.0.1:%d" % self.door.getsockname()[1]
        self.front = said["address"].encode()
        threading.Thread(target=self.run, daemon=True).start()
        self.write(json.dumps(said))

    def write(self, text: str) -> None:
        with open(self.file + ".part", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(self.file + ".part", self.file)

    def run(self) -> None:
        while True:
            try:
                here, _ = self.door.accept()
            except OSError:
                return
            there = socket.create_connection(self.behind)
            asked = bytearray()
            for a, b, seen in ((here, there, asked), (there, here, None)):
                threading.Thread(target=self.copy, args=(a, b, asked, seen), daemon=True).start()

    def copy(self, a: Any, b: Any, asked: bytearray, seen: Any) -> None:
        try:
            while True:
                part = a.recv(1 << 16)
                if seen is not None:
                    seen += part
                    part = part.replace(b"Host: " + self.front, b"Host: %s:%d" % (self.behind[0].encode(), self.behind[1]))
                elif asked.startswith(b"POST /v1/jobs ") and part:
                    self.cut += 1
                    self.write(self.before)  # it is there again, at another address
                    self.door.close()
                    break
                if not part:
                    break
                b.sendall(part)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@case
def cut_in_the_middle(folder: str) -> None:
    """The daemon takes a job of unsaved work and is gone before it says so: one
    job comes of it, and its frames."""
    path = os.path.join(folder, "s.blend")
    s = scene(path, frames=1)
    idlewild_addon.register()
    wait(lambda: state().get().connected, "the daemon")
    before = {j["job"] for j in client.Client(os.environ["IDLEWILD_DATA_DIR"]).jobs()}
    between = Cutting(os.environ["IDLEWILD_DATA_DIR"])
    s.frame_end = 2  # unsaved
    id_ = submitted(wait=True)
    equal(between.cut, 1)
    equal((job(id_).state, job(id_).delivered), ("finished", 2))
    after = {j["job"] for j in client.Client(os.environ["IDLEWILD_DATA_DIR"]).jobs()}
    equal(after - before, {id_})


@case
def steering(folder: str) -> None:
    """Pause, resume, cancel here and elsewhere; two Blenders, one folder."""
    path = os.path.join(folder, "s.blend")
    scene(path, frames=300, samples=64)
    idlewild_addon.register()
    id_ = submitted()
    wait(lambda: job(id_).state == "planned", "the plan")
    bpy.ops.idlewild.steer(job=id_, action="pause")
    wait(lambda: job(id_).state == "paused", "the pause")
    bpy.ops.idlewild.steer(job=id_, action="resume")
    wait(lambda: job(id_).delivered > 0, "a frame")
    # Another Blender does the same, and does not know of this one.
    daemon = client.Client(os.environ["IDLEWILD_DATA_DIR"])
    theirs = daemon.submit({"kind": "blender", "input": path, "output": job(id_).output, "params": {"frames": "1-300"}})
    wait(lambda: any("was submitted elsewhere too" in line for line in state().get().notes), "a line about the other")
    daemon.steer(theirs, "cancel")
    # This one submits again.
    other = submitted()
    has("This file is being rendered into that folder already: cancel that job", *state().get().notes)
    bpy.ops.idlewild.steer(job=other, action="cancel")
    wait(lambda: job(other).state == "cancelled", "the end of the second")
    # From elsewhere.
    client.Client(os.environ["IDLEWILD_DATA_DIR"]).steer(id_, "cancel")
    wait(lambda: job(id_).state == "cancelled", "the end of the first")
    has("was cancelled; submit it again to go on", *state().get().notes)
    refused(bpy.ops.idlewild.steer, "not on this machine any more", job="01" + "0" * 24, action="pause")


@case
def troubles(folder: str) -> None:
    """What is wrong with a file is a line that says what to do."""
    idlewild_addon.register()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    refused(bpy.ops.idlewild.submit, "never saved: save it once")

    # A linked library that is missing; a picture that is missing.
    library, path = os.path.join(folder, "lib.blend"), os.path.join(folder, "t.blend")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    linked = bpy.data.objects.new("Linked", bpy.data.meshes.new("Linked"))
    bpy.context.scene.collection.objects.link(linked)
    bpy.ops.wm.save_as_mainfile(filepath=library)

    def with_links(s: Any) -> None:
        with bpy.data.libraries.load(library, link=True) as (_, into):
            into.objects = ["Linked"]
        s.collection.objects.link(into.objects[0])
        lost = bpy.data.images.new("nowhere.png", 4, 4)
        lost.source, lost.filepath = "FILE", os.path.join(HERE, "nowhere.png")
        material = bpy.data.materials.new("Wood")
        material.use_nodes = True
        material.node_tree.nodes.new("ShaderNodeTexImage").image = lost
        bpy.data.objects["Suzanne"].data.materials.append(material)

    s = scene(path, change=with_links)
    os.rename(library, library + ".away")
    bpy.ops.idlewild.check()
    found = state().get().found
    lines = [p.line() for p in found]
    has("lib.blend is missing; put it back", *lines)
    has("nowhere.png is missing; put it back", *lines)
    assert state().get().estimate.refused
    # The button selects who uses the picture, and only them.
    for o in s.objects:
        o.select_set(False)
    image = next(p for p in found if p.where.startswith("Image"))
    bpy.ops.idlewild.go_to(where=image.where, message=image.message)
    equal([o.name for o in bpy.context.view_layer.objects if o.select_get()], ["Suzanne"])
    equal(bpy.context.view_layer.objects.active.name, "Suzanne")
    refused(bpy.ops.idlewild.go_to, "is not in this view layer", where="Object 'nobody'", message="")

    id_ = submitted()
    wait(lambda: job(id_).ended, "the refusal")
    equal(job(id_).state, "failed")
    has("t.blend failed: ", *state().get().notes)
    refused(bpy.ops.idlewild.load_result, "has no finished frame yet", job=id_, how="image")
    os.rename(library + ".away", library)

    # Of several views there is a file each; a # in the name of a folder is that folder's.
    s = scene(path)
    s.render.use_multiview = True
    s.render.filepath = "//views/x"
    submitted(frames="2", wait=True)
    equal(sorted(os.listdir(os.path.join(folder, "views"))), ["x0002_L.png", "x0002_R.png"])
    s.render.use_multiview = False
    s.render.filepath = "//take #2/x"
    submitted(frames="2", wait=True)
    equal(os.listdir(os.path.join(folder, "take #2")), ["x0002.png"])

    # No permission to write the output; a file that may not be written.
    scene(path)
    refused(bpy.ops.idlewild.submit, "choose a folder that you may write to", output="/proc/nowhere")
    os.chmod(path, stat.S_IRUSR)
    id_ = submitted(frames="2", output=os.path.join(folder, "out"), wait=True)
    equal(os.listdir(os.path.join(folder, "out")), ["shot_0002.png"])
    bad = submitted(frames="3-x")
    wait(lambda: job(bad).ended, "the refusal")
    has("t.blend failed: ", *state().get().notes)
    has("3-x", *state().get().notes)
    refused(bpy.ops.idlewild.submit, "no scene 'Other' in the file: choose one of Scene", scene="Other")

    # The frames were moved away meanwhile.
    os.remove(os.path.join(folder, "out", "shot_0002.png"))
    refused(bpy.ops.idlewild.load_result, "are not in", job=id_, how="image")

    # The disk is full when the copy is written.
    from idlewild_addon.core import daemon
    real = daemon.shutil.disk_usage
    daemon.shutil.disk_usage = lambda p: real(p)._replace(free=0)  # type: ignore[assignment]
    refused(bpy.ops.idlewild.submit, "nearly full and a copy of the unsaved work does not fit")
    daemon.shutil.disk_usage = real
    # And where it turns out to be full only while Blender writes.
    if hasattr(signal, "SIGXFSZ"):
        import resource
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
        refused(bpy.ops.idlewild.submit, "make room in")
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    equal([n for n in os.listdir(os.path.join(os.environ["IDLEWILD_DATA_DIR"], "copies"))], [])


@case
def newer_blender(folder: str) -> None:
    """A Blender that is newer than the daemon's: all works but the render, and
    the line says why."""
    path = os.path.join(folder, "neu.blend")
    s = scene(path)
    idlewild_addon.register()
    bpy.ops.idlewild.check()
    has("install Blender", *[p.line() for p in state().get().found])
    id_ = submitted()
    wait(lambda: job(id_).ended, "the refusal")
    has("it was saved by Blender %d.%d" % bpy.app.version[:2], *state().get().notes)
    if bpy.app.version >= (5, 0, 0):
        s.render.filepath = "//{blend_name}_r/a_##"
        has(os.path.join("neu_r", "a_##"), collected(s))
        s.render.filepath = "//{nonsense}/"
        refused(bpy.ops.idlewild.submit, "The output path cannot be read")
        s.render.filepath = "//render/shot_"
    # Results are loaded by this version's own means.
    from idlewild_addon.core import jobs
    from idlewild_addon.shell import compat, results
    files = []
    for i in (3, 1, 2):
        made = bpy.data.images.new("made", 8, 8)
        made.filepath_raw, made.file_format = os.path.join(folder, "f_%04d.png" % i), "PNG"
        made.save()
        bpy.data.images.remove(made)
        files.append(os.path.join(folder, "f_%04d.png" % i))
    one = jobs.Job("x", title="neu.blend", delivered=3)
    equal(results.show(files, one, "image").source, "SEQUENCE")
    strip = results.show(files, one, "strip")
    equal((strip.frame_final_start, [e.filename for e in strip.elements]), (1, ["f_0001.png", "f_0002.png", "f_0003.png"]))
    equal(len(list(compat.strips(s))), 1)


def collected(s: Any) -> str:
    """The output of the wish."""
    from idlewild_addon.shell import collect
    w = collect.wish(s)
    return os.path.join(w.output, w.name)


@case
def no_daemon(folder: str) -> None:
    """Nobody answers; then the daemon is started from here, and stopped."""
    scene(os.path.join(folder, "s.blend"))
    idlewild_addon.register()
    refused(bpy.ops.idlewild.submit, "not running on this machine: press Start, or run idlewild up")
    equal(os.listdir(os.path.join(os.environ["IDLEWILD_DATA_DIR"], "copies")), [])
    from idlewild_addon.core.client import read_endpoint
    from idlewild_addon.shell import operators
    operators.start(state().connect())
    wait(lambda: state().get().connected, "the daemon")
    ep = read_endpoint(os.environ["IDLEWILD_DATA_DIR"])
    try:
        id_ = submitted(frames="1", wait=True)
        equal(job(id_).state, "finished")
    finally:
        os.kill(ep.pid, signal.SIGTERM)
    wait(lambda: not state().get().connected, "the line that it is gone")
    has("press Start, or run idlewild up", state().get().line)
    try:
        state().get().link.client.status()
        raise AssertionError("somebody answers")
    except errors.Trouble as trouble:
        assert trouble.gone


name, where = sys.argv[sys.argv.index("--") + 1:][:2]
CASES[name](where)
print("inside: passed %s" % name, flush=True)
