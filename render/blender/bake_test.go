package blender

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/job"
)

// bakeAll is what an artist does before rendering: everything, here.
const bakeAll = `
for o in sc.objects:
    for m in o.modifiers:
        if m.type == "FLUID" and m.fluid_type == "DOMAIN":
            m.domain_settings.cache_type = "ALL"
            m.domain_settings.cache_directory = "//own"
            with bpy.context.temp_override(object=o, active_object=o):
                bpy.ops.fluid.bake_all()
        if m.type == "NODES":
            with bpy.context.temp_override(object=o, active_object=o):
                bpy.ops.object.simulation_nodes_cache_bake(selected=False)
bpy.ops.ptcache.bake_all(bake=True)
`

// baked checks one scene: frames that were rendered of a task's bake, in any
// order and by two machines, are those of a Blender that baked and rendered.
func baked(t *testing.T, k *Kind, program []string, file string) {
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
	dir := t.TempDir()
	script := filepath.Join(dir, "plain.py")
	source := fmt.Sprintf("import bpy, os\nbpy.ops.wm.open_mainfile(filepath=%q)\nsc = bpy.context.scene\n%s", file, bakeAll) +
		fmt.Sprintf("for f in (3, 9, 12):\n    sc.frame_set(f); sc.render.filepath=os.path.join(%q, str(f)); bpy.ops.render.render(write_still=True)\n", dir)
	if err := os.WriteFile(script, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(program[1:len(program):len(program)], script)
	if out, err := exec.CommandContext(t.Context(), program[0], args...).CombinedOutput(); err != nil {
		t.Fatalf("plain: %v\n%s", err, lastLines(out, 15))
	}
	for _, frame := range frames {
		sameDecoded(t, fmt.Sprintf("frame %d", frame), filepath.Join(dir, fmt.Sprint(frame)+".png"), filepath.Join(have[frame], "frame.png"))
	}
	if equalFiles(t, filepath.Join(dir, "3.png"), filepath.Join(dir, "12.png")) {
		t.Error("nothing moves in the scene")
	}
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

func TestBakedByATask(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	names := []string{"cloth", "softbody", "particles", "rigid", "paint", "smoke"}
	build(t, "testdata/bakes.py", append([]string{dir, "hidden"}, names...)...)
	k := testKind(t, Options{})
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			baked(t, k, []string{"blender", "-b", "-Y", "--factory-startup", "--python-exit-code", "9", "-P"}, filepath.Join(dir, name+".blend"))
		})
	}
	t.Run("hidden", func(t *testing.T) {
		in := inspect(t, k, filepath.Join(dir, "hidden.blend"), `{"bake":true}`)
		hasProblem(t, in, job.SeverityError, "no task can bake it", "hidden in the viewport")
	})
}

// TestNodesBakedByATask bakes simulation zones, and two sorts more in a newer
// Blender than the one on PATH.
func TestNodesBakedByATask(t *testing.T) {
	python := needBpy(t)
	dir := t.TempDir()
	names := []string{"nodes", "cloth", "rigid"}
	if out, err := exec.CommandContext(t.Context(), python, append([]string{"-I", "testdata/bakes.py", "--", dir}, names...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, lastLines(out, 20))
	}
	k := testKind(t, Options{Blender: python})
	for _, name := range names {
		t.Run(name, func(t *testing.T) { baked(t, k, []string{python, "-I"}, filepath.Join(dir, name+".blend")) })
	}
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
