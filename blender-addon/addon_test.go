package addon

import (
	"archive/zip"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// The zip holds every file of the folder and nothing that Python left there,
// and its bytes depend on nothing else.
func TestZip(t *testing.T) {
	r, err := zip.NewReader(bytes.NewReader(Zip()), int64(len(Zip())))
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, f := range r.File {
		have = append(have, f.Name)
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		if disk, err := os.ReadFile(filepath.FromSlash(f.Name)); err != nil || !bytes.Equal(b, disk) {
			t.Errorf("%s is not what lies on the disk: %v", f.Name, err)
		}
	}
	var want []string
	err = filepath.WalkDir(Module, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.Contains(p, "__pycache__") {
			want = append(want, filepath.ToSlash(p))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("zip has\n%q, the folder\n%q", have, want)
	}
	for _, must := range []string{"__init__.py", "blender_manifest.toml", "LICENSE.txt", "core/__init__.py", "shell/__init__.py"} {
		if !slices.Contains(have, Module+"/"+must) {
			t.Errorf("no %s in the zip", must)
		}
	}
	again, err := pack(files)
	if err != nil || !bytes.Equal(again, Zip()) {
		t.Errorf("packed again it has other bytes: %v", err)
	}
}

func TestZipLeavesOutWhatPythonLeft(t *testing.T) {
	f := fstest.MapFS{}
	for _, n := range []string{"a.py", "__pycache__/a.cpython-311.pyc", "core/b.py", ".mypy_cache/x.py", "core/.hidden/y.py", "notes.swp"} {
		f[Module+"/"+n] = &fstest.MapFile{Data: []byte(n)}
	}
	got, err := names(f)
	if want := []string{Module + "/a.py", Module + "/core/b.py"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}
