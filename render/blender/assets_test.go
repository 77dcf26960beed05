package blender

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/internal/scenes"
	"idlewild/job"
)

// TestAssetsOfEveryKind renders a project with an Alembic file, an external cloth
// cache and Windows paths, after the originals are gone.
func TestAssetsOfEveryKind(t *testing.T) {
	needBlender(t)
	top := t.TempDir()
	dir, abs := filepath.Join(top, "project"), filepath.Join(top, "elsewhere")
	build(t, "testdata/assets.py", dir, abs)
	file := filepath.Join(dir, "shot", "scene.blend")
	plain(t, file, "", "-o", filepath.Join(top, "ref-####"), "-f", "5")

	k := testKind(t, Options{})
	tasks, in := plan(t, k, file, SpecParams{Frames: "5"})
	var names []string
	for _, d := range in.Deps {
		if rest, ok := strings.CutPrefix(d.Name, "_abs/"); ok {
			_, d.Name, _ = strings.Cut(rest, "/")
		}
		names = append(names, d.Name)
	}
	wanted := []string{"shot/scene.blend", "tex/rust.png", "flags/flag_000005_00.bphys"}
	if _, err := os.Stat(filepath.Join(abs, "a b", "mover.abc")); err == nil {
		wanted = append(wanted, "mover.abc")
	} else {
		t.Log("NOT RUN: Alembic, which this Blender was built without")
	}
	for _, want := range wanted {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, want) }) {
			t.Errorf("no %s among %q", want, names)
		}
	}
	work := newShop(t, k, in.Deps)
	for _, d := range []string{dir, abs} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
	var out string
	for _, task := range tasks {
		out = work.must(task)
	}
	last := tasks[len(tasks)-1].Outputs[0]
	sameDecoded(t, "assets", filepath.Join(top, "ref-0005.exr"), filepath.Join(out, last.Name))
}

// TestPathsOfWindowsAreFoundOnADisk opens a file of a machine with Windows on one
// that has its disk elsewhere.
func TestPathsOfWindowsAreFoundOnADisk(t *testing.T) {
	p := scenes.Program{Path: needBlender(t)}
	top := t.TempDir()
	dir, disk := filepath.Join(top, "project"), filepath.Join(top, "mnt", "ship")
	build(t, "testdata/windows.py", dir, disk)
	file := filepath.Join(dir, "scene.blend")
	in := inspect(t, testKind(t, Options{}), file, "")
	for _, name := range []string{"wall.png", "share.png", "S_0001.png", "lib.blend"} { // Blender turns most backslashes
		hasProblem(t, in, job.SeverityError, name+" is missing", "[[paths.map]]")
	}
	plain := plainly(t, p, scenes.Render{File: filepath.Join(dir, "here.blend"), Frames: []int{2, 5}})
	k := testKind(t, Options{Disks: []Disk{{From: `P:\ship`, To: disk}, {From: "//nas/ship", To: disk}}})
	tasks, in := plan(t, k, file, SpecParams{Frames: "2,5"})
	for _, want := range []string{"Tex/Wall.png", "Tex/share.png", "Tex/linked.png", "seq/s_0005.png", "lib/lib.blend"} {
		if !slices.ContainsFunc(in.Deps, func(d job.Dep) bool { return d.Path == filepath.Join(disk, filepath.FromSlash(want)) }) {
			t.Errorf("no %s among %v", want, in.Deps)
		}
	}
	work := newShop(t, k, in.Deps)
	for _, d := range []string{dir, disk} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range tasks {
		out := work.must(x)
		for _, o := range x.Outputs {
			if o.Final != "" {
				sameDecoded(t, o.Final, filepath.Join(plain, o.Final), filepath.Join(out, o.Name))
			}
		}
	}
}
