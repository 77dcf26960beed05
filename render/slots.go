package render

import (
	"context"
	"sync"

	"idlewild/job"
)

// WithSlots returns an Executor that runs at most n tasks at a time on each
// device and lets the others wait.
func WithSlots(e Executor, n int) Executor {
	return &slotsExecutor{Executor: e, n: max(n, 1), devices: make(map[string]chan struct{})}
}

type slotsExecutor struct {
	Executor
	n int

	mu      sync.Mutex
	devices map[string]chan struct{} // by name; a token in it is a running task
}

// Execute implements Executor.
func (s *slotsExecutor) Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	s.mu.Lock()
	tokens := s.devices[t.Device.Name]
	if tokens == nil {
		tokens = make(chan struct{}, s.n)
		s.devices[t.Device.Name] = tokens
	}
	s.mu.Unlock()
	select {
	case tokens <- struct{}{}:
	case <-ctx.Done():
		return Result{}.end(context.Cause(ctx), job.Cancelled)
	}
	defer func() { <-tokens }()
	return s.Executor.Execute(ctx, t, dirs, progress)
}
