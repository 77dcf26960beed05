# SPDX-License-Identifier: Apache-2.0
"""A warm Blender that renders on request.

Started by `blender -b -Y --factory-startup --python-exit-code 97 FILE.blend
[-S SCENE] -P main.py`. Requests are JSON objects, one a line, on stdin; events are JSON
objects, one a line, in the file that $IDLEWILD_EVENTS names (standard error
where it names none). Whatever Blender prints is log. To try it by hand:

    echo '{"id": 1, "op": "render", "frame": 1, "out": "/tmp/out"}' | \\
        blender -b -Y --factory-startup FILE.blend -P main.py

The .blend on disk is never written.
"""

from __future__ import annotations

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402

import bake  # noqa: E402
import compat  # noqa: E402
import film  # noqa: E402
import finish  # noqa: E402
import frame  # noqa: E402
import protocol  # noqa: E402
import relocate  # noqa: E402
import sequencer  # noqa: E402

OPS = {"bake": bake.bake, "render": frame.render, "crop": frame.crops, "denoise": finish.denoise, "finish": finish.finish, "film": film.film,
       "sequence": sequencer.sequence}


def serve(events: protocol.Events) -> int:
    """Answers requests until stdin ends."""
    if bake.late():
        pass  # the first request says which file
    elif not bpy.data.filepath:
        # Blender shows its default scene where it could not read the file.
        events.error("failed", "Blender %s cannot open the file; see the log" % bpy.app.version_string)
        return 0
    else:
        bake.reopen_zones()
        # The tree is mounted as a whole; absolute paths of the artist's disk lie
        # in a folder of it.
        for path in relocate.relocate(os.environ.get("IDLEWILD_IN", "")).missing:
            print("idlewild: not in the tree:", path)
    events.ready(build=compat.build(), scene=bpy.context.scene.name)
    for line in sys.stdin:
        if not line.strip():
            continue
        request = protocol.Request.parse(line)
        answer(events, request)
    return 0


def answer(events: protocol.Events, request: protocol.Request) -> None:
    """Runs one request and writes its closing event, whatever happens."""
    start = time.monotonic()
    facts: dict = {}
    try:
        op = OPS.get(request.op)
        if op is None:
            raise protocol.Failed("unknown operation %r" % request.op)
        if request.build and request.build != compat.build():
            raise protocol.Broken("this is Blender %s, and the job is pinned to %s" % (compat.build(), request.build))
        progress = protocol.Progress(events, request.id)
        if bake.late():
            bake.opened.ready(request, progress)
        elif bake.opened.project:
            bake.opened.project.grow()
        facts = op(request, progress)
        outcome, reason = "succeeded", ""
    except BaseException as exc:  # also SystemExit from a script in the file
        protocol.log_exception()
        outcome, reason = protocol.classify(exc, request.device.get("type") == "gpu")
    events.done(
        request.id,
        outcome,
        reason,
        device=facts.get("device", ""),
        build=compat.build(),
        render_s=round(time.monotonic() - start, 4),
        load_s=0.0,
    )


def main() -> None:
    with protocol.Events.open(os.environ.get("IDLEWILD_EVENTS", "/dev/stderr")) as events:
        try:
            code = serve(events)
        except BaseException as exc:
            protocol.log_exception()
            outcome, reason = protocol.classify(exc)
            events.error(outcome, reason)
            code = 97
    sys.stdout.flush()
    sys.stderr.flush()
    # Blender's own tear-down of a large scene takes seconds and may crash;
    # there is nothing left that it could save.
    os._exit(code)


main()
