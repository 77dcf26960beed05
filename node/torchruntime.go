package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/render/ai"
	"idlewild/render/ai/torch"
)

// torchLock are the packages of the environment, each in one version for each sort
// of machine and held to its hashes, as pip reads them. docs/decisions/0029 says how it is made.
//
//go:embed torchlock.txt
var torchLock string

// torchPinned is the version of PyTorch in it.
const torchPinned = "2.9.1"

// installedPythons are the environments that were made, the oldest first.
func installedPythons(dataDir string) []string {
	dirs, _ := filepath.Glob(filepath.Join(runtimesDir(dataDir), "torch-*")) // fails on a bad pattern only
	slices.Sort(dirs)
	return dirs
}

// FindTorch says which Python this machine uses for pipelines, or why none, by
// having it load PyTorch.
func FindTorch(ctx context.Context, cfg Config, log *slog.Logger) (Runtime, error) {
	exe, err := os.Executable()
	if err != nil {
		return Runtime{}, err
	}
	k := ai.New(ai.Options{Exe: exe, Python: cfg.Torch.Python, Pythons: installedPythons(cfg.DataDir), Log: log})
	path, build, on, err := k.Torch(ctx)
	r := Runtime{Name: "torch", Path: path, Version: build}
	if len(on) > 0 {
		r.Version += ", on " + strings.Join(on, " and ")
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r, nil
}

// lockedPackage is one of the lock: what pip is told of it.
type lockedPackage struct {
	name string // with its version
	text string
}

// stamp is what says that it was fetched.
func (p lockedPackage) stamp() string {
	return fmt.Sprintf(".have-%x", sha256.Sum256([]byte(p.text)))
}

func lockedPackages(lock string) (out []lockedPackage) {
	for line := range strings.Lines(lock) {
		if strings.HasPrefix(line, " ") && len(out) > 0 {
			out[len(out)-1].text += line
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "" && !strings.HasPrefix(name, "#") {
			out = append(out, lockedPackage{name: strings.Replace(name, "==", " ", 1), text: line})
		}
	}
	return out
}

// AddTorch makes a Python environment with PyTorch, transformers and diffusers
// below the data folder. pip fetches the packages from the index that it is set up
// for, in the versions of the lock and held to their hashes. What was fetched
// stays when it is interrupted, and is not fetched again. How far it is goes to
// say, line by line.
func AddTorch(ctx context.Context, cfg Config, say io.Writer) (Runtime, error) {
	return addTorch(ctx, cfg, lockedPackages(torchLock), say)
}

func addTorch(ctx context.Context, cfg Config, lock []lockedPackage, say io.Writer) (Runtime, error) {
	if err := os.MkdirAll(runtimesDir(cfg.DataDir), 0o700); err != nil {
		return Runtime{}, err
	}
	dir, err := os.MkdirTemp(runtimesDir(cfg.DataDir), ".add-*")
	if err != nil {
		return Runtime{}, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // a sandboxed process is another user
		return Runtime{}, err
	}
	python, err := newEnvironment(ctx, dir)
	if err != nil {
		return Runtime{}, err
	}
	wheels := filepath.Join(runtimesDir(cfg.DataDir), ".wheels-torch-"+torchPinned)
	if err := os.MkdirAll(wheels, 0o700); err != nil {
		return Runtime{}, err
	}
	for i, p := range lock {
		if _, err := os.Stat(filepath.Join(wheels, p.stamp())); err == nil {
			continue
		}
		fmt.Fprintf(say, "fetching package %d of %d: %s\n", i+1, len(lock), p.name)
		if err := fetchPackage(ctx, python, wheels, p, say); err != nil {
			return Runtime{}, err
		}
	}
	fmt.Fprintf(say, "installing %d packages\n", len(lock))
	list := filepath.Join(dir, "lock.txt")
	var text strings.Builder
	for _, p := range lock {
		text.WriteString(p.text)
	}
	if err := os.WriteFile(list, []byte(text.String()), 0o600); err != nil {
		return Runtime{}, err
	}
	if err := pip(ctx, python, say, "install", "--quiet", "--no-index", "--find-links", wheels, "--no-deps", "--require-hashes", "--requirement", list); err != nil {
		return Runtime{}, fmt.Errorf("install PyTorch: %w", err)
	}
	if err := putRuntime(dir, cfg, "torch-"+torchPinned); err != nil {
		return Runtime{}, err
	}
	r, err := FindTorch(ctx, cfg, nil)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return r, err
	}
	return r, os.RemoveAll(wheels)
}

// newEnvironment makes an empty environment and returns its Python.
func newEnvironment(ctx context.Context, dir string) (string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if python, err = exec.LookPath("python"); err != nil {
			return "", job.Refuse("python3", "is not installed, and PyTorch runs in it", "install Python 3.10 to 3.14, or set torch.python to one that has PyTorch")
		}
	}
	out, err := exec.CommandContext(ctx, python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		return "", fmt.Errorf("%s does not run: %w", python, err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "%d.%d", &major, &minor); err != nil || major != 3 || minor < 10 || minor > 14 {
		return "", job.Refuse(python, "is Python "+strings.TrimSpace(string(out))+", for which there is no PyTorch "+torchPinned, "put Python 3.10 to 3.14 first in PATH")
	}
	if out, err := exec.CommandContext(ctx, python, "-m", "venv", dir).CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if bytes.Contains(out, []byte("ensurepip")) {
			return "", job.Refuse(python, "makes no environments: its modules venv and ensurepip are missing", "install the package python3-venv")
		}
		return "", fmt.Errorf("make an environment with %s: %w: %s", python, err, lastOf(out))
	}
	return torch.Executable(dir), nil
}

// fetchPackage has pip fetch one package, unless it is for machines of another
// sort. Only a whole one is put to the others.
func fetchPackage(ctx context.Context, python, wheels string, p lockedPackage, say io.Writer) error {
	tmp, err := os.MkdirTemp(wheels, ".part-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	list := filepath.Join(tmp, "requirements.txt")
	if err := os.WriteFile(list, []byte(p.text), 0o600); err != nil {
		return err
	}
	got := filepath.Join(tmp, "got")
	if err := pip(ctx, python, say, "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", got, "--requirement", list); err != nil {
		return fmt.Errorf("fetch %s: %w; what is there already is kept: run it again", p.name, err)
	}
	found, err := os.ReadDir(got)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, f := range found {
		if err := os.Rename(filepath.Join(got, f.Name()), filepath.Join(wheels, f.Name())); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(wheels, p.stamp()), nil, 0o600)
}

// pip runs it; the error is what it said last.
func pip(ctx context.Context, python string, say io.Writer, args ...string) error {
	var last lastLines
	cmd := exec.CommandContext(ctx, python, append([]string{"-m", "pip", "--disable-pip-version-check", "--no-input"}, args...)...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(say, &last), io.MultiWriter(say, &last)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %s", err, last.text())
	}
	return nil
}

func lastOf(out []byte) string {
	var l lastLines
	_, _ = l.Write(out) // it keeps the end and never fails
	return l.text()
}
