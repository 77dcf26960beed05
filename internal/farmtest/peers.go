package farmtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/steward"
	"idlewild/node/worker"
)

type (
	dispatchEvidence = dispatch.Evidence
	dispatchVouched  = dispatch.Vouched
)

// WorkerOptions describe a worker.
type WorkerOptions struct {
	Devices int              // CPU devices, "cpu0" and on; 1
	Speed   float64          // of each; 1
	Cheat   func(n int) bool // whether it invents the output of task n; nil: never
	Worker  worker.Options
}

// Worker is a machine that works for others.
type Worker struct {
	*host
	Worker *worker.Worker // of this start
	opts   WorkerOptions
	runner *runner
	stop   func()
}

// Worker adds a machine and starts it.
func (f *Farm) Worker(name string, o WorkerOptions) *Worker {
	f.T.Helper()
	w := &Worker{host: f.newHost(name), opts: o}
	w.Start()
	return w
}

// ID is the machine's peer id.
func (w *Worker) ID() peer.ID { return w.id }

// Start starts it, after Stop or Crash.
func (w *Worker) Start() {
	w.farm.T.Helper()
	w.powerOn()
	w.Worker, w.runner, w.stop = w.host.startWorker(w.opts)
}

// Stop shuts it down in an orderly way.
func (w *Worker) Stop() { w.stop() }

// Crash is kill -9.
func (w *Worker) Crash() {
	w.farm.T.Helper()
	w.powerOff()
	w.stop() // of the ghost: it can neither say nor keep anything any more
}

func (h *host) startWorker(o WorkerOptions) (*worker.Worker, *runner, func()) {
	if o.Speed <= 0 {
		o.Speed = 1
	}
	m := job.Machine{Facts: map[string][]string{Kind: {"1"}}}
	for i := range max(o.Devices, 1) {
		m.Devices = append(m.Devices, job.Device{Name: fmt.Sprintf("cpu%d", i), Type: "cpu", Class: "farmtest"})
	}
	r := &runner{h: h, speed: o.Speed, cheat: o.Cheat}
	dir := filepath.Join(h.dir, "worker")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.farm.T.Fatal(err)
	}
	w := worker.New(worker.Deps{
		Self: h.id, Key: h.key, Swarm: swarm{h}, Assets: assets{h}, Exec: r,
		Machine: func() job.Machine { return m }, Dir: dir, Log: h.farm.Log.With("peer", h.name),
	}, o.Worker)
	return w, r, h.run("worker", w.Run)
}

// run runs something until the returned function is called, or the test ends.
func (h *host) run(what string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil && !h.isOff() {
				h.farm.T.Errorf("%s of %s: %v", what, h.name, err)
			}
		})
	}
	h.farm.T.Cleanup(stop)
	return stop
}

// RequesterOptions describe a requester.
type RequesterOptions struct {
	// Works makes it work for itself and for others too; else it only
	// finishes and checks its own jobs.
	Works    bool
	Worker   WorkerOptions
	Dispatch dispatch.Options
	Rate     float64 // share of results that is checked
	// Steward makes it one that can have stewards and be one.
	Steward *steward.Options
}

// Requester is a machine that owns jobs.
type Requester struct {
	*host
	Dispatcher *dispatch.Dispatcher // of this start
	Book       *Book
	opts       RequesterOptions
	stopAll    func()
}

// Requester adds a machine and starts it.
func (f *Farm) Requester(name string, o RequesterOptions) *Requester {
	f.T.Helper()
	r := &Requester{host: f.newHost(name), opts: o, Book: &Book{rate: o.Rate, of: map[peer.ID]dispatch.Score{}}}
	r.Start()
	return r
}

// ID is the machine's peer id.
func (r *Requester) ID() peer.ID { return r.id }

// Start starts it, after Stop or Crash.
func (r *Requester) Start() {
	t := r.farm.T
	t.Helper()
	r.powerOn()
	dir := filepath.Join(r.dir, "dispatch")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := dispatch.NewDispatcher(dispatch.Deps{
		Self: r.id, Key: r.key, Kinds: map[job.Kind]dispatch.Kind{Kind: planner{}},
		Content: content{r.host}, Market: swarm{r.host}, Results: results{r.host}, Judge: judge{}, Book: r.Book, Sink: folder{r.host},
		Dir: dir, Log: r.farm.Log.With("peer", r.name),
	}, r.opts.Dispatch)
	if err != nil {
		t.Fatalf("start %s: %v", r.name, err)
	}
	r.Dispatcher = d
	stopDispatcher := r.host.run("dispatcher", d.Run)
	r.mu.Lock()
	r.accept = func(from peer.ID) (chan<- job.Report, <-chan job.Order) { return d.Open(context.Background(), from) }
	r.mu.Unlock()
	o := r.opts.Worker
	o.Worker.Home, o.Worker.NoWork = r.id, !r.opts.Works
	w, _, stopWorker := r.host.startWorker(o)
	stopSteward := func() {}
	if r.opts.Steward != nil {
		stopSteward = r.startSteward(w)
	}
	r.stopAll = func() {
		stopSteward()
		stopWorker()
		r.mu.Lock()
		r.accept = nil
		r.mu.Unlock()
		stopDispatcher()
	}
}

// Stop shuts it down in an orderly way.
func (r *Requester) Stop() { r.stopAll() }

// Crash is kill -9.
func (r *Requester) Crash() {
	r.farm.T.Helper()
	r.powerOff()
	r.stopAll() // of the ghost
}

// Submit submits work and returns the job and its output folder.
func (r *Requester) Submit(w Work, change func(*job.Spec)) (job.ID, string) {
	r.farm.T.Helper()
	p, err := json.Marshal(w)
	if err != nil {
		r.farm.T.Fatal(err)
	}
	out, err := os.MkdirTemp(r.farm.dir, "out-")
	if err != nil {
		r.farm.T.Fatal(err)
	}
	s := job.Spec{Kind: Kind, Output: out, Params: p}
	if change != nil {
		change(&s)
	}
	id, err := r.Dispatcher.Submit(context.Background(), s)
	if err != nil {
		r.farm.T.Fatalf("submit: %v", err)
	}
	return id, s.Output
}

// Status is the job's, with its frames.
func (r *Requester) Status(id job.ID) job.Status {
	r.farm.T.Helper()
	s, err := r.Dispatcher.Status(id)
	if err != nil {
		r.farm.T.Fatal(err)
	}
	return s
}

// Wait waits until the job has ended, at most limit of fake time, and returns
// how long that took.
func (r *Requester) Wait(id job.ID, limit time.Duration) (job.Status, time.Duration) {
	r.farm.T.Helper()
	// The frames are not looked at meanwhile: listing them is most of the cost.
	return r.until(id, limit, "ended", func() (job.Status, bool) {
		for _, s := range r.Dispatcher.List() {
			if s.Job == id && !s.State.Ended() {
				return s, false
			}
		}
		return r.Status(id), true
	})
}

// Until waits until the job is as ok says, at most limit of fake time.
func (r *Requester) Until(id job.ID, limit time.Duration, what string, ok func(job.Status) bool) (job.Status, time.Duration) {
	r.farm.T.Helper()
	return r.until(id, limit, what, func() (job.Status, bool) {
		s := r.Status(id)
		return s, ok(s)
	})
}

func (r *Requester) until(id job.ID, limit time.Duration, what string, look func() (job.Status, bool)) (job.Status, time.Duration) {
	r.farm.T.Helper()
	start, gap := time.Now(), 10*time.Millisecond
	for {
		synctest.Wait()
		s, ok := look()
		if ok {
			return s, time.Since(start)
		}
		if time.Since(start) > limit {
			s.Frames = nil
			r.farm.T.Fatalf("job not %s after %v: %+v", what, limit, s)
		}
		time.Sleep(gap) // fake time
		gap = min(gap*11/10, 500*time.Millisecond)
	}
}

// Book implements dispatch.Book in memory. It survives crashes.
type Book struct {
	rate float64

	mu sync.Mutex
	of map[peer.ID]dispatch.Score
}

// Record implements dispatch.Book.
func (b *Book) Record(w peer.ID, _ job.Signed, _ job.Leaf, v job.Verdict) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of[w]
	switch v.Ruling {
	case job.Accepted:
		s.Accepted++
	case job.Rejected:
		s.Rejected++
	case job.Unsure:
		s.Unsure++
	default:
		return errors.New("no such ruling")
	}
	if v.Method != "trusted" {
		s.Checked++
	}
	b.of[w] = s
	return nil
}

// Score implements dispatch.Book.
func (b *Book) Score(w peer.ID) dispatch.Score {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of[w]
	s.Rate = b.rate
	return s
}
