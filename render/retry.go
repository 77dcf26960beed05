package render

import (
	"context"

	"idlewild/job"
)

// WithRetry returns an Executor that runs a task again, once, where its warm
// session turned out to be dead, or out of memory: that says more of what the
// process did before than of this task, and no other peer need hear of it.
func WithRetry(e Executor) Executor { return retryExecutor{e} }

type retryExecutor struct{ Executor }

// Execute implements Executor.
func (r retryExecutor) Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	first := r.Executor.Execute(ctx, t, dirs, progress)
	if first.Outcome != job.Broken && !first.Outcome.Short() || !first.reused || ctx.Err() != nil {
		return first
	}
	second := r.Executor.Execute(ctx, t, dirs, progress)
	second.Meter.Wall += first.Meter.Wall
	second.Meter.CPU += first.Meter.CPU
	if !first.Outcome.Short() { // that was of all that the session did
		second.Meter.Peak = max(second.Meter.Peak, first.Meter.Peak)
	}
	return second
}
