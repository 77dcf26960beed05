package blender

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"

	"idlewild/job"
	"idlewild/render"
)

func TestParseFrames(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []int
	}{
		{"7", []int{7}},
		{"1-4", []int{1, 2, 3, 4}},
		{"1-10x4,300", []int{1, 5, 9, 300}},
		{" 3 , 1,2, 3", []int{1, 2, 3}},
		{"-5--3", []int{-5, -4, -3}},
		{"-2-1", []int{-2, -1, 0, 1}},
		{"-7", []int{-7}},
		{"0-10x5,-1", []int{-1, 0, 5, 10}},
		{"5-5", []int{5}},
		{"1-1048574x1048573", []int{1, 1048574}},
	} {
		got, err := parseFrames(c.in)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, %v; want %v", c.in, got, err, c.want)
		}
	}
	for in, want := range map[string]string{
		"":                      "none given",
		" ":                     "none given",
		"a":                     "no frame or range",
		"1-":                    "no frame or range",
		"1,,2":                  "no frame or range",
		"1-2-3":                 "no frame or range",
		"1..5":                  "no frame or range",
		"5x2":                   "no frame or range",
		"1-5x":                  "no frame or range",
		"1-5x+2":                "no frame or range",
		"--1":                   "no frame or range",
		"1.5":                   "no frame or range",
		"1-5x0":                 "not above zero",
		"1-5x-1":                "not above zero",
		"10-1":                  "backwards; write 1-10",
		"10-1x3":                "backwards; write 1-10x3",
		"1-2000000":             "beyond what Blender can count",
		"9999999999999999999":   "no frame or range",
		"1-100001":              "more than 100000 frames",
		"1-60000,100001-160001": "more than 100000 frames",
	} {
		if got, err := parseFrames(in); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func FuzzParseFrames(f *testing.F) {
	for _, s := range []string{"1-250x5,300", "-5--3", "x", "1-9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		frames, err := parseFrames(s)
		if err != nil {
			return
		}
		if len(frames) == 0 || len(frames) > MaxFrames || !slices.IsSorted(frames) || len(slices.Compact(slices.Clone(frames))) != len(frames) {
			t.Fatalf("%q: %d frames", s, len(frames))
		}
	})
}

func TestPreviewOrderIsAPermutationWithEveryTenthFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "n")
		ranks := previewOrder(n)
		sorted := slices.Sorted(slices.Values(ranks))
		sparse := (n + 9) / 10
		for i, r := range sorted {
			if r != i && (i < sparse || r != job.RestRank+i) {
				t.Fatalf("ranks %v", ranks)
			}
		}
		for i, r := range ranks {
			if (r < sparse) != (i%10 == 0) {
				t.Fatalf("frame %d of %d has rank %d", i, n, r)
			}
		}
	})
}

func TestFrameName(t *testing.T) {
	for _, c := range []struct {
		pattern string
		frame   int
		want    string
	}{
		{"", 7, "0007"}, {"", 12345, "12345"}, {"", -5, "-0005"},
		{"shot_######", 7, "shot_000007"}, {"a##b", 7, "a07b"}, {"sub/f#", 12, "sub/f12"}, {"x_", 3, "x_0003"}, {"#a##", 3, "#a03"},
	} {
		if got := frameName(c.pattern, c.frame); got != c.want {
			t.Errorf("%q %d: %q, want %q", c.pattern, c.frame, got, c.want)
		}
	}
}

func TestSpecParamsAreStrict(t *testing.T) {
	if _, err := DecodeSpec(nil); err != nil {
		t.Error(err)
	}
	if p, err := DecodeSpec([]byte(`{"frames":"1-3","samples":4,"width":64,"height":32,"denoise":"off"}`)); err != nil || p.Samples != 4 {
		t.Error(p, err)
	}
	for _, bad := range []string{
		`{"frame":"1"}`, `{"frames":"3-1"}`, `{"samples":-1}`, `{"samples":99999999}`, `{"width":64}`, `{"width":64,"height":32,"percent":50}`,
		`{"denoise":"on"}`, `{"name":"../x"}`, `{"name":"/x"}`, `{"percent":-1}`, `{} {}`, `[]`, `{"scene":"` + strings.Repeat("x", 300) + `"}`,
		`{"width":1000000,"height":1}`,
	} {
		if p, err := DecodeSpec([]byte(bad)); err == nil {
			t.Errorf("%s accepted as %+v", bad, p)
		}
	}
}

func sampleFacts() Facts {
	return Facts{
		Version: "3.4.1", Build: "3.4.1 unknown debian", Main: "a/scene.blend", Scene: "Scene", ViewLayers: []string{"ViewLayer"},
		FrameStart: 1, FrameEnd: 24, FrameStep: 1, Width: 320, Height: 180, Engine: cycles, Samples: 16, Seed: 3,
		Format: "PNG", Extension: ".png",
	}
}

func planOf(t *testing.T, f Facts, p SpecParams) []job.Task {
	t.Helper()
	facts, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	params, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := new(Kind).Plan(job.Spec{Kind: Name, Params: params}, job.Inspection{Facts: facts}, cid.Undef)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if err := task.Validate(); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeParams(task.Params); err != nil {
			t.Fatal(err)
		}
	}
	return tasks
}

func TestPlan(t *testing.T) {
	tasks := planOf(t, sampleFacts(), SpecParams{})
	if len(tasks) != 48 {
		t.Fatalf("%d tasks", len(tasks))
	}
	keys := map[job.TaskKey]bool{}
	finals := map[string]bool{}
	for i := 0; i < len(tasks); i += 2 {
		r, f := tasks[i], tasks[i+1]
		keys[r.Key()], keys[f.Key()] = true, true
		if r.Place != job.Anywhere || f.Place != job.AtRequester || len(f.After) != 1 || f.After[0] != r.Key() || r.Outputs[0].Final != "" {
			t.Errorf("%s: %+v", r.Label, f)
		}
		finals[f.Outputs[0].Final] = true
		if r.Check.Method != job.CheckCrop || f.Check.Method != job.CheckNone || r.Rank != f.Rank {
			t.Errorf("%s: check %v, %v", r.Label, r.Check.Method, f.Check.Method)
		}
		var c job.CropCheck
		if err := job.Decode(r.Check.Params, 4096, &c); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: 320, Height: 180, Samples: 16, Seed: 3}); d != "" {
			t.Error(d)
		}
		if r.Needs.Require[FactVersion] != "3.4.1" || r.Needs.Require[FactBuild] != sampleFacts().Build || r.Needs.Require[FactEngine] != fact(sampleFacts().Build, cycles) || r.Needs.Require[FactDenoiser] != "" {
			t.Errorf("needs %v", r.Needs)
		}
	}
	if len(keys) != 48 || !finals["0001.png"] || !finals["0024.png"] || len(finals) != 24 {
		t.Errorf("%d keys, finals %v", len(keys), finals)
	}
	again := planOf(t, sampleFacts(), SpecParams{Frames: "24,1-23", Name: "####"})
	for i := range tasks {
		if tasks[i].Key() != again[i].Key() {
			t.Fatal("the same work has other keys")
		}
	}
	for _, other := range []SpecParams{{Samples: 8}, {Camera: "b"}, {Percent: 50}, {Engine: "cycles"}, {Width: 10, Height: 10}} {
		if planOf(t, sampleFacts(), other)[0].Key() == tasks[0].Key() {
			t.Errorf("%+v has the same key", other)
		}
	}
}

func TestPlanFollowsTheFile(t *testing.T) {
	first := func(f Facts, p SpecParams) (Params, job.Task) {
		task := planOf(t, f, p)[0]
		q, err := DecodeParams(task.Params)
		if err != nil {
			t.Fatal(err)
		}
		return q, task
	}
	f := sampleFacts()
	if q, _ := first(f, SpecParams{}); !q.Persistent || q.Samples != 16 || q.Denoise != "" {
		t.Errorf("%+v", q)
	}
	f.ViewLayers = []string{"a", "b"}
	if q, _ := first(f, SpecParams{}); q.Persistent {
		t.Error("persistent data with two view layers")
	}
	f = sampleFacts()
	f.Denoise = true
	if q, task := first(f, SpecParams{}); q.Denoise != "off" || task.Needs.Require[FactDenoiser] != "" {
		t.Errorf("denoising without a denoiser: %+v", q)
	}
	f.Denoisers, f.DenoiseLayers = []string{"openimagedenoise"}, f.ViewLayers
	q, task := first(f, SpecParams{})
	var c job.CropCheck
	if err := job.Decode(task.Check.Params, 4096, &c); err != nil || q.Denoise != "" || task.Needs.Require[FactDenoiser] != fact(f.Build, "openimagedenoise") || c.Pass != passNoisy {
		t.Errorf("denoising: %+v %v %+v %v", q, task.Needs, c, err)
	}
	f.DenoisedAlike = true
	if q, task := first(f, SpecParams{}); job.Decode(task.Check.Params, 4096, &c) != nil || q.Denoise != denoiseGuided || !c.Guided || c.Pass != passNoisy {
		t.Errorf("denoising that is done again: %+v %+v", q, c)
	}
	if q, task := first(f, SpecParams{Denoise: "off"}); q.Denoise != "off" || task.Needs.Require[FactDenoiser] != "" {
		t.Errorf("denoising switched off: %+v", q)
	}
	f = sampleFacts()
	f.Multilayer, f.Depth, f.Codec = true, "16", "PIZ"
	tasks := planOf(t, f, SpecParams{Frames: "1"})
	if q, _ := first(f, SpecParams{}); len(tasks) != 1 || tasks[0].Outputs[0].Final != "0001.exr" || q.Depth != "16" || q.Codec != "PIZ" {
		t.Errorf("multilayer: %+v", tasks)
	}
	f = sampleFacts()
	f.Uncheckable = []string{"time limit"}
	if _, task := first(f, SpecParams{}); task.Check.Method != job.CheckNone {
		t.Error("uncheckable frames are checked")
	}
	f = sampleFacts()
	f.Keyed = []string{"cycles.samples"}
	if q, _ := first(f, SpecParams{}); q.Samples != 0 {
		t.Error("animated samples overridden")
	}
	f.Keyed, f.FrameStart, f.FrameEnd, f.FrameStep = nil, -10, 10, 10
	if n := len(planOf(t, f, SpecParams{})); n != 6 {
		t.Errorf("%d tasks", n)
	}
	f.FrameStart = 11
	facts, _ := json.Marshal(f)
	if _, err := new(Kind).Plan(job.Spec{}, job.Inspection{Facts: facts}, cid.Undef); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Error(err)
	}
}

// cut are ranges of n samples, as a checker asks for them.
func cut(n int) []job.Range {
	return []job.Range{{To: n / 2}, {From: n / 2, To: n * 7 / 8}, {From: n * 7 / 8, To: n}}
}

func TestChallenge(t *testing.T) {
	k := new(Kind)
	task := planOf(t, sampleFacts(), SpecParams{Frames: "5"})[0]
	rects := []job.Rect{{X0: 0, Y0: 0, X1: 10, Y1: 10}, {X0: 300, Y0: 170, X1: 320, Y1: 180}}
	got, err := k.Challenge(task, rects, cut(16))
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if got[0].Place != job.AtRequester || got[0].Check.Method != job.CheckNone || got[0].Validate() != nil || len(got[0].Outputs) != 6 {
		t.Errorf("%+v", got[0])
	}
	again, _ := k.Challenge(task, rects, cut(16))
	if again[0].Key() != got[0].Key() {
		t.Error("the same challenge has another key")
	}
	ev, err := ReadEvidence(got[0], task.Check)
	if err != nil {
		t.Fatal(err)
	}
	want := []Evidence{
		{File: "crop-0-0.exr", Layer: "ViewLayer", Rect: rects[0], Covers: rects[0], Samples: job.Range{From: 0, To: 8}},
		{File: "crop-0-1.exr", Layer: "ViewLayer", Rect: rects[0], Covers: rects[0], Samples: job.Range{From: 8, To: 14}},
		{File: "crop-0-2.exr", Layer: "ViewLayer", Rect: rects[0], Covers: rects[0], Samples: job.Range{From: 14, To: 16}},
	}
	if d := cmp.Diff(want, ev[:3]); d != "" {
		t.Error(d)
	}
	f := sampleFacts()
	f.Adaptive = true
	task = planOf(t, f, SpecParams{Frames: "5"})[0]
	got, err = k.Challenge(task, rects, cut(16))
	if err != nil {
		t.Fatal(err)
	}
	ev, err = ReadEvidence(got[0], task.Check)
	if err != nil {
		t.Fatal(err)
	}
	want = []Evidence{
		{File: "crop-1-0.exr", Layer: "ViewLayer", Rect: rects[1], Covers: job.Rect{X0: 298, Y0: 168, X1: 320, Y1: 180}, Samples: job.Range{To: 16}, Counts: true},
		{File: "crop-1-1.exr", Layer: "ViewLayer", Rect: rects[1], Covers: job.Rect{X0: 298, Y0: 168, X1: 320, Y1: 180}, Samples: job.Range{To: 16}, SeedDelta: seedDelta},
	}
	if d := cmp.Diff(want, ev[2:]); d != "" {
		t.Error(d)
	}
	blue := sampleFacts()
	blue.Dithered = true
	dithered := planOf(t, blue, SpecParams{Frames: "5"})[0]
	if got, err = k.Challenge(dithered, rects, cut(16)); err != nil {
		t.Fatal(err)
	}
	if ev, err = ReadEvidence(got[0], dithered.Check); err != nil {
		t.Fatal(err)
	}
	want = []Evidence{
		{File: "crop-0-0.exr", Layer: "ViewLayer", Rect: rects[0], Covers: rects[0], Samples: job.Range{To: 16}},
		{File: "crop-0-1.exr", Layer: "ViewLayer", Rect: rects[0], Covers: rects[0], Samples: job.Range{To: 16}, SeedDelta: seedDelta},
	}
	if d := cmp.Diff(want, ev[:2]); d != "" {
		t.Error(d)
	}
	look, err := k.Look(task, job.Range{To: 2}, rects[:1])
	if err != nil {
		t.Fatal(err)
	}
	if ev, err = ReadEvidence(look, task.Check); err != nil {
		t.Fatal(err)
	}
	all := job.Rect{X1: 320, Y1: 180}
	want = []Evidence{
		{File: "crop-0-0.exr", Layer: "ViewLayer", Rect: all, Covers: all, Samples: job.Range{To: 2}, Look: true},
		{File: "crop-1-0.exr", Layer: "ViewLayer", Rect: rects[0], Covers: grown(rects[0], 320, 180), Samples: job.Range{To: 16}, Counts: true, Other: true},
	}
	if d := cmp.Diff(want, ev); d != "" {
		t.Error(d)
	}
	many := slices.Repeat(rects, 40)
	got, err = k.Challenge(task, many, cut(16))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range got {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
		n += len(c.Outputs)
	}
	if n != 160 {
		t.Errorf("%d outputs", n)
	}
	for _, bad := range []job.Rect{{}, {X0: -1, X1: 4, Y1: 4}, {X0: 310, X1: 330, Y1: 10}} {
		if _, err := k.Challenge(task, []job.Rect{bad}, cut(16)); err == nil {
			t.Errorf("crop %v accepted", bad)
		}
	}
	finish := planOf(t, f, SpecParams{Frames: "5"})[1]
	if _, err := k.Challenge(finish, rects, cut(16)); err == nil {
		t.Error("a finish task can be challenged")
	}
}

func TestChallengeWantsAllSamplesOnce(t *testing.T) {
	k := new(Kind)
	task := planOf(t, sampleFacts(), SpecParams{Frames: "5"})[0]
	rects := []job.Rect{{X1: 10, Y1: 10}}
	for _, bad := range [][]job.Range{
		nil, {{To: 15}}, {{To: 17}}, {{From: 1, To: 16}}, {{To: 8}, {From: 9, To: 16}}, {{To: 8}, {From: 8, To: 8}, {From: 8, To: 16}}, {{To: 16}, {From: 16, To: 12}},
	} {
		if _, err := k.Challenge(task, rects, bad); err == nil {
			t.Errorf("%v of 16 samples", bad)
		}
	}
	for _, good := range [][]job.Range{{{To: 16}}, cut(16)} {
		got, err := k.Challenge(task, rects, good)
		if err != nil || len(got[0].Outputs) != len(good) {
			t.Error(good, got, err)
		}
	}
}

func TestCheatHalvesTheSamplesAndNothingElse(t *testing.T) {
	k := new(Kind)
	tasks := planOf(t, sampleFacts(), SpecParams{Frames: "5"})
	q, err := DecodeParams(k.Cheat(tasks[0]).Params)
	if err != nil || q.Samples != 8 {
		t.Error(q, err)
	}
	if d := cmp.Diff(string(tasks[1].Params), string(k.Cheat(tasks[1]).Params)); d != "" {
		t.Error("finishing is changed", d)
	}
}

func TestDecodeParamsRefuses(t *testing.T) {
	good := Params{Op: opRender, Main: "a.blend", Frame: 1}
	if _, err := DecodeParams(good.encode()); err != nil {
		t.Fatal(err)
	}
	for _, f := range []func(*Params){
		func(p *Params) { p.Op = "exec" },
		func(p *Params) { p.Main = "../a.blend" },
		func(p *Params) { p.Main = "/a.blend" },
		func(p *Params) { p.Main = "" },
		func(p *Params) { p.Frame = 1 << 30 },
		func(p *Params) { p.Samples = -1 },
		func(p *Params) { p.Width = 1 << 20 },
		func(p *Params) { p.Extension = "/x" },
		func(p *Params) { p.Extension = ".p/x" },
		func(p *Params) { p.Op = opCrop },
		func(p *Params) { p.Crops = []Crop{{}} },
		func(p *Params) { p.Op, p.Crops = opCrop, []Crop{{Rect: job.Rect{X1: 1, Y1: 1}}} },
		func(p *Params) {
			p.Op, p.Crops = opCrop, []Crop{{Rect: job.Rect{X1: 1, Y1: 1}, Runs: []Run{{From: 3, To: 2}}}}
		},
		func(p *Params) {
			p.Op, p.Crops = opCrop, []Crop{{Rect: job.Rect{X1: 1, Y1: 1}, Runs: make([]Run, 65)}}
		},
		func(p *Params) { p.Scene = "a\x00" },
		func(p *Params) { p.Denoise = "on" },
	} {
		p := good
		f(&p)
		if _, err := DecodeParams(p.encode()); err == nil {
			t.Errorf("%+v accepted", p)
		}
	}
}

func FuzzDecodeParams(f *testing.F) {
	f.Add(Params{Op: opRender, Main: "a.blend", Frame: 1}.encode())
	f.Add(Params{Op: opCrop, Main: "a.blend", Crops: []Crop{{Rect: job.Rect{X1: 2, Y1: 2}, Runs: []Run{{Count: true}}}}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeParams(b)
		if err != nil {
			return
		}
		if _, err := DecodeParams(p.encode()); err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
	})
}

func TestSessionKeysSeparateWhatMayNotShare(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "blender")
	answer := `#!/bin/sh
while [ "$1" != "--" ]; do shift; done
printf '{"version":"` + sampleFacts().Version + `","build":"` + sampleFacts().Build + `","engines":[],"rendered":[],"denoisers":[]}' > "$2"
`
	if err := os.WriteFile(fake, []byte(answer), 0o755); err != nil {
		t.Fatal(err)
	}
	k, err := New(Options{Blender: fake, Scratch: dir, Threads: 3, Env: []string{"CYCLES_CPU_NO_AVX2=1"}})
	if err != nil {
		t.Fatal(err)
	}
	tasks := planOf(t, sampleFacts(), SpecParams{Frames: "1-2"})
	crop, err := k.Challenge(tasks[0], []job.Rect{{X1: 4, Y1: 4}}, cut(16))
	if err != nil {
		t.Fatal(err)
	}
	key := func(f func(*render.Task)) string {
		t.Helper()
		r := render.Task{Task: tasks[0], Requester: "r", Content: "c", Device: job.Device{Name: "cpu", Type: "cpu"}}
		if f != nil {
			f(&r)
		}
		s, _, err := k.Session(r, render.Dirs{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base := key(nil)
	if key(func(r *render.Task) { r.Task = tasks[2] }) != base || key(func(r *render.Task) { r.Task = crop[0] }) != base {
		t.Error("frames and crops of one scene should share a Blender")
	}
	for i, f := range []func(*render.Task){
		func(r *render.Task) { r.Task = tasks[1] },
		func(r *render.Task) { r.Requester = "s" },
		func(r *render.Task) { r.Content = "d" },
		func(r *render.Task) { r.Device.Name = "GPU-1" },
	} {
		if key(f) == base {
			t.Errorf("%d shares the session", i)
		}
	}
	_, cmd, err := k.Session(render.Task{Task: tasks[0], Device: job.Device{Name: "GPU-1", Type: "gpu"}}, render.Dirs{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-b", "-Y", "--factory-startup", "--python-exit-code", "97", "-t", "3", "{in}/a/scene.blend", "-S", "Scene", "-P", "{runner}/main.py"}
	if d := cmp.Diff(want, cmd.Args); d != "" {
		t.Error(d)
	}
	if !slices.Contains(cmd.Env, "CUDA_VISIBLE_DEVICES=GPU-1") || !slices.Contains(cmd.Env, "CYCLES_CPU_NO_AVX2=1") || len(cmd.Devices) != 1 {
		t.Errorf("%+v", cmd)
	}
	for _, e := range cmd.Env {
		if strings.HasPrefix(e, "PYTHON") {
			t.Error(e)
		}
	}
}

func TestRunnerIsWholeInTheBinary(t *testing.T) {
	dir := t.TempDir()
	k, err := New(Options{Scratch: dir})
	if err != nil {
		t.Fatal(err)
	}
	want, err := filepath.Glob("runner/*.py")
	if err != nil || len(want) < 10 {
		t.Fatal(want, err)
	}
	for _, name := range want {
		a, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(k.runner, filepath.Base(name)))
		if err != nil || string(a) != string(b) {
			t.Errorf("%s: %v", name, err)
		}
	}
	have, _ := filepath.Glob(filepath.Join(k.runner, "*"))
	if len(have) != len(want) {
		t.Errorf("%d files, want %d", len(have), len(want))
	}
	// A damaged copy is replaced.
	if err := os.WriteFile(filepath.Join(k.runner, "main.py"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Scratch: dir}); err != nil || !sameFiles(k.runner) {
		t.Error("a damaged runner stays", err)
	}
}

func TestHeadVersion(t *testing.T) {
	for in, want := range map[string]int{"BLENDER-v304RENDH": 304, "BLENDER_V277": 277, "BLENDER17-01v0502": 502} {
		if got, err := headVersion([]byte(in)); err != nil || got != want {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "BLENDER", "BLENDER-v3x4", "blender-v304", "BLENDER17-01x0502"} {
		if v, err := headVersion([]byte(in)); err == nil {
			t.Errorf("%q: %d", in, v)
		}
	}
}
