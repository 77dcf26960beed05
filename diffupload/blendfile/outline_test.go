package blendfile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func outlineOf(t *testing.T, b []byte) [32]byte {
	t.Helper()
	sum, err := Outline(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

const outlineScene = makeScene + `
node = m.node_tree.nodes.new("ShaderNodeTexImage")
image = bpy.data.images.new("Wood", 4, 4)
image.source, image.filepath = "FILE", "//wood.png"
node.image = image
ground = bpy.data.objects["Ground"]
ground.keyframe_insert("location", frame=1)
ground.keyframe_insert("location", frame=9)
ground.driver_add("color", 0).driver.expression = "frame / 9"
ground.shape_key_add(name="Basis")
scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
scene.collection.objects.link(scene.camera)
`

// TestOutlineOfEdits: what artists turn all day leaves the outline as it is;
// what a look at the file would find does not.
func TestOutlineOfEdits(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	first := filepath.Join(dir, "first.blend")
	runBlender(t, "", outlineScene, first)
	same := map[string]string{
		"nothing":    "",
		"compressed": "bpy.context.preferences.filepaths.use_file_compression = True",
		"turned": "o.location.z += 1; o.rotation_euler.x = 1; o.scale.y = 3; s.camera.data.lens = 70; s.frame_set(5)\n" +
			"bpy.data.materials['Red'].node_tree.nodes['Principled BSDF'].inputs[0].default_value = (1, 0, 0, 1)\n" +
			"o.data.vertices[7].co.z += 2; o.data.shape_keys.key_blocks[0].data[3].co.z = 1\n" +
			"o.animation_data.action.fcurves[0].keyframe_points.insert(4, 2.0)\n" +
			"bpy.data.objects['Thing 3'].select_set(True)",
	}
	other := map[string]string{
		"path":       "bpy.data.images['Wood'].filepath = '//oak.png'",
		"hidden":     "o.hide_render = True",
		"unused":     "bpy.data.materials['Red'].node_tree.nodes.remove(next(n for n in bpy.data.materials['Red'].node_tree.nodes if n.type == 'TEX_IMAGE'))",
		"driver":     "o.animation_data.drivers[0].driver.expression = 'bpy.app.version[0]'",
		"muted":      "o.animation_data.drivers[0].mute = True",
		"modifier":   "o.modifiers.new('Cloth', 'CLOTH')",
		"resolution": "s.render.resolution_x += 1",
		"samples":    "s.cycles.samples = 7",
		"engine":     "s.render.engine = 'CYCLES'",
		"end":        "s.frame_end = 7",
		"camera":     "s.camera = None",
		"vertices":   "o.data.vertices.add(1)",
		"name":       "o.name = 'Floor'",
		"text":       "bpy.data.texts.new('x').use_module = True",
		"output":     "s.render.image_settings.file_format = 'OPEN_EXR'",
	}
	// One Blender makes all of them, opening the first anew for each.
	script := "def make(name, edit):\n" +
		"    bpy.context.preferences.filepaths.use_file_compression = False\n" +
		"    bpy.ops.wm.open_mainfile(filepath=" + quote(first) + ")\n" +
		"    o, s = bpy.data.objects['Ground'], bpy.context.scene\n" +
		"    exec(edit, {'bpy': bpy, 'o': o, 's': s})\n" +
		"    bpy.ops.wm.save_as_mainfile(filepath=" + quote(dir+"/") + " + name, copy=True, relative_remap=False)\n"
	for _, edits := range []map[string]string{same, other} {
		for name, edit := range edits {
			script += fmt.Sprintf("make(%q, %q)\n", name+".blend", edit)
		}
	}
	runBlender(t, "", script, filepath.Join(dir, "last.blend"))
	read := func(name string) [32]byte {
		b, err := os.ReadFile(filepath.Join(dir, name+".blend"))
		if err != nil {
			t.Fatal(err)
		}
		return outlineOf(t, b)
	}
	want := read("nothing")
	for name := range same {
		if read(name) != want {
			t.Errorf("%s: another outline", name)
		}
	}
	seen := map[[32]byte]string{want: "the original"}
	for name := range other {
		got := read(name)
		if before, ok := seen[got]; ok {
			t.Errorf("%s: the outline of %s", name, before)
		}
		seen[got] = name
	}
}
