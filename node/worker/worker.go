package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/beat"
	"idlewild/job"
	"idlewild/render"
)

// Deps is what a Worker needs of the rest of the program. All are required but
// Log and Sum.
type Deps struct {
	Self    peer.ID    // this machine
	Key     job.Signer // of Self: signs receipts
	Swarm   Swarm
	Assets  Assets
	Exec    render.Executor
	Machine func() job.Machine // asked now and then: facts and devices may change
	Dir     string             // trees, task folders and receipts lie below it; used by one Worker at a time
	Log     *slog.Logger
	// Sum names a file's bytes as Assets.Collect would. Nil: nothing is answered
	// that is asked directly.
	Sum func(file []byte) (job.Ref, error)
}

// Options tune a Worker. The zero value takes work from everybody and is
// nobody's home.
type Options struct {
	// Home is this machine's own requester, if it has one. The worker joins it
	// at the start and never leaves; to it alone it offers one more device,
	// job.HomeDevice, for tasks whose place is the requester.
	Home peer.ID
	// CPU is this machine's, like which the home device is; where it is not among
	// the devices of the machine it works for nobody else.
	CPU job.Device
	// NoWork: only the home device works.
	NoWork bool
	// Accept says whether work of a requester is taken, and if not why. It is
	// not asked about Home. Nil accepts everybody.
	Accept func(requester peer.ID) error
	// Unfit is told what this machine lacks for an offer, and may say it better;
	// it must not wait. Nil: nobody is told.
	Unfit func(needs job.Needs, why string) string
	Price float64 // per device-second; offers that pay less are passed over
	// Stranger reports whether a requester is no member of the farm. Nil: none is.
	Stranger func(requester peer.ID) bool
	// Precedence is how many times as much of this machine as others a requester
	// gets beside them, at least 1. Nil: 1.
	Precedence func(requester peer.ID) float64

	Credit     int           // leases that one device holds: one runs, the others fetch; 2
	TreeBytes  int64         // of unpacked job content kept for later; 20 GiB
	IdleLeave  time.Duration // a requester with nothing to do is left after this; 2 min
	ReceiptTTL time.Duration // work that nobody collected is forgotten after this; 7 days
	// Keep is how long the outputs of a job stay pinned after its last lease
	// and receipt are gone; 10 min.
	Keep time.Duration
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if o.Credit <= 0 {
		o.Credit = 2
	}
	if o.TreeBytes <= 0 {
		o.TreeBytes = 20 << 30
	}
	set(&o.IdleLeave, 2*time.Minute)
	set(&o.ReceiptTTL, 7*24*time.Hour)
	set(&o.Keep, 10*time.Minute)
	return o
}

const (
	maxRequesters = 64               // joined at a time
	maxStrangers  = 16               // of them that are no members of the farm
	lookEvery     = 2 * time.Second  // readiness, machine, things that grew old
	lookResting   = 10 * time.Second // the same while nobody else is joined
	goodbye       = 3 * time.Second  // for the last report at shutdown
)

// Why a lease ended here although nobody asked for it.
var (
	errShutdown = errors.New("this machine is shutting down")
	errExpired  = errors.New("the requester was out of reach for longer than the lease")
)

// stopped is the cause of a lease's end by its requester.
type stopped struct{ reason string }

func (e stopped) Error() string {
	if e.reason == "" {
		return "stopped by the requester"
	}
	return "stopped by the requester: " + e.reason
}

// Worker is the provider's half of this machine. One mutex guards all that it
// knows; nothing waits while holding it. Goroutines: one per device that runs
// its queue, one per requester that keeps the link, one that commits finished
// tasks to disk, one that looks at the clock.
type Worker struct {
	deps    Deps
	opts    Options
	log     *slog.Logger
	session string
	trees   *trees
	commits chan struct{} // wakes the committer; holds one
	joined  chan struct{} // wakes the clock; holds one

	work  context.Context // of leases: ends first at shutdown
	links context.Context // of links: ends last
	devs  sync.WaitGroup
	peers sync.WaitGroup
	store *receiptStore

	mu         sync.Mutex
	running    bool
	machine    job.Machine // as last seen, without the home device
	machineGen int         // grows when machine changes
	unready    string      // why no task can be taken now, by the executor
	unsaved    string      // why receipts cannot be kept
	paused     string
	rest       map[string]Rest // by device
	closing    bool            // no new work
	goodbye    bool            // nothing runs and nothing is left to commit
	devices    map[string]*device
	asked      map[string]*asked // that run, by device
	requesters map[peer.ID]*requester
	jobs       map[job.ID]time.Time // last use of jobs that may have pinned outputs
	finished   []finished           // tasks to commit, in order
	committed  time.Time            // when the committer last ran
	secrets    secrets
	passed     string // why the newest offer was passed over
	heard      map[job.ID]*Heard
	claims     map[claimKey]*claim // of stewards
	serial     int                 // of leases, so that folders are never shared
}

// New returns a Worker; Run starts it.
func New(d Deps, o Options) *Worker {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	var id [12]byte
	rand.Read(id[:])
	return &Worker{
		deps: d, opts: o.withDefaults(), log: d.Log,
		session:    hex.EncodeToString(id[:]),
		commits:    make(chan struct{}, 1),
		joined:     make(chan struct{}, 1),
		devices:    map[string]*device{},
		asked:      map[string]*asked{},
		requesters: map[peer.ID]*requester{},
		jobs:       map[job.ID]time.Time{},
		heard:      map[job.ID]*Heard{},
	}
}

// Run works until ctx ends, then gives back what it holds, says so to every
// requester, and returns nil once no task runs and every receipt is on disk.
// An error means that it could not start. It is called once.
func (w *Worker) Run(ctx context.Context) error {
	w.mu.Lock()
	if w.running {
		w.mu.Unlock()
		return errors.New("worker: run twice")
	}
	w.running = true
	w.mu.Unlock()

	if err := w.folders(); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	store, kept, jobs, err := openReceipts(filepath.Join(w.deps.Dir, "receipts.db"), w.log)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	w.store = store

	detached := context.WithoutCancel(ctx)
	var endWork context.CancelCauseFunc
	w.work, endWork = context.WithCancelCause(detached)
	var endLinks context.CancelFunc
	w.links, endLinks = context.WithCancel(detached)
	defer endLinks()

	w.look(ctx)
	w.mu.Lock()
	for id, used := range jobs {
		w.jobs[id] = used
	}
	for _, u := range kept {
		r := w.requesterLocked(u.requester, true)
		r.unsettled = append(r.unsettled, u)
		for _, l := range u.leaves {
			w.secrets.add(u.lease, l.Task, l.SecretHash)
		}
	}
	if w.opts.Home != "" {
		w.addDevice(job.Device{Name: job.HomeDevice, Type: "cpu"})
		w.requesterLocked(w.opts.Home, true)
	}
	w.mu.Unlock()

	var rest sync.WaitGroup
	rest.Go(func() { w.offers(ctx) })
	rest.Go(func() { w.clock(ctx) })
	commitDone, endCommits := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(commitDone)
		w.committer(endCommits)
	}()

	<-ctx.Done()
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	endWork(errShutdown)
	rest.Wait()
	w.devs.Wait() // no task runs any more
	w.trees.fills.Wait()
	close(endCommits)
	<-commitDone // what was finished is on disk
	w.mu.Lock()
	w.goodbye = true
	w.sayAll(0)
	w.mu.Unlock()
	end := time.AfterFunc(goodbye, endLinks)
	w.peers.Wait() // each says goodbye, then closes its link
	end.Stop()
	if err := store.close(); err != nil {
		w.log.Warn("close receipts", "err", err)
	}
	return nil
}

// folders makes the worker's folders and removes what an earlier process left
// half-done.
func (w *Worker) folders() error {
	if err := os.RemoveAll(w.taskDir()); err != nil {
		return err
	}
	for _, d := range []string{w.taskDir(), w.emptyDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	t, err := openTrees(filepath.Join(w.deps.Dir, "trees"), w.opts.TreeBytes, w.log, w.deps.Assets.Sound)
	w.trees = t
	return err
}

func (w *Worker) taskDir() string  { return filepath.Join(w.deps.Dir, "tasks") }
func (w *Worker) emptyDir() string { return filepath.Join(w.deps.Dir, "empty") } // the input of tasks that have none

// clock looks at what changes by itself.
func (w *Worker) clock(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		t.Reset(beat.Until(w.pace()))
		select {
		case <-ctx.Done():
			return
		case <-w.joined:
			continue // somebody is to be told what changes
		case <-t.C:
			w.look(ctx)
			w.expire(time.Now())
			w.release(ctx)
		}
	}
}

// pace is how often clock looks.
func (w *Worker) pace() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requesters {
		if !r.home { // our own is joined for ever, in memory
			return lookEvery
		}
	}
	return lookResting
}

// look asks the executor whether it is ready and the machine what it has.
func (w *Worker) look(ctx context.Context) {
	unready := ""
	if err := w.deps.Exec.Ready(ctx); err != nil {
		if ctx.Err() != nil {
			return
		}
		unready = err.Error()
	}
	m := w.deps.Machine()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return
	}
	changed := w.unready != unready
	if changed && unready != "" {
		w.log.Warn("no task can be taken", "reason", unready)
	}
	w.unready = unready
	if !reflect.DeepEqual(m, w.machine) {
		w.machine = m
		w.machineGen++
		changed = true
	}
	if !w.opts.NoWork {
		for name, d := range w.devices {
			d.gone = name != job.HomeDevice
		}
		for _, d := range m.Devices {
			w.addDevice(d)
		}
	}
	if changed {
		w.sayAll(0)
	}
}

// addDevice begins a queue for d, or takes over what changed about it. mu is held.
func (w *Worker) addDevice(d job.Device) {
	if have := w.devices[d.Name]; have != nil {
		have.Device, have.gone = d, false
		return
	}
	dev := &device{Device: d, wake: make(chan struct{}, 1), kept: make(chan struct{})}
	close(dev.kept)
	w.devices[d.Name] = dev
	w.devs.Go(func() { w.drive(dev) })
}

// expire gives up what grew old: leases of requesters that are out of reach,
// receipts that nobody collects. mu is not held.
func (w *Worker) expire(now time.Time) {
	var old []*receipt
	w.mu.Lock()
	for _, r := range w.requesters {
		if !r.linked {
			for _, l := range r.held {
				if l.grant.TTL > 0 && now.Sub(r.heard) > l.grant.TTL && !l.last && !l.done {
					w.giveBack(l, errExpired, true)
				}
			}
		}
		r.unsettled = slices.DeleteFunc(r.unsettled, func(u *receipt) bool {
			if now.Sub(u.at) < w.opts.ReceiptTTL {
				return false
			}
			old = append(old, u)
			return true
		})
		if w.leaving(r, now) {
			r.hurry() // its goroutine sees for itself
			r.say(0)
		}
	}
	w.handBack()
	w.mu.Unlock()
	for _, u := range old {
		w.log.Warn("work was never collected: forgotten", "requester", u.requester, "job", u.job, "lease", u.lease)
		w.store.forget(u)
	}
	if err := w.store.flush(); err != nil {
		w.log.Warn("receipts", "err", err)
	}
}

// release gives up the pins of jobs that nothing here speaks of any more.
func (w *Worker) release(ctx context.Context) {
	now := time.Now()
	var done []job.ID
	w.mu.Lock()
	for _, r := range w.requesters {
		for _, l := range r.held {
			w.jobs[l.grant.Job] = now
		}
		for _, u := range r.unsettled {
			w.jobs[u.job] = now
		}
	}
	for id, used := range w.jobs {
		if now.Sub(used) > w.opts.Keep {
			done = append(done, id)
			delete(w.jobs, id)
		}
	}
	w.mu.Unlock()
	for _, id := range done {
		if err := w.deps.Assets.Release(ctx, id); err != nil {
			w.log.Warn("release job", "job", id, "err", err)
			w.mu.Lock()
			w.jobs[id] = now // again later
			w.mu.Unlock()
			continue
		}
		w.store.dropJob(id)
	}
}
