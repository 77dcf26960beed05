package blender

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
)

// settle makes files and folders look as if nobody had written to them lately.
func settle(t *testing.T, top string) {
	t.Helper()
	then := time.Now().Add(-time.Hour)
	err := filepath.Walk(top, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLooksAreRemembered: a file of the same outline is not opened again, until
// anything that was looked at is another.
func TestLooksAreRemembered(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	build(t, "testdata/copies.py", dir)
	// The real Blender, counted. It is another program than that of the other tests, and nobody needs its Eevee.
	opened, program := filepath.Join(dir, "opened"), filepath.Join(dir, "blender")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$*\" >> '"+opened+"'\ncase \"$*\" in *BLENDER_EEVEE*) exit 1;; esac\nexec blender \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	outline := "first"
	k, err := New(Options{Blender: program, Scratch: t.TempDir(), Outline: func(context.Context, string) ([sha256.Size]byte, error) {
		return sha256.Sum256([]byte(outline)), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ein projekt", "szene ä.blend")
	copy := filepath.Join(dir, "elsewhere", "szene ä.blend")
	another := filepath.Join(dir, "elsewhere", "2", "szene ä.blend")
	if err := os.MkdirAll(filepath.Dir(another), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(copy, another); err != nil {
		t.Fatal(err)
	}
	settle(t, dir)
	seen := 0
	// look looks, and wants Blender to have been started so often for it.
	look := func(what string, s job.Spec, times int) job.Inspection {
		t.Helper()
		in, err := k.Inspect(t.Context(), s)
		if err != nil {
			t.Fatal(what, err)
		}
		b, err := os.ReadFile(opened)
		if err != nil {
			t.Fatal(err)
		}
		if now := strings.Count(string(b), "survey.py"); now != seen+times {
			t.Errorf("%s: Blender opened the file %d times, want %d", what, now-seen, times)
			seen = now
		} else {
			seen = now
		}
		return in
	}
	spec := job.Spec{Kind: Name, Input: copy, CopyOf: file}
	first := look("the first", spec, 1)
	if len(first.Problems) > 0 || len(first.Deps) < 4 {
		t.Fatalf("problems %q, files %v", first.Problems, first.Deps)
	}
	spec.Input = another
	again := look("another copy", spec, 0)
	picture := ""
	for i, d := range first.Deps {
		if d.Path == copy {
			first.Deps[i].Path = another
		}
		if strings.HasSuffix(d.Path, ".png") {
			picture = d.Path
		}
	}
	if fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("remembered %+v\nfound %+v", again, first)
	}
	spec.Params = []byte(`{"frames":"1"}`)
	look("another wish", spec, 1)
	spec.Params = nil
	outline = "second"
	look("another outline", spec, 1)
	outline = "first"

	b, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(picture, b, 0o600); err != nil {
		t.Fatal(err)
	}
	look("a picture was written", spec, 1)
	look("written a moment ago", spec, 1)
	settle(t, dir)
	look("it is an hour old", spec, 1)
	look("and stays so", spec, 0)

	// What is to be mended is looked at again.
	if err := os.Rename(picture, picture+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if in := look("a picture is missing", spec, 1); len(in.Refused()) == 0 {
			t.Errorf("nothing is missing: %v", in)
		}
	}
}

// TestLooksSeeFolders: a new file of a sequence, or a new bake, is in no file
// that was found before.
func TestLooksSeeFolders(t *testing.T) {
	dir := t.TempDir()
	seq, bake := filepath.Join(dir, "seq"), filepath.Join(dir, "blendcache_a")
	if err := os.Mkdir(seq, 0o755); err != nil {
		t.Fatal(err)
	}
	settle(t, dir)
	var l looks
	key := sha256.Sum256(nil)
	known := func() bool { _, _, ok := l.recall(key, "a.blend"); return ok }
	remember := func() {
		settle(t, dir)
		l.remember(key, "a.blend", time.Now(), survey{Folders: []string{seq, bake}}, &loadLog{})
	}
	remember()
	if !known() {
		t.Fatal("not remembered")
	}
	if err := os.WriteFile(filepath.Join(seq, "1.png"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if known() {
		t.Error("a new file in a folder is not seen")
	}
	remember()
	if err := os.Mkdir(bake, 0o755); err != nil {
		t.Fatal(err)
	}
	if known() {
		t.Error("a new folder is not seen")
	}
	for i := range 3 * maxLooks {
		l.remember(sha256.Sum256([]byte{byte(i)}), "a.blend", time.Now(), survey{}, &loadLog{})
	}
	if len(l.known) != maxLooks || len(l.order) != maxLooks {
		t.Errorf("%d looks are kept, %d in order", len(l.known), len(l.order))
	}
}
