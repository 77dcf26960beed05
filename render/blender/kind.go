package blender

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"idlewild/job"
)

// Name is the kind's name in a job.Spec and a job.Task.
const Name job.Kind = "blender"

// OnPath is what Blender is called on PATH.
const OnPath = "blender"

//go:embed all:runner
var runnerFiles embed.FS

// Options of New; the zero value works.
type Options struct {
	// Blender is the path of a program, or of a Python with the package bpy;
	// empty finds "blender" on PATH.
	Blender string
	// Programs are the paths of more of them: other versions.
	Programs []string
	// Threads that a Blender on the CPU uses; 0 takes every core.
	Threads int
	// Scratch is a folder for the runner's files and the probe's memory;
	// empty takes one in the user's cache.
	Scratch string
	// Private are folders, beside the user's home, that no task may see: a
	// Blender in a folder around one of them is not used.
	Private []string
	// Env is added to the otherwise cleared environment of every Blender,
	// for example CYCLES_CPU_NO_AVX2=1 or OCIO.
	Env []string
	// MemoryBytes is the size at which a warm Blender is recycled; 0: never.
	MemoryBytes int64
	// StartTimeout is how long a Blender may take to open a file; 0: 5 min.
	StartTimeout time.Duration
	// Timeout of a task that names none; 0: 6 h.
	Timeout time.Duration
	// Roots say which files may leave this machine with a job.
	Roots Roots
	// Disks are where files are looked for that a .blend names by the path of another
	// machine.
	Disks []Disk
	// Outline is a hash of a .blend that stays as it is while nothing changes
	// that a look at the file could find. nil: Blender opens it every time.
	Outline func(ctx context.Context, path string) ([sha256.Size]byte, error)
	// Compare finds what two versions of a .blend differ in, given by path. nil:
	// after an edit all frames are rendered again.
	Compare func(ctx context.Context, was, now string) (Difference, error)
	// Enlarger makes frames larger. nil: nothing does.
	Enlarger Enlarger
	Log      *slog.Logger // nil: silent
}

// Disk is a disk that several machines have.
type Disk struct {
	From string `json:"from"` // its name, a path of any system
	To   string `json:"to"`   // the folder where it is on this machine
}

// Kind plans Blender jobs and runs their tasks. It implements render.Kind and
// dispatch.Kind and is safe for concurrent use.
type Kind struct {
	opts     Options
	mu       sync.Mutex
	programs []*program // replaced, never changed; guarded by mu
	absent   error      // why there is none
	runner   string     // folder of the runner's files
	runners  string     // hash over them
	prober   string     // how a Blender is asked, see proberName
	drivers  string     // of this machine when the process began
	looks    looks
}

// ErrNoBlender is matched by every error of a Kind that has no Blender.
var ErrNoBlender = errors.New("no Blender here")

// New makes a Kind. A missing Blender is no error yet: Probe, Inspect and
// Session report it, so that a machine without one can still do other work.
func New(opts Options) (*Kind, error) {
	if opts.StartTimeout == 0 {
		opts.StartTimeout = 5 * time.Minute
	}
	if opts.Timeout == 0 {
		opts.Timeout = 6 * time.Hour
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Scratch == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("a folder for the Blender runner: %w", err)
		}
		opts.Scratch = filepath.Join(cache, "idlewild", "blender")
	}
	k := &Kind{opts: opts, drivers: drivers()}
	k.programs, k.absent = programs(opts.Blender, opts.Programs)
	if err := k.unpack(); err != nil {
		return nil, fmt.Errorf("unpack the Blender runner: %w", err)
	}
	var err error
	if k.prober, err = proberName(); err != nil {
		return nil, fmt.Errorf("read the Blender runner: %w", err)
	}
	return k, nil
}

// unpack writes the runner's files into a folder named for their hash, so that
// another version of this program beside it never sees ours.
func (k *Kind) unpack() error {
	h := sha256.New()
	err := fs.WalkDir(runnerFiles, "runner", func(name string, d fs.DirEntry, err error) error {
		if err != nil || skip(name, d) {
			return skipped(d, err)
		}
		b, err := runnerFiles.ReadFile(name)
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(b))
		h.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	k.runners = hex.EncodeToString(h.Sum(nil))
	k.runner = filepath.Join(k.opts.Scratch, "runner-"+k.runners[:16])
	if sameFiles(k.runner) {
		return nil
	}
	if err := os.MkdirAll(k.opts.Scratch, 0o700); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(k.opts.Scratch, "runner-new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	err = fs.WalkDir(runnerFiles, "runner", func(name string, d fs.DirEntry, err error) error {
		if err != nil || skip(name, d) {
			return skipped(d, err)
		}
		b, err := runnerFiles.ReadFile(name)
		if err != nil {
			return err
		}
		to := filepath.Join(tmp, filepath.FromSlash(strings.TrimPrefix(name, "runner/")))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := os.Rename(tmp, k.runner); err != nil {
		if sameFiles(k.runner) {
			return nil // another process was faster
		}
		if err := os.RemoveAll(k.runner); err != nil { // was damaged
			return err
		}
		return os.Rename(tmp, k.runner)
	}
	return nil
}

// skip says that an embedded entry is no part of the runner: Python's own
// caches, which `all:` takes along when somebody ran the files in place.
func skip(name string, d fs.DirEntry) bool {
	return d.IsDir() || strings.Contains(name, "__pycache__") || !strings.HasSuffix(name, ".py")
}

func skipped(d fs.DirEntry, err error) error {
	if err == nil && d.IsDir() && d.Name() == "__pycache__" {
		return fs.SkipDir
	}
	return err
}

// sameFiles reports whether dir holds the runner's files, unchanged.
func sameFiles(dir string) bool {
	err := fs.WalkDir(runnerFiles, "runner", func(name string, d fs.DirEntry, err error) error {
		if err != nil || skip(name, d) {
			return skipped(d, err)
		}
		want, err := runnerFiles.ReadFile(name)
		if err != nil {
			return err
		}
		have, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(name, "runner/"))))
		if err != nil {
			return err
		}
		if string(have) != string(want) {
			return fmt.Errorf("%s differs", name)
		}
		return nil
	})
	return err == nil
}

// expand replaces the tokens of an environment for a process outside any
// session, which has one folder for everything.
func expand(env []string, work string) []string {
	r := strings.NewReplacer("{work}", work, "{in}", work)
	out := make([]string, len(env))
	for i, e := range env {
		out[i] = r.Replace(e)
	}
	return out
}

// tailBytes are kept of what a Blender outside of a session prints.
const tailBytes = 32 << 10

// lastLines is the end of a log for a message to people.
func lastLines(log []byte, n int) string {
	var keep []string
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	for i := len(lines) - 1; i >= 0 && len(keep) < n; i-- {
		if l := strings.TrimSpace(lines[i]); l != "" {
			keep = append([]string{l}, keep...)
		}
	}
	return strings.Join(keep, "\n")
}
