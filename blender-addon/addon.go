// Package addon holds the Blender add-on that goes with this program, and
// makes the zip that Blender installs.
//
// The add-on itself is Python, in idlewild_addon: core has no bpy and is tested
// in plain Python, shell is what Blender sees.
package addon

import (
	"archive/zip"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Module is the add-on's name in Blender.
const Module = "idlewild_addon"

// all: keeps __init__.py, and what Python leaves behind when the folder was
// imported from; that is sorted out below.
//
//go:embed all:idlewild_addon
var files embed.FS

// Version is that of the manifest.
func Version() string { return version() }

var versionLine = regexp.MustCompile(`(?m)^version = "([^"]+)"$`)

var version = sync.OnceValue(func() string {
	b, err := files.ReadFile(Module + "/blender_manifest.toml")
	if err != nil {
		panic(err) // it is in the program
	}
	m := versionLine.FindSubmatch(b)
	if m == nil {
		panic("the add-on's manifest has no version") // a test looks
	}
	return string(m[1])
})

// FileName is the base name of the zip.
func FileName() string { return Module + "-" + Version() + ".zip" }

// Zip is the add-on as Blender takes it, legacy add-on and extension in one:
// all files in one folder. The same program always makes the same bytes.
func Zip() []byte { return packed() }

var packed = sync.OnceValue(func() []byte {
	b, err := pack(files)
	if err != nil {
		panic(err) // it is in the program
	}
	return b
})

// names of the files that belong to the add-on.
func names(f fs.FS) ([]string, error) {
	var list []string
	err := fs.WalkDir(f, Module, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "__pycache__" || strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		switch path.Ext(p) {
		case ".py", ".toml", ".txt":
			list = append(list, p)
		}
		return nil
	})
	slices.Sort(list)
	return list, err
}

func pack(f fs.FS) ([]byte, error) {
	list, err := names(f)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, name := range list {
		b, err := fs.ReadFile(f, name)
		if err != nil {
			return nil, err
		}
		h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
		h.SetMode(0o644)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			return nil, fmt.Errorf("zip %s: %w", name, err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// InstallScript is what a Blender runs to take in a zip: see its first lines.
//
//go:embed install.py
var InstallScript []byte
