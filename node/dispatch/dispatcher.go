package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// ErrStopped is returned by calls to a Dispatcher that does not run any more.
var ErrStopped = errors.New("the dispatcher is stopped")

// Dispatcher owns this machine's jobs: it drives a Board, keeps its journal and
// carries out its effects. It is p2p.Coordinator, localapi.Jobs and
// localapi.Views.
type Dispatcher struct {
	deps Deps
	o    Options
	log  *slog.Logger

	ctx     context.Context // ends with Run
	cancel  context.CancelFunc
	events  chan Event
	commits chan []Effect
	wg      sync.WaitGroup
	ring    *ring
	journal *journal // used by the committer alone once Run began
	start   []Effect // what restoring wants done
	closeMu sync.Mutex
	closed  bool
	running chan struct{} // guarded by closeMu; not nil once Run began, closed at its end
	fatal   context.CancelCauseFunc
	disk    atomic.Pointer[string] // why the journal cannot be written now

	mu    sync.Mutex
	board *Board // guarded by mu

	streamMu      sync.Mutex
	streams       map[peer.ID]*stream
	streamNo      uint64
	streamsClosed bool

	runs     map[job.ID]*jobRun // used by the committer alone
	grants   map[grantKey]readGrant
	grantsAt int // of them, before those that are over are forgotten

	fetching, quick, judging, booking, delivering, preparing, saving, cleaning, announcing *pool
}

type grantKey struct {
	id     job.ID
	reader peer.ID
}

type readGrant struct {
	signed  job.Signed
	expires time.Time
}

// jobRun is what runs for one job outside the board: it ends with the job.
type jobRun struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  <-chan struct{} // closed once an earlier run is cleaned up; nil: at once
}

// NewDispatcher opens the journal below d.Dir and restores every job in it.
// Run must be called for anything to happen, or Close.
func NewDispatcher(d Deps, o Options) (*Dispatcher, error) {
	for name, missing := range map[string]bool{
		"Self": d.Self == "", "Key": d.Key == nil, "Content": d.Content == nil, "Market": d.Market == nil, "Results": d.Results == nil,
		"Judge": d.Judge == nil, "Book": d.Book == nil, "Sink": d.Sink == nil, "Dir": d.Dir == "",
	} {
		if missing {
			return nil, fmt.Errorf("dispatch: no %s given", name)
		}
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	x := &Dispatcher{deps: d, o: o.withDefaults(), log: d.Log, events: make(chan Event, 256), commits: make(chan []Effect),
		streams: map[peer.ID]*stream{}, runs: map[job.ID]*jobRun{}, grants: map[grantKey]readGrant{}}
	n, jobs, err := openJournal(d.Dir, d.Disk, d.Log)
	if err != nil {
		return nil, err
	}
	x.journal = n
	x.ring = newRing(n.epoch<<32 + 1)
	x.ctx, x.cancel = context.WithCancel(context.Background())
	x.board = NewBoard(d.Self, n.epoch, x.o)
	x.board.now = time.Now()
	for _, j := range jobs {
		x.board.restore(j)
		x.sweep(j)
	}
	x.start = append(drain(&x.board.out), x.board.Step(time.Now(), Tick{})...)
	pools := []struct {
		p     **pool
		limit int
	}{
		{&x.fetching, x.o.Fetches}, {&x.quick, 4}, {&x.judging, x.o.Judges}, {&x.booking, 16}, {&x.delivering, 4},
		{&x.preparing, 2}, {&x.saving, 4}, {&x.cleaning, 4}, {&x.announcing, 1},
	}
	for _, p := range pools {
		*p.p = &pool{limit: p.limit, wg: &x.wg}
	}
	return x, nil
}

// sweep removes staging folders that no record speaks of: a crash came first.
func (d *Dispatcher) sweep(j *jobState) {
	dir := filepath.Join(d.journal.jobDir(j.id), "staging")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		fence, err := strconv.ParseUint(e.Name(), 16, 64)
		if x := j.rets[fence]; err != nil || x == nil || x.state == retEnded {
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

// Epoch is the number of this start of the coordinator.
func (d *Dispatcher) Epoch() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.board.epoch
}

// Run works until ctx ends, or until the journal cannot be written any more,
// which is the error then. It closes the Dispatcher.
func (d *Dispatcher) Run(ctx context.Context) error {
	d.closeMu.Lock()
	if d.closed || d.running != nil {
		d.closeMu.Unlock()
		return ErrStopped
	}
	d.running = make(chan struct{})
	d.closeMu.Unlock()
	ctx, d.fatal = context.WithCancelCause(ctx)
	defer d.fatal(nil)
	stop := context.AfterFunc(ctx, d.cancel)
	defer stop()

	committed := make(chan struct{})
	go func() {
		defer close(committed)
		for batch := range d.commits {
			d.commit(batch)
		}
	}()
	d.loop()
	close(d.commits)
	<-committed
	d.closeMu.Lock()
	err := d.close()
	close(d.running)
	d.closeMu.Unlock()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return err
}

// Close ends a Dispatcher and gives up its folder; it waits for Run, which does
// the same by itself when its context ends.
func (d *Dispatcher) Close() error {
	d.closeMu.Lock()
	running := d.running
	if running == nil {
		defer d.closeMu.Unlock()
		return d.close()
	}
	d.closeMu.Unlock()
	d.cancel()
	<-running
	return nil
}

func (d *Dispatcher) close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	d.cancel()
	d.hangUp()
	d.wg.Wait()
	return d.journal.close()
}

// Crowded says whether other programs of this machine's owner keep its
// processor busy: its own checks then make way for them.
func (d *Dispatcher) Crowded(crowded bool) { d.post(Crowded{crowded}) }

// post gives the board an event; false once nobody listens.
func (d *Dispatcher) post(e Event) bool {
	select {
	case d.events <- e:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// loop owns the order of things: one event after the other. While records are
// on their way to disk it goes on; their effects wait in pending.
func (d *Dispatcher) loop() {
	pending := d.start
	d.start = nil
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		d.mu.Lock()
		at := d.board.Deadline()
		d.mu.Unlock()
		var tick <-chan time.Time
		if !at.IsZero() {
			t.Reset(max(0, time.Until(at)))
			tick = t.C
		}
		var out chan<- []Effect
		if len(pending) > 0 {
			out = d.commits
		}
		select {
		case e := <-d.events:
			pending = append(pending, d.step(e)...)
		case <-tick:
			pending = append(pending, d.step(Tick{})...)
		case out <- pending:
			pending = nil
		case <-d.ctx.Done():
			// What was decided becomes durable; the rest of it is for the
			// next start.
			if len(pending) > 0 {
				d.commits <- pending
			}
			return
		}
	}
}

// step takes e, and whatever else is there already.
func (d *Dispatcher) step(e Event) []Effect {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.board.Step(time.Now(), e)
	for range 64 {
		select {
		case e := <-d.events:
			out = append(out, d.board.Step(time.Now(), e)...)
		default:
			return out
		}
	}
	return out
}

// commit makes the records of a batch durable, then does the rest of it.
func (d *Dispatcher) commit(batch []Effect) {
	var ws []Write
	for _, e := range batch {
		if w, ok := e.(Write); ok {
			ws = append(ws, w)
		}
	}
	if len(ws) > 0 && !d.persist(ws) {
		return
	}
	for _, e := range batch {
		d.carryOut(e)
	}
}

// persist writes records. Nothing was acknowledged while the disk is full, so
// it may wait until somebody makes room; a disk in doubt ends the Dispatcher.
func (d *Dispatcher) persist(ws []Write) bool {
	for told := false; ; {
		left, err := d.journal.write(ws)
		if err == nil {
			if told {
				d.log.Info("journal is written again")
				d.disk.Store(nil)
			}
			return true
		}
		if errors.Is(err, recordlog.ErrInDoubt) {
			d.log.Error("journal cannot be written", "err", err)
			d.fatal(err)
			return false
		}
		if !told {
			told = true
			d.log.Error("journal cannot be written, waiting", "err", err)
			why := "nothing can be recorded: " + err.Error()
			d.disk.Store(&why)
		}
		ws = left
		select {
		case <-time.After(time.Second):
		case <-d.ctx.Done():
			return false
		}
	}
}

var _ io.Closer = (*Dispatcher)(nil)
