package blender

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"idlewild/job"
	"idlewild/render"
)

// TestPythonParts runs the unit tests of the runner's parts without bpy.
func TestPythonParts(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("NOT RUN: no python3 on PATH")
	}
	out, err := exec.CommandContext(t.Context(), python, "-B", "testdata/test_runner.py").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestContractExamples reads the examples that the Python tests read, and
// writes the same requests.
func TestContractExamples(t *testing.T) {
	b, err := os.ReadFile("testdata/contract/requests.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	f := sampleFacts()
	f.FrameStart = -4
	k := new(Kind)
	tasks := planOf(t, f, SpecParams{Frames: "-4,12"})
	crop, err := k.Challenge(tasks[0], []job.Rect{{X1: 8, Y1: 4}}, cut(16))
	if err != nil {
		t.Fatal(err)
	}
	var p Params
	if err := json.Unmarshal(crop[0].Params, &p); err != nil {
		t.Fatal(err)
	}
	p.Persistent, p.Crops[0].Runs = false, []Run{{To: 8}, {From: 8, To: 16}}
	crop[0].Params = p.encode()
	baked := tasks[2]
	p = Params{}
	if err := json.Unmarshal(baked.Params, &p); err != nil {
		t.Fatal(err)
	}
	p.Baked = true
	baked.Params = p.encode()
	baked.Reads = []job.Reads{
		{Head: "tex/a_", Tail: ".png", Of: [][2]int{{1, 40}}, Own: [][2]int{{12, 12}}},
		{Head: job.Within(bakeTree) + bakeFrames, Tail: "/", Of: [][2]int{{0, 14}}, Own: [][2]int{{11, 13}}},
	}
	cpu := job.Device{Name: "cpu", Type: "cpu"}
	for i, line := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		n := string(rune('1' + i))
		at := render.Mount{In: "/idlewild/in", Out: "/idlewild/work/" + n + "/out"}
		if i == 1 {
			at.Prior = []string{"/idlewild/work/2/prior/0"}
		}
		if i == 3 {
			at.Prior, at.Trees = []string{"/idlewild/work/4/prior/0"}, []render.Tree{{Name: bakeTree, Dir: "/idlewild/trees/0"}}
		}
		r, err := k.Request(render.Task{Task: []job.Task{tasks[2], tasks[3], crop[0], baked}[i], Device: cpu}, at)
		if err != nil {
			t.Fatal(err)
		}
		var want, have map[string]any
		if json.Unmarshal(line, &want) != nil || json.Unmarshal(r.JSON, &have) != nil {
			t.Fatalf("line %d is no JSON", i)
		}
		delete(want, "id") // render adds it
		w, _ := json.Marshal(want)
		h, _ := json.Marshal(have)
		if !bytes.Equal(h, w) {
			t.Errorf("line %d:\nhave %s\nwant %s", i+1, h, w)
		}
	}
}
