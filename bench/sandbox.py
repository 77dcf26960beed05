# A Blender that renders the frames it is asked for and says what each cost it: the load of `go run ./bench sandbox`.
import json
import os
import sys
import time

import bpy

scene = bpy.context.scene
scene.render.use_persistent_data = True
scene.render.resolution_x, scene.render.resolution_y = 480, 270
scene.render.resolution_percentage = 100
events = os.open(os.environ["IDLEWILD_EVENTS"], os.O_WRONLY | os.O_APPEND)


def say(event):
    os.write(events, json.dumps(event).encode() + b"\n")


say({"event": "ready"})
for line in sys.stdin:
    request = json.loads(line)
    scene.render.filepath = os.path.join(request["out"], "frame.png")
    cpu, wall = time.process_time(), time.monotonic()
    scene.frame_set(request["frame"])
    bpy.ops.render.render(write_still=True)
    say({"event": "done", "id": request["id"], "outcome": "succeeded",
         "cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - wall})
