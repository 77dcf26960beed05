package render

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"idlewild/job"
	"idlewild/media"
)

// SabotageMode is a way to cheat.
type SabotageMode string

const (
	// HalfSamples runs less than was asked for and says nothing.
	HalfSamples SabotageMode = "half-samples"
	// Stale runs the first task of a job and delivers that one's outputs for
	// every later one.
	Stale SabotageMode = "stale"
	// LaterLayers runs the first layer of a picture as it should be and less than was
	// asked for of all others: of the second view, of other view layers.
	LaterLayers SabotageMode = "later-layers"
)

// Modes are the ways that there are.
var Modes = []SabotageMode{HalfSamples, Stale, LaterLayers}

// Saboteur is an Executor that cheats, for tests and for showing that cheats
// are found. It is never part of an honest worker's stack.
type Saboteur struct {
	Executor
	mode SabotageMode
	cut  func(job.Task) job.Task
	dir  string

	mu   sync.Mutex
	kept map[string]stale // by requester, kind and content
}

// stale is a result that is delivered again.
type stale struct {
	dir    string
	rules  []job.OutputRule
	result Result
}

// NewSaboteur returns a Saboteur. cheat makes a task cheaper to run and is
// needed but for Stale; dir is a folder for what is put away.
func NewSaboteur(e Executor, mode SabotageMode, cheat func(job.Task) job.Task, dir string) (*Saboteur, error) {
	switch {
	case !slices.Contains(Modes, mode):
		return nil, fmt.Errorf("saboteur: mode %q, there are %q", mode, Modes)
	case mode != Stale && cheat == nil:
		return nil, errors.New("saboteur: no way to make a task cheaper")
	case mode != HalfSamples && dir == "":
		return nil, errors.New("saboteur: no folder for what is put away")
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("saboteur: %w", err)
		}
	}
	return &Saboteur{Executor: e, mode: mode, cut: cheat, dir: dir, kept: make(map[string]stale)}, nil
}

// Execute implements Executor.
func (s *Saboteur) Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	switch s.mode {
	case HalfSamples:
		t.Task = s.cut(t.Task)
		return s.Executor.Execute(ctx, t, dirs, progress)
	case LaterLayers:
		return s.later(ctx, t, dirs, progress)
	}
	key := t.Requester + "\x00" + string(t.Kind) + "\x00" + t.Content
	s.mu.Lock()
	old, ok := s.kept[key]
	s.mu.Unlock()
	if ok && len(old.rules) == len(t.Outputs) {
		if err := s.deliver(old, t.Outputs, dirs.Out); err != nil {
			return Result{}.end(err, job.Broken)
		}
		return old.result
	}
	r := s.Executor.Execute(ctx, t, dirs, progress)
	if r.Outcome == job.Succeeded && !ok {
		if err := s.keep(key, t.Outputs, dirs.Out, r); err != nil {
			return Result{}.end(err, job.Broken)
		}
	}
	return r
}

// later runs the task as it should be, and once more cheaply, and mixes the two.
func (s *Saboteur) later(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	r := s.Executor.Execute(ctx, t, dirs, progress)
	cheap := t
	cheap.Task = s.cut(t.Task)
	if r.Outcome != job.Succeeded || string(cheap.Params) == string(t.Params) && cheap.Part == t.Part {
		return r
	}
	out, err := os.MkdirTemp(s.dir, "cheap-")
	if err != nil {
		return Result{}.end(err, job.Broken)
	}
	defer os.RemoveAll(out)
	at := dirs
	at.Out = out
	if c := s.Executor.Execute(ctx, cheap, at, progress); c.Outcome != job.Succeeded {
		return c
	}
	for _, o := range t.Outputs {
		if o.Media != job.MediaEXR {
			continue
		}
		if err := mix(filepath.Join(dirs.Out, filepath.FromSlash(o.Name)), filepath.Join(out, filepath.FromSlash(o.Name))); err != nil {
			return Result{}.end(err, job.Broken)
		}
	}
	return r
}

// mix gives a picture all layers but the first of another.
func mix(path, other string) error {
	m, err := media.DecodeFile(path, media.Limits{})
	if err != nil {
		return err
	}
	c, err := media.DecodeFile(other, media.Limits{})
	if err != nil {
		return err
	}
	first := m.Layers()[0]
	for i, ch := range m.Channels {
		layer, _, _ := media.Split(ch.Name)
		from, ok := c.Channel(ch.Name)
		if layer != first && ok && len(from.Data) == len(ch.Data) {
			m.Channels[i].Data = from.Data
		}
	}
	return media.WriteEXR(path, m, false)
}

// keep puts copies of the outputs away, numbered like their rules.
func (s *Saboteur) keep(key string, rules []job.OutputRule, out string, r Result) error {
	dir, err := os.MkdirTemp(s.dir, "stale-")
	if err != nil {
		return err
	}
	for i, o := range rules {
		if err := copyPlain(filepath.Join(out, filepath.FromSlash(o.Name)), filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[key] = stale{dir: dir, rules: rules, result: r}
	return nil
}

// deliver puts what was kept where the new rules want files.
func (s *Saboteur) deliver(old stale, rules []job.OutputRule, out string) error {
	for i, o := range rules {
		to := filepath.Join(out, filepath.FromSlash(o.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := copyPlain(filepath.Join(old.dir, fmt.Sprint(i)), to); err != nil {
			return err
		}
	}
	return nil
}

// copyPlain copies a file of ours.
func copyPlain(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}
