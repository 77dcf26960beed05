package blender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render"
)

// probe is what the first Blender that works said of itself.
func (k *Kind) probe(ctx context.Context) (*probe, error) {
	here, _, err := k.ables(ctx)
	if err != nil {
		return nil, err
	}
	return here[0].probe, nil
}

// fakeVersion is a program that says that it is a Blender of a version.
func fakeVersion(t *testing.T, dir, version, build string) string {
	t.Helper()
	p := filepath.Join(dir, version+"-"+strings.Fields(build)[0], "blender")
	script := fmt.Sprintf(`#!/bin/sh
while [ "$1" != "--" ]; do shift; done
printf '{"version":"%s","build":"%s","engines":["CYCLES"],"rendered":["CYCLES"],"denoisers":[]}' > "$2"
`, version, version+" "+build)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func savedBy(t *testing.T, head string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "file.blend")
	if err := os.WriteFile(p, []byte(head+"RENDH and more"), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheBlenderThatSavedAFileIsChosen(t *testing.T) {
	dir := t.TempDir()
	var names []string
	for _, v := range [][2]string{{"4.5.1", "a blender.org"}, {"3.6.2", "b blender.org"}, {"4.5.3", "c blender.org"}, {"4.5.3", "d bpy"}, {"5.0.1", "e blender.org"}} {
		names = append(names, fakeVersion(t, dir, v[0], v[1]))
	}
	k, err := New(Options{Blender: names[0], Programs: names[1:], Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	here, wrong, err := k.ables(t.Context())
	if err != nil || len(wrong) > 0 || len(here) != 5 {
		t.Fatal(here, wrong, err)
	}
	for _, c := range []struct{ head, asked, build, says string }{
		{"BLENDER-v405", "", "4.5.3 c blender.org", ""},
		{"BLENDER-v306", "", "3.6.2 b blender.org", ""},
		{"BLENDER17-01v0500", "", "5.0.1 e blender.org", ""},
		{"BLENDER-v304", "", "3.6.2 b blender.org", "saved by Blender 3.4 and is rendered with Blender 3.6.2"},
		{"BLENDER-v402", "", "4.5.3 c blender.org", "saved by Blender 4.2 and is rendered with Blender 4.5.3"},
		{"BLENDER-v405", "4.5.1", "4.5.1 a blender.org", ""},
		{"BLENDER-v405", "5.0", "5.0.1 e blender.org", ""},
		{"BLENDER-v405", "4.5.3 d bpy", "4.5.3 d bpy", ""},
		{"BLENDER-v405", names[3], "4.5.3 d bpy", ""},
		{"BLENDER17-01v0502", "", "", "saved by Blender 5.2, and this machine has 5.0.1, 4.5.3, 4.5.1, 3.6.2"},
		{"BLENDER-v405", "3.6", "", "saved by Blender 4.5, and Blender 3.6.2, which was asked for, is older"},
		{"BLENDER-v405", "4.1", "", "asked for, and this machine has 5.0.1"},
		{"BLENDER-v405", "/nowhere/blender", "", "idlewild blender add PATH"},
	} {
		params, _ := json.Marshal(SpecParams{Blender: c.asked})
		got, note := choose(job.Spec{Input: savedBy(t, c.head), Params: params}, here)
		build, says := "", ""
		if got.probe != nil {
			build = got.Build
		}
		if note != nil {
			says = note.String()
			if strings.Contains(says, "\n") || note.Remedy == "" {
				t.Errorf("%q is not a sentence and a remedy", says)
			}
		}
		if build != c.build || !strings.Contains(says, c.says) || c.says == "" && note != nil {
			t.Errorf("%s, asked %q: %q, %q", c.head, c.asked, build, says)
		}
	}
}

func TestAFileOfANewerBlenderIsRefusedInOneSentence(t *testing.T) {
	k, err := New(Options{Blender: fakeVersion(t, t.TempDir(), "3.6.2", "b blender.org"), Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for head, want := range map[string]string{"BLENDER17-01v0903": "9.3", "BLENDER17-01v0500": "5.0"} {
		in := inspect(t, k, savedBy(t, head), "")
		if len(in.Problems) != 1 {
			t.Fatal(in.Problems)
		}
		hasProblem(t, in, job.SeverityError, "saved by Blender "+want, "this machine has 3.6.2", "idlewild blender add")
	}
}

func TestEachBuildHasItsOwnAbilities(t *testing.T) {
	dir := t.TempDir()
	a, b := fakeVersion(t, dir, "4.5.1", "a blender.org"), fakeVersion(t, dir, "5.0.1", "b bpy")
	same := filepath.Join(dir, "link")
	if err := os.Symlink(a, same); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken", "blender")
	if err := os.MkdirAll(filepath.Dir(broken), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	k, err := New(Options{Blender: a, Programs: []string{same, b, broken, filepath.Join(dir, "none")}, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	facts, warnings, err := k.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(facts[FactVersion], []string{"4.5.1", "5.0.1"}) || !slices.Equal(facts[FactEngine], []string{"4.5.1 a blender.org CYCLES", "5.0.1 b bpy CYCLES"}) {
		t.Errorf("%v", facts)
	}
	if text := strings.Join(warnings, "\n"); !strings.Contains(text, "broken/blender does not work") || !strings.Contains(text, "none") {
		t.Errorf("%q", warnings)
	}
	f := sampleFacts()
	for build, want := range map[string]string{"4.5.1 a blender.org": a, "5.0.1 b bpy": b} {
		f.Version, f.Build, _ = strings.Cut(build, " ")
		f.Build = build
		task := planOf(t, f, SpecParams{})[0]
		if !(job.Machine{Facts: facts}).Has(task.Needs, job.Device{Type: "cpu"}) {
			t.Errorf("not offered: %v", task.Needs)
		}
		_, cmd, err := k.Session(render.Task{Task: task, Device: job.Device{Name: "cpu", Type: "cpu"}}, render.Dirs{})
		if err != nil || cmd.Path != want {
			t.Errorf("%s: %s, %v", build, cmd.Path, err)
		}
	}
	f.Build = "4.5.1 other blender.org"
	task := planOf(t, f, SpecParams{})[0]
	if (job.Machine{Facts: facts}).Has(task.Needs, job.Device{Type: "cpu"}) {
		t.Error("another build of the same version is taken for the same")
	}
	if _, _, err := k.Session(render.Task{Task: task}, render.Dirs{}); err == nil || !strings.Contains(err.Error(), "4.5.1 other") {
		t.Error(err)
	}
	list, err := k.Programs(t.Context())
	if err != nil || len(list) != 4 || list[0].Version != "4.5.1" || list[3].Error == "" {
		t.Errorf("%+v %v", list, err)
	}
}

func TestABlenderAroundTheOwnersFoldersIsNotUsed(t *testing.T) {
	dir := t.TempDir()
	p := fakeVersion(t, dir, "4.5.1", "a blender.org")
	k, err := New(Options{Blender: p, Scratch: t.TempDir(), Private: []string{filepath.Join(filepath.Dir(p), "data")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "may not see") {
		t.Error(err)
	}
}

// needBpy returns a Python with the package bpy, or ends the test.
func needBpy(t *testing.T) string {
	t.Helper()
	p := os.Getenv("IDLEWILD_TEST_BPY")
	if p == "" {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "bpy") {
			t.Fatal("IDLEWILD_TEST_BPY is required and not set")
		}
		t.Skip("NOT RUN: IDLEWILD_TEST_BPY names no Python with the package bpy")
	}
	return p
}

// TestAPythonWithBpyRendersAsBlender renders a scene with Cycles' defaults,
// adaptive sampling and denoising on, through sessions of a Python with bpy,
// and compares with what the module itself writes.
func TestAPythonWithBpyRendersAsBlender(t *testing.T) {
	python := needBpy(t)
	k := testKind(t, Options{Blender: python, Threads: 1})
	probed, err := k.probe(t.Context())
	if errors.Is(err, ErrNoBlender) {
		t.Fatalf("IDLEWILD_TEST_BPY: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script, file := filepath.Join(dir, "make.py"), filepath.Join(dir, "scene.blend")
	const source = `
import bpy, sys
bpy.ops.wm.read_factory_settings(use_empty=False)
scene = bpy.context.scene
scene.render.engine = "CYCLES"
scene.cycles.samples = 16
assert scene.cycles.use_adaptive_sampling and scene.cycles.use_denoising
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 96, 54, 100
scene.render.threads_mode, scene.render.threads = "FIXED", 1
bpy.data.scenes.new("other")
out = sys.argv[-1]
bpy.ops.wm.save_as_mainfile(filepath=out)
scene.render.filepath = out + ".png"
bpy.ops.render.render(write_still=True)
`
	if err := os.WriteFile(script, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), python, "-I", script, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, lastLines(out, 20))
	}
	tasks, in := plan(t, k, file, SpecParams{Frames: "1-2"})
	for _, task := range tasks {
		if task.Needs.Require[FactBuild] != probed.Build {
			t.Errorf("%s needs %v", task.Label, task.Needs)
		}
	}
	work := spareShop(t, k, in.Deps)
	var finished string
	for _, task := range []job.Task{tasks[2], tasks[3], tasks[0], tasks[1]} { // frame 2 first
		finished = work.must(task)
	}
	sameDecoded(t, "bpy", file+".png", filepath.Join(finished, tasks[1].Outputs[0].Name))
	work.of = "the same as another content"
	_, r := work.run(tasks[0])
	if r.Outcome != job.Succeeded || !strings.Contains(string(r.Log), asSpare) {
		t.Errorf("%s: %s, in a spare: %v", r.Outcome, r.Reason, strings.Contains(string(r.Log), asSpare))
	}
	sameDecoded(t, "bpy, a spare", file+".png", filepath.Join(work.must(tasks[1]), tasks[1].Outputs[0].Name))

	// Pinned to another build, this one does not do it.
	p, err := DecodeParams(tasks[0].Params)
	if err != nil {
		t.Fatal(err)
	}
	p.Build = "4.5.0 0 elsewhere"
	other := tasks[0]
	other.Params = p.encode()
	if _, r = work.run(other); r.Outcome == job.Succeeded || !strings.Contains(r.Reason, "not here") {
		t.Errorf("%s: %s", r.Outcome, r.Reason)
	}
}
