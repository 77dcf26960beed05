# SPDX-License-Identifier: Apache-2.0
"""Tests of the runner's parts that need no Blender: `python3 -m unittest
testdata/test_runner.py`."""

import errno
import io
import json
import os
import struct
import sys
import tarfile
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "runner"))

import border  # noqa: E402
import naming  # noqa: E402
import ocio  # noqa: E402
import paths  # noqa: E402
import pictures  # noqa: E402
import presence  # noqa: E402
import problems  # noqa: E402
import protocol  # noqa: E402
import sequences  # noqa: E402


class Requests(unittest.TestCase):
    def test_contract_examples(self):
        with open(os.path.join(HERE, "contract", "requests.jsonl"), encoding="utf-8") as f:
            parsed = [protocol.Request.parse(line) for line in f]
        self.assertEqual([r.op for r in parsed], ["render", "finish", "crop", "render"])
        self.assertEqual(parsed[2].crops[0]["rect"], {"x0": 0, "y0": 0, "x1": 8, "y1": 4})

    def test_refuses(self):
        for line in ("", "[]", "{", '{"op": 1}', '{"opp": "render"}', '{"frame": "1"}', '{"persistent": 1}', '{"frame": true}'):
            with self.assertRaises(protocol.Failed, msg=line):
                protocol.Request.parse(line)

    def test_defaults(self):
        r = protocol.Request.parse('{"op": "render", "crops": null}')
        self.assertEqual((r.crops, r.samples, r.id), ([], 0, 0))


class Keeping(unittest.TestCase):
    """When a session looks whether what it keeps is right."""

    def setUp(self):
        # keep.py asks Blender for nothing until it renders.
        sys.modules.setdefault("bpy", types.ModuleType("bpy"))
        import keep

        self.keep = keep

    def test_looks_at_the_first_warm_frame_and_then_seldom(self):
        k = self.keep.Keeper()
        looked = []
        for n in range(1, 101):
            if k.rendered("a", n, 10):
                looked.append(n)
                k.looked("a", True, 1)
        self.assertEqual(looked[0], 2)
        self.assertLess(len(looked), 8)
        self.assertGreater(len(looked), 3)
        self.assertTrue(k.allowed("a"))

    def test_tiles_of_one_frame_ask_for_no_look(self):
        k = self.keep.Keeper()
        self.assertFalse(any(k.rendered("a", 7, 1) for _ in range(9)))
        self.assertTrue(k.rendered("a", 8, 1))

    def test_dear_looks_are_rare(self):
        k = self.keep.Keeper()
        looked = 0
        for n in range(1, 1000):
            if k.rendered("a", n, 1):
                looked += 1
                k.looked("a", True, 100)
        self.assertEqual(looked, 1)

    def test_a_difference_ends_it_for_that_scene(self):
        k = self.keep.Keeper()
        k.rendered("a", 1, 1)
        self.assertTrue(k.rendered("a", 2, 1))
        k.looked("a", False, 1)
        self.assertFalse(k.allowed("a"))
        self.assertTrue(k.allowed("b"))

    def test_pictures(self):
        a = [0.5] * 4000
        self.assertTrue(self.keep.alike(a, list(a)))
        self.assertTrue(self.keep.alike(a, [0.50001] * 4000))
        b = list(a)
        b[8] = 0.9
        self.assertTrue(self.keep.alike(a, b))  # one pixel of a thousand
        b[80] = 0.9
        self.assertFalse(self.keep.alike(a, b))
        nan = float("nan")
        self.assertTrue(self.keep.alike([nan] * 4, [float("nan")] * 4))
        self.assertFalse(self.keep.alike([nan] * 4, [1.0] * 4))
        self.assertFalse(self.keep.alike(a, a[:-4]))


class Borders(unittest.TestCase):
    def test_every_pixel_is_found_again(self):
        for size in (1, 2, 3, 7, 224, 400, 1080, 1920, 2160, 7680):
            for pixel in range(size + 1):
                self.assertEqual(border.border_pixel(border.border_share(pixel, size), size), pixel, (pixel, size))


class EventStream(unittest.TestCase):
    def test_lines(self):
        out = io.StringIO()
        events = protocol.Events(out)
        events.ready(build="x")
        protocol.Progress(events, 3)("rendering", 1 / 3)
        protocol.Progress(events, 3).shot(0.05, 0.97, 2, log=True)
        protocol.Progress(events, 3).stats("Sample 1/2")
        events.done(3, "failed", "why\n" + "x" * 5000, device="cpu")
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        self.assertEqual(lines[0], {"event": "ready", "build": "x"})
        self.assertEqual(lines[1], {"event": "progress", "id": 3, "phase": "rendering", "fraction": 0.3333})
        self.assertEqual(lines[2], {"event": "shot", "id": 3, "from": 0.05, "to": 0.97, "parts": 2, "log": True})
        self.assertEqual(lines[3], {"event": "stats", "id": 3, "text": "Sample 1/2"})
        self.assertEqual(len(lines[4]["reason"]), protocol.MAX_REASON)


class Outcomes(unittest.TestCase):
    def test_would_another_machine_fail_too(self):
        for exc, want in (
            (protocol.Failed("no camera"), "failed"),
            (protocol.Broken("no GPU"), "broken"),
            (MemoryError(), "out of memory"),
            (OSError(errno.ENOMEM, "x"), "out of memory"),
            (RuntimeError("Error: Out of memory"), "out of memory"),
            (RuntimeError("Error: System is out of GPU memory"), "out of GPU memory"),
            (RuntimeError("Error: System is out of GPU and shared host memory"), "out of GPU memory"),
            (RuntimeError("Error: CUDA error: illegal address in queue"), "broken"),
            (ValueError("the name 'out of memory' is taken"), "failed"),
            (OSError(errno.ENOSPC, "full"), "broken"),
            (FileNotFoundError(errno.ENOENT, "x"), "failed"),
            (RuntimeError("Error: Out of memory in CUDA queue"), "out of GPU memory"),
            (RuntimeError("Error: Cannot render, no camera"), "failed"),
            (ValueError("x"), "failed"),
            (SystemExit(3), "failed"),
        ):
            self.assertEqual(protocol.classify(exc)[0], want, repr(exc))
        self.assertEqual(protocol.classify(RuntimeError("Error: Out of memory"), on_gpu=True)[0], "out of GPU memory")


class Pictures(unittest.TestCase):
    def test_size_once_loaded(self):
        png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 300, 200)
        exr = b"v/1\x01\2\0\0\0channels\0chlist\0" + struct.pack("<i", 19) + b"R\0" + struct.pack("<i", 1) + bytes(12) + b"\0" + \
            b"dataWindow\0box2i\0" + struct.pack("<iiiii", 16, -1, -2, 98, 97)
        jpeg = b"\xff\xd8\xff\xe0\0\4xx\xff\xc0\0\x11\x08" + struct.pack(">HH", 200, 300) + b"\3" + bytes(9)
        hdr = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 200 +X 300\n"
        for head, want in (
            (png + b"\x08\x06", (300, 200, 4)),
            (png + b"\x10\x02", (300, 200, 8)),
            (png + b"\x08\0", (300, 200, 1)),
            (exr, (100, 100, 8)),
            (exr.replace(b"R\0\1", b"R\0\2"), (100, 100, 16)),
            (exr.replace(struct.pack("<i", 98), struct.pack("<i", 1 << 20)), None),
            (jpeg, (300, 200, 4)),
            (jpeg[:8], None),
            (hdr, (300, 200, 16)),
            (b"#?\n" * 100, None),
            (b"", None),
            (b"II*\0", None),
        ):
            self.assertEqual(pictures.pixels(head), want, head)
        for head in (png + b"\x08\x06", exr, jpeg, hdr):
            for n in range(len(head)):
                pictures.pixels(head[:n])  # cut anywhere, it is no error


class TreeNames(unittest.TestCase):
    def test_relative_layout_is_kept(self):
        tree = paths.Tree("/p/shot/scene.blend")
        tree.add("//tex/a.png", "/p/shot/tex/a.png")
        self.assertEqual(tree.main_name(), "scene.blend")
        self.assertEqual(tree.files(), [("/p/shot/scene.blend", "scene.blend"), ("/p/shot/tex/a.png", "tex/a.png")])
        tree.add("//../lib/b.blend", "/p/shot/../lib/b.blend")
        tree.add("//c.png", "/p/lib/c.png", "/p/lib/b.blend")
        self.assertEqual(tree.main_name(), "shot/scene.blend")
        self.assertEqual([n for _, n in tree.files()], ["lib/b.blend", "lib/c.png", "shot/scene.blend", "shot/tex/a.png"])

    def test_absolute_paths_get_a_folder_of_their_own(self):
        tree = paths.Tree("/p/scene.blend")
        tree.add("/t/one/a.png", "/t/one/a.png")
        tree.add("/t/two/a.png", "/t/two/a.png")
        names = dict(tree.files())
        self.assertEqual(names["/t/one/a.png"], paths.absolute_name("/t/one/a.png"))
        self.assertTrue(names["/t/one/a.png"].startswith("_abs/") and names["/t/one/a.png"].endswith("/a.png"))
        self.assertNotEqual(names["/t/one/a.png"], names["/t/two/a.png"])
        self.assertEqual(tree.main_name(), "scene.blend")

    def test_what_an_absolute_library_names_stays_beside_it(self):
        tree = paths.Tree("/p/scene.blend")
        tree.add("/l/lib.blend", "/l/lib.blend")
        tree.add("//tex/a.png", "/l/tex/a.png", "/l/lib.blend")
        names = dict(tree.files())
        self.assertEqual(os.path.dirname(names["/l/lib.blend"]) + "/tex/a.png", names["/l/tex/a.png"])

    def test_folders_keep_what_is_below(self):
        for raw in ("/c/fluid", "/c/fluid/", "C:\\c\\fluid\\"):
            tree = paths.Tree("/p/scene.blend")
            tree.add_below(raw, "/c/fluid", "/c/fluid/data/f_0001.vdb")
            self.assertEqual(dict(tree.files())["/c/fluid/data/f_0001.vdb"],
                             paths.absolute_name(raw.rstrip("/\\")) + "/data/f_0001.vdb")
        tree = paths.Tree("/p/scene.blend")
        tree.add_below("//cache/", "/p/cache", "/p/cache/data/f_0001.vdb")
        self.assertEqual(dict(tree.files())["/p/cache/data/f_0001.vdb"], "cache/data/f_0001.vdb")

    @unittest.skipIf(os.name == "nt", "NOT RUN: paths of other systems, on Windows")
    def test_windows_paths_elsewhere(self):
        for raw, want in (("C:\\tex\\a.png", "/c/tex/a.png"), ("D:/x/y", "/d/x/y"), ("//..\\tex\\a.png", "//../tex/a.png"),
                          ("/a/b.png", "/a/b.png"), ("//a/b", "//a/b"), ("", "")):
            self.assertEqual(paths.native(raw), want)

    def test_paths_of_other_systems_are_found_on_disks(self):
        self.addCleanup(paths.know, [])
        with tempfile.TemporaryDirectory() as d:
            os.makedirs(os.path.join(d, "Tex"))
            for name in ("Wall.png", "s_0007.EXR"):
                open(os.path.join(d, "Tex", name), "w").close()
            paths.know([{"from": "P:\\projects", "to": "/elsewhere"}, {"from": "P:\\projects\\ship", "to": d}, {"from": "//nas/share", "to": d},
                        {"from": "/mnt/ship", "to": d}])
            have = os.path.join(d, "Tex", "Wall.png")
            for raw in ("P:\\projects\\ship\\Tex\\Wall.png", "p:/Projects/SHIP/tex/wall.PNG", "\\\\NAS\\share\\tex\\WALL.png", "/mnt/ship/Tex/Wall.png",
                        "P:\\projects\\other\\..\\ship\\Tex\\Wall.png"):
                self.assertEqual(paths.native(raw), have, raw)
            for raw, want in (("P:\\projects\\x.png", "/elsewhere/x.png"), ("P:\\projectsx\\a.png", "/p/projectsx/a.png"),
                              ("/mnt/shipwreck/a.png", "/mnt/shipwreck/a.png"),
                              ("//nas/share/a.png", "//nas/share/a.png"), ("/mnt/ship/tex/wall.png", os.path.join(d, "tex", "wall.png")), (have, have),
                              ("\\\\nas\\other\\a.png", "\\\\nas\\other\\a.png")):
                self.assertEqual(paths.native(raw), want, raw)
            # In the tree they are looked for as they are written.
            tree = paths.Tree("/p/scene.blend")
            tree.add("p:/Projects/SHIP/tex/wall.PNG", have)
            tree.add("/mnt/ship/Tex/Wall.png", have)
            self.assertEqual(sorted(n for p, n in tree.files() if p == have),
                             sorted([paths.absolute_name("p:/Projects/SHIP/tex/wall.PNG"), paths.absolute_name("/mnt/ship/Tex/Wall.png")]))
            self.assertEqual([paths.as_written(raw, base) for raw, base in
                              (("P:/x/S_0001.exr", "s_0007.EXR"), ("P:/x/S_0001.exr", "t_0007.EXR"), ("P:/x/a.png", "A.PNG"), ("w.<UDIM>.png", "w.1001.png"))],
                             ["S_0007.exr", "t_0007.EXR", "a.png", "w.1001.png"])

    def test_disks_of_windows(self):
        self.addCleanup(paths.know, [])
        self.assertEqual(paths.under("P:\\", "p:\\a\\b.png"), "a/b.png")
        self.assertEqual(paths.under("//nas/p", "\\\\nas\\P\\a.png"), "a.png")
        self.assertIsNone(paths.under("/nas/p", "\\\\nas\\p\\a.png"))
        self.assertIsNone(paths.under("P:\\a", "P:\\a"))

    def test_sequences_share_a_folder(self):
        self.assertEqual(os.path.dirname(paths.absolute_name("/t/s_001.exr")), os.path.dirname(paths.absolute_name("/t/s_002.exr")))
        self.assertEqual(paths.absolute_name("C:\\t\\a.png"), paths.absolute_name("C:/t/a.png"))


class FileOutputNames(unittest.TestCase):
    def test_names(self):
        for folder, file, ext, want in (
            ("/tmp/", "Image", ".png", "tmp/Image####.png"),
            ("//passes/x", "sub/z_##.png", ".exr", "passes/x/sub/z_##.exr"),
            ("//../../up/./a/../b/", "n", ".exr", "up/b/n####.exr"),
            ("C:\\renders\\shot1\\", "n.exr", ".png", "shot1/n.exr####.png"),
            ("//a\\b", "", ".png", "a/b/####.png"),
            ("", "../../etc/x:y", ".png", "etc/x_y####.png"),
            ("//", "a##b##c", ".jpg", "a##b##c.jpg"),
            ("/", "f/", ".jpg", "f/####.jpg"),
        ):
            self.assertEqual(naming.delivered(folder, file, ext), want)

    def test_patterns(self):
        for raw, want in (
            ("/tmp\\", ""), ("//", ""), ("", ""), ("//render/", ""), ("//out/####", "####"), ("//shots/sh_", "sh_####"),
            ("C:\\out\\sh_##", "sh_##"), ("//pic.png", "pic.png####"), ("//pic_##.png", "pic_##"), ("//..", ""),
            ("//film.mp4", "film####"), ("//a:b?", "a_b_####"), ("//{blend_name}_", ""),
        ):
            self.assertEqual(naming.pattern(raw), want, raw)


class Finders(unittest.TestCase):
    def test_sequence_and_tiles(self):
        with tempfile.TemporaryDirectory() as d:
            for name in ("s_001.exr", "s_002.exr", "s_x.exr", "t_001.exr", "w.1001.png", "w.1002.png", "w.png"):
                open(os.path.join(d, name), "w").close()
            base = [os.path.basename(p) for p in paths.sequence(os.path.join(d, "s_001.exr"))]
            self.assertEqual(base, ["s_001.exr", "s_002.exr"])
            base = [os.path.basename(p) for p in paths.udim(os.path.join(d, "w.<UDIM>.png"))]
            self.assertEqual(base, ["w.1001.png", "w.1002.png"])
            self.assertEqual(paths.sequence(os.path.join(d, "none.png")), [os.path.join(d, "none.png")])


class Sequences(unittest.TestCase):
    def test_frames(self):
        for text, want in (("", set()), ("7", {7}), ("1-10x5,30", {1, 6, 30}), ("-5--3", {-5, -4, -3}), ("x", set())):
            self.assertEqual(sequences.frames(text), want, text)

    def test_number(self):
        for args, want in (((5, 1, 100, 0, "EXTEND"), 5), ((5, 1, 3, 0, "EXTEND"), 3), ((-4, 1, 3, 0, "EXTEND"), 1),
                           ((5, 1, 3, 0, "REPEAT"), 2), ((-1, 1, 3, 0, "REPEAT"), 2), ((5, 1, 100, 10, "EXTEND"), 15),
                           ((5, 3, 100, 0, "EXTEND"), 3), ((5, 1, 0, 7, "EXTEND"), 7)):
            self.assertEqual(sequences.number(*args), want, args)

    def test_names(self):
        self.assertEqual(sequences.numbered("a/b2_017.v3.png"), ("a/b2_017.v", 3, ".png"))
        self.assertEqual(sequences.numbered("a1/b_017.mp4"), ("a1/b_", 17, ".mp4"))
        self.assertIsNone(sequences.numbered("a1/b.png"))
        self.assertEqual(sequences.ranges([3, 1, 2, 2, 7]), [[1, 3], [7, 7]])

    def test_shown(self):
        found = ["/s/a_%03d.png" % i for i in range(1, 6)]
        self.assertEqual(sequences.shown(found, {2, 4}), [found[1], found[3]])
        for wanted in (set(), {2, 9}):
            self.assertEqual(sequences.shown(found, wanted), found)
        self.assertEqual(sequences.shown(["/s/a_1.png", "/s/a_01.png"], {1}), ["/s/a_1.png", "/s/a_01.png"])
        self.assertEqual(sequences.shown(["/s/a.png"], {1}), ["/s/a.png"])


class Presence(unittest.TestCase):
    def test_what_a_frame_reads_is_here(self):
        with tempfile.TemporaryDirectory() as d:
            os.mkdir(os.path.join(d, "tex"))
            for name in ("tex/a_0003.png", "tex/a_4.png"):
                open(os.path.join(d, name), "w").close()
            reads = [{"head": "tex/a_", "tail": ".png", "of": [[1, 40]], "own": [[3, 4]]}]
            opened = [os.path.join(d, "tex", "a_0003.png"), "", "/elsewhere/a_0009.png", os.path.join(d, "tex", "a_0041.png")]
            presence.look([d], 3, reads, lambda: opened)
            presence.look([""], 3, reads, lambda: ["/no/a_0001.png"])
            presence.look([d], 3, [], lambda: self.fail("looked"))
            with self.assertRaisesRegex(protocol.Broken, "tex/a_5.png, which frame 5"):
                presence.look([d], 5, [dict(reads[0], own=[[3, 5]])], lambda: [])
            with self.assertRaisesRegex(protocol.Broken, "tex/a_0007.png, which frame 3"):
                presence.look([d], 3, reads, lambda: [os.path.join(d, "tex", "a_0007.png")])
            presence.look([d], 3, [dict(reads[0], own=None)], lambda: [])


class Bakes(unittest.TestCase):
    """The project in which a baked file is opened."""

    def setUp(self):
        sys.modules.setdefault("bpy", types.ModuleType("bpy"))
        import bake

        self.bake = bake
        top = tempfile.TemporaryDirectory()
        self.addCleanup(top.cleanup)
        self.tree, self.into = os.path.join(top.name, "in"), os.path.join(top.name, "project")
        self.write("shot/a.blend")

    def write(self, name):
        path = os.path.join(self.tree, *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(name)

    def archive(self, *names):
        path = self.into + ".tar"
        with tarfile.open(path, "w:") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))
        return path

    def test_a_frame_of_a_later_lease_finds_its_files(self):
        # Of a sequence that lies beside the .blend a worker has the files of its
        # first lease when the session begins, and gets others later.
        self.write("shot/a_0001.png")
        self.write("b_0001.png")
        self.bake.opened.project = project = self.bake.Project(self.tree, "shot/a.blend", self.into)
        self.addCleanup(setattr, self.bake.opened, "project", None)
        os.environ["IDLEWILD_IN"] = self.tree
        self.addCleanup(os.environ.pop, "IDLEWILD_IN")
        second = os.path.join(os.path.dirname(project.main), "a_0002.png")
        reads = [
            {"head": "shot/a_", "tail": ".png", "of": [[1, 9]], "own": [[2, 2]]},
            {"head": "b_", "tail": ".png", "of": [[1, 9]], "own": [[2, 2]]},
        ]
        self.write("shot/a_0002.png")
        self.write("b_0002.png")
        with self.assertRaisesRegex(protocol.Broken, "shot/a_2.png, which frame 2"):
            presence.look(self.bake.roots(), 2, reads, lambda: [])
        with self.assertRaisesRegex(protocol.Broken, "shot/a_0002.png, which frame 2"):
            presence.look(self.bake.roots(), 2, [dict(r, own=None) for r in reads], lambda: [second])
        session = self.bake.Opened()
        session.project, session._digest = project, "unbaked"
        session.ready(protocol.Request.parse('{"op": "bake"}'), lambda *_: self.fail("opened again"))
        self.assertTrue(os.path.isfile(second) and os.path.isfile(os.path.join(self.into, "b_0002.png")))
        presence.look(self.bake.roots(), 2, reads, lambda: [second])

    def test_what_was_baked_stays_when_files_come(self):
        self.write("shot/blendcache_a/old.bphys")
        project = self.bake.Project(self.tree, "shot/a.blend", self.into)
        project.place(self.archive("file.blend", "blendcache/old.bphys", "blendcache/new.bphys", "cache/0/data/1.vdb"))
        project.grow()
        for path in (project.main, *(os.path.join(project.beside, n) for n in ("old.bphys", "new.bphys")), os.path.join(project.folders, "0", "data", "1.vdb")):
            self.assertTrue(os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) == 0, path)
        with open(os.path.join(self.tree, "shot", "a.blend")) as f:
            self.assertEqual(f.read(), "shot/a.blend")

    def test_a_frame_has_its_part_of_a_bake(self):
        import baketree

        names = ["blendcache/41_%06d_00.bphys" % n for n in (0, 1, 2, 3, 4, 5)] + ["blendcache/42_%06d_00.bphys" % n for n in (1, 3, 5)]
        names += ["cache/0/data/fluid_data_%04d.vdb" % n for n in (1, 2, 3)] + ["cache/0/notes_2.txt", "blendcache/41_-00002_00.bphys"]
        made, out = self.into + "-made", self.into + "-bake"
        for name in names + ["saved.blend"]:
            path = os.path.join(made, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write(name)
        os.symlink("/dev/null", os.path.join(made, "blendcache", "41_000006_00.bphys"))  # not made: of the job's own files
        baketree.write(out, os.path.join(made, "saved.blend"), [(os.path.join(made, n), n) for n in ("blendcache", "cache")], 4)
        have = {os.path.relpath(os.path.join(at, n), out).replace(os.sep, "/") for at, _, names in os.walk(out) for n in names}
        apart = {n for n in have if n.startswith("frames/")}
        self.assertEqual(apart, {
            "frames/2/blendcache/41_000002_00.bphys", "frames/3/blendcache/41_000003_00.bphys", "frames/2/cache/0/data/fluid_data_0002.vdb"})
        self.assertEqual(have - apart, (set(names) - {n.split("/", 2)[2] for n in apart}) | {"file.blend", "index.json"})

        baketree.look(out, [[1, 3]], 2)
        lost = os.path.join(out, "frames", "2", "cache", "0", "data", "fluid_data_0002.vdb")
        os.rename(lost, lost + "-")
        os.replace(lost + "-", self.into + "-lost")
        baketree.look(out, [[3, 9]], 3)
        for runs in ([[2, 2]], []):
            with self.assertRaisesRegex(protocol.Broken, "of the bake's 2 files for frame 2, which frame 2 reads, 1 are here"):
                baketree.look(out, runs, 2)
        with self.assertRaises(protocol.Failed):
            baketree.look(made, [], 2)

        project = self.bake.Project(self.tree, "shot/a.blend", self.into)
        project.show(out)
        with open(project.main) as f:
            self.assertEqual(f.read(), "saved.blend")
        self.assertFalse(project.grow(), "opened again for nothing")
        late = os.path.join(project.folders, "0", "data", "fluid_data_0002.vdb")
        self.assertFalse(os.path.exists(late))
        os.replace(self.into + "-lost", lost)
        self.assertFalse(project.grow(), "a fluid's file is looked for at each frame")
        self.assertTrue(os.path.isfile(late) and os.path.isfile(os.path.join(project.beside, "41_000003_00.bphys")))
        more = os.path.join(out, "frames", "7", "blendcache")
        os.makedirs(more)
        with open(os.path.join(more, "41_000007_00.bphys"), "w"):
            pass
        self.assertTrue(project.grow(), "Blender has looked which files a point cache has")

    def test_pieces_of_simulation_zones(self):
        import baketree

        made, out = self.into + "-made", self.into + "-bake"
        zone = {n: '{"x": {"name": "%06d_000.blob"}, "same": {"name": "000003_000.blob"}}' % n for n in (1, 2, 3, 4, 5, 6)}
        zone[3] = '{"same": {"name": "000003_000.blob"}}'
        files = {"cache/zone0/7/meta/%06d_000.json" % n: text for n, text in zone.items()}
        files.update({"cache/zone0/7/blobs/%06d_000.blob" % n: "" for n in zone}, **{"cache/zone0/8/meta/000002_000.json": "{}", "saved.blend": ""})
        for name, text in files.items():
            path = os.path.join(made, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as f:
                f.write(text)
        baketree.write(out, os.path.join(made, "saved.blend"), [(os.path.join(made, "cache"), "cache")], 5)
        have = {os.path.relpath(os.path.join(at, n), out).replace(os.sep, "/") for at, _, names in os.walk(out) for n in names}
        self.assertEqual({n for n in have if n.startswith("frames/")}, {
            "frames/%d/cache/zone0/7/%s" % (n, x) for n, x in (
                (2, "meta/000002_000.json"), (2, "blobs/000002_000.blob"), (3, "meta/000003_000.json"),
                (4, "meta/000004_000.json"), (4, "blobs/000004_000.blob"))})
        self.assertIn("cache/zone0/7/blobs/000003_000.blob", have)  # frames from 3 on name it
        self.assertEqual(len(have), len(files) + 1)

    def test_a_folder_that_may_be_written_to(self):
        for name in ("shot/sim/zone/1/meta/a.json", "shot/sim/other", "shot/x_1"):
            self.write(name)
        project = self.bake.Project(self.tree, "shot/a.blend", self.into)
        project.copy(os.path.join(self.tree, "shot", "sim", "zone"))
        copy = os.path.join(self.into, "shot", "sim", "zone", "1", "meta", "a.json")
        here = os.path.join(os.path.realpath(self.into), "shot", "sim", "zone", "1", "meta", "a.json")
        self.assertFalse(os.path.islink(copy) or os.path.realpath(copy) != here)
        with open(copy, "r+") as f:
            self.assertEqual(f.read(), "shot/sim/zone/1/meta/a.json")
            f.write("changed")
        with open(os.path.join(self.tree, "shot", "sim", "zone", "1", "meta", "a.json")) as f:
            self.assertEqual(f.read(), "shot/sim/zone/1/meta/a.json")
        self.write("shot/sim/late")
        project.grow()
        self.assertTrue(all(os.path.isfile(os.path.join(self.into, "shot", n)) for n in ("sim/other", "sim/late", "x_1")))

    def test_a_bakes_folder_holds_nothing_else(self):
        self.write("shot/idlewild_bake/own")
        for name in ("other", "frames/2/other", "frames/x/blendcache/a", "blendcache/a/b", "frames/2", "cache/own", "frames/2/cache/0/new"):
            with self.subTest(name), tempfile.TemporaryDirectory() as bake:
                path = os.path.join(bake, *name.split("/"))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w"):
                    pass
                with self.assertRaises(protocol.Failed):
                    self.bake.Project(self.tree, "shot/a.blend", self.into).show(bake)
        self.assertEqual(os.listdir(os.path.join(self.tree, "shot", "idlewild_bake")), ["own"])

    def test_a_bake_writes_nowhere_else(self):
        self.write("shot/idlewild_bake/own")
        project = self.bake.Project(self.tree, "shot/a.blend", self.into)
        for name in ("../x", "cache/../../x", "/x", "blendcache/a/b", "other", "cache\\x", "cache/own", "cache/0/new"):
            with self.assertRaises(protocol.Failed, msg=name):
                project.place(self.archive(name))
        self.assertEqual(os.listdir(os.path.join(self.tree, "shot", "idlewild_bake")), ["own"])
        with open(os.path.join(self.tree, "shot", "idlewild_bake", "own")) as f:
            self.assertEqual(f.read(), "shot/idlewild_bake/own")


class ColourConfigurations(unittest.TestCase):
    def test_search_path(self):
        for text, want in (
            ("ocio_profile_version: 1\nsearch_path: \"luts:filmic\"\nroles:\n", ["luts", "filmic"]),
            ("search_path: luts\n", ["luts"]),
            ("search_path: [luts, 'more luts']\n", ["luts", "more luts"]),
            ("search_path:\n  - luts\n  - ../up\nroles: {}\n", ["luts", "../up"]),
            ("roles: {}\n", []),
        ):
            self.assertEqual(ocio.search_path(text), want)

    def test_tables_stay_below(self):
        with tempfile.TemporaryDirectory() as d:
            for name in ("luts/a.spi1d", "luts/$SHOT/b.cube", "c.cube", "notes.txt"):
                os.makedirs(os.path.dirname(os.path.join(d, name)), exist_ok=True)
                open(os.path.join(d, name), "w").close()
            p = problems.Problems()
            found = ocio.tables("search_path: luts\nx: !<FileTransform> {src: c.cube, interpolation: linear}\n", d, p)
            self.assertEqual([os.path.relpath(f, d) for f in found], ["c.cube", "luts/$SHOT/b.cube", "luts/a.spi1d"])
            self.assertEqual(p.found, [])
            for bad in ("/srv/luts", "../luts", "$STUDIO/luts"):
                p = problems.Problems()
                ocio.tables("search_path: %s\n" % bad, d, p)
                self.assertIn(bad, p.found[0]["message"])


class Lists(unittest.TestCase):
    def test_problems_are_said_once(self):
        p = problems.Problems()
        p.error("a", "b", "c")
        p.error("a", "b", "c")
        p.warning("a", "d", "e")
        self.assertEqual([x["severity"] for x in p.found], ["error", "warning"])

    def test_listing(self):
        self.assertEqual(problems.listing([]), "none")
        self.assertEqual(problems.listing(["a", "b", "c"], 2), "'a', 'b' and 1 more")


if __name__ == "__main__":
    unittest.main()
