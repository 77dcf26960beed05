package blender

import (
	"path/filepath"
	"slices"
	"testing"

	"idlewild/internal/scenes"
	"idlewild/job"
)

// sequences renders the scenes of scenes/strips.py through tasks, and compares with
// what plain Blender makes of frames 3 and 6.
func sequences(t *testing.T, k *Kind, p scenes.Program, dir string) {
	for _, name := range []string{"images", "floats", "scenes", "movies"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name+".blend")
			tasks, in := plan(t, k, file, SpecParams{Frames: "3,6", Name: "####"})
			if len(tasks) != 2 {
				t.Fatalf("%d tasks for two frames", len(tasks))
			}
			if name == "movies" {
				for _, want := range []string{"films/near.mp4", "films/far.mp4"} {
					if !slices.ContainsFunc(in.Deps, func(d job.Dep) bool { return d.Path == filepath.Join(dir, filepath.FromSlash(want)) }) {
						t.Errorf("no %s among %v", want, in.Deps)
					}
				}
			}
			place, method := job.AtRequester, job.CheckNone
			if name == "scenes" {
				place, method = "", job.CheckReplica
			}
			if tasks[0].Place != place || tasks[0].Check.Method != method {
				t.Errorf("frames are made at %q and checked by %q", tasks[0].Place, tasks[0].Check.Method)
			}
			work := newShop(t, k, in.Deps)
			to := plainly(t, p, scenes.Render{File: file, Frames: []int{3, 6}})
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
	onEach(t, func(t *testing.T, k *Kind, p scenes.Program) {
		dir := t.TempDir()
		makeScenes(t, p, "strips", dir)
		sequences(t, k, p, dir)
		in := inspect(t, k, filepath.Join(dir, "wrong.blend"), "")
		hasProblem(t, in, job.SeverityError, "multilayer", "--no-sequencer")
		hasProblem(t, in, job.SeverityError, "Scene 'Far'", "no active camera")
	})
}
