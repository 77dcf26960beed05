# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender in the background, where no timer fires: submit and wait.

`blender -b FILE --python-expr "import bpy; bpy.ops.idlewild.submit()"` and
`blender -b FILE -- idlewild submit` both end here.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, Callable

import bpy

from ..core import commandline
from ..core.errors import Trouble
from . import state, submit as submitting

CALL_TIMEOUT = 60.0  # submission.PATIENCE and a call before it
CHECK_TIMEOUT = 660.0
FOREVER = 365 * 24 * 3600.0


def until(ok: Callable[[], bool], timeout: float, what: str) -> None:
    if not state.wait_for(ok, timeout):
        raise Trouble("%s did not come within %g s: see the daemon's log" % (what, timeout))


def scene_named(name: str) -> Any:
    if not name:
        return bpy.context.scene
    scene = bpy.data.scenes.get(name)
    if scene is None:
        raise Trouble("There is no scene '%s' in the file: choose one of %s" % (name, ", ".join(s.name for s in bpy.data.scenes)))
    return scene


def submit(s: state.State, said: dict[str, Any]) -> str:
    """Submits, says what becomes of it on stdout, and returns the job."""
    scene = scene_named(said.pop("scene", ""))
    only_frame, wait = bool(said.pop("only_frame", False)), bool(said.pop("wait", False))
    answers: list[Any] = []
    submitting.submit(s, scene, only_frame, said, lambda job, trouble: answers.append((job, trouble)))
    until(lambda: bool(answers), CALL_TIMEOUT, "The daemon's answer")
    job, trouble = answers[0]
    if trouble is not None:
        raise trouble
    print("idlewild: submitted job %s" % job, flush=True)
    if wait:
        follow(s, job)
    return str(job)


def follow(s: state.State, id_: str) -> None:
    """Prints progress until the job ends; raises where it did not finish."""
    last = ""

    def ended() -> bool:
        nonlocal last
        j = s.jobs.get(id_)
        if j is None:
            return False
        if j.progress() != last:
            last = j.progress()
            print("idlewild: %s" % last, flush=True)
        return j.ended

    s.to_open.pop(id_, None)
    until(ended, FOREVER, "The end of the job")
    j = s.jobs.get(id_)
    assert j is not None
    if j.state != "finished":
        why = [p.line() for p in j.problems if p.bad] or [j.reason or j.state]
        raise Trouble("The job did not finish: %s" % why[0])
    print("idlewild: finished, frames are in %s" % j.output, flush=True)


@bpy.app.handlers.persistent
def after_load(*_: Any) -> None:
    """Does what the command line asks behind "--", once the file is open, and
    ends Blender with an exit code."""
    words = commandline.asked(sys.argv)
    if words is None or not bpy.app.background:
        return
    if not bpy.data.filepath and commandline.names_file(sys.argv):
        return
    bpy.app.handlers.load_post.remove(after_load)
    code = 1
    try:
        said = commandline.parse(words)
        s = state.connect(said.pop("data_dir"))
        submit(s, said)
        code = 0
    except Trouble as trouble:
        print("idlewild: %s" % trouble, file=sys.stderr)
        code = 3
    except SystemExit as end:  # --help
        code = int(end.code or 0)
    except KeyboardInterrupt:
        code = 130
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    # Blender gives a script no other way to say how it went, and what is open
    # is not to be saved.
    os._exit(code)
