package blender

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"idlewild/internal/tail"
)

// program is one Blender of this machine: the program itself, or a Python whose
// environment has the package bpy.
type program struct {
	name string // as it was named
	path string // that is executed; empty: it cannot be
	gone error  // why not
	// python says that path is a Python: launch.py makes a Blender of it.
	python bool

	mu       sync.Mutex // held while it is asked
	probed   *probe     // of the program as it is now
	failed   error      // what asking came to, for asked
	asked    string
	specimen string // path of an empty file that it saved
	retried  bool   // engines that failed, by this process
}

// newProgram resolves a name to what is executed.
func newProgram(name string) *program {
	p := &program{name: name}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		p.gone = fmt.Errorf("%w: %q cannot be executed: %w", ErrNoBlender, name, err)
		return p
	}
	p.python = isPython(path)
	// Blender finds its files beside its program, and a sandbox shows the
	// folder that they are in. A Python finds its environment beside the link.
	if real, err := filepath.EvalSymlinks(path); err == nil && !p.python {
		path = real
	}
	p.path = path
	return p
}

// isPython tells a Python from a Blender by its name: python3, python3.11,
// python.exe.
func isPython(path string) bool {
	return strings.HasPrefix(strings.ToLower(filepath.Base(path)), "python")
}

// stamp is what tells one Blender from another before it was asked.
func (p *program) stamp() string {
	s, err := fileStamp(p.path)
	if err != nil {
		return p.path
	}
	return s
}

func fileStamp(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d", path, st.Size(), st.ModTime().UnixNano()), nil
}

// arguments are Blender's args as this program takes them; runner is where it
// sees the runner's files.
func (p *program) arguments(runner string, args ...string) []string {
	if !p.python {
		return args
	}
	// Isolated: neither the owner's packages nor the current folder.
	return append([]string{"-I", "-B", runner + "/launch.py"}, args...)
}

// needs are the folders that the program itself reads, beyond the system's.
func (p *program) needs(found *probe) []string {
	folders := []string{filepath.Dir(p.path)}
	if p.python {
		folders = nil
		if found != nil {
			folders = found.Folders
		}
	}
	var out []string
	for _, dir := range folders {
		if dir != "/usr" && !strings.HasPrefix(dir, "/usr/") {
			out = append(out, dir)
		}
	}
	return out
}

// hidden reports a folder that tasks would see and may not, because it holds one
// of the owner's.
func hidden(needs, private []string) error {
	for _, dir := range needs {
		for _, p := range private {
			rel, err := filepath.Rel(dir, p)
			if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
				return fmt.Errorf("its folder %s holds %s, which tasks may not see: move it into a folder of its own", dir, p)
			}
		}
	}
	return nil
}

// run runs a program once to its end, with a script of the runner, and returns
// the end of its log.
func (k *Kind) run(ctx context.Context, p *program, work string, args ...string) ([]byte, error) {
	return k.watched(ctx, p, work, nil, io.Discard, args...)
}

// watched is run with more in the environment, and with all of the log going
// to watch as well.
func (k *Kind) watched(ctx context.Context, p *program, work string, env []string, watch io.Writer, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.path, p.arguments(k.runner, args...)...)
	cmd.Env = append(expand(k.environment(""), work), env...)
	cmd.Dir = work
	log := tail.Writer{Keep: tailBytes}
	out := io.MultiWriter(&log, watch) // one writer for both: they are read by one goroutine
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return log.Bytes(), err
}

// maxPrograms bounds how many Blenders one machine offers: each is asked, and
// its facts stand in what peers are told.
const maxPrograms = 32

// programs resolves the names, each program once. An empty main name stands
// for "blender" on PATH, which need not be there if there are others.
func programs(main string, more []string) ([]*program, error) {
	var out []*program
	seen := map[string]bool{}
	add := func(p *program) {
		if p.path != "" && seen[p.path] || len(out) == maxPrograms {
			return
		}
		seen[p.path] = true
		out = append(out, p)
	}
	if main != "" {
		add(newProgram(main))
	} else if p := newProgram("blender"); p.path != "" {
		add(p)
	}
	for _, name := range more {
		add(newProgram(name))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no program \"blender\" on PATH; install Blender %s or newer, or name one with: idlewild blender add PATH", ErrNoBlender, oldest)
	}
	if len(out) == 1 && out[0].path == "" {
		return nil, out[0].gone
	}
	return out, nil
}

// list returns the programs that there are now.
func (k *Kind) list() []*program {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.programs
}

// Add takes up a program more, as if it had been among Options.Programs.
func (k *Kind) Add(path string) error {
	p := newProgram(path)
	if p.path == "" {
		return p.gone
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, have := range k.programs {
		if have.path == p.path {
			return nil
		}
	}
	if len(k.programs) >= maxPrograms {
		return fmt.Errorf("this machine has %d Blenders already; idlewild blender remove PATH takes one off", maxPrograms)
	}
	k.programs = append(slices.Clip(k.programs), p)
	return nil
}

// Program is what is known of one Blender of this machine.
type Program struct {
	Path      string   `json:"path"`
	Python    bool     `json:"python,omitempty"` // a Python with the package bpy
	Version   string   `json:"version,omitempty"`
	Build     string   `json:"build,omitempty"` // version, commit and origin
	Engines   []string `json:"engines,omitempty"`
	Denoisers []string `json:"denoisers,omitempty"`
	Error     string   `json:"error,omitempty"` // why it does not work
}

// Programs lists this machine's Blenders in the order of their versions, those
// that do not work last, with the reason. The error is ctx's.
func (k *Kind) Programs(ctx context.Context) ([]Program, error) {
	var out []Program
	for _, p := range k.list() {
		found, err := k.ask(ctx, p)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			out = append(out, Program{Path: p.name, Python: p.python, Error: err.Error()})
			continue
		}
		out = append(out, Program{
			Path: p.path, Python: p.python, Version: found.Version, Build: found.Build,
			Engines: slices.Clone(found.Rendered), Denoisers: slices.Clone(found.Denoisers),
		})
	}
	slices.SortStableFunc(out, func(a, b Program) int {
		if (a.Error == "") != (b.Error == "") {
			return strings.Compare(a.Error, b.Error)
		}
		return compareVersions(a.Version, b.Version)
	})
	return out, nil
}

// able is a Blender of this machine that works.
type able struct {
	*program
	*probe
}

// ables asks every Blender of this machine, the first time, and returns those
// that work, one of each build, and what is wrong with the others. The error is
// ErrNoBlender, or that of the only one, or ctx's.
func (k *Kind) ables(ctx context.Context) (out []able, wrong []error, err error) {
	programs := k.list()
	if len(programs) == 0 {
		return nil, nil, k.absent
	}
	builds := map[string]bool{}
	for _, p := range programs {
		found, err := k.ask(ctx, p)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		switch {
		case err != nil:
			wrong = append(wrong, err)
		case !builds[found.Build]:
			builds[found.Build] = true
			out = append(out, able{p, found})
		}
	}
	if len(out) == 0 {
		return nil, nil, errors.Join(wrong...)
	}
	return out, wrong, nil
}

// pick returns the Blender of a build; an empty build is the first that there
// is, which then may not have been asked.
func (k *Kind) pick(ctx context.Context, build string) (able, error) {
	programs := k.list()
	if len(programs) == 0 {
		return able{}, k.absent
	}
	if p := programs[0]; build == "" && !p.python && p.path != "" {
		return able{p, nil}, nil
	}
	here, _, err := k.ables(ctx)
	if err != nil {
		return able{}, err
	}
	var have []string
	for _, a := range here {
		if build == "" || a.Build == build {
			return a, nil
		}
		have = append(have, a.Build)
	}
	return able{}, fmt.Errorf("Blender %s is not here any more, only %s", build, strings.Join(have, ", ")) //nolint:staticcheck // a name
}
