package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"idlewild/diffupload/blendfile"
)

func init() {
	benchmarks["blend"] = benchmark{"what Blender shows and renders of canonical .blend files, against the originals", blend}
}

//go:embed blend/*.py
var blendScripts embed.FS

// blend opens each file and its canonical form in each Blender and compares
// what Blender sees, evaluates, saves again and renders. Without files it makes
// scenes that together have every kind of data, in each Blender.
func blend(ctx context.Context, args []string) ([]Figure, error) {
	flags := flag.NewFlagSet("blend", flag.ContinueOnError)
	var programs []string
	flags.Func("program", "a Blender executable (again for more; default: blender on PATH)", func(s string) error { programs = append(programs, "blender:"+s); return nil })
	flags.Func("python", "a Python that has the bpy package (again for more)", func(s string) error { programs = append(programs, "python:"+s); return nil })
	work := flags.String("dir", "", "work in this folder and keep it (default: a temporary one)")
	own := flags.Bool("own", false, "the files are ours: run their scripts, render all their scenes")
	jobs := flags.Int("jobs", runtime.NumCPU(), "files at a time")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if len(programs) == 0 {
		programs = []string{"blender:blender"}
	}
	b, err := newBlendBench(*work)
	if err != nil {
		return nil, err
	}
	if *work == "" {
		defer os.RemoveAll(b.dir)
	}
	b.jobs = max(1, *jobs)
	for _, p := range programs {
		if err := b.addProgram(ctx, p); err != nil {
			return nil, err
		}
	}
	files := flags.Args()
	ours := *own
	if len(files) == 0 {
		ours = true
		if files, err = b.make(ctx); err != nil {
			return nil, err
		}
	}
	results, err := b.compare(ctx, files, ours)
	if err != nil {
		return nil, err
	}
	b.print(results)
	return blendFigures(results), nil
}

// program is one Blender, either an executable or a Python package.
type program struct {
	path    string
	module  bool   // path is a Python whose bpy package is the Blender
	name    string // its version, as it says it: "4.2.23 LTS"
	version int    // 402 for 4.2
}

// command returns the run of one of our scripts. An executable opens file, if
// there is one, the way a worker's does.
func (p program) command(ctx context.Context, script, file string, trusted bool, args ...string) *exec.Cmd {
	if p.module {
		return exec.CommandContext(ctx, p.path, append([]string{"-B", script}, args...)...)
	}
	all := []string{"-b", "-Y", "--factory-startup", "--python-exit-code", "9"}
	if trusted {
		all[1] = "-y"
	}
	if file != "" {
		all = append(all, file)
	}
	return exec.CommandContext(ctx, p.path, append(append(all, "-P", script, "--"), args...)...)
}

// blendBench is one run of the benchmark.
type blendBench struct {
	dir      string // all of it
	scripts  string
	programs []program
	jobs     int
}

func newBlendBench(dir string) (*blendBench, error) {
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "idlewild-blend-")
	} else if dir, err = filepath.Abs(dir); err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	b := &blendBench{dir: dir, scripts: filepath.Join(dir, "scripts"), jobs: 1}
	scripts, err := fs.Sub(blendScripts, "blend")
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(b.scripts); err != nil {
		return nil, err
	}
	if err := os.CopyFS(b.scripts, scripts); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *blendBench) addProgram(ctx context.Context, kind string) error {
	kind, path, _ := strings.Cut(kind, ":")
	p := program{path: path, module: kind == "python"}
	script := filepath.Join(b.dir, "version.py")
	if err := os.WriteFile(script, []byte("import bpy, sys\nopen(sys.argv[-1], 'w').write('%s|%d' % (bpy.app.version_string, bpy.app.version[0] * 100 + bpy.app.version[1]))\n"), 0o600); err != nil {
		return err
	}
	answer := filepath.Join(b.dir, "version.txt")
	out, runErr := p.command(ctx, script, "", false, answer).CombinedOutput()
	said, err := os.ReadFile(answer)
	if err != nil {
		return fmt.Errorf("%s is no Blender that runs: %w\n%s", path, errors.Join(runErr, err), tail(out, 2000))
	}
	os.Remove(answer)
	name, number, _ := strings.Cut(string(said), "|")
	p.name = name
	if _, err := fmt.Sscan(number, &p.version); err != nil {
		return fmt.Errorf("%s says it is version %q", path, said)
	}
	b.programs = append(b.programs, p)
	return nil
}

// made is what scenes.py says of the scenes that it made.
type made struct {
	Version string `json:"version"`
	Scenes  []struct {
		Name    string            `json:"name"`
		Steps   []string          `json:"steps"`
		Missing map[string]string `json:"missing"`
	} `json:"scenes"`
}

// make makes the scenes in every program. What a program cannot make is said,
// and is no error.
func (b *blendBench) make(ctx context.Context) ([]string, error) {
	var files []string
	for _, p := range b.programs {
		dir := filepath.Join(b.dir, "made", fmt.Sprint(p.version))
		m, err := b.makeWith(ctx, p, dir)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "made %d scenes with %s\n", len(m.Scenes), p.name)
		for _, s := range m.Scenes {
			for step, why := range s.Missing {
				fmt.Fprintf(os.Stderr, "  %s without %s: %s\n", s.Name, step, why)
			}
		}
		found, err := filepath.Glob(filepath.Join(dir, "*.blend"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// makeWith makes the scenes that are named, or all. It begins again where a
// scene has taken Blender down, behind that scene's last save.
func (b *blendBench) makeWith(ctx context.Context, p program, dir string, names ...string) (made, error) {
	var m made
	for {
		before := len(m.Scenes)
		out, runErr := p.command(ctx, filepath.Join(b.scripts, "scenes.py"), "", true, append([]string{dir}, names...)...).CombinedOutput()
		report, err := os.ReadFile(filepath.Join(dir, "made.json"))
		if err == nil {
			err = json.Unmarshal(report, &m)
		}
		if err != nil {
			return m, fmt.Errorf("%s made no scenes: %w\n%s", p.name, errors.Join(runErr, err), tail(out, 2000))
		}
		if runErr == nil || len(m.Scenes) == before || ctx.Err() != nil {
			return m, ctx.Err()
		}
	}
}

// project is a folder with .blend files, copied twice: as it is, and with every
// .blend in its canonical form, so that libraries are canonical too.
type project struct {
	original, canonical string
	failed              map[string]error // files that could not be made canonical
}

func (b *blendBench) project(ctx context.Context, number int, dir string) (project, error) {
	p := project{
		original:  filepath.Join(b.dir, "files", fmt.Sprint(number), "original"),
		canonical: filepath.Join(b.dir, "files", fmt.Sprint(number), "canonical"),
		failed:    map[string]error{},
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return p, err
	}
	for _, d := range []string{p.original, p.canonical} {
		if err := os.RemoveAll(d); err != nil {
			return p, err
		}
		if err := os.MkdirAll(d, 0o700); err != nil {
			return p, err
		}
	}
	for _, e := range entries {
		from := filepath.Join(dir, e.Name())
		if filepath.Ext(e.Name()) != ".blend" {
			for _, d := range []string{p.original, p.canonical} {
				if err := os.Symlink(from, filepath.Join(d, e.Name())); err != nil {
					return p, err
				}
			}
			continue
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return p, err
		}
		if err := os.WriteFile(filepath.Join(p.original, e.Name()), content, 0o600); err != nil {
			return p, err
		}
		if err := makeCanonical(ctx, from, filepath.Join(p.canonical, e.Name())); err != nil {
			p.failed[e.Name()] = err
		}
	}
	return p, nil
}

// makeCanonical writes the canonical form of in to out.
func makeCanonical(ctx context.Context, in, out string) error {
	f, err := os.Open(in)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	pieces, _, err := blendfile.Canonical(ctx, f, st.Size(), blendfile.Options{})
	if err != nil {
		return fmt.Errorf("make %s canonical: %w", filepath.Base(in), err)
	}
	w, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	for p, err := range pieces {
		if err == nil {
			_, err = w.Write(p.Data)
		}
		if err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

// compare compares every file in every program that is at least as new as it.
func (b *blendBench) compare(ctx context.Context, files []string, ours bool) ([]blendResult, error) {
	projects := map[string]project{}
	var results []blendResult
	for _, f := range files {
		f, err := filepath.Abs(f)
		if err != nil {
			return nil, err
		}
		dir, name := filepath.Split(f)
		if _, ok := projects[dir]; !ok {
			if projects[dir], err = b.project(ctx, len(projects), dir); err != nil {
				return nil, err
			}
		}
		p := projects[dir]
		info, err := blendfile.Check(f)
		if err != nil {
			return nil, err
		}
		r := blendResult{file: f, version: info.Version, original: filepath.Join(p.original, name), canonical: filepath.Join(p.canonical, name)}
		if r.err = p.failed[name]; r.err == nil {
			r.graph, r.err = compareGraphs(r.original, r.canonical)
		}
		for _, program := range b.programs {
			r := r
			r.program = program
			r.dir = filepath.Join(b.dir, "looks", fmt.Sprintf("%s-%d-%d", strings.TrimSuffix(name, ".blend"), len(results), program.version))
			if program.version >= info.Version || program.version/100 >= info.Version/100 {
				results = append(results, r)
			}
		}
	}
	var wait sync.WaitGroup
	var said sync.Mutex
	next := make(chan int)
	for range b.jobs {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range next {
				r := &results[i]
				if r.err == nil {
					b.look(ctx, r, ours)
				}
				said.Lock()
				fmt.Fprintf(os.Stderr, "%d/%d %s\n%s", i+1, len(results), r.line(), r.details())
				said.Unlock()
			}
		}()
	}
	for i := range results {
		next <- i
	}
	close(next)
	wait.Wait()
	return results, ctx.Err()
}

// look opens the original twice and the canonical form once, each in a fresh
// Blender, and compares.
func (b *blendBench) look(ctx context.Context, r *blendResult, ours bool) {
	var looks [3]look
	for i, name := range []string{"first", "again"} {
		looks[i] = b.lookAt(ctx, r.program, r.original, filepath.Join(r.dir, name), ours, nil)
	}
	looks[2] = b.lookAt(ctx, r.program, r.canonical, filepath.Join(r.dir, "canonical"), ours, looks[0].done)
	r.judge(looks[0], looks[1], looks[2], func() look {
		return b.lookAt(ctx, r.program, r.canonical, filepath.Join(r.dir, "canonical again"), ours, looks[0].done)
	})
}

// look is what one opening of a file wrote.
type look struct {
	dir  string
	done map[string]any
	err  error
	log  []byte
}

// has says whether a part was reached.
func (l look) has(part string) bool { return l.done[part] == true }

// lookAt looks at a file. Where it is canonical, original is what was done with
// the original: it names the scene and view layer of its window.
func (b *blendBench) lookAt(ctx context.Context, p program, file, dir string, ours bool, original map[string]any) look {
	l := look{dir: dir}
	if l.err = os.RemoveAll(dir); l.err != nil {
		return l
	}
	asked := map[string]any{"file": file, "out": dir, "own": ours, "save": true, "evaluate": true, "render": true}
	if original["open"] == true {
		asked["scene"], asked["view_layer"] = original["scene"], original["view_layer"]
	}
	request, err := json.Marshal(asked)
	if err != nil {
		l.err = err
		return l
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	l.log, l.err = p.command(ctx, filepath.Join(b.scripts, "look.py"), file, ours, string(request)).CombinedOutput()
	if said, err := os.ReadFile(filepath.Join(dir, "done.json")); err == nil {
		if err := json.Unmarshal(said, &l.done); err != nil && l.err == nil {
			l.err = err
		}
	}
	if l.err != nil && errors.Is(os.MkdirAll(dir, 0o700), nil) {
		os.WriteFile(filepath.Join(dir, "log.txt"), l.log, 0o600) // for the reader; its absence changes no verdict
	}
	return l
}

func tail(b []byte, n int) []byte { return bytes.TrimSpace(b[max(0, len(b)-n):]) }
