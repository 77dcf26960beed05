# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the daemon, as its local API wants it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

# Presets change nothing but what they say. Samples and percent of 0 leave them
# to the file.
PRESETS = {
    "FILE": ("As in the file", "Every setting as it was saved", {}),
    "PREVIEW": ("Preview", "Half of the resolution and 32 samples, to see motion", {"percent": 50, "samples": 32}),
    "DRAFT": ("Draft", "Full resolution and 64 samples", {"samples": 64}),
}


@dataclass
class Wish:
    """One submission, in plain values."""

    file: str = ""  # the artist's
    copy: str = ""  # of unsaved work; empty: the file itself goes out
    output: str = ""
    name: str = ""  # pattern of the files' names
    frames: str = ""
    scene: str = ""
    camera: str = ""
    view_layer: str = ""
    preset: str = "FILE"
    base_percent: int = 100  # of the file's resolution, that a preset takes a part of
    only_missing: bool = False
    parts: str = ""
    bake: bool = False
    params: dict[str, Any] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """The body of POST /v1/jobs and /v1/estimate."""
        params: dict[str, Any] = {}
        for key in ("frames", "scene", "camera", "view_layer", "name"):
            value = getattr(self, key)
            if value:
                params[key] = value
        if self.bake:
            params["bake"] = True
        preset = dict(PRESETS[self.preset][2])
        if "percent" in preset:
            preset["percent"] = max(1, self.base_percent * preset["percent"] // 100)
        params.update(preset)
        params.update(self.params)
        policy: dict[str, Any] = {}
        if self.only_missing:
            policy["only_missing"] = True
        if self.parts:
            policy["parts"] = self.parts
        out: dict[str, Any] = {"kind": "blender", "title": os.path.basename(self.file), "input": self.copy or self.file}
        if self.copy:
            out["copy_of"] = self.file
        if self.output:
            out["output"] = self.output
        if params:
            out["params"] = params
        if policy:
            out["policy"] = policy
        return out
