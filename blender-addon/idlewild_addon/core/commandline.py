# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender -b FILE -- idlewild submit ...`: the words behind the dashes."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from .errors import Trouble
from .spec import PRESETS


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Trouble("idlewild submit: %s; see: blender -b FILE -- idlewild submit --help" % message)


def asked(argv: list[str]) -> list[str] | None:
    """The words behind "-- idlewild", or None."""
    if "--" not in argv:
        return None
    rest = argv[argv.index("--") + 1:]
    return rest[1:] if rest[:1] == ["idlewild"] else None


def names_file(argv: list[str]) -> bool:
    """Whether a file is to be opened: the startup file comes first, and is not
    it."""
    return any(re.search(r"\.blend\d*\Z", word, re.IGNORECASE) for word in argv[1:argv.index("--")])


def parse(words: list[str]) -> dict[str, Any]:
    """Values for the submit operator."""
    p = _Parser(prog="blender -b FILE -- idlewild", allow_abbrev=False, description="Give the open file to the farm.")
    p.add_argument("command", choices=["submit"])
    p.add_argument("-f", "--frames", default="", help="as 1-250x5,300; the file's range where not given")
    p.add_argument("-o", "--output", default="", help="folder for finished files; the scene's where not given")
    p.add_argument("--scene", default="")
    p.add_argument("--camera", default="")
    p.add_argument("--view-layer", default="")
    p.add_argument("--preset", default="FILE", type=str.upper, choices=sorted(PRESETS))
    p.add_argument("--parts", default="")
    p.add_argument("--only-missing", action="store_true")
    p.add_argument("--bake", action="store_true", help="have a machine bake what simulations are not baked")
    p.add_argument("-w", "--wait", action="store_true", help="stay until the job ends")
    p.add_argument("--data-dir", default="", help="of the daemon")
    values = vars(p.parse_args(words))
    del values["command"]
    return values
