# SPDX-License-Identifier: Apache-2.0
"""Makes a Python with the package `bpy` behave as the Blender program does:
`python -I -B launch.py ARGS...`, where ARGS are what Blender itself would get.

Only the arguments that idlewild uses are known, in Blender's own order: what
stands after the file is done after it was opened. An unknown one is an error,
because one that is silently dropped is another picture.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback

sys.dont_write_bytecode = True

import bpy  # noqa: E402


def main(args: list[str]) -> int:
    exit_code, threads, scripts = 0, 0, True
    while args:
        arg = args.pop(0)
        if arg == "-b":
            continue  # there is nothing else here
        elif arg == "-Y":
            scripts = False
        elif arg == "--factory-startup":
            bpy.ops.wm.read_factory_settings(use_empty=False)
        elif arg == "--python-exit-code":
            exit_code = int(args.pop(0))
        elif arg == "-t":
            threads = int(args.pop(0))
        elif arg == "-S":
            choose_scene(args.pop(0))
        elif arg == "-P":
            if not run(args.pop(0)):
                return exit_code
        elif arg == "--":
            break  # the rest is for the script
        elif arg.startswith("-"):
            print("Error: launch.py does not know the argument %r" % arg, flush=True)
            return 2
        else:
            open_file(arg, scripts)
            limit_threads(threads)
    return 0


def open_file(path: str, scripts: bool) -> None:
    """Opens a .blend as the program does: where that fails it says so and
    goes on without a file, for the script to see."""
    print("Read blend: %s" % path, flush=True)
    try:
        bpy.ops.wm.open_mainfile(filepath=os.path.abspath(path), load_ui=True, use_scripts=scripts)
    except RuntimeError as exc:
        text = " ".join(str(exc).split())
        print(text if text.startswith("Error: ") else "Error: " + text, flush=True)


def limit_threads(threads: int) -> None:
    """What -t does. The program has a switch for it, the module has not; the
    setting is in no picture."""
    if threads > 0:
        for scene in bpy.data.scenes:
            scene.render.threads_mode = "FIXED"
            scene.render.threads = threads


def choose_scene(name: str) -> None:
    """Makes a scene the current one. The script finds out where that is not
    the one that it needs."""
    scene = bpy.data.scenes.get(name)
    if scene is None:
        print("Error: no scene %r in the file" % name, flush=True)
    elif bpy.context.window is not None:
        bpy.context.window.scene = scene


def run(script: str) -> bool:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as exc:
        return exc.code in (None, 0)
    except BaseException:
        sys.stdout.flush()
        traceback.print_exc()
        sys.stderr.flush()
        return False
    return True


code = main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.flush()
# The module's tear-down may crash, as the program's may.
os._exit(code)
