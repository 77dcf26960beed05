# SPDX-License-Identifier: Apache-2.0
"""Looks at a file before anything moves: `blender -b -Y --factory-startup
FILE.blend -P survey.py -- REQUEST.json OUT.json`.

REQUEST holds the overrides a person gave, and the disks that are known; OUT gets facts for the planner, the
files that a render reads, and problems, each with a remedy.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bpy  # noqa: E402

import compat  # noqa: E402
import deps  # noqa: E402
import hazards  # noqa: E402
import memory  # noqa: E402
import movie  # noqa: E402
import ocio  # noqa: E402
import paths  # noqa: E402
import sequences  # noqa: E402
import settings  # noqa: E402
from problems import Problems  # noqa: E402


def main() -> None:
    ask, out = sys.argv[sys.argv.index("--") + 1 :][:2]
    with open(ask, encoding="utf-8") as f:
        wanted = json.load(f)
    paths.know(wanted.pop("disks", []))
    result = {"opened": bool(bpy.data.filepath), "version": compat.version(), "build": compat.build()}
    if bpy.data.filepath:
        problems = Problems()
        if wanted.get("sequencer") == "off":
            for scene in bpy.data.scenes:
                if scene.library is None:
                    scene.render.use_sequencer = False
        tree, owners, readers = deps.collect(bpy.data.filepath, problems, asked(wanted), heard(wanted), rendered(wanted))
        colours = ocio.collect(os.environ.get("OCIO", ""), tree, problems)
        facts = settings.facts(wanted, problems)
        if facts:
            facts["ocio"] = colours
            facts["sequences"] = readers.sequences(tree)
            memory.estimate(bpy.data.scenes[facts["scene"]], facts)
            hazards.look(bpy.data.scenes[facts["scene"]], wanted, facts, problems)
        result.update(
            facts=facts,
            main=tree.main_name(),
            files=[{"path": path, "name": name, "what": owners.get(path, "")} for path, name in tree.files()],
            folders=sorted(paths.looked),
            problems=problems.found,
        )
    with open(out + ".part", "w", encoding="utf-8") as f:
        json.dump(result, f)
    os.replace(out + ".part", out)
    sys.stdout.flush()
    flush()
    os._exit(0)


def rendered(wanted: dict) -> Any:
    """The scene that is wanted, or the file's."""
    return bpy.data.scenes.get(wanted.get("scene", "")) or bpy.context.scene


def asked(wanted: dict) -> set:
    """The frames of the job and those beside them, which motion blur looks at;
    none where frames are not what they are called, where a simulation is baked,
    which begins earlier, and where strips show frames of other scenes."""
    scene = rendered(wanted)
    if wanted.get("bake") or compat.uses_sequencer(scene) or scene.render.frame_map_old != scene.render.frame_map_new:
        return set()
    frames = sequences.frames(wanted.get("frames", ""))
    if not wanted.get("frames"):
        frames = set(range(scene.frame_start, scene.frame_end + 1)[: sequences.MAX_FRAMES])
    return {g for f in frames for g in (f - 1, f, f + 1)}


def heard(wanted: dict) -> bool:
    """Whether the sounds of the file are wanted: only a film has some."""
    scene = rendered(wanted)
    return movie.sounds(scene, wanted.get("video", ""))


def flush() -> None:
    """Writes out what Blender itself printed: an engine or a colour space that
    it does not have is told of nowhere else."""
    try:
        libc = ctypes.cdll.ucrtbase if os.name == "nt" else ctypes.CDLL(None)
        libc.fflush(None)
    except (OSError, AttributeError) as exc:
        print("idlewild: the log may be incomplete:", exc, file=sys.stderr)


main()
