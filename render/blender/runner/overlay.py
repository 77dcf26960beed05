# SPDX-License-Identifier: Apache-2.0
"""Settings laid over the file's own for one request, and taken off again."""

from __future__ import annotations

from typing import Any

import compat


class Overlay:
    """Changes settings and remembers what they were.

    A setting that is animated in the file would win over a requested one at
    the next frame change: its curves and drivers are muted for the request.
    """

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self._undo: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Sets owner.name, which belongs to the scene's own data.

        What is so already is left alone: to set the engine, be it to what it
        is, has Cycles forget the scene that it keeps from frame to frame.
        """
        self._mute(owner, name)
        before = getattr(owner, name)
        if before == value:
            return
        self._undo.append((owner, name, before))
        setattr(owner, name, value)

    def _mute(self, owner: Any, name: str) -> None:
        if owner.id_data != self.scene:
            return
        try:
            path = owner.path_from_id(name)
        except ValueError:
            return
        for curve in compat.curves(self.scene):
            if curve.data_path == path and not curve.mute:
                self._undo.append((curve, "mute", False))
                curve.mute = True

    def __enter__(self) -> "Overlay":
        return self

    def __exit__(self, *exc: Any) -> None:
        while self._undo:
            owner, name, value = self._undo.pop()
            try:
                setattr(owner, name, value)
            except (TypeError, ReferenceError) as err:
                # An enum value that another setting makes impossible for now;
                # every request sets all that it depends on.
                print("idlewild: %s is not restored: %s" % (name, err))
