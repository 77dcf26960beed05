# What the add-on costs the artist: runs inside Blender for `go run ./bench addon`, which gives a folder, the add-on's
# zip, megabytes of geometry, a place for the results, and whether jobs are cancelled once they are taken. The project has 2 000 datablocks and 500 files.
import array
import json
import os
import random
import sys
import time

import bpy

folder, addon, megabytes, report, only_held = sys.argv[sys.argv.index("--") + 1:]
sys.path.insert(0, addon)
import idlewild_addon  # noqa: E402

COUNT = 500
PATIENCE = 300.0


def noise(n):
    """n floats between 1 and 2: any mantissa under one exponent."""
    source, out = random.Random(1), array.array("f")
    while n:
        k = min(n, 1 << 20)
        part = bytearray(source.randbytes(4 * k))
        part[2::4] = bytes(b | 0x80 for b in part[2::4])
        part[3::4] = b"\x3f" * k
        out.frombytes(part)
        n -= k
    return out


def project(path):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    os.makedirs(os.path.join(folder, "tex"))
    made = bpy.data.images.new("made", 8, 8)
    made.file_format = "PNG"
    for i in range(COUNT):
        made.pixels[0] = i / COUNT  # every file is another
        made.filepath_raw = os.path.join(folder, "tex", "t%03d.png" % i)
        made.save()
    bpy.data.images.remove(made)
    for i in range(COUNT):
        mesh = bpy.data.meshes.new("m%03d" % i)
        mesh.from_pydata([(0, 0, 0), (0.2, 0, 0), (0, 0.2, 0)], [], [(0, 1, 2)])
        thing = bpy.data.objects.new("o%03d" % i, mesh)
        thing.location = (i % 25 - 12, i // 25 - 10, 0)
        scene.collection.objects.link(thing)
        material = bpy.data.materials.new("a%03d" % i)
        material.use_nodes = True
        node = material.node_tree.nodes.new("ShaderNodeTexImage")
        node.image = bpy.data.images.load(os.path.join(folder, "tex", "t%03d.png" % i))
        material.node_tree.links.new(node.outputs[0], material.node_tree.nodes["Principled BSDF"].inputs[0])
        mesh.materials.append(material)
    if int(megabytes):
        big = bpy.data.meshes.new("big")
        n = int(megabytes) * 1_000_000 // 12
        big.vertices.add(n)
        big.vertices.foreach_set("co", noise(3 * n))
        thing = bpy.data.objects.new("big", big)
        scene.collection.objects.link(thing)
    scene.camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.camera.location = (0, 0, 20)
    scene.collection.objects.link(scene.camera)
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 4
    scene.cycles.use_denoising = False
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 36, 100
    scene.render.filepath = "//out/"
    scene.frame_start = scene.frame_end = 1
    bpy.ops.wm.save_as_mainfile(filepath=path, compress=False)
    bpy.ops.file.make_paths_relative()
    bpy.ops.wm.save_mainfile()


def main():
    project(os.path.join(folder, "p.blend"))
    idlewild_addon.register()
    from idlewild_addon.shell import state, submit
    s = state.connect()
    hops, ticks = {}, []  # hops: by job, when what was heard of first
    before = s.link.told

    def told(kind, value):
        if kind == "event":
            name = value["type"] if value["type"] != "phase" else value["text"]
            hops.setdefault(value["job"], {}).setdefault(name, time.monotonic())
        before(kind, value)

    s.link.told = told

    def wait(ok, what):
        end = time.monotonic() + PATIENCE
        while not ok():
            start = time.perf_counter()
            any_ = s.link.drain()
            if any_:
                ticks.append(time.perf_counter() - start)
            if time.monotonic() > end:
                raise SystemExit("waited in vain for %s: %r %r" % (what, s.notes, s.line))
            if not any_:
                time.sleep(0.01)

    wait(lambda: s.connected, "the daemon")
    time.sleep(3)  # what was written a moment ago is looked at twice
    figures = []
    for i in range(4):
        if i:
            time.sleep(5)  # an edit takes an artist longer
        bpy.data.objects["o%03d" % i].location.z += 0.1
        start = time.perf_counter()
        bpy.ops.wm.save_as_mainfile(filepath=os.path.join(folder, "plain.blend"), copy=True, relative_remap=False, compress=False)
        plain = time.perf_counter() - start
        jobs = []
        clicked, clock, start = time.monotonic(), time.time(), time.perf_counter()
        submit.submit(s, bpy.context.scene, False, {}, lambda job, trouble: jobs.append(trouble or job))
        held = time.perf_counter() - start
        wait(lambda: jobs, "the daemon's answer")
        if not isinstance(jobs[0], str):
            raise SystemExit(str(jobs[0]))
        if only_held == "true":
            s.link.client.steer(jobs[0], "cancel")
        wait(lambda: s.jobs.get(jobs[0]) is not None and s.jobs.get(jobs[0]).ended, "the end")
        if only_held == "true":
            figures.append({"held_s": held, "save_s": s.save_s, "plain_save_s": plain})
            continue
        ended = s.jobs.get(jobs[0])
        if ended.state != "finished":
            raise SystemExit("the job ended as %r" % (ended,))
        at = {name: when - clicked for name, when in hops[jobs[0]].items()}
        figures.append({"held_s": held, "save_s": s.save_s, "plain_save_s": plain, "taken_s": at["inspecting"], "looked_s": at["storing"],
                        "stored_s": at["planning"], "given_s": at["leased"], "clicked_unix_s": clock})
    cpu, start = time.process_time(), time.monotonic()
    while time.monotonic() - start < 10:
        s.link.drain()
        time.sleep(0.25)  # as the timer does
    idle = (time.process_time() - cpu) / (time.monotonic() - start)
    opens = 0.0
    if only_held != "true":
        start = time.perf_counter()
        bpy.ops.wm.open_mainfile(filepath=os.path.join(folder, "plain.blend"))
        opens = time.perf_counter() - start
    with open(report, "w", encoding="utf-8") as f:
        json.dump({"runs": figures, "open_s": opens, "tick_s": max(ticks), "idle": idle, "size_bytes": os.path.getsize(os.path.join(folder, "p.blend")),
                   "datablocks": sum(len(getattr(bpy.data, n)) for n in ("objects", "meshes", "materials", "images"))}, f)


main()
