//go:build linux

package render_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/render"
)

// shown is the description of a file as it is now.
func shown(t *testing.T, name, path string) render.Shown {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	sys := fi.Sys().(*syscall.Stat_t)
	return render.Shown{Name: name, Path: path, Dev: uint64(sys.Dev), Inode: sys.Ino, Size: fi.Size(), Mtime: fi.ModTime().UnixNano()}
}

func TestAFileThatLiesElsewhereIsShown(t *testing.T) {
	p := sandbox(t, 0)
	if p == nil {
		t.Skip("NOT RUN: no sandbox here")
	}
	if !p.(*render.Sandbox).Shows() {
		t.Skip("NOT RUN: a process cannot look at what it is shown here")
	}
	disk := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(disk, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wood, secret := write("wood", "the texture"), write("secret", "the owner's")
	// Each has a folder of inputs of its own, as each content has.
	run := func(p render.Process, a ask, s render.Shown) (render.Result, string) {
		b := newBench(t, testKind{}, p, render.Options{})
		if err := os.MkdirAll(filepath.Join(b.in, "tex"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.in, "tex", "wood"), nil, 0o444); err != nil {
			t.Fatal(err)
		}
		out := t.TempDir()
		r := b.Execute(t.Context(), b.task(a), render.Dirs{In: b.in, Out: out, Shown: []render.Shown{s}}, nil)
		text, _ := os.ReadFile(filepath.Join(out, "out.txt"))
		return r, string(text)
	}
	s := shown(t, "tex/wood", wood)
	if r, text := run(p, ask{Do: "input", Text: "tex/wood"}, s); r.Outcome != job.Succeeded || text != "the texture" {
		t.Errorf("%s (%s) %q\n%s", r.Outcome, r.Reason, text, r.Log)
	}
	if r, _ := run(p, ask{Do: "spoil", Text: "tex/wood"}, s); r.Outcome != job.Succeeded {
		t.Errorf("writing to it: %s (%s)", r.Outcome, r.Reason)
	}
	if r, _ := run(p, ask{Do: "input", Text: secret}, s); r.Outcome == job.Succeeded {
		t.Error("a file beside it was read")
	}
	if r, _ := run(render.NewLocalProcess(nil), ask{Do: "input", Text: "tex/wood"}, s); r.Outcome == job.Succeeded || !strings.Contains(r.Reason, "inside a sandbox") {
		t.Errorf("without a sandbox: %s (%s)", r.Outcome, r.Reason)
	}

	refused := func(what string) {
		t.Helper()
		r, text := run(p, ask{Do: "input", Text: "tex/wood"}, s)
		if r.Outcome != job.Broken || !strings.Contains(r.Reason, "not the file that was looked at") {
			t.Errorf("%s: %s (%s) %q", what, r.Outcome, r.Reason, text)
		}
	}
	if err := os.Chtimes(wood, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	refused("written to")
	s = shown(t, "tex/wood", wood)
	if err := os.Remove(wood); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, wood); err != nil {
		t.Fatal(err)
	}
	refused("a link to another file")
	if err := os.Remove(wood); err != nil {
		t.Fatal(err)
	}
	write("wood", "the texture")
	refused("another file with the same bytes")
}
