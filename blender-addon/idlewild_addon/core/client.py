# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's local API: HTTP on loopback with the token of its data folder.

Calls block; they are made from threads of the add-on, never from Blender's.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import urllib.parse
from dataclasses import dataclass
from typing import Any, Callable

from . import problems, version
from .errors import Cut, NoDaemon, Refused, StaleToken, Trouble

ENDPOINT_FILE = "api.json"
MAX_ANSWER = 64 << 20
TIMEOUT = 10.0  # seconds; what looks at files takes longer
LONG_TIMEOUT = 660.0


def default_data_dir(env: Any = os.environ, platform: str = sys.platform) -> str:
    """Where the daemon keeps its data unless told otherwise; as node/config.go."""
    said = env.get("IDLEWILD_DATA_DIR", "")
    if said:
        return said
    home = os.path.expanduser("~")
    if platform.startswith("linux"):
        xdg = env.get("XDG_DATA_HOME", "")
        if os.path.isabs(xdg):
            return os.path.join(xdg, "idlewild")
        return os.path.join(home, ".local", "share", "idlewild")
    if platform == "darwin":
        return os.path.join(home, "Library", "Application Support", "idlewild")
    return os.path.join(env.get("APPDATA") or os.path.join(home, "AppData", "Roaming"), "idlewild")


@dataclass(frozen=True)
class Endpoint:
    """Where the daemon answers and what opens it."""

    host: str
    port: int
    token: str
    version: str
    api: int
    pid: int


def read_endpoint(data_dir: str) -> Endpoint:
    """What the file in the data folder says. Its absence means no daemon."""
    path = os.path.join(data_dir, ENDPOINT_FILE)
    try:
        with open(path, encoding="utf-8") as f:
            d = json.loads(f.read(1 << 16))
        host, _, port = str(d["address"]).rpartition(":")
        if host.strip("[]") not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("address %s is not on this machine" % d["address"])
        return Endpoint(host.strip("[]"), int(port), str(d["token"]), str(d.get("version", "")), int(d.get("api", 0)), int(d.get("pid", 0)))
    except FileNotFoundError:
        raise NoDaemon("The farm's daemon is not running on this machine: press Start, or run idlewild up") from None
    except PermissionError:
        raise Trouble("The daemon's token cannot be read: %s belongs to another user; run idlewild up as yourself" % path) from None
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise NoDaemon("%s says nothing useful (%s): restart the daemon with idlewild up" % (path, err)) from None


class Client:
    """One daemon, found through its data folder again after it moved."""

    def __init__(self, data_dir: str) -> None:
        self.data_dir = data_dir
        self.endpoint: Endpoint | None = None

    # What the panel needs, one method per endpoint.

    def status(self) -> dict[str, Any]:
        return self.json("GET", "/v1/status")

    def jobs(self, ended: int = 50) -> list[dict[str, Any]]:
        """Every job that goes on, and some that ended, newest first."""
        return self.json("GET", "/v1/jobs?ended=%d" % ended)["jobs"]

    def submit(self, spec: dict[str, Any]) -> str:
        return self.json("POST", "/v1/jobs", spec)["job"]

    def estimate(self, spec: dict[str, Any]) -> dict[str, Any]:
        return self.json("POST", "/v1/estimate", spec, timeout=LONG_TIMEOUT)

    def steer(self, job: str, action: str) -> dict[str, Any]:
        self.call("POST", "/v1/jobs/%s/%s" % (quoted(job), quoted(action)))
        return {}

    def frames(self, job: str, state: str = "", limit: int = 100) -> dict[str, Any]:
        query = {"limit": str(limit)}
        if state:
            query["state"] = state
        return self.json("GET", "/v1/jobs/%s/frames?%s" % (quoted(job), urllib.parse.urlencode(query)))

    def thumbnail(self, job: str, task: str, side: int = 256) -> bytes:
        query = urllib.parse.urlencode({"task": task, "side": str(side)})
        return self.call("GET", "/v1/jobs/%s/thumbnail?%s" % (quoted(job), query))

    def json(self, method: str, path: str, body: Any = None, timeout: float = TIMEOUT) -> Any:
        raw = self.call(method, path, body, timeout)
        try:
            return json.loads(raw)
        except ValueError:
            raise Trouble("The daemon's answer is not JSON: restart it with idlewild up") from None

    def call(self, method: str, path: str, body: Any = None, timeout: float = TIMEOUT) -> bytes:
        """One request. What surely had no effect, because nobody answered at an
        old address or the token was an earlier daemon's, is tried again where
        the daemon is now."""
        for attempt in (1, 2):
            if self.endpoint is None:
                self.endpoint = read_endpoint(self.data_dir)
            used = self.endpoint
            try:
                return self._once(used, method, path, body, timeout)
            except (ConnectionRefusedError, StaleToken) as err:
                self.endpoint = None
                if attempt == 2 or read_endpoint(self.data_dir) == used:
                    if isinstance(err, StaleToken):
                        raise
                    raise NoDaemon("The farm's daemon stopped: press Start, or run idlewild up") from None
            except (socket.timeout, TimeoutError):
                raise Cut("The daemon did not answer within %g s: see its log, or restart it with idlewild up" % timeout) from None
            except (OSError, http.client.HTTPException):
                self.endpoint = None
                raise Cut("The connection to the daemon was cut: it may be restarting; press Refresh") from None
        raise AssertionError("unreachable")

    def open(self, ep: Endpoint, method: str, path: str, body: Any, timeout: float,
             headers: dict[str, str] | None = None,
             on_socket: Callable[[socket.socket], None] | None = None) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """A request whose answer is a success and not read yet."""
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogateescape")
        head = {"Authorization": "Bearer " + ep.token}
        if data is not None:
            head["Content-Type"] = "application/json"
        head.update(headers or {})
        connection = http.client.HTTPConnection(ep.host, ep.port, timeout=timeout)
        try:
            connection.request(method, path, body=data, headers=head)
            if on_socket is not None and connection.sock is not None:
                on_socket(connection.sock)
            answer = connection.getresponse()
            self._judge(answer)
        except BaseException:
            connection.close()
            raise
        return connection, answer

    def _once(self, ep: Endpoint, method: str, path: str, body: Any, timeout: float) -> bytes:
        connection, answer = self.open(ep, method, path, body, timeout)
        try:
            raw = answer.read(MAX_ANSWER + 1)
        finally:
            connection.close()
        if len(raw) > MAX_ANSWER:
            raise Trouble("The daemon's answer is larger than %d MB" % (MAX_ANSWER >> 20))
        return raw

    def _judge(self, answer: http.client.HTTPResponse) -> None:
        """Raises for everything that is no success."""
        level = answer.getheader("Idlewild-Api", "")
        if not level.isdigit():
            raise NoDaemon("Another program answers at the daemon's address: start the daemon with idlewild up")
        line, talk = version.compare(answer.getheader("Idlewild-Version", ""), int(level))
        if not talk:
            raise Trouble(line)
        if answer.status < 300:
            return
        try:
            error = json.loads(answer.read(1 << 20))
        except ValueError:
            error = {}
        if error.get("code") == "unauthorized":
            raise StaleToken
        detail = str(error.get("detail") or "HTTP status %d" % answer.status)
        if error.get("code") == "unknown_job":
            raise Trouble("That job is not on this machine any more: press Refresh")
        if error.get("code") == "not_found" and answer.status == 404:
            raise Trouble("The daemon lacks something this add-on needs (%s): update idlewild and restart it" % detail)
        found = problems.read(error.get("problems"))
        if found:
            raise Refused(found[0].line(), found)
        more = "; ".join("%s %s" % (e.get("location", ""), e.get("message", "")) for e in error.get("errors") or [])
        raise Trouble("The daemon says: %s" % (detail + ": " + more if more else detail))


def quoted(s: str) -> str:
    return urllib.parse.quote(s, safe="")
