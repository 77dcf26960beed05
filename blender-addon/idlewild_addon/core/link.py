# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's side of the connection: threads that speak to the daemon, and a
queue that Blender's main thread drains.

Nothing here waits in the main thread, and nothing is called there but what
drain() calls.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any, Callable

from . import daemon
from .client import Client
from .errors import Trouble
from .stream import Stream

Done = Callable[[Any, "Trouble | None"], None]

LOOK_EVERY = 1.0  # seconds between two looks at the jobs while things happen
STATUS_EVERY = 10.0  # between two looks at the farm while somebody watches
WATCHED = 30.0  # a panel that was drawn so long ago is not watched any more
START_TIMEOUT = 30.0


class Link:
    """told(kind, value) is called by drain, in the main thread: "up", "down"
    with a Trouble, "jobs" with the daemon's list, "status", "event"."""

    def __init__(self, data_dir: str, told: Callable[[str, Any], None]) -> None:
        self.data_dir = data_dir
        self.client = Client(data_dir)
        self.told = told
        self.watched_at = 0.0
        self._queue: queue.SimpleQueue[tuple[Callable[..., None], tuple[Any, ...]]] = queue.SimpleQueue()
        self._closing = False
        self._wake = threading.Event()
        self._dirty = True
        self._up = False
        self._stream = Stream(Client(data_dir), self._on_up, self._on_event, self._on_down)
        self._looker = threading.Thread(target=self._look, name="idlewild looks", daemon=True)

    def start(self) -> None:
        self._stream.start()
        self._looker.start()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._stream.close()

    def join(self, timeout: float) -> bool:
        """Whether all threads ended; for tests."""
        end = time.monotonic() + timeout
        for t in (self._stream.thread, self._looker):
            t.join(max(0.0, end - time.monotonic()))
        return not (self._stream.thread.is_alive() or self._looker.is_alive())

    # The main thread's side.

    def drain(self, most_s: float = 0.005) -> bool:
        """Hands over what threads have to say, for a few milliseconds at most.
        Reports whether there was anything."""
        end, any_ = time.perf_counter() + most_s, False
        while True:
            try:
                f, args = self._queue.get_nowait()
            except queue.Empty:
                return any_
            any_ = True
            f(*args)
            if time.perf_counter() > end:
                return True

    def watched(self) -> None:
        """Somebody looks at the panel."""
        now = time.monotonic()
        if now - self.watched_at > STATUS_EVERY:
            self._wake.set()
        self.watched_at = now

    def refresh(self) -> None:
        self._dirty = True
        self.watched_at = time.monotonic()
        self._stream.retry()
        self._wake.set()

    def do(self, work: Callable[[Client], Any], done: Done | None = None) -> None:
        """Runs work in a thread of its own and done in the main thread."""
        def run() -> None:
            result, trouble = None, None
            try:
                result = work(Client(self.data_dir))
            except Trouble as err:
                trouble = err
            except Exception as err:  # a thread that dies silently would leave the panel waiting
                trouble = Trouble("The add-on failed: %s: %s; please report it" % (type(err).__name__, err))
            if done is not None:
                self._queue.put((done, (result, trouble)))
            self._dirty = True
            self._wake.set()
        threading.Thread(target=run, name="idlewild call", daemon=True).start()

    def start_daemon(self, said: str, done: Done) -> None:
        """Starts the daemon and waits, in a thread, until it answers."""
        def work(client: Client) -> None:
            process = daemon.start(daemon.program(said), self.data_dir)
            end, over = time.monotonic() + START_TIMEOUT, False
            while True:
                try:
                    client.status()
                    self._stream.retry()
                    return
                except Trouble as err:
                    if not err.gone:
                        raise
                if not over and process.poll() is not None:
                    # It ended; perhaps because another Blender starts one too.
                    end = min(end, time.monotonic() + 2)
                    over = True
                if time.monotonic() > end or self._closing:
                    raise Trouble("The daemon did not come up: %s; see up.log in %s" % (
                        daemon.log_tail(self.data_dir) or "it wrote nothing", self.data_dir))
                self._wake.wait(0.1)
        self.do(work, done)

    # Threads' side.

    def _tell(self, kind: str, value: Any) -> None:
        self._queue.put((self.told, (kind, value)))

    def _on_up(self) -> None:
        self._up = True
        self._dirty = True
        self._tell("up", None)
        self._wake.set()

    def _on_down(self, trouble: Trouble) -> None:
        self._up = False
        self._tell("down", trouble)

    def _on_event(self, event: dict[str, Any]) -> None:
        if event.get("type") != "progress":
            self._tell("event", event)
        if not self._dirty:
            self._dirty = True
            self._wake.set()

    def _look(self) -> None:
        """Asks for jobs and the farm when something happened or somebody
        watches; sleeps otherwise."""
        status_at = jobs_at = -1e9
        while not self._closing:
            now = time.monotonic()
            watched = now - self.watched_at < WATCHED
            if self._up:
                try:
                    if self._dirty and now - jobs_at >= LOOK_EVERY:
                        self._dirty = False
                        jobs_at = now
                        self._tell("jobs", self.client.jobs())
                        if now - status_at >= 3 * LOOK_EVERY:
                            status_at = now
                            self._tell("status", self.client.status())
                    elif watched and now - status_at >= STATUS_EVERY:
                        status_at = now
                        self._tell("status", self.client.status())
                except Trouble as err:
                    if not err.gone:  # the stream tells of a daemon that is gone
                        self._tell("down", err)
            waits = [60.0]
            if self._up and self._dirty:
                waits.append(max(0.05, jobs_at + LOOK_EVERY - time.monotonic()))
            if self._up and watched:
                waits.append(max(0.05, status_at + STATUS_EVERY - time.monotonic()))
            self._wake.wait(min(waits))
            self._wake.clear()


def wait_for(link: Link, ok: Callable[[], bool], timeout: float, step: float = 0.02) -> bool:
    """Drains until something holds; for programs without a timer, which is
    Blender in the background."""
    end = time.monotonic() + timeout
    while not ok():
        if time.monotonic() > end:
            return False
        if not link.drain():
            threading.Event().wait(step)
    return True


def expand(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
