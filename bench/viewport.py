# Plays the animation in Blender's own window as fast as it goes, for `go run ./bench viewport`, and writes the moment of
# each drawing of the viewport, in seconds since 1970, a line each, to the file that is named.
import sys
import time

import bpy

out = open(sys.argv[sys.argv.index("--") + 1], "w", encoding="ascii")
moments = []


def drawn():
    moments.append(time.time())


def write():
    out.writelines("%.6f\n" % t for t in moments)
    out.flush()
    moments.clear()
    return 0.5


def play():
    window = bpy.context.window_manager.windows[0]
    area = next(a for a in window.screen.areas if a.type == "VIEW_3D")
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.screen.animation_play()
    bpy.app.timers.register(write, first_interval=0.5)


bpy.context.scene.render.fps = 1000  # as many as the machine draws
bpy.context.scene.sync_mode = "NONE"
bpy.types.SpaceView3D.draw_handler_add(drawn, (), "WINDOW", "POST_PIXEL")
bpy.app.timers.register(play, first_interval=1)
