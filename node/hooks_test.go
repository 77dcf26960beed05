package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/node/hooks"
)

// A pipeline hears of every job and frame of the machine that submitted, with
// names; the machine that works tells its own pipeline no name of them.
func TestHooks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: shell scripts on Windows")
	}
	dir := t.TempDir()
	hook := func(name string) (program string, told func() []hooks.Document) {
		file := filepath.Join(dir, name+".jsonl")
		program = filepath.Join(dir, name)
		if err := os.WriteFile(program, []byte("#!/bin/sh\n{ cat; echo; } >> '"+file+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return program, func() (out []hooks.Document) {
			b, _ := os.ReadFile(file)
			for line := range strings.Lines(string(b)) {
				var d hooks.Document
				if json.Unmarshal([]byte(line), &d) == nil {
					out = append(out, d)
				}
			}
			return out
		}
	}
	xProgram, xTold := hook("desk")
	yProgram, yTold := hook("tower")
	all := func(program string) func(*Config) {
		return func(c *Config) { c.Hooks.Program, c.Hooks.Events, c.Hooks.Timeout = program, []string{"*.*"}, 600 }
	}
	x := startNode(t, "desk", func(c *Config) { all(xProgram)(c); c.Worker.Enabled = false })
	y := startNode(t, "tower", all(yProgram))
	join(t, x, y)
	input := filepath.Join(t.TempDir(), "secret-scene.txt")
	if err := os.WriteFile(input, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	id, err := x.client.Submit(t.Context(), job.Spec{Kind: "echo", Title: "secret-title", Input: input, Output: out, Params: []byte(`{"text":"x","count":3}`)})
	if err != nil {
		t.Fatal(err)
	}
	x.finish(t, id)
	eventually(t, "both pipelines heard of it", func() error {
		count := map[string]int{}
		for _, d := range append(xTold(), yTold()...) {
			count[d.Event]++
		}
		for event, n := range map[string]int{"job.accepted": 1, "job.planned": 1, "job.finished": 1, "frame.started": 3, "frame.delivered": 3, "work.started": 3, "work.ended": 3} {
			if count[event] < n {
				return fmt.Errorf("%d of %s, want %d, in %v", count[event], event, n, count)
			}
		}
		return nil
	})
	ids := map[string]bool{}
	for _, d := range xTold() {
		if ids[d.ID] || d.Job.ID != string(id) || d.Job.Title != "secret-title" || d.Job.File != input || d.Job.Output != out || d.Machine.Name != "desk" {
			t.Errorf("%+v", d)
		}
		ids[d.ID] = true
		if d.Event == "frame.delivered" && (d.Frame.Worker == "" || len(d.Frame.Files) == 0) {
			t.Errorf("%+v", d.Frame)
		}
		if d.Event == "job.finished" && (d.Job.State != "finished" || d.Job.Frames != 3 || d.Job.Delivered != 3) {
			t.Errorf("%+v", d.Job)
		}
	}
	for _, d := range yTold() {
		if b, _ := json.Marshal(d); d.Work == nil || d.Work.Requester != x.self.String() || strings.Contains(string(b), "secret") {
			t.Errorf("the worker's pipeline hears %s", b)
		}
	}
}

func TestHookSettingsAreChecked(t *testing.T) {
	for key, value := range map[string]string{"program": "x", "url": "http://example.com", "secret": "short", "events": "nothing", "timeout_s": "0", "tries": "99"} {
		_, _, err := LoadConfig("", map[string]string{"data_dir": t.TempDir(), "hooks." + key: value})
		if err == nil || !strings.HasPrefix(err.Error(), "hooks."+key+": ") {
			t.Errorf("hooks.%s=%s: %v", key, value, err)
		}
	}
	const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="
	_, origins, err := LoadConfig("", map[string]string{"data_dir": t.TempDir(), "hooks.secret": secret})
	if b, _ := json.Marshal(origins); err != nil || strings.Contains(string(b), secret) || !strings.Contains(string(b), hiddenValue) {
		t.Errorf("a secret is shown: %v", err)
	}
}
