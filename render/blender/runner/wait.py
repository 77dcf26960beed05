# SPDX-License-Identifier: Apache-2.0
"""Has a Blender that started without its file wait until the file is there.

Stands before the file on the command line. Ready, it reads one line from
stdin; what comes after that line is main.py's.
"""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import compat  # noqa: E402
import protocol  # noqa: E402

with protocol.Events.open(os.environ.get("IDLEWILD_EVENTS", "/dev/stderr")) as events:
    events.ready(build=compat.build(), waits=True)
if not sys.stdin.readline():
    sys.stdout.flush()
    os._exit(0)  # it was not needed
print("idlewild: this Blender was started before it had a file", flush=True)
