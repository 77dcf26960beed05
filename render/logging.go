package render

import (
	"context"
	"log/slog"

	"idlewild/job"
)

// WithLog returns an Executor that logs how each task ended.
func WithLog(e Executor, log *slog.Logger) Executor { return logExecutor{e, log} }

type logExecutor struct {
	Executor
	log *slog.Logger
}

// Execute implements Executor.
func (l logExecutor) Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	r := l.Executor.Execute(ctx, t, dirs, progress)
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("task", t.Label), slog.String("kind", string(t.Kind)), slog.String("device", t.Device.Name),
		slog.String("outcome", string(r.Outcome)), slog.Duration("wall", r.Meter.Wall), slog.Duration("render", r.Meter.Render),
	}
	if r.Outcome != job.Succeeded {
		attrs = append(attrs, slog.String("reason", r.Reason))
	}
	if r.Outcome == job.Broken {
		level = slog.LevelWarn
	}
	l.log.LogAttrs(ctx, level, "task ended", attrs...)
	return r
}
