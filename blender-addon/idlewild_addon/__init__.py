# SPDX-License-Identifier: GPL-3.0-or-later
"""Submit renders to your own farm of idle machines.

The core folder needs no Blender and can be imported without it; Blender's side
is in shell and imported when Blender registers the add-on.
"""

bl_info = {
    "name": "idlewild render farm",
    "author": "The idlewild authors",
    "version": (0, 1, 0),
    "blender": (3, 4, 0),
    "location": "Properties > Output, Render menu",
    "description": "Render on your own farm of idle machines",
    "category": "Render",
}


def register() -> None:
    from .shell import registration
    registration.register()


def unregister() -> None:
    from .shell import registration
    registration.unregister()
