# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on does without Blender: no module here imports bpy."""
