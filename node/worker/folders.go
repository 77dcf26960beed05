package worker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"idlewild/job"
	"idlewild/render"
)

// dirs makes the folders of task i of a lease and fills those that it reads.
// remove removes what is the task's own.
func (w *Worker) dirs(l *lease, i int) (d render.Dirs, remove func(), err error) {
	base := filepath.Join(w.taskDir(), fmt.Sprintf("%s-%d-%d", l.grant.ID, l.serial, i))
	remove = func() {
		if err := os.RemoveAll(base); err != nil {
			w.log.Warn("folder of a task stays", "dir", base, "err", err)
		}
	}
	g := l.grant.Tasks[i]
	d.In = w.emptyDir()
	if in := l.inputs[g.Task.Input]; in != nil {
		if d.In, err = in.wait(l.ctx); err != nil {
			return d, remove, fmt.Errorf("fetch the job's files: %w", err)
		}
	}
	d.Out = filepath.Join(base, "out")
	if err := os.MkdirAll(d.Out, 0o700); err != nil {
		return d, remove, fmt.Errorf("folder of a task: %w", err)
	}
	for j, p := range g.Prior {
		dir := filepath.Join(base, "prior", strconv.Itoa(j))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return d, remove, fmt.Errorf("folder of a task: %w", err)
		}
		if err := w.retry(l, func() error { return w.deps.Assets.Prior(l.ctx, l.r.id, l.grant, p, dir) }); err != nil {
			return d, remove, fmt.Errorf("fetch the result of predecessor %d: %w", j, err)
		}
		d.Prior = append(d.Prior, dir)
		for _, o := range p.Outputs {
			if o.Media != job.MediaTree {
				continue
			}
			dir, err := l.inputs[o.File].wait(l.ctx)
			if err != nil {
				return d, remove, fmt.Errorf("fetch the result of predecessor %d: %w", j, err)
			}
			d.Trees = append(d.Trees, render.Tree{Prior: j, Name: o.Name, Dir: dir})
		}
	}
	return d, remove, nil
}

// wait returns the folder of an input once it is there.
func (in *input) wait(ctx context.Context) (string, error) {
	select {
	case <-in.ready:
		return in.dir, in.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// sane keeps metering within what a requester accepts.
func sane(m job.Meter, wall time.Duration) job.Meter {
	if m.Wall <= 0 {
		m.Wall = wall
	}
	m.Render, m.Load, m.CPU, m.Peak = max(m.Render, 0), max(m.Load, 0), max(m.CPU, 0), max(m.Peak, 0)
	m.VRAM = max(m.VRAM, 0)
	return m
}

// clip makes s valid text of at most n bytes: its beginning.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// tail makes s valid text of at most n bytes: its end.
func tail(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	i := len(s) - n
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return s[i:]
}
