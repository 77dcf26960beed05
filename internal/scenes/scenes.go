// Package scenes makes .blend files for tests and benchmarks: of simulations
// that are not baked, of several views, of the sequencer's strips, of sequences of
// files. It renders them as anybody would, without a farm, for results to be held
// against.
package scenes

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed *.py
var scripts embed.FS

// ErrFluids is Make's where Blender cannot do it: Debian 13's 4.3.2, whose Python is
// newer than it was written for, ends itself when a fluid simulation begins.
var ErrFluids = errors.New("this Blender ends itself when a fluid simulation begins")

// Scripts writes the scripts into a folder.
func Scripts(dir string) error { return os.CopyFS(dir, scripts) }

// Program is a Blender: the program, or a Python that has the package bpy.
type Program struct {
	Path   string
	Python bool
}

// Make makes the scenes of a script: "bakes" with a folder and names, "views" and
// "strips" with a folder, "reads" with a file, a count of frames, and the size of
// pictures and of the fluid.
func (p Program) Make(ctx context.Context, script string, args ...string) error {
	dir, err := os.MkdirTemp("", "scenes-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := Scripts(dir); err != nil {
		return err
	}
	if err := p.run(ctx, p.script(filepath.Join(dir, script+".py"), args)...); err != nil {
		return fmt.Errorf("make the scenes of %s: %w", script, err)
	}
	return nil
}

// Render is what is asked of plain Blender.
type Render struct {
	File    string
	Frames  []int
	To      string // a folder; files are named by four digits
	Bake    bool   // everything, first
	Threads int    // of the program; 0: all cores
}

// Render renders frames: the program by its command line, where that can say it.
func (p Program) Render(ctx context.Context, r Render) error {
	if !p.Python && !r.Bake {
		args := []string{"-b", "-Y", "--factory-startup", r.File}
		if r.Threads > 0 {
			args = append(args, "-t", fmt.Sprint(r.Threads))
		}
		frames := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(r.Frames)), ","), "[]")
		return p.run(ctx, append(args, "-o", filepath.Join(r.To, "####"), "-f", frames)...)
	}
	b, err := json.Marshal(map[string]any{"file": r.File, "frames": r.Frames, "to": r.To, "bake": r.Bake})
	if err != nil {
		return err
	}
	return p.Make(ctx, "frames", string(b))
}

// script is the command line for a script.
func (p Program) script(path string, args []string) []string {
	if p.Python {
		return append([]string{"-I", path, "--"}, args...)
	}
	return append([]string{"-b", "-Y", "--factory-startup", "--python-exit-code", "9", "-P", path, "--"}, args...)
}

// run runs the program, whose last words are in its error.
func (p Program) run(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, p.Path, args...).CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	if bytes.Contains(out, []byte("PyImport_AppendInittab() may not be called after Py_Initialize()")) {
		return ErrFluids
	}
	return fmt.Errorf("%s: %w\n%s", filepath.Base(p.Path), err, out[max(0, len(out)-2000):])
}
