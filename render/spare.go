package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Sparer is a Kind of which a process can be started before there is a content
// for it: a spare. It shows a folder of inputs that is empty, and reports ready
// when it waits for a line on stdin. Then the folder holds a content's files;
// from that line on it does what Session's process does from its start, and
// reports ready again.
type Sparer interface {
	// Spare names the process that could become the session of t: key covers
	// what Session's command depends on but the content and its requester. Not
	// ok: the session of t cannot begin as one.
	Spare(t Task) (key string, cmd Command, ok bool)
}

// Memory of this machine that programs can still have. A spare is started
// where there is much, and ended where there is little.
const (
	spareStarts = 4 << 30
	spareEnds   = 2 << 30
	spareLook   = 10 * time.Second // how often a spare is looked at
)

// spareKind is a spare that a slot could have begun as.
type spareKind struct {
	key string
	cmd Command
}

// spare is a process that has seen no content, or one that is being started.
// It becomes the session of one slot, once, and is never a spare again.
type spare struct {
	key    string
	slot   *slot // in no map of the pool
	cancel context.CancelFunc
	begun  chan struct{} // closed when it is ready or err is set
	err    error

	// Guarded by pool.mu.
	used  time.Time // when something of its device ended last
	timer *time.Timer
}

// spares is the part of a pool that keeps one spare for each device.
type spares struct {
	available func() int64 // memory; nil: none are kept
	of        map[string]*spare
}

// restock begins a spare of s's kind where its device has none, or where s is
// the first session of another kind. p.mu is held.
func (p *pool) restock(s *slot) {
	if p.spares.available == nil || p.closed || s.spareKind == nil {
		return
	}
	if old := p.spares.of[s.device]; old != nil {
		if old.key == s.spareKind.key {
			old.used = time.Now()
			return
		}
		if s.served > 1 {
			return // two kinds in turn must not make spares in turn
		}
		p.forget(old)
		go p.drop(old)
	}
	if p.spares.available() < spareStarts {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	sp := &spare{
		key: s.spareKind.key, slot: &slot{device: s.device}, cancel: cancel,
		begun: make(chan struct{}), used: time.Now(),
	}
	sp.timer = time.AfterFunc(min(spareLook, p.idle), func() { p.look(sp) })
	p.spares.of[s.device] = sp
	p.closing.Add(1)
	go func(cmd Command) {
		defer p.closing.Done()
		defer cancel()
		sp.err = p.start(ctx, sp.slot, cmd, "", nil, nil)
		if sp.err != nil {
			p.endSession(sp.slot)
			p.log.Debug("no spare process", "device", sp.slot.device, "err", sp.err)
		}
		close(sp.begun)
	}(s.spareKind.cmd)
}

// forget takes a spare out of the pool, counted in closing. p.mu is held.
func (p *pool) forget(sp *spare) {
	sp.timer.Stop()
	delete(p.spares.of, sp.slot.device)
	p.closing.Add(1)
}

// drop ends a spare that was forgotten.
func (p *pool) drop(sp *spare) {
	defer p.closing.Done()
	sp.cancel()
	<-sp.begun
	hurry(sp.slot)
	p.endSession(sp.slot)
}

// hurry ends a slot's process without waiting for its last words.
func hurry(s *slot) {
	if k, ok := s.session.(interface{ kill(error) }); ok {
		k.kill(errClosed)
	}
}

// look ends a spare that nobody wanted for long, that died, or whose memory is
// needed.
func (p *pool) look(sp *spare) {
	available := p.spares.available()
	p.mu.Lock()
	if p.spares.of[sp.slot.device] != sp {
		p.mu.Unlock()
		return
	}
	alive := true
	select {
	case <-sp.begun:
		alive = sp.err == nil && sp.slot.session.Alive()
	default:
	}
	if alive && available >= spareEnds && time.Since(sp.used) < p.idle {
		sp.timer.Reset(min(spareLook, p.idle))
		p.mu.Unlock()
		return
	}
	p.forget(sp)
	p.mu.Unlock()
	p.log.Debug("spare process ended", "device", sp.slot.device, "available_bytes", available)
	p.drop(sp)
}

// adopt makes the device's spare the session of s, and reports whether there
// is one now. Without one, whatever the reason, s has to be started.
func (p *pool) adopt(ctx context.Context, s *slot, in string) bool {
	if s.spareKind == nil || in == "" {
		return false
	}
	p.mu.Lock()
	sp := p.spares.of[s.device]
	if sp == nil || sp.key != s.spareKind.key {
		p.mu.Unlock()
		return false
	}
	p.forget(sp) // s is in the pool from here on, and is waited for
	p.closing.Done()
	p.mu.Unlock()
	select {
	case <-sp.begun:
	case <-ctx.Done():
		sp.cancel()
		<-sp.begun
	}
	if sp.err != nil {
		return false
	}
	s.dir, s.root, s.work, s.session, s.runner = sp.slot.dir, sp.slot.root, sp.slot.work, sp.slot.session, sp.slot.runner
	err := s.proceed(ctx, in)
	if err != nil {
		hurry(s)
		p.endSession(s)
		p.log.Debug("spare process not used", "device", s.device, "err", err)
	}
	return err == nil
}

// proceed shows a slot's spare process the content at in and has it begin.
func (s *slot) proceed(ctx context.Context, in string) (err error) {
	p, ok := s.session.(interface{ proceed(context.Context) error })
	if !ok {
		return errors.New("its process cannot wait")
	}
	if s.input, err = os.Stat(in); err != nil {
		return err
	}
	if err := linkTree(ctx, in, s.root.In); err != nil {
		return err
	}
	return p.proceed(ctx)
}

// linkTree makes the folder to, which is empty, hold the files of from: the
// same ones, under further names. That neither costs what they weigh nor lets
// a process that may only read the one write into the other.
func linkTree(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil || path == from {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.Mkdir(filepath.Join(to, rel), 0o755)
		case d.Type().IsRegular():
			return os.Link(path, filepath.Join(to, rel))
		}
		return fmt.Errorf("%s in a content is a %s", rel, describe(d.Type()))
	})
}

func newSpares(available func() int64) spares {
	return spares{available: available, of: make(map[string]*spare)}
}

// proceed has a process that waits do what it waits for. It returns once the
// process is ready again.
func (s *session) proceed(ctx context.Context) error {
	if !s.Alive() {
		return s.died()
	}
	s.began = time.Now()
	go s.stdin.Write([]byte("\n"))
	if err := s.awaitReady(ctx); err != nil {
		return err
	}
	s.log.Debug("spare session has its content", "took", s.load)
	return nil
}
