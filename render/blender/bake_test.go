package blender

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/internal/scenes"
	"idlewild/job"
)

// baked checks one scene: frames that were rendered of a task's bake, in any
// order and by two machines that have of the bake what they read, are those of a
// Blender that baked and rendered. apart: it has files for single frames.
func baked(t *testing.T, k *Kind, p scenes.Program, file string, apart bool) {
	frames := []int{9, 3, 12}
	if in := inspect(t, k, file, ""); len(in.Refused()) == 0 {
		t.Fatal("an unbaked simulation was not refused")
	} else {
		hasProblem(t, in, job.SeverityError, "not baked", "--bake")
	}
	tasks, in := plan(t, k, file, SpecParams{Frames: "3,9,12", Bake: true})
	hasProblem(t, in, job.SeverityWarning, "one machine bakes")
	if len(tasks) != 7 || tasks[0].Label != "bake" {
		t.Fatalf("%d tasks, the first is %q", len(tasks), tasks[0].Label)
	}
	first := newShop(t, k, in.Deps)
	bake := first.must(tasks[0])
	other := newShop(t, k, in.Deps)
	other.done[tasks[0].Key()] = bake
	have := map[int]string{}
	for i, frame := range frames {
		s := first
		if i == 1 {
			s = other
		}
		for _, x := range tasks[1:] {
			if p, _ := DecodeParams(x.Params); p.Frame == frame {
				have[frame] = s.must(x)
			}
		}
	}
	if whole, part := filesIn(t, filepath.Join(bake, bakeTree)), filesIn(t, other.laid[filepath.Join(bake, bakeTree)]); apart != (part < whole) {
		t.Errorf("the machine with one frame has %d of %d files of the bake", part, whole)
	}
	dir := plainly(t, p, scenes.Render{File: file, Frames: []int{3, 9, 12}, Bake: true})
	for _, frame := range frames {
		sameDecoded(t, fmt.Sprintf("frame %d", frame), filepath.Join(dir, fmt.Sprintf("%04d.png", frame)), filepath.Join(have[frame], "frame.png"))
	}
	if equalFiles(t, filepath.Join(dir, "0003.png"), filepath.Join(dir, "0012.png")) {
		t.Error("nothing moves in the scene")
	}
}

func filesIn(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func equalFiles(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

// Simulation zones need a newer Blender than Debian's, whose build has fluids, which
// the package bpy may lack.
func TestBakedByATask(t *testing.T) {
	onEach(t, func(t *testing.T, k *Kind, p scenes.Program) {
		dir := t.TempDir()
		names := []string{"cloth", "softbody", "particles", "rigid", "paint", "smoke"}
		if p.Python {
			names[len(names)-1] = "nodes"
		}
		if !slow() {
			names = []string{"cloth", "rigid", names[len(names)-1]}
		}
		if err := p.Make(t.Context(), "bakes", append([]string{dir, "hidden"}, names...)...); errors.Is(err, scenes.ErrFluids) {
			t.Log("NOT RUN: ", names[len(names)-1], ": ", err) // the last, made after the others
			names = names[:len(names)-1]
		} else if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				baked(t, k, p, filepath.Join(dir, name+".blend"), name != "rigid")
			})
		}
		t.Run("hidden", func(t *testing.T) {
			in := inspect(t, k, filepath.Join(dir, "hidden.blend"), `{"bake":true}`)
			hasProblem(t, in, job.SeverityError, "no task can bake it", "hidden in the viewport")
		})
	})
}

// What an artist baked to a folder is shown, though tasks may not write to it.
func TestAZoneThatIsBakedToAFolder(t *testing.T) {
	python := needBpy(t)
	p, k, dir := scenes.Program{Path: python, Python: true}, testKind(t, Options{Blender: python}), t.TempDir()
	makeScenes(t, p, "bakes", dir, "ondisk")
	file := filepath.Join(dir, "ondisk.blend")
	tasks, in := plan(t, k, file, SpecParams{Frames: "9"})
	work := newShop(t, k, in.Deps)
	work.must(tasks[0])
	have := work.must(tasks[1])
	plain := plainly(t, p, scenes.Render{File: file, Frames: []int{9}})
	sameDecoded(t, "frame 9", filepath.Join(plain, "0009.png"), filepath.Join(have, "frame.png"))
}

// A bake goes with what is checked of its frames.
func TestChecksReadTheBake(t *testing.T) {
	k := testKind(t, Options{})
	f := Facts{Scene: "S", Main: "a.blend", ViewLayers: []string{"L"}, FrameStart: 1, FrameEnd: 2, Width: 64, Height: 64, Engine: cycles, Samples: 8, Bakes: []string{"x"}}
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, parts := range []string{"no", "2x1"} {
		tasks, err := k.Plan(job.Spec{Kind: Name, Policy: job.Policy{Parts: parts}}, job.Inspection{Facts: raw}, cid.Undef)
		if err != nil {
			t.Fatal(err)
		}
		key, n := tasks[0].Key(), 0
		for _, x := range tasks[1:] {
			p, err := DecodeParams(x.Params)
			if err != nil || p.Op != opRender {
				continue
			}
			n++
			if !p.Baked || len(x.After) != 1 || x.After[0] != key {
				t.Errorf("%s comes after %v, not the bake", x.Label, x.After)
			}
			look, err := k.Look(x, job.Range{To: 1}, nil)
			if err != nil {
				t.Fatal(err)
			}
			crops, err := k.Challenge(x, []job.Rect{{X0: 1, Y0: 1, X1: 9, Y1: 9}}, []job.Range{{To: 3}, {From: 3, To: 8}})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range append(crops, look) {
				if len(c.After) != 1 || c.After[0] != key {
					t.Errorf("the check %s comes after %v, not the bake", c.Label, c.After)
				}
			}
		}
		if want := map[string]int{"no": 2, "2x1": 4}[parts]; n != want {
			t.Errorf("parts %s: %d render tasks, want %d", parts, n, want)
		}
	}
}
