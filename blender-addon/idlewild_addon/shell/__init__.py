# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender sees of the add-on."""
