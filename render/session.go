package render

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"idlewild/job"
)

// session is a warm process that was started by LocalProcess or Sandbox.
// One goroutine calls Do at a time.
type session struct {
	log    *slog.Logger
	launch launch
	limits Limits
	began  time.Time

	group  *group // of its processes; nil: the system has none
	cmd    *exec.Cmd
	stdin  *os.File
	text   *logBuffer
	lines  logLines
	logs   *logReader
	events chan event    // closed at the end of the events stream
	killed chan struct{} // closed by the first kill
	exited chan struct{} // closed when no process of the tree is left

	lastID   int64         // of Do's newest request
	requests int           // that got a closing event
	load     time.Duration // of starting it, for the first request's meter
	hwm      int64         // high-water mark of memory, likewise
	over     bool          // it used more than launch.memory: not to be used again

	life   sync.RWMutex // held for writing while the process is waited for
	reaped bool         // its number may be somebody else's by now

	mu    sync.Mutex
	cause error          // why it was killed; nil: it was not
	seen  map[int]uint64 // every process of the tree ever sampled: pid to start time
	cpu   time.Duration  // of the tree, as far as sampled

	cpuBase time.Duration // of the tree at the end of the last request
	peak    int64         // most memory since then, as sampled
}

// Mounts implements Session.
func (s *session) Mounts() (in, work string) { return s.launch.in, s.launch.work }

// Trees implements Session.
func (s *session) Trees() []string { return s.launch.trees }

// Alive implements Session.
func (s *session) Alive() bool {
	select {
	case <-s.killed:
		return false
	case <-s.exited:
		return false
	default:
		return true
	}
}

// recycle reports whether the session should not be used for another request
// although it could be.
func (s *session) recycle() bool { return s.over }

// awaitReady returns nil once the runner said that it is ready.
func (s *session) awaitReady(ctx context.Context) error {
	limit := s.launch.startTimeout
	if limit <= 0 {
		limit = defaultStartTimeout
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case e, ok := <-s.events:
			switch {
			case !ok:
				err := s.died()
				text := s.text.Take()
				return &OutcomeError{Outcome: ofDeath(err), Reason: lastWords(fmt.Errorf("not ready: %w", err), text).Error(), Log: text}
			case e.Event == "ready":
				s.load = time.Since(s.began)
				return nil
			case e.Event == "error":
				outcome, reason := e.outcome()
				if outcome == job.Succeeded {
					outcome, reason = job.Broken, "the runner reported an error without an outcome"
				}
				return &OutcomeError{Outcome: outcome, Reason: reason}
			}
		case <-timer.C:
			s.kill(fmt.Errorf("not ready within %v", limit))
			return &OutcomeError{Outcome: job.Broken, Reason: fmt.Sprintf("not ready within %v", limit)}
		case <-ctx.Done():
			s.kill(context.Cause(ctx))
			return context.Cause(ctx)
		}
	}
}

// Do implements Session.
func (s *session) Do(ctx context.Context, r Request, events func(Event)) Exit {
	start := time.Now()
	s.lastID++
	id := s.lastID
	m := &meter{s: s, start: start}
	line, err := withID(r.JSON, id)
	if err != nil {
		return Exit{Err: err}
	}
	var timeout <-chan time.Time
	if r.Timeout > 0 {
		t := time.NewTimer(r.Timeout)
		defer t.Stop()
		timeout = t.C
	}
	if r.Lines != nil {
		s.lines.to(r.Lines)
		defer s.lines.to(nil)
	}
	// A runner that does not read must not hold up the end of ctx; killing it
	// ends this write.
	go s.stdin.Write(line)

	for said := 0; ; {
		select {
		case e, ok := <-s.events:
			if !ok {
				return m.exit(nil, s.died())
			}
			if said++; said > maxEvents {
				s.kill(fmt.Errorf("%w: more than %d events about one request", ErrContract, maxEvents))
				return m.exit(nil, s.died())
			}
			if e.ID != id && e.Event != "error" {
				continue // late words about an earlier request
			}
			if e.Event == "done" {
				s.requests++
				return m.exit(e.raw, nil)
			}
			if r.Lines != nil {
				s.logs.Sync() // lines and events in the order in which they were written
			}
			if events != nil {
				events(Event{Name: e.Event, JSON: e.raw})
			}
		case <-timeout:
			s.kill(fmt.Errorf("%w of %v", ErrTimeout, r.Timeout))
		case <-ctx.Done():
			s.kill(context.Cause(ctx))
			return m.exit(nil, s.died())
		}
	}
}

// kill ends the process tree because of cause; only the first cause counts.
func (s *session) kill(cause error) {
	if !s.blame(cause) {
		return
	}
	close(s.killed)
	s.life.RLock()
	defer s.life.RUnlock()
	if !s.reaped {
		s.killTree()
	}
}

// blame sets the cause of the end, if there is none yet.
func (s *session) blame(cause error) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause, first = cause, true
	}
	return first
}

// died waits until no process is left and says why that is so.
func (s *session) died() error {
	s.stdin.Close()
	select {
	case <-s.exited:
	case <-time.After(closeGrace): // it closed its events and lives on
		s.kill(fmt.Errorf("%w: it closed its events stream", ErrContract))
		<-s.exited
	}
	s.logs.Close(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return s.cause
	}
	return fmt.Errorf("%w with %s", ErrDied, s.status())
}

// status says in words how the process ended.
func (s *session) status() string {
	st := s.cmd.ProcessState
	if st == nil {
		return "unknown status"
	}
	if text := signalText(st, s.launch.wrapped); text != "" {
		return text
	}
	return fmt.Sprintf("exit code %d", st.ExitCode())
}

// errClosed is why a session ended that was not needed any more.
var errClosed = fmt.Errorf("the session was closed")

// Close implements Session.
func (s *session) Close() error {
	s.stdin.Close() // the end of its requests: a runner goes by itself
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-s.exited:
	case <-t.C:
	}
	s.end()
	return nil
}

// end ends the process tree at once and waits for it.
func (s *session) end() {
	s.kill(errClosed)
	<-s.exited
	s.stdin.Close()
	s.logs.Close(time.Second)
}
