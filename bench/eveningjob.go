package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"idlewild/job"
)

// watched follows a job: when what happened first, and to whom.
type watched struct {
	id   job.ID
	done chan error

	mu        sync.Mutex
	status    job.Status
	leased    time.Time // first
	phases    []string  // what was done before, and when
	delivered []time.Time
	rejected  time.Time // first, of the cheat
	by        map[string][]time.Time
	grants    map[string][]time.Time
}

// watch follows a job of d's to its end.
func (e *evening) watch(ctx context.Context, d *daemon, id job.ID) *watched {
	w := &watched{id: id, done: make(chan error, 1), by: map[string][]time.Time{}, grants: map[string][]time.Time{}}
	seen := map[uint64]bool{} // the stream may be opened again
	go func() {
		s, err := d.wait(ctx, id, func(ev job.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if seen[ev.Seq] {
				return
			}
			seen[ev.Seq] = true
			switch ev.Type {
			case job.EventPhase:
				if ev.Fraction == 0 {
					w.phases = append(w.phases, fmt.Sprintf("%s %s", ev.Time.Format("15:04:05.0"), ev.Text))
				}
			case job.EventState:
				if w.leased.IsZero() {
					w.phases = append(w.phases, fmt.Sprintf("%s %s", ev.Time.Format("15:04:05.0"), ev.Text))
				}
			case job.EventLeased:
				if w.leased.IsZero() {
					w.leased = ev.Time
				}
				w.grants[ev.Worker] = append(w.grants[ev.Worker], ev.Time)
			case job.EventReturned:
				w.by[ev.Worker] = append(w.by[ev.Worker], ev.Time)
			case job.EventDelivered:
				w.delivered = append(w.delivered, ev.Time)
			case job.EventJudged:
				if ev.Verdict != nil && ev.Verdict.Ruling == job.Rejected && e.peers[ev.Worker] == e.cheat && w.rejected.IsZero() {
					w.rejected = ev.Time
					e.say("frame %s of the cheat is rejected: %s", ev.Task, ev.Verdict.Reason)
				}
			}
		})
		w.mu.Lock()
		w.status = s
		w.mu.Unlock()
		w.done <- err
	}()
	return w
}

// count is how much was delivered so far.
func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.delivered)
}

// until waits for n delivered.
func (w *watched) until(ctx context.Context, limit time.Duration, n int) error {
	return poll(ctx, limit, fmt.Sprintf("%d delivered", n), func() error {
		if have := w.count(); have < n {
			return fmt.Errorf("%d are", have)
		}
		return nil
	})
}

// returns waits for the first result.
func (w *watched) returns(ctx context.Context, limit time.Duration) error {
	return poll(ctx, limit, "a result", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.by) == 0 {
			return errors.New("none is back")
		}
		return nil
	})
}

// end waits for a job's end, and looks whether all of it is there.
func (e *evening) end(ctx context.Context, name string, d *daemon, w *watched, want int) (job.Status, error) {
	select {
	case err := <-w.done:
		if err != nil {
			return w.status, fmt.Errorf("%s: %w", name, err)
		}
	case <-ctx.Done():
		return job.Status{}, context.Cause(ctx)
	}
	s := w.status
	if s.State != job.StateFinished || s.Delivered+s.Skipped != want {
		return s, fmt.Errorf("%s ended %s, %d of %d delivered, %d skipped: %s %v", name, s.State, s.Delivered, want, s.Skipped, s.Reason, s.Problems)
	}
	for _, t := range s.Frames {
		for _, f := range t.Files {
			if fi, err := os.Stat(f); err != nil || fi.Size() == 0 {
				return s, fmt.Errorf("%s: %s is not there: %v", name, f, err)
			}
		}
	}
	e.jobs = append(e.jobs, eveningJob{name, d, s})
	e.say("%s: all %d delivered in %.0f s, %.0f s of rendering, %d checked, %d rejected, %.1f MB to workers, %.1f MB back", name, want, s.WallSeconds, s.RenderSeconds, s.Rechecked, s.Rejected,
		float64(s.UploadedBytes)/1e6, float64(s.ResultBytes)/1e6)
	for _, p := range s.Workers {
		if x := e.peers[p.Peer]; x != nil {
			e.say("  %-7s %3d tasks, %6.1f s rendering of %6.1f s joined, %d rejected %s", x.name, p.Tasks, p.RenderSeconds, p.JoinedSeconds, p.Rejected, p.Resting)
		}
	}
	return s, nil
}

// asleep stops a daemon's machine as a closed laptop does: its programs stand
// still and its cable is out. Woken opens it again.
func (e *evening) asleep(d *daemon) {
	e.hosts[d].Cut()
	for _, pid := range e.programs(d) {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
}

func (e *evening) woken(d *daemon) {
	for _, pid := range e.programs(d) {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	if h := e.hosts[d]; h != nil {
		h.Heal()
	}
}

// programs are what runs on d's machine.
func (e *evening) programs(d *daemon) (out []int) {
	if d.cmd != nil && d.cmd.Process != nil {
		out = append(out, d.cmd.Process.Pid)
		out = append(out, descendants(d.cmd.Process.Pid)...)
	}
	if d == e.artist && e.blender != nil {
		out = append(out, e.blender.cmd.Process.Pid)
	}
	return out
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
