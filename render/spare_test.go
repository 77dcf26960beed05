//go:build linux

package render_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/render"
)

const plenty = 64 << 30 // bytes available

func much() int64 { return plenty }

// of is a's task with another content, whose folder holds a file "f" of text.
func (b *bench) of(a ask, requester, content string) (string, render.Result) {
	b.t.Helper()
	x := b.task(a)
	x.Requester, x.Content = requester, content
	in := filepath.Join(b.in, content)
	if err := os.MkdirAll(filepath.Join(in, "deep", "er"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	for _, name := range []string{"f", "deep/er/g"} {
		if err := os.WriteFile(filepath.Join(in, name), []byte(content), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	out := b.t.TempDir()
	r := b.Execute(b.t.Context(), x, render.Dirs{In: in, Out: out}, nil)
	text, _ := os.ReadFile(filepath.Join(out, "out.txt"))
	return string(text), r
}

// must is of where the task succeeds.
func (b *bench) must(a ask, requester, content string) string {
	b.t.Helper()
	text, r := b.of(a, requester, content)
	if r.Outcome != job.Succeeded {
		b.t.Fatalf("%s of %s: %s (%s)\n%.2000s", a.Do, content, r.Outcome, r.Reason, r.Log)
	}
	return text
}

// sessions counts the folders of sessions and spares.
func (b *bench) sessions() int {
	all, _ := filepath.Glob(filepath.Join(b.scratch, "session-*"))
	return len(all)
}

func TestASpareBecomesOneSession(t *testing.T) {
	eachProcess(t, func(t *testing.T, p render.Process) {
		b := newBench(t, waiting{}, p, render.Options{Available: much, Warm: 4})
		if got := b.must(ask{Do: "waited"}, "r", "one"); got != "false 0" {
			t.Fatalf("the first session began as a spare: %s", got)
		}
		// Each new content gets a spare that was never used, and sees its own files only.
		for _, c := range []struct{ requester, content string }{{"r", "two"}, {"s", "three"}} {
			if got := b.must(ask{Do: "waited"}, c.requester, c.content); got != "true 0" {
				t.Errorf("the session of %s: %s, want a spare that saw no file before", c.content, got)
			}
			for _, f := range []string{"f", "deep/er/g"} {
				if got := b.must(ask{Do: "input", Text: f}, c.requester, c.content); got != c.content {
					t.Errorf("%s of %s holds %q", f, c.content, got)
				}
			}
		}
		for _, content := range []string{"one", "two"} {
			if got := b.must(ask{Do: "input", Text: "f"}, "r", content); got != content {
				t.Errorf("the session of %s reads %q now", content, got)
			}
		}
	})
}

func TestASpareCannotWriteItsContent(t *testing.T) {
	p := sandbox(t, 0)
	if p == nil {
		t.SkipNow()
	}
	b := newBench(t, waiting{}, p, render.Options{Available: much})
	b.must(ask{Do: "waited"}, "r", "one")
	if got := b.must(ask{Do: "waited"}, "r", "two"); got != "true 0" {
		t.Fatalf("no spare: %s", got)
	}
	b.must(ask{Do: "spoil", Text: "f"}, "r", "two")
	b.must(ask{Do: "spoil", Text: "deep/er/g"}, "r", "two")
	if got, _ := os.ReadFile(filepath.Join(b.in, "two", "f")); string(got) != "two" {
		t.Errorf("the unpacked content is now %q", got)
	}
}

func TestWithoutASpareItStarts(t *testing.T) {
	for name, c := range map[string]struct {
		kind      waiting
		available func() int64
	}{
		"not wanted":           {available: nil},
		"memory is short":      {available: func() int64 { return 3 << 30 }},
		"unknown memory":       {available: func() int64 { return 0 }},
		"a session of no kind": {kind: waiting{key: func(render.Task) string { return "" }}, available: much},
		"of another kind":      {kind: waiting{key: func(t render.Task) string { return t.Content }}, available: much},
		"it died":              {kind: waiting{env: []string{"TEST_WAIT=die"}}, available: much},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.kind, render.NewLocalProcess(nil), render.Options{Available: c.available})
			for _, content := range []string{"one", "two", "three"} {
				if got := b.must(ask{Do: "waited"}, "r", content); got != "false 0" {
					t.Errorf("%s: %s", content, got)
				}
			}
		})
	}
}

// One spare for a device, however many contents and kinds come by.
func TestSparesAreFew(t *testing.T) {
	b := newBench(t, waiting{key: func(t render.Task) string { return t.Requester }}, render.NewLocalProcess(nil), render.Options{Available: much, Warm: 2})
	for range 3 {
		for _, r := range []string{"r", "s"} {
			b.must(ask{Do: "waited"}, r, r)
		}
	}
	eventually(t, "two sessions and one spare", func() bool { return b.sessions() == 3 })
	b.EndIdle("another device")
	if n := b.sessions(); n != 3 {
		t.Errorf("%d are left where another device's owner is back", n)
	}
	b.EndIdle("cpu")
	if n := b.sessions(); n != 0 {
		t.Errorf("%d are left where the owner is back", n)
	}
	// It comes again with the work.
	b.must(ask{Do: "waited"}, "r", "one")
	if got := b.must(ask{Do: "waited"}, "r", "two"); got != "true 0" {
		t.Errorf("no new spare: %s", got)
	}
}

func TestASpareGoesWhenMemoryIsNeededOrNobodyComes(t *testing.T) {
	var available atomic.Int64
	available.Store(plenty)
	b := newBench(t, waiting{}, render.NewLocalProcess(nil), render.Options{Available: available.Load, Idle: 500 * time.Millisecond})
	b.must(ask{Do: "waited"}, "r", "one")
	eventually(t, "a session and no spare after their time", func() bool { return b.sessions() == 0 })

	b = newBench(t, waiting{}, render.NewLocalProcess(nil), render.Options{Available: available.Load, Idle: time.Hour})
	b.must(ask{Do: "waited"}, "r", "one")
	eventually(t, "a spare", func() bool { return b.sessions() == 2 })
	available.Store(1 << 30)
	render.Look(b.Runner)
	if n := b.sessions(); n != 1 {
		t.Errorf("%d processes where memory is short, want the session alone", n)
	}
}

// A spare that cannot be given a content costs nothing but a start.
func TestContentThatCannotBeLinked(t *testing.T) {
	b := newBench(t, waiting{}, render.NewLocalProcess(nil), render.Options{Available: much})
	b.must(ask{Do: "waited"}, "r", "one")
	if err := os.MkdirAll(filepath.Join(b.in, "two"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f", filepath.Join(b.in, "two", "link")); err != nil {
		t.Fatal(err)
	}
	if got := b.must(ask{Do: "waited"}, "r", "two"); got != "false 0" {
		t.Errorf("a content with a link: %s", got)
	}
}

// The log and the time of a task are its own, also in a session that was a spare.
func TestMeterOfASpare(t *testing.T) {
	b := newBench(t, waiting{}, render.NewLocalProcess(nil), render.Options{Available: much})
	b.must(ask{Do: "waited"}, "r", "one")
	_, r := b.of(ask{Do: "echo", Text: "hello"}, "r", "two")
	if r.Meter.Load <= 0 || r.Meter.Load > r.Meter.Wall || !strings.Contains(string(r.Log), "line hello") || r.Runner != "" {
		t.Errorf("%+v\n%s", r.Meter, r.Log)
	}
}
