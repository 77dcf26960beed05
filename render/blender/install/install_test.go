package install

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func program(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFindLooksWhereBlendersAre(t *testing.T) {
	root := t.TempDir()
	home := filepath.Join(root, "home", "u")
	want := []string{
		program(t, filepath.Join(root, "usr", "bin", "blender"), 0o755),
		program(t, filepath.Join(root, "opt", "blender-5.0.1-linux-x64", "blender"), 0o755),
		program(t, filepath.Join(root, "opt", "blender-4.5.4-linux-x64", "blender"), 0o755),
		program(t, filepath.Join(home, "blender-4.2", "blender"), 0o755),
	}
	program(t, filepath.Join(home, "blender-text", "blender"), 0o644)
	if err := os.Symlink("blender-5.0.1-linux-x64", filepath.Join(root, "opt", "blender")); err != nil {
		t.Fatal(err)
	}
	if got := find(root, "linux", home, ""); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	mac := program(t, filepath.Join(root, "Applications", "Blender 4.5.app", "Contents", "MacOS", "Blender"), 0o755)
	if got := find(root, "darwin", home, ""); !slices.Equal(got, []string{mac}) {
		t.Errorf("%q", got)
	}
	files := filepath.Join(root, "Program Files")
	win := program(t, filepath.Join(files, "Blender Foundation", "Blender 4.5", "blender.exe"), 0o644)
	if got := find(root, "windows", home, files); !slices.Equal(got, []string{win}) {
		t.Errorf("%q", got)
	}
	if got := Resolve(filepath.Dir(want[1])); got != want[1] {
		t.Error(got)
	}
	python := program(t, filepath.Join(home, "env", "bin", "python"), 0o755)
	if got := Resolve(filepath.Join(home, "env")); got != python {
		t.Error(got)
	}
}

func TestShelf(t *testing.T) {
	s := OpenShelf(filepath.Join(t.TempDir(), "blenders"))
	if e, err := s.Entries(); err != nil || len(e) != 0 {
		t.Fatal(e, err)
	}
	for _, p := range []string{"/b/blender", "/a/python", "/b/blender"} {
		if err := s.Add(Entry{p}); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := s.Entries(); err != nil || !slices.Equal(e, []Entry{{"/a/python"}, {"/b/blender"}}) {
		t.Fatal(e, err)
	}
	if err := s.Remove("/a/python"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("/a/python"); err == nil {
		t.Error("removed twice")
	}
	if err := os.WriteFile(filepath.Join(s.dir, "added-x.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Entries(); err == nil {
		t.Error("a damaged entry is read")
	}
}
