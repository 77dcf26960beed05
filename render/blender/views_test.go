package blender

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"idlewild/internal/scenes"
	"idlewild/job"
)

// TestViews renders scenes of several views as a farm does, and compares every
// file with what plain Blender writes.
func TestViews(t *testing.T) {
	onEach(t, func(t *testing.T, k *Kind, p scenes.Program) {
		dir := t.TempDir()
		makeScenes(t, p, "views", dir)
		views(t, k, p, dir)
		for name, n := range map[string]string{"none": "0 views", "single": "1 views"} {
			hasProblem(t, inspect(t, k, filepath.Join(dir, name+".blend"), ""), job.SeverityError, n, "Stereoscopy")
		}
		in := inspect(t, k, filepath.Join(dir, "wrong.blend"), "")
		hasProblem(t, in, job.SeverityError, "same file suffix")
		hasProblem(t, in, job.SeverityError, "File Output nodes", "mute the nodes")
	})
}

// views renders the scenes of scenes/views.py, which plain Blender does as well.
func views(t *testing.T, k *Kind, p scenes.Program, dir string) {
	for name, want := range map[string][]string{
		"individual": {"0003_L.png", "0003_R.png"},
		"anaglyph":   {"0003.png"}, "sidebyside": {"0003.png"}, "topbottom": {"0003.png"}, "interlace": {"0003.png"},
		"exr": {"0003.exr"}, "multilayer": {"0003.exr"}, "layers": {"0003_L.exr", "0003_R.exr"},
		"cameras": {"0003.mid.png", "0003_L.png", "0003_R.png"},
	} {
		if !slow() && !slices.Contains([]string{"individual", "sidebyside", "multilayer", "cameras"}, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name+".blend")
			tasks, in := plan(t, k, file, SpecParams{Frames: "3", Name: "####"})
			work := newShop(t, k, in.Deps)
			delivered := map[string]string{}
			for _, x := range tasks {
				out := work.must(x)
				for _, o := range x.Outputs {
					if o.Final != "" {
						delivered[o.Final] = filepath.Join(out, o.Name)
					}
				}
			}
			plain := plainly(t, p, scenes.Render{File: file, Frames: []int{3}})
			var wrote, have []string
			found, err := os.ReadDir(plain)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				wrote = append(wrote, f.Name())
			}
			for f := range delivered {
				have = append(have, f)
			}
			slices.Sort(have)
			if !slices.Equal(wrote, want) || !slices.Equal(have, want) {
				t.Fatalf("delivered %q, plain Blender writes %q, want %q", have, wrote, want)
			}
			for _, f := range want {
				sameDecoded(t, f, filepath.Join(plain, f), delivered[f])
			}
			if len(want) > 1 && equalFiles(t, delivered[want[0]], delivered[want[1]]) {
				t.Error("the views are the same picture")
			}
			// Every view is checked by itself.
			c, err := cropCheckOf(tasks[0])
			if err != nil {
				t.Fatal(err)
			}
			layers := append([]string{c.Layer}, c.Others...)
			claim := readEXR(t, filepath.Join(work.done[tasks[0].Key()], claimFile))
			for _, l := range layers {
				one := c
				one.Layer, one.Others = l, nil
				b, err := job.Encode(one)
				if err != nil {
					t.Fatal(err)
				}
				task := tasks[0]
				task.Check.Params = b
				crops, err := k.Challenge(task, []job.Rect{{X0: 20, Y0: 20, X1: 60, Y1: 40}}, []job.Range{{To: 8}})
				if err != nil {
					t.Fatal(err)
				}
				out := work.must(crops[0])
				seen, err := ReadEvidence(crops[0], tasks[0].Check)
				if err != nil || len(seen) == 0 || seen[0].SeedDelta != 0 || seen[0].Layer != l {
					t.Fatalf("evidence %+v of layer %q: %v", seen, l, err)
				}
				got, ok := readEXR(t, filepath.Join(out, seen[0].File)).Pass(l, passCombined)
				whole, there := claim.Pass(l, passCombined)
				if !ok || !there || len(got) != 4 {
					t.Fatalf("no picture of %q in claim or evidence", l)
				}
				for i := range got {
					for y := range 20 {
						for x := range 40 {
							if a, b := got[i].Data[y*40+x], whole[i].Data[(64-40+y)*96+20+x]; a != b {
								t.Fatalf("%s at %d,%d: %g in the crop, %g in the claim", got[i].Name, x, y, a, b)
							}
						}
					}
				}
			}
			if n := map[string]int{"cameras": 6}[name]; len(layers) != max(n, 2) { // views, times two layers
				t.Errorf("layers that are checked: %q", layers)
			}
		})
	}
}

// cropCheckOf reads how a task is checked.
func cropCheckOf(x job.Task) (c job.CropCheck, err error) {
	err = job.Decode(x.Check.Params, job.MaxTaskBytes, &c)
	return c, err
}
