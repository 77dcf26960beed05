package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// errPoolClosed is why no session is given out any more.
var errPoolClosed = errors.New("this machine is shutting down")

// pool owns the warm sessions of a Runner: at most warm of them per device,
// each used by one request at a time.
type pool struct {
	process Process
	scratch string
	warm    int
	idle    time.Duration
	log     *slog.Logger

	mu      sync.Mutex
	slots   map[string]*slot
	changed chan struct{} // closed and replaced whenever a slot falls free
	closed  bool
	closing sync.WaitGroup // sessions that are being ended, spares that are being started
	spares  spares
}

// slot is one warm session. While busy it belongs to whoever acquired it;
// else to the pool.
type slot struct {
	key, device string
	busy        bool
	used        time.Time // when it fell idle last
	timer       *time.Timer

	session  Session // nil: to be started
	dir      string  // its folder below scratch
	root     SessionRoot
	work     *os.Root    // of root.Work
	requests int         // numbered folders made so far
	emptied  string      // the last request's folder, for the next one
	input    fs.FileInfo // root.In, when the session started
	served   int         // requests that ended with a closing event
	runner   string      // identity of the runner's files

	spareKind *spareKind // what it could begin as; nil: nothing
}

func newPool(p Process, o Options) *pool {
	return &pool{
		process: p, scratch: o.Scratch, warm: o.Warm, idle: o.Idle, log: o.Log,
		slots: make(map[string]*slot), changed: make(chan struct{}), spares: newSpares(o.Available),
	}
}

// acquire returns the slot of that key, waiting while it is busy or while
// every slot of the device is. Its session may have to be started.
func (p *pool) acquire(ctx context.Context, key, device string) (*slot, error) {
	for {
		s, evicted, wait, err := p.try(key, device)
		if err != nil {
			return nil, err
		}
		if evicted != nil {
			p.discard(evicted)
		}
		if s != nil {
			return s, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// try takes the slot, or says what to wait for. An idle slot that has to make
// room comes back as evicted, counted in closing already.
func (p *pool) try(key, device string) (s, evicted *slot, wait chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, nil, errPoolClosed
	}
	if s := p.slots[key]; s != nil {
		if s.busy {
			return nil, nil, p.changed, nil
		}
		s.busy = true
		s.timer.Stop()
		return s, nil, nil, nil
	}
	n := 0
	for _, o := range p.slots {
		if o.device != device {
			continue
		}
		n++
		if !o.busy && (evicted == nil || o.used.Before(evicted.used)) {
			evicted = o
		}
	}
	if n >= p.warm {
		if evicted == nil {
			return nil, nil, p.changed, nil
		}
		evicted.timer.Stop()
		delete(p.slots, evicted.key)
		p.closing.Add(1)
	} else {
		evicted = nil
	}
	s = &slot{key: key, device: device, busy: true}
	p.slots[key] = s
	return s, evicted, nil, nil
}

// release gives the slot back: to stay warm, or to be ended.
func (p *pool) release(s *slot, keep bool) {
	p.mu.Lock()
	keep = keep && !p.closed && s.session != nil && s.session.Alive()
	if keep {
		s.busy, s.used = false, time.Now()
		s.timer = time.AfterFunc(p.idle, func() { p.expire(s) })
		p.restock(s)
	} else {
		delete(p.slots, s.key)
		p.closing.Add(1)
	}
	p.wake()
	p.mu.Unlock()
	if !keep {
		p.discard(s)
	}
}

// wake tells whoever waits that something changed; mu is held.
func (p *pool) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// expire ends a session that nobody used for long.
func (p *pool) expire(s *slot) {
	p.mu.Lock()
	if s.busy || p.slots[s.key] != s || time.Since(s.used) < p.idle {
		p.mu.Unlock()
		return
	}
	delete(p.slots, s.key)
	p.closing.Add(1)
	p.wake()
	p.mu.Unlock()
	p.log.Debug("idle session ended", "device", s.device, "idle", p.idle)
	p.discard(s)
}

// discard ends a slot that is in no map any more.
func (p *pool) discard(s *slot) {
	defer p.closing.Done()
	p.endSession(s)
}

// endSession ends the process and removes the folders of a slot.
func (p *pool) endSession(s *slot) {
	if s.session != nil {
		if err := s.session.Close(); err != nil {
			p.log.Warn("session did not close", "err", err)
		}
		s.session = nil
	}
	if s.work != nil {
		s.work.Close()
		s.work = nil
	}
	if s.dir != "" {
		if err := os.RemoveAll(s.dir); err != nil {
			p.log.Warn("session folder stays", "err", err)
		}
		s.dir = ""
	}
}

// open sees to it that the slot has a session that lives: its own, the device's
// spare, or a new one.
func (p *pool) open(ctx context.Context, s *slot, cmd Command, in string, shown []Shown, trees []string) error {
	if s.session != nil && s.session.Alive() && s.sees(in) {
		return nil
	}
	p.endSession(s)
	s.requests, s.served, s.emptied = 0, 0, ""
	// A process that runs gets no further mounts.
	if len(shown)+len(trees) == 0 && p.adopt(ctx, s, in) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return p.start(ctx, s, cmd, in, shown, trees)
}

// start makes the slot's folders and starts its session. Where in is empty so
// is its folder of inputs.
func (p *pool) start(ctx context.Context, s *slot, cmd Command, in string, shown []Shown, trees []string) error {
	if err := os.MkdirAll(p.scratch, 0o700); err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	dir, err := os.MkdirTemp(p.scratch, sessionPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	s.dir = dir
	s.root = SessionRoot{In: in, Work: filepath.Join(dir, "work"), Shown: shown, Trees: trees}
	if err := os.Mkdir(s.root.Work, 0o700); err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	if in == "" {
		s.root.In = filepath.Join(dir, "in")
		if err := os.Mkdir(s.root.In, 0o700); err != nil {
			return fmt.Errorf("scratch folder: %w", err)
		}
	}
	if s.input, err = os.Stat(s.root.In); err != nil {
		return fmt.Errorf("input folder: %w", err)
	}
	if s.work, err = os.OpenRoot(s.root.Work); err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	if s.runner, err = runnerID(cmd.Runner); err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	s.session, err = p.process.Start(ctx, cmd, s.root)
	if err != nil {
		s.session = nil // not a nil pointer inside an interface
		return err
	}
	return nil
}

// sees reports whether the session's input folder is still the one at in. A
// folder that was removed and made again under its name is another one, which
// a sandbox does not show.
func (s *slot) sees(in string) bool {
	if in == "" {
		return true
	}
	now, err := os.Stat(in)
	return err == nil && os.SameFile(s.input, now)
}

// makeFolder makes the folder of one request, with an empty folder out in it.
// The last one's is renamed where it can be: making folders is the slowest
// part of a task that does nothing.
func (s *slot) makeFolder(name string) error {
	// Only the runner itself can have made it before; it may not choose what
	// lies there.
	if err := s.work.RemoveAll(name); err != nil {
		return err
	}
	if last := s.emptied; last != "" {
		s.emptied = ""
		if s.work.Rename(last, name) == nil {
			if s.isEmpty(name) {
				return nil
			}
			if err := s.work.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	if err := s.work.Mkdir(name, 0o755); err != nil {
		return err
	}
	return s.work.Mkdir(path.Join(name, "out"), 0o755)
}

// isEmpty reports whether a request's folder is as makeFolder makes it.
func (s *slot) isEmpty(name string) bool {
	out := path.Join(name, "out")
	for _, dir := range []string{name, out} {
		if fi, err := s.work.Lstat(dir); err != nil || !fi.IsDir() {
			return false
		}
	}
	top, err := readDir(s.work, name, 2)
	if err != nil || len(top) != 1 {
		return false
	}
	inside, err := readDir(s.work, out, 1)
	return err == nil && len(inside) == 0
}

// clear removes what a request left, and its folder too unless the next
// request will have it.
func (s *slot) clear(name string, reuse bool) error {
	if reuse {
		out := path.Join(name, "out")
		if names, err := readDir(s.work, out, maxCleared); err == nil && len(names) < maxCleared {
			for _, n := range names {
				if err := s.work.RemoveAll(path.Join(out, n)); err != nil {
					return err
				}
			}
			if err := s.work.RemoveAll(path.Join(name, "prior")); err != nil {
				return err
			}
			s.emptied = name
			return nil
		}
	}
	return s.work.RemoveAll(name)
}

// maxCleared is how many names are removed one by one.
const maxCleared = 64

// endIdle ends the sessions and the spare of a device that nobody uses, or of
// all devices.
func (p *pool) endIdle(device string) {
	var done sync.WaitGroup
	p.mu.Lock()
	for key, s := range p.slots {
		if s.busy || (device != "" && s.device != device) {
			continue
		}
		s.timer.Stop()
		delete(p.slots, key)
		p.closing.Add(1)
		done.Go(func() {
			hurry(s) // whoever wants the memory back waits for nobody's last words
			p.discard(s)
		})
	}
	for on, sp := range p.spares.of {
		if device == "" || on == device {
			p.forget(sp)
			done.Go(func() { p.drop(sp) })
		}
	}
	p.wake()
	p.mu.Unlock()
	done.Wait()
}

// close ends all sessions; those in use end when their request does.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.endIdle("")
	for {
		p.mu.Lock()
		busy, wait := len(p.slots), p.changed
		p.mu.Unlock()
		if busy == 0 {
			break
		}
		<-wait
	}
	p.closing.Wait()
}

const sessionPrefix = "session-"

// sweep removes session folders of processes that are no more: those of a
// daemon that was killed.
func sweep(scratch string) {
	entries, err := os.ReadDir(scratch)
	if err != nil {
		return // there is none yet
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), sessionPrefix)
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(number)
		if err != nil || pid == os.Getpid() || pidAlive(pid) {
			continue
		}
		os.RemoveAll(filepath.Join(scratch, e.Name()))
	}
}
