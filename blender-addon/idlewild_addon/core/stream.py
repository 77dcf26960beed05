# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's stream of events, read in a thread."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any, Callable, Iterator

from .client import Client, read_endpoint
from .errors import Trouble

SILENCE = 45.0  # seconds; the daemon says every 15 that it lives
MAX_EVENT = 1 << 20


def events(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Decodes server-sent events whose data is JSON; ends with the stream."""
    data: list[bytes] = []
    for line in lines:
        line = line.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data.append(line[5:].lstrip(b" "))
            if sum(map(len, data)) > MAX_EVENT:
                raise ValueError("an event is larger than %d bytes" % MAX_EVENT)
        elif not line and data:
            event = json.loads(b"\n".join(data))
            data = []
            if isinstance(event, dict):
                yield event


class Stream:
    """Calls back from its own thread: up(), event(e), down(trouble). It finds
    the daemon again by itself, and looks for one that is not there every few
    seconds: what that costs is one look at a file."""

    def __init__(self, client: Client, up: Callable[[], None], event: Callable[[dict[str, Any]], None],
                 down: Callable[[Trouble], None]) -> None:
        self.client = client
        self.up, self.event, self.down = up, event, down
        self.closing = threading.Event()
        self._again = threading.Event()
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="idlewild events", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def close(self) -> None:
        """Ends the thread, from any thread."""
        self.closing.set()
        self.retry()
        with self._lock:
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is closed already

    def retry(self) -> None:
        """Looks for the daemon now."""
        self._again.set()

    def _opened(self, s: socket.socket) -> None:
        with self._lock:
            self._socket = s
        if self.closing.is_set():
            s.shutdown(socket.SHUT_RDWR)  # close() came before there was one

    def _run(self) -> None:
        wait, last, pid = 1.0, 0, 0
        while not self.closing.is_set():
            try:
                ep = read_endpoint(self.client.data_dir)
                if ep.pid != pid:
                    last, pid = 0, ep.pid  # a new process counts anew
                headers = {"Accept": "text/event-stream"}
                if last:
                    headers["Last-Event-ID"] = str(last)
                connection, answer = self.client.open(ep, "GET", "/v1/events", None, SILENCE, headers, self._opened)
                try:
                    wait = 1.0
                    self.up()
                    for e in events(iter(answer.readline, b"")):
                        last = int(e.get("seq") or last)
                        self.event(e)
                        if self.closing.is_set():
                            return
                finally:
                    with self._lock:
                        self._socket = None
                    connection.close()
                trouble = Trouble("The daemon stopped: press Start, or run idlewild up")
                trouble.gone = True
            except Trouble as err:
                trouble = err
            except Exception as err:  # whatever it is, the panel shows it and the thread lives
                trouble = Trouble("The connection to the daemon was cut (%s): it is tried again" % (err or type(err).__name__))
                trouble.gone = True
            if self.closing.is_set():
                return
            self.down(trouble)
            self._again.wait(wait)
            self._again.clear()
            wait = min(wait * 1.5, 5.0)
