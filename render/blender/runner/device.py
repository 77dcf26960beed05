# SPDX-License-Identifier: Apache-2.0
"""Which device renders, and proof that it did."""

from __future__ import annotations

from typing import Any

import bpy

from protocol import Broken

BACKENDS = ("OPTIX", "CUDA", "HIP", "ONEAPI", "METAL")


def choose(overlay: Any, want: dict) -> str:
    """Makes Cycles render on the wanted device and returns the device's name.

    The environment shows the process one GPU only. A GPU task that would run
    on the CPU is broken, not a slow success.
    """
    scene = overlay.scene
    kind = want.get("type") or "cpu"
    name = want.get("name") or kind
    if scene.render.engine != "CYCLES":
        return name  # Eevee and Workbench take what the driver offers
    if kind == "cpu":
        overlay.set(scene.cycles, "device", "CPU")
        return "cpu"  # whatever the slot is called
    prefs = bpy.context.preferences.addons["cycles"].preferences
    for backend in BACKENDS:
        try:
            prefs.compute_device_type = backend
        except TypeError:
            continue  # not in this build
        refresh = getattr(prefs, "refresh_devices", None) or prefs.get_devices
        refresh()
        active = False
        for device in prefs.devices:
            device.use = device.type == backend
            active = active or device.use
        if active:
            overlay.set(scene.cycles, "device", "GPU")
            check(scene, prefs)
            return name
    raise Broken("no GPU that Cycles can use: %s" % name)


def check(scene: Any, prefs: Any) -> None:
    """Fails where Cycles would fall back to the CPU."""
    if scene.cycles.device != "GPU" or not prefs.has_active_device():
        raise Broken("Cycles has no active GPU")
