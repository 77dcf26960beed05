package render

import (
	"context"
	"fmt"
	"sync"
	"time"

	"idlewild/job"
)

// Health is an Executor that stops taking tasks after too many broken ones in
// a row: a machine with a bad driver must not eat a whole job.
type Health struct {
	Executor
	limit int
	rest  time.Duration

	mu     sync.Mutex
	broken int // in a row
	reason string
	until  time.Time // Ready says no before
}

// WithHealth returns a Health that rests after limit broken tasks in a row.
func WithHealth(e Executor, limit int, rest time.Duration) *Health {
	return &Health{Executor: e, limit: max(limit, 1), rest: rest}
}

// Ready implements Executor. After the rest one task is tried; if that one is
// broken too, the rest begins anew.
func (h *Health) Ready(ctx context.Context) error {
	h.mu.Lock()
	n, reason, until := h.broken, h.reason, h.until
	h.mu.Unlock()
	if left := time.Until(until); left > 0 {
		return fmt.Errorf("resting %v after %d broken tasks in a row, the last: %s", left.Round(time.Second), n, reason)
	}
	return h.Executor.Ready(ctx)
}

// Execute implements Executor.
func (h *Health) Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	r := h.Executor.Execute(ctx, t, dirs, progress)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch r.Outcome {
	case job.Broken:
		h.broken++
		h.reason = r.Reason
		if h.broken >= h.limit {
			h.until = time.Now().Add(h.rest)
		}
	case job.Succeeded:
		h.broken, h.reason, h.until = 0, "", time.Time{}
	}
	// failed and cancelled say nothing of this machine, and too little memory
	// nothing of other tasks
	return r
}

// Reset forgets what was broken: somebody mended it.
func (h *Health) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken, h.reason, h.until = 0, "", time.Time{}
}
