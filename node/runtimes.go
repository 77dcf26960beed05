package node

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"idlewild/job"
	"idlewild/render/ai"
)

// onnxPinned is the version of onnxruntime that is installed, and onnxWheels
// the hashes of its Python packages, which carry the library, by system and
// processor. Other machines, and GPUs, use one that their owner installs.
const onnxPinned = "1.27.0"

var onnxWheels = map[string]struct{ platform, sha256 string }{
	"linux/amd64":   {"manylinux_2_27_x86_64", "7c65a7438632d55dfbc8a02ee60bd6cf7dd9d1ba05a43d4b851452f32338e194"},
	"linux/arm64":   {"manylinux_2_27_aarch64", "c6fddce0539a4898c7bef35b052ffd37935b2190e35488eab99ce91887743ea1"},
	"windows/amd64": {"win_amd64", "20c321cf187ba496e648acf6b4cf90b4d398b0d17c2a77fdaeba365b908cc1c1"},
	"darwin/arm64":  {"macosx_14_0_arm64", "a14c2ce45312def86b77aea651f46565e45960cf5f0721bfdff449165086ab76"},
}

// Runtime is what runs AI models here.
type Runtime struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Version string `json:"version,omitempty"`
	Error   string `json:"error,omitempty"` // why it is not used
}

// runtimesDir holds a folder for each.
func runtimesDir(dataDir string) string { return filepath.Join(dataDir, "runtimes") }

// installedRuntimes are the folders of those that were added.
func installedRuntimes(dataDir string) []string {
	dirs, _ := filepath.Glob(filepath.Join(runtimesDir(dataDir), "onnx-*")) // fails on a bad pattern only
	return dirs
}

// FindRuntime says which onnxruntime this machine uses, or why none, by
// loading it.
func FindRuntime(ctx context.Context, cfg Config, log *slog.Logger) (Runtime, error) {
	exe, err := os.Executable()
	if err != nil {
		return Runtime{}, err
	}
	k := ai.New(ai.Options{Exe: exe, Library: cfg.ONNX.Library, Installed: installedRuntimes(cfg.DataDir), Threads: 1, Log: log})
	path, build, err := k.Runtime(ctx)
	r := Runtime{Name: "onnx", Path: path, Version: strings.TrimPrefix(build, "onnxruntime ")}
	if err != nil {
		r.Error = err.Error()
	}
	return r, nil
}

// AddRuntime installs onnxruntime for this machine's CPU below the data
// folder: from wheel, the Python package's file, or where that is empty from
// the package index that pip is set up for, in the pinned version and held to
// its hash.
func AddRuntime(ctx context.Context, cfg Config, wheel string) (Runtime, error) {
	if wheel == "" {
		dir, err := os.MkdirTemp("", "idlewild-runtime-")
		if err != nil {
			return Runtime{}, err
		}
		defer os.RemoveAll(dir)
		if wheel, err = downloadWheel(ctx, dir); err != nil {
			return Runtime{}, err
		}
	}
	z, err := zip.OpenReader(wheel)
	if err != nil {
		return Runtime{}, job.Refuse(wheel, "is no Python package: "+rootCause(err), "name the .whl file of onnxruntime")
	}
	defer z.Close()
	version := onnxPinned
	if parts := strings.Split(filepath.Base(wheel), "-"); len(parts) > 2 {
		version = parts[1]
	}
	if err := os.MkdirAll(runtimesDir(cfg.DataDir), 0o700); err != nil {
		return Runtime{}, err
	}
	tmp, err := os.MkdirTemp(runtimesDir(cfg.DataDir), ".add-*")
	if err != nil {
		return Runtime{}, err
	}
	defer os.RemoveAll(tmp)
	found := 0
	for _, f := range z.File {
		name := path.Base(f.Name)
		if path.Base(path.Dir(f.Name)) != "capi" || !strings.Contains(name, "onnxruntime") || strings.Contains(name, "pybind") ||
			!(strings.Contains(name, ".so") || strings.HasSuffix(name, ".dll") || strings.HasSuffix(name, ".dylib")) {
			continue
		}
		if err := unzip(f, filepath.Join(tmp, name)); err != nil {
			return Runtime{}, err
		}
		found++
	}
	if found == 0 {
		return Runtime{}, job.Refuse(wheel, "has no library of onnxruntime in it", "name the .whl file of the package onnxruntime")
	}
	if err := os.Chmod(tmp, 0o755); err != nil { // a sandboxed process is another user
		return Runtime{}, err
	}
	if err := putRuntime(tmp, cfg, "onnx-"+version); err != nil {
		return Runtime{}, err
	}
	r, err := FindRuntime(ctx, cfg, nil)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

// putRuntime moves a folder to where the runtime of that name and version is
// looked for, in place of what was there.
func putRuntime(dir string, cfg Config, name string) error {
	at := filepath.Join(runtimesDir(cfg.DataDir), name)
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	return os.Rename(dir, at)
}

// maxLibrary bounds a file of a package.
const maxLibrary = 1 << 30

func unzip(f *zip.File, to string) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(r, maxLibrary+1))
	if err == nil && n > maxLibrary {
		err = fmt.Errorf("%s has more than %d bytes", f.Name, maxLibrary)
	}
	return errors.Join(err, w.Close())
}

// downloadWheel has pip fetch the package: it knows where from, through which
// proxy, and refuses what has another hash.
func downloadWheel(ctx context.Context, dir string) (string, error) {
	system := runtime.GOOS + "/" + runtime.GOARCH
	w, ok := onnxWheels[system]
	if !ok {
		return "", job.Refuse("onnx", "there is no package of it for "+system, "install onnxruntime yourself and set onnx.library")
	}
	return pipDownload(ctx, dir, "onnxruntime", onnxPinned, w.sha256, "*.whl",
		"--only-binary=:all:", "--python-version", "3.12", "--platform", w.platform)
}

// pipDownload fetches one package, in one version, held to its hash.
func pipDownload(ctx context.Context, dir, name, version, sha256, file string, args ...string) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if python, err = exec.LookPath("python"); err != nil {
			return "", job.Refuse("python3", "is not installed, and its pip fetches the package", fmt.Sprintf("install it, or fetch the package %s %s elsewhere and name its file", name, version))
		}
	}
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, fmt.Appendf(nil, "%s==%s --hash=sha256:%s\n", name, version, sha256), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, python, append([]string{"-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
		"--require-hashes", "--dest", dir, "--requirement", list}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("fetch %s %s: %w: %s", name, version, err, lines[len(lines)-1])
	}
	found, _ := filepath.Glob(filepath.Join(dir, file))
	if len(found) != 1 {
		return "", fmt.Errorf("fetch %s %s: pip left %d packages", name, version, len(found))
	}
	return found[0], nil
}
