# One warm Blender renders frames 1 to n of the open file into PNG files, as the artist's own machine would: the
# yardstick of `go run ./bench efficiency`.
import sys
import time

import bpy

n, width, height, samples, out, report = sys.argv[sys.argv.index("--") + 1:]
scene = bpy.context.scene
scene.render.use_persistent_data = True
scene.render.resolution_x, scene.render.resolution_y = int(width), int(height)
scene.render.resolution_percentage = 100
if int(samples):
    scene.cycles.samples = int(samples)
start = time.monotonic()
for frame in range(1, int(n) + 1):
    scene.frame_set(frame)
    scene.render.filepath = f"{out}/{frame:04d}"
    bpy.ops.render.render(write_still=True)
with open(report, "w", encoding="utf-8") as f:
    f.write(str(time.monotonic() - start))
