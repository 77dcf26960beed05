package blendfile

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needBlender skips a test where there is no Blender, unless it must be.
func needBlender(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("blender"); err == nil {
		return
	}
	if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "blender") {
		t.Fatal("Blender is required and not on PATH")
	}
	t.Skip("NOT RUN: no Blender on PATH")
}

// runBlender opens file, if there is one, runs Python and saves to out.
func runBlender(t *testing.T, file, python, out string) []byte {
	t.Helper()
	script := out + ".py"
	python = "import bpy\n" + python + "\nbpy.ops.wm.save_as_mainfile(filepath=" + quote(out) + ", copy=True, relative_remap=False)\n"
	if err := os.WriteFile(script, []byte(python), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-b", "--factory-startup", "--python-exit-code", "9"}
	if file != "" {
		args = append(args, file)
	}
	if said, err := exec.Command("blender", append(args, "-P", script)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func quote(s string) string { return "r'" + s + "'" }

const makeScene = `
import math
scene = bpy.context.scene
mesh = bpy.data.meshes.new("Grid")
n = 120
mesh.from_pydata([(x / 9, y / 9, math.sin(x * y)) for x in range(n) for y in range(n)], [],
    [(x * n + y, x * n + y + 1, x * n + n + y + 1, x * n + n + y) for x in range(n - 1) for y in range(n - 1)])
scene.collection.objects.link(bpy.data.objects.new("Ground", mesh))
small = bpy.data.meshes.new("Small")
small.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
for i in range(150):
    o = bpy.data.objects.new("Thing %d" % i, small)
    o.location.x = i
    o["text"], o["flags"] = "abcde"[:i % 5], [True] * (i % 7)
    o.modifiers.new("Bevel", "BEVEL")
    scene.collection.objects.link(o)
m = bpy.data.materials.new("Red")
m.use_nodes = True
mesh.materials.append(m)
scene.use_nodes = True
`

func TestRealBlenderSavesWithoutATrace(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	first := filepath.Join(dir, "first.blend")
	made := runBlender(t, "", makeScene, first)
	again := runBlender(t, first, "", filepath.Join(dir, "again.blend"))
	third := runBlender(t, first, "bpy.context.preferences.filepaths.use_file_compression = True", filepath.Join(dir, "third.blend"))
	if bytes.Equal(again, third) || bytes.Equal(made, again) {
		t.Error("Blender itself leaves no trace: nothing is tested")
	}
	want, pieces := mustCanonical(t, again)
	if got, _ := mustCanonical(t, third); !bytes.Equal(got, want) {
		t.Error("a save without an edit has another canonical form")
	}
	moved, cuts := mustCanonical(t, runBlender(t, first, `bpy.data.objects["Thing 77"].location.z = 3`, filepath.Join(dir, "moved.blend")))
	if len(moved) != len(want) || len(cuts) != len(pieces) {
		t.Fatalf("moving an object makes %d bytes of %d and %d pieces of %d", len(moved), len(want), len(cuts), len(pieces))
	}
	bytesChanged, piecesChanged := 0, 0
	for i := range want {
		if want[i] != moved[i] {
			bytesChanged++
		}
	}
	for i := range pieces {
		if !bytes.Equal(pieces[i], cuts[i]) {
			piecesChanged++
		}
	}
	// loc, and obmat, which holds it again.
	if bytesChanged == 0 || bytesChanged > 64 || piecesChanged != 1 {
		t.Errorf("moving an object changes %d bytes in %d pieces", bytesChanged, piecesChanged)
	}
	t.Logf("%d bytes, %d pieces; moving an object changes %d bytes", len(want), len(pieces), bytesChanged)

	// The canonical form opens and holds the same.
	canonical := filepath.Join(dir, "canonical.blend")
	if err := os.WriteFile(canonical, want, 0o600); err != nil {
		t.Fatal(err)
	}
	back := runBlender(t, canonical, "assert bpy.context.scene.name == 'Scene' and len(bpy.data.objects) >= 150", filepath.Join(dir, "back.blend"))
	if got, _ := mustCanonical(t, back); !bytes.Equal(got, want) {
		t.Error("Blender saves the canonical form as another file")
	}
}
