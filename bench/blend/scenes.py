"""Makes small .blend files that together have every kind of data that a file can hold.

    blender -b --factory-startup -P scenes.py -- FOLDER [NAME ...]
    python scenes.py FOLDER [NAME ...]             (with the bpy package)

Each scene is a function that fills an empty file in named steps. A step that this Blender does not know is noted and
passed over: FOLDER/made.json says which steps each scene has and why the others are missing.
"""

import contextlib
import json
import os
import sys
import traceback

import bpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


class Missing(Exception):
    """This Blender does not have what a step needs."""


class Maker:
    """The file being made: its folder, and what became of each step."""

    def __init__(self, folder, name):
        self.folder, self.name, self.done, self.missing = folder, name, [], {}

    @contextlib.contextmanager
    def step(self, name):
        """Does a step. Its failure is noted and the scene goes on without it."""
        try:
            yield
            self.done.append(name)
        except Missing as e:
            self.missing[name] = str(e)
        except Exception as e:  # whatever an older or newer Blender says about it
            frame = traceback.extract_tb(e.__traceback__)[-1]
            self.missing[name] = "%s: %s (%s:%d)" % (type(e).__name__, " ".join(str(e).split())[:200], os.path.basename(frame.filename), frame.lineno)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def save(self, name=None):
        bpy.ops.wm.save_as_mainfile(filepath=self.path((name or self.name) + ".blend"), compress=False)

    def empty(self):
        """An empty file with a camera, a light and a ground to look at."""
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        camera = obj("Camera", bpy.data.cameras.new("Camera"), (0, -9, 5), (1.05, 0, 0))
        obj("Lamp", bpy.data.lights.new("Lamp", "SUN"), (2, -2, 6), (0.4, 0.2, 0)).data.energy = 3
        obj("Ground", grid("Ground", 4, 4.0))
        scene.camera = camera
        scene.frame_start, scene.frame_end = 1, 12
        scene.render.engine = "CYCLES"
        scene.cycles.samples = 2
        return scene


def since(*version):
    """Ends a step in a Blender that is older."""
    if bpy.app.version < version:
        raise Missing("since Blender %s" % ".".join(map(str, version)))


def until(*version):
    """Ends a step in a Blender that is as new, or newer."""
    if bpy.app.version >= version:
        raise Missing("gone in Blender %s" % ".".join(map(str, version)))


def obj(name, data, location=(0, 0, 0), rotation=(0, 0, 0), collection=None):
    o = bpy.data.objects.new(name, data)
    o.location, o.rotation_euler = location, rotation
    (collection or bpy.context.scene.collection).objects.link(o)
    return o


def grid(name, n, size):
    """A mesh of n times n squares with a UV map and some height."""
    mesh = bpy.data.meshes.new(name)
    at = [(size * (x / n - 0.5), size * (y / n - 0.5), 0.1 * ((x * 7 + y * 3) % 4)) for y in range(n + 1) for x in range(n + 1)]
    faces = [(y * (n + 1) + x, y * (n + 1) + x + 1, (y + 1) * (n + 1) + x + 1, (y + 1) * (n + 1) + x) for y in range(n) for x in range(n)]
    mesh.from_pydata(at, [], faces)
    mesh.update()
    layer = mesh.uv_layers.new(name="UVMap")
    for i, loop in enumerate(mesh.loops):
        layer.data[i].uv = (at[loop.vertex_index][0] / size + 0.5, at[loop.vertex_index][1] / size + 0.5)
    return mesh


def cube(name, size=1.0):
    mesh = bpy.data.meshes.new(name)
    s = size / 2
    at = [(x, y, z) for x in (-s, s) for y in (-s, s) for z in (-s, s)]
    mesh.from_pydata(at, [], [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)])
    mesh.update()
    return mesh


def active(o):
    """Makes o the only selected and the active object."""
    for other in bpy.context.view_layer.objects:
        other.select_set(False)
    bpy.context.view_layer.objects.active = o
    o.select_set(True)
    return o


def material(name, color=(0.8, 0.2, 0.1, 1)):
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    m.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = color
    return m


def keys(owner, path, index, *points):
    """Sets key frames, (frame, value) each, and returns the curve."""
    for frame, value in points:
        if index < 0:
            setattr(owner, path, value)
        else:
            getattr(owner, path)[index] = value
        owner.keyframe_insert(path, index=index, frame=frame)
    return curves_of(owner.id_data.animation_data)[-1]


def curves_of(animation):
    """The curves of an animation's action, layered or not."""
    action = animation.action
    if hasattr(action, "fcurves"):
        return action.fcurves
    return action.layers[0].strips[0].channelbag(animation.action_slot).fcurves


def enum_items(owner, prop):
    """The identifiers that an enumeration of a type or object has."""
    return [i.identifier for i in owner.bl_rna.properties[prop].enum_items_static]


def main(args):
    import scenes_animation
    import scenes_geometry
    import scenes_library
    import scenes_nodes
    import scenes_physics
    import scenes_picture
    import scenes_sets

    folder, wanted = os.path.abspath(args[0]), args[1:]
    bpy.context.preferences.filepaths.save_version = 0
    report, path = {"version": bpy.app.version_string, "scenes": []}, os.path.join(folder, "made.json")
    os.makedirs(folder, exist_ok=True)
    if os.path.isfile(path):  # go on after a scene that took Blender down
        with open(path, encoding="utf-8") as f:
            report = json.load(f)
    made = {s["name"] for s in report["scenes"]}
    for module in (scenes_nodes, scenes_animation, scenes_geometry, scenes_physics, scenes_picture, scenes_library, scenes_sets):
        for name, make in module.SCENES.items():
            if wanted and name not in wanted or name in made:
                continue
            maker = Maker(folder, name)
            print("making", name, flush=True)
            with maker.step("scene"):
                make(maker)
            if not os.path.isfile(maker.path(name + ".blend")):
                maker.missing.setdefault("file", "not saved")
            report["scenes"].append({"name": name, "steps": maker.done, "missing": maker.missing})
            with open(path, "w", encoding="utf-8") as f:
                json.dump(report, f, indent=1)


if __name__ == "__main__":
    sys.modules["scenes"] = sys.modules["__main__"]
    main(sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else sys.argv[1:])
