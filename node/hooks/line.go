package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// target is who is told.
type target interface {
	// tell makes one attempt. An error that is errFinal is not worth another.
	tell(ctx context.Context, m message) error
}

// errFinal marks an answer that another attempt would get as well.
var errFinal = errors.New("not tried again")

// retryAfter is an error of somebody who says when to come again.
type retryAfter struct {
	error
	after time.Duration
}

func (r retryAfter) Unwrap() error { return r.error }

// line is the queue before one target.
type line struct {
	name string
	log  *slog.Logger
	to   target
	o    Options
	rest func(try int) time.Duration // between two attempts
	wait func(context.Context, time.Duration) error

	mu      sync.Mutex
	pending []message // oldest first
	lost    int
	full    bool // a loss was told of, and the queue is not half empty since
	news    chan struct{}
}

func newLine(name string, o Options, to target) *line {
	l := &line{
		name: name, log: o.Log.With("hook", name), to: to, o: o, news: make(chan struct{}, 1), rest: restOf, wait: wait,
	}
	l.load()
	return l
}

// restOf doubles from a second to a minute.
func restOf(try int) time.Duration { return min(time.Second<<min(try-1, 10), time.Minute) }

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// put adds an event. Where there is no room the oldest event of a frame makes
// some, so that what happens to jobs is told last of all to be lost.
func (l *line) put(d Document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) >= maxPending {
		drop := 0
		for i, m := range l.pending {
			if !strings.HasPrefix(m.Event, "job.") {
				drop = i
				break
			}
		}
		l.pending = append(l.pending[:drop], l.pending[drop+1:]...)
		l.lost++
		if !l.full {
			l.full = true
			l.log.Warn("events are lost: whoever is told of them is too slow, or not there", "waiting", maxPending)
		}
	}
	d.Lost = l.lost
	b, err := json.Marshal(d)
	if err != nil {
		l.log.Error("an event is not told", "event", d.Event, "error", err)
		return
	}
	m := message{ID: d.ID, Event: d.Event, Job: d.Job.ID, Body: b}
	if d.Frame != nil {
		m.Frame = d.Frame.Label
	}
	l.pending = append(l.pending, m)
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// first is the oldest event that was not told.
func (l *line) first() (message, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return message{}, false
	}
	return l.pending[0], true
}

// settled takes an event away, which may have been lost meanwhile.
func (l *line) settled(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range l.pending {
		if x.ID == m.ID {
			l.pending = append(l.pending[:i], l.pending[i+1:]...)
			break
		}
	}
	if len(l.pending) < maxPending/2 {
		l.full = false
	}
}

// run tells one event after the other. After one was given up the next get one
// attempt each until one arrives: a hook that is not there would hold up all.
func (l *line) run(ctx context.Context) {
	defer l.keep()
	down := false
	for ctx.Err() == nil {
		m, ok := l.first()
		if !ok {
			select {
			case <-l.news:
			case <-ctx.Done():
			}
			continue
		}
		tries := l.o.Tries
		if down {
			tries = 1
		}
		err := l.tell(ctx, m, tries)
		if ctx.Err() != nil && err != nil {
			return // it is told after the next start
		}
		if err != nil && !down {
			l.log.Warn("an event was not told and is given up", "event", m.Event, "job", m.Job, "frame", m.Frame, "error", err)
		}
		down = err != nil
		l.settled(m)
	}
}

func (l *line) tell(ctx context.Context, m message, tries int) error {
	for try := 1; ; try++ {
		err := l.to.tell(ctx, m)
		if err == nil || errors.Is(err, errFinal) || try >= tries || ctx.Err() != nil {
			return err
		}
		l.log.Debug("an event is told again", "event", m.Event, "try", try, "error", err)
		rest := l.rest(try)
		var later retryAfter
		if errors.As(err, &later) {
			rest = max(rest, min(later.after, 5*time.Minute))
		}
		if l.wait(ctx, rest) != nil {
			return err
		}
	}
}

func (l *line) file() string { return filepath.Join(l.o.Dir, "hooks-"+l.name+".json") }

// keep writes down what was not told.
func (l *line) keep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.o.Dir == "" || len(l.pending) == 0 {
		return
	}
	b, err := json.Marshal(l.pending)
	if err == nil {
		err = os.WriteFile(l.file(), b, 0o600)
	}
	if err != nil {
		l.log.Warn("events that were not told are lost", "events", len(l.pending), "error", err)
	}
}

// load takes up what the last start left. A file that cannot be read is only a
// memory.
func (l *line) load() {
	if l.o.Dir == "" {
		return
	}
	b, err := os.ReadFile(l.file())
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(b, &l.pending)
	}
	if err != nil {
		l.pending = nil
		l.log.Warn("events of the last start are not told", "error", err)
	}
	l.pending = l.pending[:min(len(l.pending), maxPending)]
	if err := os.Remove(l.file()); err != nil {
		l.log.Warn("events of the last start may be told twice", "error", err)
	}
}
