# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection against a daemon of this test's own: what goes wrong between
two programs, each ending in a line that says what to do."""

from __future__ import annotations

import http.server
import json
import os
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock
from typing import Any, Callable

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from idlewild_addon.core import client, daemon, errors, link, spec, submission, version  # noqa: E402
from idlewild_addon.core.link import Link  # noqa: E402

PATIENCE = 180.0


class Fake:
    """Answers as the daemon does, with one job and a stream of events."""

    def __init__(self, data_dir: str, token: str = "t", api: int = version.API_LEVEL, told: str = version.TEXT, pid: int = 1) -> None:
        self.data_dir, self.token, self.api, self.version, self.pid = data_dir, token, api, told, pid
        self.jobs: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.answer: tuple[int, dict[str, Any]] | None = None  # instead of the usual
        self.cut: Callable[[dict[str, Any]], None] | None = None  # is given what was submitted, instead of an answer
        self.news = threading.Condition()
        self.seq = 0
        self.closing = False
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                fake.handle(self)

            do_POST = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.write()

    def write(self, **other: Any) -> None:
        d = {"address": "127.0.0.1:%d" % self.server.server_address[1], "token": self.token, "pid": self.pid,
             "version": self.version, "api": self.api}
        d.update(other)
        path = os.path.join(self.data_dir, client.ENDPOINT_FILE)
        with open(path + ".part", "w", encoding="utf-8") as f:
            json.dump(d, f)
        os.replace(path + ".part", path)

    def close(self, remove: bool = True) -> None:
        with self.news:
            self.closing = True
            self.news.notify_all()
        self.server.shutdown()
        self.server.server_close()
        if remove:
            os.remove(os.path.join(self.data_dir, client.ENDPOINT_FILE))

    def close_once(self) -> None:
        if not self.closing:
            self.close(remove=False)

    def tell(self) -> None:
        with self.news:
            self.seq += 1
            self.news.notify_all()

    def handle(self, h: Any) -> None:
        length = int(h.headers.get("Content-Length") or 0)
        said = h.rfile.read(length)
        self.asked.append((h.command, h.path))
        status = 200
        body: dict[str, Any] = {}
        if h.headers.get("Authorization") != "Bearer " + self.token:
            status, body = 401, {"code": "unauthorized", "detail": "wrong token"}
        elif self.cut is not None and (h.command, h.path) == ("POST", "/v1/jobs"):
            self.cut(json.loads(said))
            h.close_connection = True
            return
        elif self.answer is not None:
            status, body = self.answer
        elif h.path.startswith("/v1/events"):
            return self.stream(h)
        elif h.path.startswith("/v1/jobs"):
            body = {"jobs": self.jobs}
        raw = json.dumps(body).encode()
        h.send_response(status)
        self.head(h)
        h.send_header("Content-Length", str(len(raw)))
        h.end_headers()
        h.wfile.write(raw)

    def head(self, h: Any) -> None:
        if self.api:
            h.send_header("Idlewild-Api", str(self.api))
            h.send_header("Idlewild-Version", self.version)

    def stream(self, h: Any) -> None:
        h.send_response(200)
        self.head(h)
        h.end_headers()
        h.wfile.write(b": hello\n\n")
        seen = self.seq
        while True:
            with self.news:
                self.news.wait_for(lambda: self.closing or self.seq > seen)
                if self.closing:
                    return
                seen = self.seq
            h.wfile.write(b'data: {"seq":%d,"type":"state"}\n\n' % seen)
            h.wfile.flush()


class LinkTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = folder.name
        self.heard: list[tuple[str, Any]] = []

    def fake(self, **o: Any) -> Fake:
        f = Fake(self.dir, **o)
        self.addCleanup(f.close_once)
        return f

    def link(self) -> Link:
        made = Link(self.dir, lambda kind, value: self.heard.append((kind, value)))

        def end() -> None:
            made.close()
            self.assertTrue(made.join(PATIENCE), "threads are left")

        self.addCleanup(end)
        made.start()
        return made

    def hear(self, made: Link, kind: str, ok: Any = lambda value: True) -> Any:
        found: list[Any] = []

        def heard() -> bool:
            while self.heard:
                k, value = self.heard.pop(0)
                if k == kind and ok(value):
                    found.append(value)
                    return True
            return False

        self.assertTrue(link.wait_for(made, heard, PATIENCE), "waited in vain for %s" % kind)
        return found[0]

    def trouble(self, pattern: str) -> None:
        with self.assertRaisesRegex(errors.Trouble, pattern) as caught:
            client.Client(self.dir).status()
        self.assertNotIn("\n", str(caught.exception))

    def test_absent(self) -> None:
        self.trouble("not running on this machine: press Start, or run idlewild up")

    def test_stopped(self) -> None:
        self.fake().close(remove=False)
        self.trouble("stopped: press Start, or run idlewild up")

    def test_older_and_newer(self) -> None:
        self.fake(api=version.API_LEVEL + 1, told="9.0.0")
        self.trouble("newer than this add-on .*run idlewild addon install")
        f = self.fake(told="0.0.1")
        f.api = 0

        def old(h: Any) -> None:
            h.send_header("Idlewild-Api", "0")
            h.send_header("Idlewild-Version", "0.0.1")

        f.head = old  # type: ignore[method-assign]
        self.trouble("older than this add-on .*update idlewild and restart it")

    def test_another_program_at_the_port(self) -> None:
        f = self.fake()
        f.api = 0
        self.trouble("Another program answers")

    def test_token_unreadable(self) -> None:
        self.fake()
        path = os.path.join(self.dir, client.ENDPOINT_FILE)
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # root reads everything
            with unittest.mock.patch.object(client, "open", side_effect=PermissionError(13, "denied", path), create=True):
                self.trouble("token cannot be read.*run idlewild up as yourself")
            return
        os.chmod(path, 0)
        self.trouble("token cannot be read.*run idlewild up as yourself")

    def test_token_wrong(self) -> None:
        self.fake().write(token="other")
        self.trouble("refuses the token.*restart it")

    def test_endpoint_says_nonsense(self) -> None:
        for said in ("", "[]", '{"address": "example.org:80", "token": "x"}', '{"address": "127.0.0.1:x", "token": "x"}', "{"):
            with open(os.path.join(self.dir, client.ENDPOINT_FILE), "w", encoding="utf-8") as f:
                f.write(said)
            self.trouble("says nothing useful.*restart the daemon")

    def test_a_token_is_never_sent_away_from_this_machine(self) -> None:
        with open(os.path.join(self.dir, client.ENDPOINT_FILE), "w", encoding="utf-8") as f:
            json.dump({"address": "10.0.0.1:80", "token": "x"}, f)
        with self.assertRaisesRegex(errors.Trouble, "not on this machine"):
            client.read_endpoint(self.dir)

    def test_refusal_keeps_its_problems(self) -> None:
        f = self.fake()
        f.answer = (422, {"code": "refused", "detail": "x", "problems": [
            {"severity": "error", "where": "Image 'a'", "message": "is missing", "remedy": "put it back"}]})
        with self.assertRaises(errors.Refused) as caught:
            client.Client(self.dir).submit({})
        self.assertEqual(str(caught.exception), "Image 'a': is missing; put it back")
        self.assertEqual(caught.exception.problems[0].target().kind, "image")
        f.answer = (404, {"code": "unknown_job", "detail": "no such job here"})
        self.trouble("not on this machine any more")
        f.answer = (404, {"code": "not_found", "detail": "there is no POST /v1/estimate"})
        self.trouble("lacks something this add-on needs.*update idlewild")
        f.answer = (500, {"code": "failed", "detail": "disk on fire"})
        self.trouble("The daemon says: disk on fire")

    def test_restarted_on_another_port_with_another_token(self) -> None:
        first = self.fake()
        c = client.Client(self.dir)
        c.status()
        made = self.link()
        self.hear(made, "up")
        first.close(remove=False)
        self.fake(token="u", pid=2).jobs = [{"job": "NEW"}]
        self.hear(made, "jobs", lambda told: told == [{"job": "NEW"}])
        self.assertEqual(c.jobs(), [{"job": "NEW"}])

    def test_daemon_comes_after_the_add_on(self) -> None:
        made = self.link()
        self.assertIn("press Start", str(self.hear(made, "down")))
        self.fake()
        self.hear(made, "up")

    def test_events_bring_the_list_and_silence_costs_nothing(self) -> None:
        f = self.fake()
        made = self.link()
        self.hear(made, "jobs")
        f.jobs = [{"job": "A"}]
        f.tell()
        self.hear(made, "jobs", lambda told: told == [{"job": "A"}])
        waits: list[float] = []
        wait = made._wake.wait

        def counted(timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return wait(timeout)

        made._wake.wait = counted  # type: ignore[method-assign]
        asked, end = len(f.asked), time.monotonic() + 1.5
        link.wait_for(made, lambda: time.monotonic() > end, PATIENCE, step=0.25)  # as Blender's timer does
        self.assertLessEqual(len(f.asked) - asked, 1)
        self.assertLessEqual(len(waits), 3, "wake-ups while nothing happens")

    def test_a_burst_of_events_is_one_look_a_second(self) -> None:
        f = self.fake()
        made = self.link()
        self.hear(made, "jobs")
        before = len(f.asked)
        for _ in range(500):
            f.tell()
        end = time.monotonic() + 1.2
        link.wait_for(made, lambda: time.monotonic() > end, PATIENCE)
        self.assertLess(len(f.asked) - before, 8)

    def test_the_main_thread_is_not_held(self) -> None:
        self.fake().jobs = [{"job": "%026d" % i, "title": "x" * 60, "state": "finished"} for i in range(50)]
        made = self.link()
        self.hear(made, "jobs")
        for _ in range(2000):
            made._tell("event", {})
        calls: list[str] = []

        def told(kind: str, value: Any) -> None:
            calls.append(kind)
            time.sleep(0.001)  # each costs a millisecond

        made.told = told
        made.drain()
        self.assertLessEqual(len(calls), 6)

    def test_what_fails_in_a_thread_is_a_line(self) -> None:
        made = self.link()
        got: list[Any] = []
        made.do(lambda c: 1 // 0, lambda result, trouble: got.append(trouble))
        self.assertTrue(link.wait_for(made, lambda: bool(got), PATIENCE))
        self.assertIn("The add-on failed: ZeroDivisionError", str(got[0]))

    def test_a_program_that_is_no_daemon(self) -> None:
        program = os.path.join(self.dir, "idlewild")
        with open(program, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\necho it has no Blender >&2\nexit 3\n")
        os.chmod(program, 0o755)
        made, got = self.link(), []
        made.start_daemon(program, lambda result, trouble: got.append(trouble))
        self.assertTrue(link.wait_for(made, lambda: bool(got), PATIENCE))
        self.assertRegex(str(got[0]), "did not come up: it has no Blender; see up.log in")

    def wish(self) -> spec.Wish:
        """Of unsaved work."""
        blend = os.path.join(self.dir, "a.blend")
        with open(blend, "wb") as f:
            f.write(b"BLENDER")
        copy = daemon.place_for_copy(self.dir, blend)
        with open(copy, "wb") as f:
            f.write(b"BLENDER")
        return spec.Wish(file=blend, copy=copy, output=os.path.join(self.dir, "out"))

    def test_cut_while_the_job_is_taken(self) -> None:
        """The daemon has the job in its journal and ends before it says so."""
        f, wish = self.fake(), self.wish()
        f.jobs = [{"job": "OLD", "file": wish.file, "output": wish.output}]

        def cut(said: dict[str, Any]) -> None:
            f.jobs.append({"job": "OTHER", "file": said["copy_of"], "output": said["output"] + "2"})
            f.jobs.append({"job": "NEW", "file": said["copy_of"], "output": said["output"]})

        f.cut = cut
        self.assertEqual(submission.submit(client.Client(self.dir), wish, {"OLD"}), "NEW")
        self.assertTrue(os.path.exists(wish.copy), "the copy of a job that was taken is gone")

    def test_cut_and_found_after_a_restart(self) -> None:
        first, wish = self.fake(), self.wish()

        def cut(said: dict[str, Any]) -> None:
            threading.Thread(target=restart, args=(said,)).start()

        def restart(said: dict[str, Any]) -> None:
            first.close(remove=False)
            self.fake(token="u", pid=2).jobs = [{"job": "NEW", "file": said["copy_of"], "output": said["output"]}]

        first.cut = cut
        self.assertEqual(submission.submit(client.Client(self.dir), wish, set()), "NEW")

    def test_cut_for_good(self) -> None:
        f, wish = self.fake(), self.wish()
        f.cut = lambda said: None
        with self.assertRaisesRegex(errors.Cut, "look whether it is in the list before you submit again") as caught:
            submission.submit(client.Client(self.dir), wish, set(), 0.1)
        self.assertTrue(caught.exception.gone)
        self.assertTrue(os.path.exists(wish.copy), "it may have been taken")

    def test_not_taken(self) -> None:
        f, wish = self.fake(), self.wish()
        f.answer = (422, {"code": "refused", "detail": "no"})
        with self.assertRaises(errors.Trouble):
            submission.submit(client.Client(self.dir), wish, set())
        self.assertFalse(os.path.exists(wish.copy))
        wish = self.wish()
        f.close()
        with self.assertRaises(errors.NoDaemon):
            submission.submit(client.Client(self.dir), wish, set())
        self.assertFalse(os.path.exists(wish.copy))

    def test_no_room_for_a_copy(self) -> None:
        blend = os.path.join(self.dir, "ä b.blend")
        with open(blend, "wb") as f:
            f.write(b"BLENDER")
        path = daemon.place_for_copy(self.dir, blend)
        self.assertEqual(os.path.basename(path), "ä b.blend")
        daemon.drop_copy(path)
        self.assertEqual(os.listdir(os.path.join(self.dir, "copies")), [])
        before = daemon.shutil.disk_usage
        daemon.shutil.disk_usage = lambda _: before("/")._replace(free=1000)  # type: ignore[assignment]
        self.addCleanup(setattr, daemon.shutil, "disk_usage", before)
        with self.assertRaisesRegex(errors.Trouble, "nearly full.*save the file, or make room"):
            daemon.place_for_copy(self.dir, blend)
        self.assertEqual(os.listdir(os.path.join(self.dir, "copies")), [])


if __name__ == "__main__":
    unittest.main()
