package node

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"idlewild/job"
	"idlewild/render/ai"
	"idlewild/render/ai/llm"
)

// llama.cpp publishes no package with its server, so it is built from the source
// that the Python package llama-cpp-python brings, in this version of it.
const (
	llamaPackage = "llama-cpp-python"
	llamaPinned  = "0.3.36"
	llamaSHA256  = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
)

// installedServers are the folders of servers that were added, the oldest first.
func installedServers(dataDir string) []string {
	dirs, _ := filepath.Glob(filepath.Join(runtimesDir(dataDir), "llm-*")) // fails on a bad pattern only
	slices.Sort(dirs)
	return dirs
}

// FindLLM says which llama.cpp this machine uses, or why none.
func FindLLM(ctx context.Context, cfg Config, log *slog.Logger) (Runtime, error) {
	exe, err := os.Executable()
	if err != nil {
		return Runtime{}, err
	}
	k := ai.New(ai.Options{Exe: exe, Server: cfg.LLM.Server, Servers: installedServers(cfg.DataDir), Log: log})
	path, version, err := k.LLM(ctx)
	r := Runtime{Name: "llm", Path: path, Version: version}
	if err != nil {
		r.Error = err.Error()
	}
	return r, nil
}

// AddLLM builds llama.cpp's server for this machine's CPU and installs it below
// the data folder: from source, a .tar.gz of the package, or where that is empty
// from the package index that pip is set up for, in the pinned version and held to
// its hash. What the build says goes to say, line by line.
func AddLLM(ctx context.Context, cfg Config, source string, say io.Writer) (Runtime, error) {
	for _, tool := range []string{"cmake", "c++"} {
		if _, err := exec.LookPath(tool); err != nil {
			return Runtime{}, job.Refuse(tool, "is not installed, and llama.cpp is built with it", "install cmake and a C++ compiler, or set llm.server to a llama-server that you have")
		}
	}
	if err := os.MkdirAll(runtimesDir(cfg.DataDir), 0o700); err != nil {
		return Runtime{}, err
	}
	dir, err := os.MkdirTemp(runtimesDir(cfg.DataDir), ".add-*")
	if err != nil {
		return Runtime{}, err
	}
	defer os.RemoveAll(dir)
	if source == "" {
		if source, err = pipDownload(ctx, dir, llamaPackage, llamaPinned, llamaSHA256, "*.tar.gz", "--no-binary=:all:"); err != nil {
			return Runtime{}, err
		}
	}
	tree := filepath.Join(dir, "source")
	if err := unpackVendored(ctx, source, tree); err != nil {
		return Runtime{}, err
	}
	build := filepath.Join(dir, "build")
	configure := []string{"-S", tree, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF",
		"-DLLAMA_OPENSSL=OFF", "-DLLAMA_SUBPROCESS=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF",
		"-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DGGML_OPENMP=OFF", "-DGGML_CCACHE=OFF"}
	make := []string{"--build", build, "--target", llm.Program, "--parallel", strconv.Itoa(runtime.NumCPU())}
	for _, args := range [][]string{configure, make} {
		var last lastLines
		cmd := exec.CommandContext(ctx, "cmake", args...)
		cmd.Stdout, cmd.Stderr = io.MultiWriter(say, &last), io.MultiWriter(say, &last)
		if err := cmd.Run(); err != nil {
			if ctx.Err() != nil {
				return Runtime{}, ctx.Err()
			}
			return Runtime{}, fmt.Errorf("build llama.cpp: %w: %s", err, last.text())
		}
	}
	server, err := llm.Find(filepath.Join(build, "bin"))
	if err != nil {
		return Runtime{}, fmt.Errorf("build llama.cpp: %w", err)
	}
	done := filepath.Join(dir, "done")
	if err := os.Mkdir(done, 0o755); err != nil { // a sandboxed process is another user
		return Runtime{}, err
	}
	if err := os.Rename(server, filepath.Join(done, filepath.Base(server))); err != nil {
		return Runtime{}, err
	}
	if err := putRuntime(done, cfg, "llm-"+llamaPinned); err != nil {
		return Runtime{}, err
	}
	r, err := FindLLM(ctx, cfg, nil)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

// Bounds of the package's source.
const (
	maxSourceFiles = 1 << 16
	maxSourceBytes = 1 << 30
	vendored       = "/vendor/llama.cpp/"
)

// unpackVendored unpacks llama.cpp out of the package's source.
func unpackVendored(ctx context.Context, file, to string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	refuse := func(why string) error {
		return job.Refuse(file, why, "name the .tar.gz of "+llamaPackage+" "+llamaPinned)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return refuse("is no .tar.gz: " + err.Error())
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	var total int64
	files := 0
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return refuse("is damaged: " + err.Error())
		}
		_, name, ours := strings.Cut(h.Name, vendored)
		if !ours || h.Typeflag != tar.TypeReg {
			continue
		}
		if files, total = files+1, total+h.Size; files > maxSourceFiles || total > maxSourceBytes || h.Size < 0 {
			return refuse("is larger than the package is")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := unpackOne(root, filepath.FromSlash(name), r); err != nil {
			return err
		}
	}
	if files == 0 {
		return refuse("has no source of llama.cpp in it")
	}
	return nil
}

func unpackOne(root *os.Root, name string, from io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	w, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, from)
	return errors.Join(err, w.Close())
}

// lastLines keeps the end of what was written.
type lastLines struct{ b []byte }

func (l *lastLines) Write(b []byte) (int, error) {
	if l.b = append(l.b, b...); len(l.b) > 4<<10 {
		l.b = append([]byte(nil), l.b[len(l.b)-1<<10:]...)
	}
	return len(b), nil
}

func (l *lastLines) text() string {
	lines := strings.Split(strings.TrimSpace(string(l.b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " / ")
}
