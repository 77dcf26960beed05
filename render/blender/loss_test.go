package blender

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
)

// TestAddOnsThatWorkersLack: Blender opens such a file without a word on the
// screen, and would render it with another engine and without the nodes.
func TestAddOnsThatWorkersLack(t *testing.T) {
	needBlender(t)
	file := filepath.Join(t.TempDir(), "acme.blend")
	build(t, "testdata/addons.py", file)
	k := testKind(t, Options{})
	in := inspect(t, k, file, "")
	hasProblem(t, in, job.SeverityError, "Scene 'Scene'", "ACME_RENDER", "add-on", "--engine")
	hasProblem(t, in, job.SeverityError, "Node 'Rust'", "material 'Material'", "add-on")
	hasProblem(t, in, job.SeverityWarning, "Node tree 'Swarm'", "add-on")
	hasProblem(t, in, job.SeverityError, "Object 'Barrel'", "props.blend", "nothing of this name")
	if n := len(in.Refused()); n != 3 {
		t.Errorf("%d reasons to refuse: %q", n, in.Refused())
	}
	for _, p := range inspect(t, k, file, `{"engine":"cycles"}`).Problems {
		if strings.Contains(p.Message, "ACME") {
			t.Errorf("another engine was chosen: %s", p)
		}
	}
}

// TestFilesAndSimulationsOfNoUse is each complaint of a farm's users that a
// look can spare them.
func TestFilesAndSimulationsOfNoUse(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "broken.blend")
	build(t, "testdata/broken.py", file)
	k := testKind(t, Options{Roots: Roots{Private: PrivatePaths("")}})
	in := inspect(t, k, file, "")
	for _, parts := range [][]string{
		{"Image 'hollow'", "empty.png is empty"},
		{"Image 'from windows'", "D:/studio/tex/wall.png is missing", "Find Missing Files"},
		{"Image 'key'", "/etc/passwd", "secrets"},
		{"Image 'bundled'", "is missing"},
		{"'Soft' of object 'Jelly'", "not baked"},
		{"'Paint' of object 'Wet'", "not baked"},
		{"'Fluid' of object 'Smoke'", "the fluid is not baked"},
		{"object 'Wig'", "not baked"},
		{"Rigid body world", "not baked"},
	} {
		hasProblem(t, in, job.SeverityError, parts...)
	}
	want := 9
	if p, err := k.probe(t.Context()); err != nil {
		t.Fatal(err)
	} else if major, minor := versionPair(p.Version); major < 4 {
		t.Logf("NOT RUN: simulation zones, which Blender %d.%d has not", major, minor)
	} else {
		hasProblem(t, in, job.SeverityError, "object 'Plant'", "simulation zone", "not baked")
		want++
	}
	if n := len(in.Refused()); n != want {
		t.Errorf("%d reasons to refuse: %q", n, in.Refused())
	}
	if e := in.Estimate; e.VRAMBytes < 1<<30 || e.MemoryBytes < 1<<30 {
		t.Errorf("memory by estimate: %+v", e)
	}

	// Where only some folders may be taken from, the others are named.
	k = testKind(t, Options{Roots: Roots{Allowed: []string{filepath.Join(dir, "project")}}})
	in = inspect(t, k, file, "")
	hasProblem(t, in, job.SeverityError, "Image 'outside'", "outside.png", "paths.roots")
}

// TestDiskCacheUnderAnotherName: Blender takes the simulation of a file that
// was renamed without its cache for baked, and renders it at rest.
func TestDiskCacheUnderAnotherName(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "flag.blend")
	build(t, "testdata/flag.py", file)
	k := testKind(t, Options{})
	if bad := inspect(t, k, file, "").Refused(); len(bad) > 0 {
		t.Errorf("refused: %q", bad)
	}
	renamed := filepath.Join(dir, "flag v2.blend")
	if err := os.Rename(file, renamed); err != nil {
		t.Fatal(err)
	}
	hasProblem(t, inspect(t, k, renamed, ""), job.SeverityError, "'Cloth' of object 'Flag'", "blendcache_flag v2", "bake again")
}

// TestBakedSimulationZones are no reason to refuse, on disk or in the file.
func TestBakedSimulationZones(t *testing.T) {
	needBlender(t)
	k := testKind(t, Options{})
	p, err := k.probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if major, minor := versionPair(p.Version); major < 4 || major == 4 && minor < 2 {
		t.Skipf("NOT RUN: no simulation zones that a script can bake in Blender %d.%d", major, minor)
	}
	for _, target := range []string{"DISK", "PACKED"} {
		file := filepath.Join(t.TempDir(), "grow.blend")
		build(t, "testdata/grow.py", file, target)
		in := inspect(t, k, file, "")
		for _, p := range in.Problems {
			if strings.Contains(p.Message, "baked") {
				t.Errorf("%s: %s", target, p)
			}
		}
		if target == "DISK" && len(in.Deps) < 4 {
			t.Errorf("the bake is not taken along: %v", in.Deps)
		}
	}
}
