package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"idlewild/job"
	"idlewild/node/worker"
	"idlewild/render"
)

// How a device is shared between the farms of one machine.
const (
	turnSlice  = 10 * time.Minute // that one farm has it while another has work too
	turnChance = 15 * time.Second // that the next one has to take something up
	turnLook   = time.Second
)

// turns gives each device of this machine to one of its farms at a time, and to
// the next one after a while. While only one of them has work, it has all.
type turns struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	workers []farmWorker           // in the order of their farms' coming
	rest    map[string]worker.Rest // what the owner's policy says
	devices map[string]*turn
}

// farmWorker is a worker as turns sees it.
type farmWorker interface {
	Yield(map[string]worker.Rest)
	Holds(device string) bool
	Wanted() bool
}

// turn is who has a device.
type turn struct {
	who   farmWorker // nil: nobody, and whoever gets a lease first has it
	since time.Time
	tried farmWorker // had its chance since then and took nothing up
	runs  farmWorker // whose task runs on it; nil: none
	n     int        // how many of them
	idle  chan struct{}
}

func newTurns(log *slog.Logger) *turns {
	return &turns{log: log, now: time.Now, devices: map[string]*turn{}}
}

func (t *turns) add(w farmWorker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.workers = append(t.workers, w)
	t.apply()
}

func (t *turns) remove(w farmWorker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.workers = slices.DeleteFunc(t.workers, func(x farmWorker) bool { return x == w })
	for _, d := range t.devices {
		if d.who == w {
			d.who = nil
		}
		if d.tried == w {
			d.tried = nil
		}
	}
	t.apply()
}

// Yield takes in what the owner's policy says of the devices; see
// worker.Worker.Yield.
func (t *turns) Yield(rest map[string]worker.Rest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest = maps.Clone(rest)
	t.apply()
}

// apply tells every worker which devices rest for it. mu is held.
func (t *turns) apply() {
	for _, w := range t.workers {
		rest := maps.Clone(t.rest)
		if rest == nil {
			rest = map[string]worker.Rest{}
		}
		for name, d := range t.devices {
			if _, rests := rest[name]; !rests && d.who != nil && d.who != w {
				rest[name] = worker.Rest{Reason: "works for another farm just now", Finish: true}
			}
		}
		w.Yield(rest)
	}
}

// run looks now and then who has which device, until ctx ends.
func (t *turns) run(ctx context.Context, devices []string) error {
	tick := time.NewTicker(turnLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.look(devices)
		}
	}
}

// look gives devices to whoever holds a lease of them, takes them from who has
// none, and after a slice gives them to the next that has work.
func (t *turns) look(devices []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.workers) < 2 {
		return
	}
	now, changed := t.now(), false
	give := func(d *turn, name string, to farmWorker) {
		d.who, d.since, changed = to, now, true
	}
	for _, name := range devices {
		d := t.device(name)
		switch {
		case d.who == nil:
			if i := slices.IndexFunc(t.workers, func(w farmWorker) bool { return w.Holds(name) }); i >= 0 {
				give(d, name, t.workers[i])
			}
		case !d.who.Holds(name) && d.runs != d.who:
			if d.tried != d.who && now.Sub(d.since) < turnChance {
				break // it has only just got it
			}
			d.tried = d.who
			give(d, name, nil)
		case now.Sub(d.since) >= turnSlice:
			if next := t.next(d); next != nil {
				t.log.Info("a device works for the next farm now", "device", name)
				give(d, name, next)
			} else {
				d.since, d.tried = now, nil
			}
		}
	}
	if changed {
		t.apply()
	}
}

// next is who has d after the present one: the first in turn that has work. mu
// is held.
func (t *turns) next(d *turn) farmWorker {
	at := slices.Index(t.workers, d.who)
	for i := range len(t.workers) - 1 {
		w := t.workers[(at+1+i)%len(t.workers)]
		if w != d.tried && w.Wanted() {
			return w
		}
	}
	return nil
}

// device needs mu.
func (t *turns) device(name string) *turn {
	d := t.devices[name]
	if d == nil {
		d = &turn{}
		t.devices[name] = d
	}
	return d
}

// begin waits until no task of another farm runs on a device. The error is ctx's.
func (t *turns) begin(ctx context.Context, w farmWorker, device string) error {
	for {
		t.mu.Lock()
		d := t.device(device)
		if d.runs == nil || d.runs == w {
			d.runs = w
			if d.n++; d.n == 1 {
				d.idle = make(chan struct{})
			}
			t.mu.Unlock()
			return nil
		}
		idle := d.idle
		t.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (t *turns) end(device string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.devices[device]
	if d.n--; d.n == 0 {
		d.runs = nil
		close(d.idle)
	}
}

// inTurn is an executor of one farm's worker, on devices that all share.
type inTurn struct {
	render.Executor
	turns *turns
	own   func() farmWorker
}

func (x inTurn) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
	if err := x.turns.begin(ctx, x.own(), t.Device.Name); err != nil {
		return render.Result{Outcome: job.Cancelled, Reason: err.Error()}
	}
	defer x.turns.end(t.Device.Name)
	return x.Executor.Execute(ctx, t, dirs, progress)
}
