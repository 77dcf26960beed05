# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that decide and word things, and the contract with the daemon."""

from __future__ import annotations

import ast
import datetime
import json
import os
import re
import sys
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from idlewild_addon.core import (  # noqa: E402
    client, commandline, daemon, errors, estimate, farm, frames, jobs, problems, spec, stream, text, version)

EXAMPLES = os.path.join(HERE, "..", "..", "node", "localapi", "examples")
ADDON = os.path.join(HERE, "..", "idlewild_addon")


def example(name: str):
    with open(os.path.join(EXAMPLES, name), encoding="utf-8") as f:
        return json.load(f)


class Contract(unittest.TestCase):
    """The same files are in the daemon's OpenAPI document, and Go reads them."""

    def test_spec_is_what_the_daemon_reads(self) -> None:
        want = example("spec.json")
        w = spec.Wish(file=want["copy_of"], copy=want["input"], output=want["output"], name="shot_", frames="1-250x5,300",
                      scene="Scene", only_missing=True, parts="4x4")
        self.assertEqual(w.spec(), want)

    def test_estimate(self) -> None:
        e = estimate.read(example("estimate.json"))
        self.assertTrue(e.refused)
        self.assertEqual(e.found[0].target(), problems.Target("image", "wood"))
        self.assertEqual(e.lines(), [
            "48 frames to render, 3 are there already",
            "12 files, 734 MB in all; at most 42 MB to move",
            "About 11 min on 3 devices, from the 20 frames of this file that were rendered last"])

    def test_jobs(self) -> None:
        told = example("jobs.json")["jobs"]
        j = jobs.read(told[0])
        self.assertEqual(j.progress(), "20 of 51 frames, 3 at work (42 %), 6 min 20 s left")
        self.assertEqual(j.fraction, 21.25 / 51)
        self.assertEqual(j.remarks()[0], "1 wrong frame was rejected and rendered again elsewhere")
        self.assertIn("1 frame failed: see idlewild logs 01KB", j.remarks()[1])

    def test_farm(self) -> None:
        f = farm.read(example("status.json"))
        self.assertEqual((f.headline(), f.free(), f.trouble()), ("Farm studio, 2 machines here", "1 of 2 GPUs free, 1 of 1 CPU free", ""))

    def test_frames_and_submitted(self) -> None:
        self.assertEqual(example("frames.json")["frames"][0]["files"], ["/home/ada/film/render/shot_0007.png"])
        self.assertRegex(example("submitted.json")["job"], r"\A[0-9A-Z]{26}\Z")

    def test_event_and_refusal(self) -> None:
        told = example("event.json")
        lines = ["id: 41\n", "event: delivered\n", "data: %s\n" % json.dumps(told), "\n"]
        self.assertEqual(list(stream.events(line.encode() for line in lines)), [told])
        self.assertEqual(problems.read(example("refused.json")["problems"])[0].line(), "Image 'wood': tex/wood.png is missing; put it back or pack it")


class Words(unittest.TestCase):
    def test_sizes_and_times(self) -> None:
        for n, want in ((0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (999_600, "1.0 MB"), (41_943_040, "42 MB"), (2e15, "2 PB")):
            self.assertEqual(text.size(n), want)
        for s, want in ((0.2, "0 s"), (59.6, "1 min"), (60, "1 min"), (380, "6 min 20 s"), (3599, "1 h 00 min"),
                        (5400, "1 h 30 min"), (86400 * 4, "4 days")):
            self.assertEqual(text.duration(s), want)

    def test_ago(self) -> None:
        then = datetime.datetime(2026, 11, 25, 10, tzinfo=datetime.timezone.utc).timestamp()
        for stamp in ("2026-11-25T10:00:00Z", "2026-11-25T11:00:00.123456789+01:00", "2026-11-25T05:00:00-05:00"):
            self.assertEqual(text.ago(stamp, then + 300), "5 min ago", stamp)
        self.assertEqual(text.ago("yesterday", 0), "")

    def test_wrap_keeps_every_character(self) -> None:
        line = "the file /a/very/long/path/that/does/not/fit/anywhere.png is missing; put it back"
        for width in (10, 20, 33, 200):
            lines = text.wrap(line, width)
            self.assertLessEqual(max(map(len, lines)), width)
            self.assertEqual("".join(lines).replace(" ", ""), line.replace(" ", ""))

    def test_versions(self) -> None:
        here = version.TEXT
        for told, api, part, talk in (
            (here, version.API_LEVEL, "", True),
            ("99.0.0", version.API_LEVEL, "run idlewild addon install", True),
            ("0.0.9-rc1", version.API_LEVEL, "update idlewild and restart it", True),
            (here, version.API_LEVEL + 1, "newer than this add-on", False),
            (here, 0, "older than this add-on", False),
            ("", version.API_LEVEL, "update idlewild", True),
        ):
            line, can = version.compare(told, api)
            self.assertEqual(can, talk, told)
            self.assertIn(part, line)
            self.assertEqual(part == "", line == "")
        self.assertEqual(version.parse("v0.10.2-rc1"), (0, 10, 2))

    def test_one_version_everywhere(self) -> None:
        with open(os.path.join(ADDON, "blender_manifest.toml"), encoding="utf-8") as f:
            self.assertIn('version = "%s"' % version.TEXT, f.read())
        with open(os.path.join(ADDON, "__init__.py"), encoding="utf-8") as f:
            self.assertIn('"version": %r,' % (version.VERSION,), f.read())


class Frames(unittest.TestCase):
    def test_listing_is_read_back_as_it_was(self) -> None:
        for want in ([1], [1, 2], [1, 2, 3], [1, 2, 3, 7, 9, 11], [-3, -2, -1, 0], [5, 1, 5], list(range(0, 100, 7)) + [100, 1000]):
            said = frames.listing(want)
            got: list[int] = []
            for part in said.split(","):
                m = re.match(r"(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?\Z", part)
                assert m, part
                a, b, step = int(m[1]), int(m[2] or m[1]), int(m[3] or 1)
                got += range(a, b + 1, step)
            self.assertEqual(sorted(set(want)), got, said)

    def test_names_are_blenders(self) -> None:
        for pattern, frame, want in (("", 7, "0007.png"), ("shot_", 7, "shot_0007.png"), ("a_##_b", 123, "a_123_b.png"), ("x#", -4, "x-4.png")):
            self.assertEqual(frames.file_name(pattern, frame, ".png"), want)

    def test_output_path(self) -> None:
        for path, want in (("/p/render/", ("/p/render", "")), ("/p/render/shot_", ("/p/render", "shot_")),
                           ("/p/a_####.png", ("/p", "a_####")), ("x", ("/here", "x")), ("/p/##/a", ("/p/##", "a"))):
            o = frames.Output(path, "/here/f.blend")
            self.assertEqual((o.folder, o.name), want)

    def test_output_path_with_braces(self) -> None:
        for path, rendered, want in (
            ("//{blend_name}/a_", "/p/film/a_987654.png", "/p/film/a_####"), ("//{blend_name}_##_x", "/p/film_987654_x.png", "/p/film_##_x"),
            ("/p#/{fps}/", "/p#/24/987654.png", "/p#/24/####"),
        ):
            self.assertEqual(frames.from_probe(path, rendered, ".png"), want)


class Problems(unittest.TestCase):
    def test_targets(self) -> None:
        for where, message, want in (
            ("Modifier 'Cloth' of object 'Cape'", "is not baked", ("object", "Cape")),
            ("Image 'wood'", "the file /x/wood.png is missing", ("image", "wood")),
            ("Library 'lib.blend'", "the file /x/lib.blend is missing", ("path", "/x")),
            ("Scene 'Scene'", "the scene has no active camera", ("scene", "Scene")),
            ("/home/ada/a.blend", "it cannot be read", ("path", "/home/ada")),
            ("Cache file 'smoke'", "", ("cache_file", "smoke")),
            ("Node 'IES'", "the file /x/a.ies is missing", ("path", "/x")),
            ("", "there is nothing to do", ("", "")),
        ):
            self.assertEqual(problems.target(where, message), problems.Target(*want), where)


class Jobs(unittest.TestCase):
    def test_ten_thousand_frames_are_two_lines(self) -> None:
        j = jobs.read({"job": "A", "title": "x" * 200, "state": "planned", "tasks": 10_000, "delivered": 1234, "running": 40, "left_s": 9000})
        self.assertEqual(j.progress(), "1234 of 10000 frames, 40 at work, 2 h 30 min left")
        self.assertLess(len(j.headline()), 60)

    def test_list_shows_this_files_jobs_first(self) -> None:
        told = [{"job": "C", "file": "/o.blend", "state": "planned"}, {"job": "B", "file": "/f.blend", "state": "finished"},
                {"job": "A", "file": "/f.blend", "state": "paused", "output": "/out"}, {"job": "0", "file": "/o.blend", "state": "failed"}]
        many = jobs.JobList()
        self.assertEqual(len(many.update(told)), 4)
        self.assertEqual(many.update(told), [])
        self.assertEqual([j.id for j in many.shown("/f.blend")], ["A", "B", "C"])
        self.assertEqual([j.id for j in many.shown("", 1)], ["C"])
        told[0] = dict(told[0], state="cancelled")
        (before, now), = many.update(told)
        assert before is not None
        self.assertEqual((before.state, now.state), ("planned", "cancelled"))
        self.assertIn("This file is being rendered into that folder already", many.clash("/out/", "/f.blend"))
        self.assertEqual(many.clash("/elsewhere", "/f.blend"), "")

    def test_the_same_file_from_two_blenders(self) -> None:
        told = [{"job": i, "title": "f.blend", "state": s, "output": o} for i, s, o in (
            ("THEIRS", "planned", "/out/"), ("OURS", "planned", "/out"), ("ENDED", "finished", "/out"), ("FAR", "planned", "/far"))]
        both = jobs.JobList()
        both.update(told)
        self.assertIn("submitted elsewhere too, into the same folder: cancel one", both.intruder({"OURS"}, set()))
        for mine, known in (({"OURS"}, {"THEIRS"}), ({"OURS", "THEIRS"}, set()), ({"FAR"}, set()), ({"ENDED"}, set()), (set(), set())):
            self.assertEqual(both.intruder(mine, known), "", (mine, known))

    def test_farm_of_nobody(self) -> None:
        self.assertIn("farm is empty", farm.read({}).trouble())
        alone = {"farm": {"name": "f", "members": [{"self": True}, {"name": "x", "connected": False}]}}
        self.assertIn("No other machine", farm.read(alone).trouble())


class Rest(unittest.TestCase):
    def test_command_line(self) -> None:
        argv = ["blender", "-b", "a.blend", "--", "idlewild", "submit", "-f", "1-3", "--preset", "draft", "--wait"]
        said = commandline.parse(commandline.asked(argv) or [])
        self.assertEqual((said["frames"], said["preset"], said["wait"], said["output"]), ("1-3", "DRAFT", True, ""))
        self.assertTrue(commandline.names_file(argv))
        self.assertFalse(commandline.names_file(["blender", "-b", "--", "idlewild", "submit"]))
        for other in (["blender", "-b"], ["blender", "--", "other"], ["blender", "--"]):
            self.assertIsNone(commandline.asked(other))
        with self.assertRaisesRegex(errors.Trouble, "unrecognized arguments: --nope"):
            commandline.parse(["submit", "--nope"])

    def test_data_dir_is_the_daemons(self) -> None:
        for env, platform, want in (
            ({"XDG_DATA_HOME": "/x"}, "linux", "/x/idlewild"), ({"XDG_DATA_HOME": "rel"}, "linux", os.path.expanduser("~/.local/share/idlewild")),
            ({"IDLEWILD_DATA_DIR": "/d"}, "linux", "/d"), ({}, "darwin", os.path.expanduser("~/Library/Application Support/idlewild")),
        ):
            self.assertEqual(client.default_data_dir(env, platform), want)

    def test_events(self) -> None:
        lines = [b": hello\n", b"\n", b"id: 1\n", b'data: {"seq":1,\n', b'data: "a":2}\r\n', b"\n", b": beat\n", b"data: []\n", b"\n", b"data: {\n"]
        self.assertEqual(list(stream.events(iter(lines))), [{"seq": 1, "a": 2}])

    def test_disk_full_is_a_line(self) -> None:
        self.assertIn("the disk is full: make room", str(errors.of_disk(OSError(28, "No space left on device"), "/x/y", "Writing")))
        with self.assertRaisesRegex(errors.Trouble, "no program /nowhere.*preferences"):
            daemon.program("/nowhere/idlewild")

    def test_core_knows_no_bpy_and_only_the_standard_library(self) -> None:
        allowed = set(sys.stdlib_module_names) | {"bpy"}
        for top, _, names in os.walk(ADDON):
            for name in names:
                if not name.endswith(".py"):
                    continue
                with open(os.path.join(top, name), encoding="utf-8") as f:
                    source = f.read()
                self.assertLess(source.count("\n"), 300, name)
                for node in ast.walk(ast.parse(source)):
                    found = []
                    if isinstance(node, ast.Import):
                        found = [a.name.split(".")[0] for a in node.names]
                    elif isinstance(node, ast.ImportFrom) and not node.level:
                        found = [(node.module or "").split(".")[0]]
                    for module in found:
                        self.assertIn(module, allowed, name)
                        self.assertFalse(module == "bpy" and os.path.basename(top) == "core", name)


if __name__ == "__main__":
    unittest.main()
