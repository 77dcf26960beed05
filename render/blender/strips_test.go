package blender

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"idlewild/job"
)

// sequences renders the scenes of testdata/strips.py through tasks, and
// compares with what plainly makes of frames 3 and 6.
func sequences(t *testing.T, k *Kind, dir string, plainly func(file, to string)) {
	for _, name := range []string{"images", "floats", "scenes"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name+".blend")
			tasks, in := plan(t, k, file, SpecParams{Frames: "3,6", Name: "####"})
			if len(tasks) != 2 {
				t.Fatalf("%d tasks for two frames", len(tasks))
			}
			place, method := job.AtRequester, job.CheckNone
			if name == "scenes" {
				place, method = "", job.CheckReplica
			}
			if tasks[0].Place != place || tasks[0].Check.Method != method {
				t.Errorf("frames are made at %q and checked by %q", tasks[0].Place, tasks[0].Check.Method)
			}
			work, to := newShop(t, k, in.Deps), t.TempDir()
			plainly(file, to)
			have := map[string]string{}
			for _, i := range []int{1, 0} { // the later one first
				o := tasks[i].Outputs[0]
				have[o.Final] = filepath.Join(work.must(tasks[i]), o.Name)
			}
			for final, path := range have {
				sameDecoded(t, final, filepath.Join(to, final), path)
			}
			if ext := filepath.Ext(tasks[0].Outputs[0].Final); equalFiles(t, have["0003"+ext], have["0006"+ext]) {
				t.Error("nothing moves")
			}
			// The scene itself, where that is asked for.
			own, in := plan(t, k, file, SpecParams{Frames: "3", Name: "####", Sequencer: "off"})
			alone := newShop(t, k, in.Deps)
			alone.must(own[0])
			out := alone.must(own[1])
			if equalFiles(t, filepath.Join(out, own[1].Outputs[0].Name), have[own[1].Outputs[0].Final]) {
				t.Error("--no-sequencer changes nothing")
			}
		})
	}
}

func TestSequencer(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	build(t, "testdata/strips.py", dir)
	k := testKind(t, Options{})
	sequences(t, k, dir, func(file, to string) { plain(t, file, "", "-o", filepath.Join(to, "####"), "-f", "3,6") })
	in := inspect(t, k, filepath.Join(dir, "wrong.blend"), "")
	hasProblem(t, in, job.SeverityError, "multilayer", "--no-sequencer")
	hasProblem(t, in, job.SeverityError, "Scene 'Far'", "no active camera")
}

func TestSequencerOfANewerBlender(t *testing.T) {
	python := needBpy(t)
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), python, append([]string{"-I"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, lastLines(out, 20))
		}
	}
	run("testdata/strips.py", "--", dir)
	sequences(t, testKind(t, Options{Blender: python}), dir, func(file, to string) {
		for _, n := range []int{3, 6} {
			run("-c", fmt.Sprintf("import bpy; bpy.ops.wm.open_mainfile(filepath=%q); sc = bpy.context.scene; sc.frame_set(%d); sc.render.filepath = %q; bpy.ops.render.render(write_still=True)", file, n, filepath.Join(to, fmt.Sprintf("%04d", n))))
		}
	})
}
