package blender

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"idlewild/job"
)

func build(t *testing.T, script string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "blender", append([]string{"-b", "--factory-startup", "--python-exit-code", "9", "-P", script, "--"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, lastLines(out, 20))
	}
}

func inspect(t *testing.T, k *Kind, file string, params string) job.Inspection {
	t.Helper()
	in, err := k.Inspect(t.Context(), job.Spec{Kind: Name, Input: file, Params: json.RawMessage(params)})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func hasProblem(t *testing.T, in job.Inspection, sev job.Severity, parts ...string) {
	t.Helper()
	for _, p := range in.Problems {
		s := p.String()
		all := p.Severity == sev
		for _, part := range parts {
			all = all && strings.Contains(s, part)
		}
		if all {
			if p.Remedy == "" || strings.Contains(s, "\n") {
				t.Errorf("no remedy, or more than a line: %q", s)
			}
			return
		}
	}
	t.Errorf("no %s with %q among %q", sev, parts, in.Problems)
}

func TestInspectNamesEveryTrouble(t *testing.T) {
	needBlender(t)
	file := filepath.Join(t.TempDir(), "troubles.blend")
	build(t, "testdata/troubles.py", file)
	k := testKind(t, Options{})
	hasProblem(t, inspect(t, k, file, `{"samples":9}`), job.SeverityError, "--samples", "strips make the picture", "--no-sequencer")
	hasProblem(t, inspect(t, k, file, ""), job.SeverityError, "strips with several views")
	in := inspect(t, k, file, `{"sequencer":"off"}`)
	for _, parts := range [][]string{
		{"no active camera", "'Camera'", "--camera"},
		{"Image 'lost'", "lost.png is missing"},
		{"'Cloth' of object 'Cube'", "not baked"},
		{"object 'Emitter'", "not baked"},
		{"needs Python", "bpy.context"},
		{"films of several views", "--video none"},
		{"'Elsewhere'", "scene 'other'"},
	} {
		hasProblem(t, in, job.SeverityError, parts...)
	}
	for _, parts := range [][]string{
		{"rig_ui.py", "scripts"},
		{"time limit of 2 s"},
		{"cycles.samples", "animated"},
	} {
		hasProblem(t, in, job.SeverityWarning, parts...)
	}
	p, err := k.probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Denoisers) == 0 {
		hasProblem(t, in, job.SeverityWarning, "no denoiser", "without denoising")
	}
	if n := len(in.Refused()); n != 7 {
		t.Errorf("%d reasons to refuse: %q", n, in.Refused())
	}
	in = inspect(t, k, file, `{"scene":"third"}`)
	hasProblem(t, in, job.SeverityError, "no scene 'third'", "'Scene'", "'other'")
	in = inspect(t, k, file, `{"camera":"Cam","view_layer":"Lay","engine":"luxcore","sequencer":"off"}`)
	hasProblem(t, in, job.SeverityError, "no camera 'Cam'", "'Camera'")
	hasProblem(t, in, job.SeverityError, "no view layer 'Lay'", "'ViewLayer'")
	hasProblem(t, in, job.SeverityError, "no engine 'luxcore'", "'CYCLES'")
}

// A picture that is missing is no reason to refuse a scene that does not show
// it, in whatever way scenes come to show each other.
func TestMissingInAnotherScene(t *testing.T) {
	needBlender(t)
	k := testKind(t, Options{})
	dir := t.TempDir()
	ways := []string{"set", "strip", "layers", "pointed", "collection", "nobody", "apart"}
	build(t, "testdata/otherscene.py", append([]string{dir}, ways...)...)
	for _, how := range ways {
		in, severity := inspect(t, k, filepath.Join(dir, how+".blend"), ""), job.SeverityError
		if how == "apart" {
			severity = job.SeverityWarning
			if len(in.Refused()) > 0 {
				t.Errorf("refused: %q", in.Refused())
			}
		}
		t.Run(how, func(t *testing.T) { hasProblem(t, in, severity, "Image 'lost'", "lost.png is missing") })
	}
	hasProblem(t, inspect(t, k, filepath.Join(dir, "apart.blend"), `{"scene":"other"}`), job.SeverityError, "Image 'lost'", "lost.png is missing; put it back")
}

func TestBadInput(t *testing.T) {
	scenes := testScenes(t)
	dir := t.TempDir()
	k := testKind(t, Options{})
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	whole, err := os.ReadFile(scenes)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := z.EncodeAll(whole, nil) // as Blender compresses since 3.0
	for _, c := range []struct {
		file, params string
		want         []string
	}{
		{filepath.Join(dir, "none.blend"), "", []string{"no such file"}},
		{dir, "", []string{"is no file", "name the .blend"}},
		{write("empty.blend", nil), "", []string{"is empty", "save or copy it again"}},
		{write("picture.blend", []byte("\x89PNG\r\n\x1a\n........................")), "", []string{"no .blend"}},
		{write("gzip.blend", []byte{0x1f, 0x8b, 8, 0, 0, 0}), "", []string{"incomplete", "save or copy it again"}},
		{write("head.blend", whole[:9]), "", []string{"incomplete", "save or copy it again"}},
		{write("packed.blend", packed[:40]), "", []string{"incomplete", "save or copy it again"}},
		{write("cutpacked.blend", packed[:len(packed)/2]), "", []string{"incomplete", "save or copy it again"}},
		{write("new.blend", append([]byte("BLENDER17-01v0502"), make([]byte, 100)...)), "", []string{"5.2", "3.", "idlewild blender add"}},
		{write("cut.blend", whole[:len(whole)/2]), "", []string{"cannot read it: it is incomplete", "save or copy it again"}},
		{scenes, `{"frames":"9-1"}`, []string{"backwards"}},
		{scenes, `{"frame":"1"}`, []string{"unknown field"}},
	} {
		in := inspect(t, k, c.file, c.params)
		if len(in.Problems) != 1 || in.Problems[0].Severity != job.SeverityError {
			t.Errorf("%s %s: %q", filepath.Base(c.file), c.params, in.Problems)
			continue
		}
		s := in.Problems[0].String()
		for _, w := range c.want {
			if !strings.Contains(s, w) || strings.Contains(s, "\n") {
				t.Errorf("%s: %q does not say %q", filepath.Base(c.file), s, w)
			}
		}
	}
}

func fakeBlender(t *testing.T, script string) *Kind {
	t.Helper()
	dir := t.TempDir()
	p := filepath.Join(dir, "blender")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	k, err := New(Options{Blender: p, Scratch: filepath.Join(dir, "s")})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestProbeSaysWhatIsWrongWithBlender(t *testing.T) {
	k, err := New(Options{Blender: filepath.Join(t.TempDir(), "none"), Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Probe(t.Context()); !errors.Is(err, ErrNoBlender) {
		t.Error(err)
	}
	k = fakeBlender(t, "echo 'libGL.so.1: cannot open shared object' >&2; exit 127\n")
	if _, _, err := k.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "libGL.so.1") {
		t.Error(err)
	}
	k = fakeBlender(t, "kill -SEGV $$\n")
	if _, _, err := k.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "segmentation") {
		t.Error(err)
	}
	k = fakeBlender(t, "echo fine\n")
	if _, _, err := k.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Error(err)
	}
	old := `while [ "$1" != "--" ]; do shift; done
printf '{"version":"2.93.4","build":"x","engines":[],"rendered":[],"denoisers":[]}' > "$2"
`
	k = fakeBlender(t, old)
	if _, _, err := k.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "2.93.4") || !strings.Contains(err.Error(), oldest) {
		t.Error(err)
	}
}

// What is remembered of a Blender holds for another version of this program, if
// that asks in the same way; and all that asks is looked at.
func TestProbeOfAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	k := fakeBlender(t, "echo x >>"+count+"\nwhile [ \"$1\" != -- ]; do shift; done\n"+
		`echo '{"version":"4.2.0","build":"4.2.0 x","engines":["CYCLES"],"rendered":["CYCLES"],"denoisers":[]}' >"$2"`+"\ntouch \"$2.blend\"\n")
	asked := func() int { b, _ := os.ReadFile(count); return strings.Count(string(b), "x") }
	again := func(change func(*Kind)) {
		t.Helper()
		other, err := New(Options{Blender: k.programs[0].path, Scratch: k.opts.Scratch})
		if err != nil {
			t.Fatal(err)
		}
		change(other)
		if _, _, err := other.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	again(func(*Kind) {})
	again(func(k *Kind) { k.runners = "of another version" })
	if n := asked(); n != 1 {
		t.Errorf("asked %d times, once is enough", n)
	}
	again(func(k *Kind) { k.prober = "another" })
	if n := asked(); n != 2 {
		t.Errorf("asked %d times by two probers", n)
	}
	local := regexp.MustCompile(`(?m)^\s*(?:import|from) (\w+)`)
	for _, name := range probeFiles {
		b, err := os.ReadFile("runner/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range local.FindAllStringSubmatch(string(b), -1) {
			file := m[1] + ".py"
			if _, err := os.Stat("runner/" + file); err == nil && !slices.Contains(probeFiles, file) {
				t.Errorf("%s imports %s, which is not among probeFiles", name, file)
			}
		}
	}
}

func TestProbeIsRemembered(t *testing.T) {
	needBlender(t)
	k := testKind(t, Options{})
	facts, _, err := k.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(facts[FactVersion]) != 1 || !slices.Contains(facts[FactEngine], fact(facts[FactBuild][0], cycles)) || !slices.Contains(facts[FactEngine], cycles) || len(facts[FactDenoiser]) == 0 || !strings.HasPrefix(facts[FactBuild][0], facts[FactVersion][0]+" ") {
		t.Errorf("%v", facts)
	}
	// Another Kind on the same scratch folder need not ask: its program is
	// replaced by one that cannot answer, as old and large as the real one.
	again := testKind(t, Options{})
	p, err := again.probe(t.Context())
	if err != nil || p.Program != k.programs[0].probed.Program {
		t.Error(p, err)
	}
	found, _ := filepath.Glob(filepath.Join(k.opts.Scratch, "probe-*.json"))
	if len(found) == 0 {
		t.Error("nothing is on disk")
	}
	for _, k := range []*Kind{k, again} {
		if s := k.Specimens(); len(s) != 1 {
			t.Errorf("specimens %q", s)
		} else if info, err := os.ReadFile(s[0]); err != nil || !strings.HasPrefix(string(info), "BLENDER") {
			t.Errorf("%.12q is no .blend: %v", info, err)
		}
	}
}

// TestFilesFromEverywhere renders a project whose files lie above the .blend,
// in libraries and at absolute paths, after the originals are gone.
func TestFilesFromEverywhere(t *testing.T) {
	needBlender(t)
	top := t.TempDir()
	dir, abs := filepath.Join(top, "project"), filepath.Join(top, "elsewhere")
	build(t, "testdata/project.py", dir, abs)
	file := filepath.Join(dir, "shot", "scene.blend")
	ref := filepath.Join(top, "ref-####.exr")
	plain(t, file, "", "-o", ref, "-f", "2")

	k := testKind(t, Options{})
	tasks, in := plan(t, k, file, SpecParams{Frames: "2"})
	var names []string
	for _, d := range in.Deps {
		if i := strings.Index(d.Name, "_abs/"); i == 0 {
			_, rest, _ := strings.Cut(d.Name[5:], "/")
			d.Name = "_abs/*/" + rest
		}
		names = append(names, d.Name)
	}
	slices.Sort(names)
	want := []string{
		"_abs/*/abs.png", "_abs/*/far.blend", "_abs/*/t/far.png", "lib/near.blend", "lib/t/near.png",
		"seq/s_001.png", "seq/s_002.png", "seq/s_003.png", "shot/scene.blend", "shot/tex/rel.png",
	}
	if !slices.Equal(names, want) {
		t.Fatalf("files\n%q, want\n%q", names, want)
	}
	var facts Facts
	if err := json.Unmarshal(in.Facts, &facts); err != nil {
		t.Fatal(err)
	}
	if q := facts.Sequences; len(q) != 1 || q[0].Head != "seq/s_" || q[0].Tail != ".png" || len(q[0].Users) == 0 || !slices.Equal(q[0].Numbers, [][2]int{{1, 3}}) {
		t.Errorf("sequences %+v", q)
	}
	if reads, ok := facts.readers("seq/s_002.png"); !ok || !reads(2) || reads(1) {
		t.Error("it is not known which frame reads a file of a sequence")
	}
	// Of the sequence a job of one frame takes that frame and its neighbours.
	plain(t, file, "", "-o", ref, "-f", "1")
	one, few := plan(t, k, file, SpecParams{Frames: "1"})
	if slices.ContainsFunc(few.Deps, func(d job.Dep) bool { return d.Name == "seq/s_003.png" }) || len(few.Deps) != len(want)-1 {
		t.Errorf("files of frame 1: %v", few.Deps)
	}
	lean := newShop(t, k, few.Deps)
	work := newShop(t, k, in.Deps)
	for _, d := range []string{dir, abs} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
	out := work.must(tasks[0])
	sameEXR(t, "project", readEXR(t, filepath.Join(top, "ref-0002.exr")), readEXR(t, filepath.Join(out, claimFile)))
	first := readEXR(t, filepath.Join(lean.must(one[0]), claimFile))
	sameEXR(t, "frame 1 of the project", readEXR(t, filepath.Join(top, "ref-0001.exr")), first)
	m := readEXR(t, filepath.Join(out, claimFile))
	if c, _ := m.Channel("ViewLayer.Combined.R"); slices.Max(c.Data) == 0 {
		t.Error("the picture is black")
	}
}

func TestFailuresHaveReasons(t *testing.T) {
	file := testScenes(t)
	k := testKind(t, Options{})
	tasks, in := plan(t, k, file, SpecParams{Frames: "1", Scene: "plain"})
	work := newShop(t, k, in.Deps)
	good := work.must(tasks[0])
	for _, c := range []struct {
		change func(*Params)
		want   string
	}{
		{func(p *Params) { p.Camera = "nobody" }, "no camera"},
		{func(p *Params) { p.ViewLayer = "nobody" }, "no view layer"},
		{func(p *Params) {
			p.Op, p.Crops = opCrop, []Crop{{Rect: job.Rect{X0: 90, Y0: 0, X1: 120, Y1: 5}, Runs: []Run{{}}}}
		}, "outside the frame"},
	} {
		p, err := DecodeParams(tasks[0].Params)
		if err != nil {
			t.Fatal(err)
		}
		c.change(&p)
		task := tasks[0]
		task.Params = p.encode()
		if _, r := work.run(task); r.Outcome != job.Failed || !strings.Contains(r.Reason, c.want) {
			t.Errorf("%s: %s", r.Outcome, r.Reason)
		}
	}
	// The file is not what it was when the job was planned.
	bad := filepath.Join(t.TempDir(), "scenes.blend")
	if err := os.WriteFile(bad, []byte("BLENDER-v304 and no more"), 0o644); err != nil {
		t.Fatal(err)
	}
	other := newShop(t, k, []job.Dep{{Path: bad, Name: "scenes.blend"}})
	if _, r := other.run(tasks[0]); r.Outcome == job.Succeeded || r.Reason == "" {
		t.Errorf("a broken file: %s %s", r.Outcome, r.Reason)
	}
	// After all that the session gives the same picture.
	again := work.must(tasks[0])
	sameEXR(t, "after failures", readEXR(t, filepath.Join(good, claimFile)), readEXR(t, filepath.Join(again, claimFile)))
}

// A copy of unsaved work is looked at as if it lay where the file lies.
func TestCopyStandsForItsFile(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	build(t, "testdata/copies.py", dir)
	k := testKind(t, Options{})
	file := filepath.Join(dir, "ein projekt", "szene ä.blend")
	saved := inspect(t, k, file, "")
	copy := filepath.Join(dir, "elsewhere", "szene ä.blend")
	in, err := k.Inspect(t.Context(), job.Spec{Kind: Name, Input: copy, CopyOf: file})
	if err != nil {
		t.Fatal(err)
	}
	if len(in.Problems) > 0 {
		t.Errorf("problems: %v", in.Problems)
	}
	want := slices.Clone(saved.Deps)
	for i := range want {
		if want[i].Path == file {
			want[i].Path = copy
		}
	}
	if !slices.Equal(in.Deps, want) || len(want) < 4 {
		t.Errorf("files of the copy:\n%q\nof the saved file:\n%q", in.Deps, want)
	}
	var f Facts
	if err := json.Unmarshal(in.Facts, &f); err != nil {
		t.Fatal(err)
	}
	if f.FrameEnd != 77 {
		t.Errorf("the unsaved range ends at %d", f.FrameEnd)
	}
	if e := in.Estimate; e.VRAMBytes < 500<<20 || e.VRAMBytes > 4<<30 || e.MemoryBytes < 350<<20 || e.MemoryBytes > 4<<30 || e.Device != "" {
		t.Errorf("memory by estimate: %+v", e)
	}
	if err := os.Remove(copy); err != nil {
		t.Fatal(err)
	}
	in, err = k.Inspect(t.Context(), job.Spec{Kind: Name, Input: copy, CopyOf: file})
	if err != nil {
		t.Fatal(err)
	}
	hasProblem(t, in, job.SeverityError, file, "is gone", "submit it again")
}
