package render

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"idlewild/job"
)

// SabotageMode is a way to cheat.
type SabotageMode string

const (
	// HalfSamples runs less than was asked for and says nothing.
	HalfSamples SabotageMode = "half-samples"
	// Stale runs the first task of a job and delivers that one's outputs for
	// every later one.
	Stale SabotageMode = "stale"
)

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
// needed for HalfSamples; dir is a folder for what Stale delivers again.
func NewSaboteur(e Executor, mode SabotageMode, cheat func(job.Task) job.Task, dir string) (*Saboteur, error) {
	switch {
	case mode == HalfSamples && cheat == nil:
		return nil, errors.New("saboteur: no way to make a task cheaper")
	case mode == Stale && dir == "":
		return nil, errors.New("saboteur: no folder for stale outputs")
	case mode != HalfSamples && mode != Stale:
		return nil, fmt.Errorf("saboteur: mode %q, there are %q and %q", mode, HalfSamples, Stale)
	}
	return &Saboteur{Executor: e, mode: mode, cut: cheat, dir: dir, kept: make(map[string]stale)}, nil
}

// Execute implements Executor.
func (s *Saboteur) Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	if s.mode == HalfSamples {
		t.Task = s.cut(t.Task)
		return s.Executor.Execute(ctx, t, dirs, progress)
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
