package onnx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// OldestLibrary is the first onnxruntime, as 1.MINOR, that has the interface
// this program is built for.
const OldestLibrary = 24

// Library is an onnxruntime on this machine.
type Library struct {
	Path    string // of the shared library
	Version string // as its file name says; may be empty
}

// names that the library has on this system.
func patterns() []string {
	switch runtime.GOOS {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		return []string{"libonnxruntime.*.dylib", "libonnxruntime.dylib"}
	}
	return []string{"libonnxruntime.so.*", "libonnxruntime.so"}
}

// librariesIn returns the libraries in a folder, the newest first. Those that are too
// old are left out and said.
func librariesIn(dir string) (found []Library, tooOld []string) {
	for _, p := range patterns() {
		files, _ := filepath.Glob(filepath.Join(dir, p)) // fails on a bad pattern only
		for _, f := range files {
			real, err := filepath.EvalSymlinks(f)
			if err != nil {
				continue
			}
			l := Library{Path: real, Version: versionOf(real)}
			if minor, ok := minorOf(l.Version); ok && minor < OldestLibrary {
				tooOld = append(tooOld, fmt.Sprintf("%s is onnxruntime %s, needs 1.%d or newer", f, l.Version, OldestLibrary))
				continue
			}
			if !slices.ContainsFunc(found, func(o Library) bool { return o.Path == real }) {
				found = append(found, l)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b Library) int {
		x, _ := minorOf(a.Version)
		y, _ := minorOf(b.Version)
		return y - x
	})
	return found, tooOld
}

// versionOf reads it off the library's name, or off that of the Python package
// around it.
func versionOf(file string) string {
	name := filepath.Base(file)
	for _, cut := range []string{"libonnxruntime.so.", "libonnxruntime."} {
		if v, ok := strings.CutPrefix(name, cut); ok {
			v = strings.TrimSuffix(v, ".dylib")
			if _, ok := minorOf(v); ok {
				return v
			}
		}
	}
	return ""
}

func minorOf(version string) (int, bool) {
	parts := strings.Split(version, ".")
	if len(parts) < 2 || parts[0] != "1" {
		return 0, false
	}
	n, err := strconv.Atoi(parts[1])
	return n, err == nil
}

// ErrNoLibrary is matched where there is no onnxruntime.
var ErrNoLibrary = errors.New("no onnxruntime here")

// Find looks for the library: named, where the machine's owner says which (a
// library, or a folder with one); else in the folders installed, in those of
// the system, and in the Python environments that are usual or in use.
func Find(named string, installed ...string) (Library, error) {
	if named != "" {
		fi, err := os.Stat(named)
		if err != nil {
			return Library{}, fmt.Errorf("onnx.library: %w", err)
		}
		if !fi.IsDir() {
			return Library{Path: named, Version: versionOf(named)}, nil
		}
		found, old := librariesIn(named)
		if len(found) == 0 {
			return Library{}, fmt.Errorf("%w: none in %s%s", ErrNoLibrary, named, because(old))
		}
		return found[0], nil
	}
	dirs := installed
	switch runtime.GOOS {
	case "windows":
	case "darwin":
		dirs = append(dirs, "/opt/homebrew/lib", "/usr/local/lib")
	default:
		dirs = append(dirs, "/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/"+gnuArch()+"-linux-gnu")
	}
	var pythons []string
	if v := os.Getenv("VIRTUAL_ENV"); v != "" {
		pythons = append(pythons, filepath.Join(v, "lib", "python3*", "site-packages"), filepath.Join(v, "Lib", "site-packages"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		pythons = append(pythons, filepath.Join(home, ".local", "lib", "python3*", "site-packages"))
	}
	pythons = append(pythons, "/usr/local/lib/python3*/*-packages", "/usr/lib/python3*/*-packages")
	for _, p := range pythons {
		more, _ := filepath.Glob(filepath.Join(p, "onnxruntime", "capi"))
		dirs = append(dirs, more...)
	}
	var old []string
	for _, d := range dirs {
		found, tooOld := librariesIn(d)
		if len(found) > 0 {
			return found[0], nil
		}
		old = append(old, tooOld...)
	}
	return Library{}, fmt.Errorf("%w%s; install one with: idlewild runtime add onnx", ErrNoLibrary, because(old))
}

func because(old []string) string {
	if len(old) == 0 {
		return ""
	}
	return " (" + strings.Join(old, "; ") + ")"
}

func gnuArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// Folders are what a process needs of the disk to load l: its own folder, and
// those of NVIDIA's packages beside it, with the search path they need.
func (l Library) Folders() (read []string, search string) {
	dir := filepath.Dir(l.Path)
	read = []string{dir}
	libs, _ := filepath.Glob(filepath.Join(dir, "..", "..", "nvidia", "*", "lib"))
	more, _ := filepath.Glob(filepath.Join(dir, "..", "..", "tensorrt_libs"))
	libs = append(libs, more...)
	for i := range libs {
		libs[i] = filepath.Clean(libs[i])
	}
	return append(read, libs...), strings.Join(append([]string{dir}, libs...), string(os.PathListSeparator))
}
