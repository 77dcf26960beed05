package worker

import (
	"context"
	"slices"
	"time"

	"idlewild/job"
)

// device is one slot for work and its queue. Guarded by Worker.mu, but for wake,
// and for kept, which is of the goroutine that drives it.
type device struct {
	job.Device
	queue   []*lease
	current *lease // taken from the queue last; nil while idle
	wake    chan struct{}
	gone    bool // no longer in the machine: what it holds may end
	// kept is closed when the outputs of the task that ran last are kept. The device
	// works on the next one meanwhile, since that reads every pixel and waits for
	// the disk, and no further than that.
	kept chan struct{}
}

// load is how many leases the device holds that it has work left on. mu is held.
func (d *device) load() int {
	n := len(d.queue)
	if d.current != nil && !d.current.done && !d.current.ended {
		n++
	}
	return n
}

// ready is how many leases d works on, or could begin at once. mu is held.
func (d *device) ready() int {
	n := 0
	if c := d.current; c != nil && !c.done && !c.ended {
		n++
	}
	for _, l := range d.queue {
		if l.here() {
			n++
		}
	}
	return n
}

// doing is the lease that d works on, or waits for; nil while it is idle. mu is held.
func (d *device) doing() *lease {
	if d.current == nil && len(d.queue) > 0 {
		return d.queue[0]
	}
	return d.current
}

// lease is a lease that we hold. The fields below cancel are guarded by
// Worker.mu.
type lease struct {
	r      *requester
	device *device
	on     job.Device // what the device was when the lease came
	grant  job.Lease
	keys   []job.TaskKey
	serial int
	inputs map[job.Ref]*input
	ctx    context.Context // ends with the lease
	cancel context.CancelCauseFunc

	skip        []bool // tasks whose receipts exist already
	next        int    // the first task that may not have been accounted for
	task        int    // as in job.Progress
	fraction    float64
	phase       string
	executing   int   // tasks under way that can be finished: one runs, of one the outputs are kept
	running     bool  // one of them runs
	last        bool  // ends after the task that is under way
	short       bool  // the task that is under way takes too much of its GPU
	why         error // of last
	done        bool  // every task ran; receipts may be missing
	ended       bool  // no longer held
	uncommitted int   // tasks that ran and have no receipt yet
}

// input is one tree that tasks of a lease read.
type input struct {
	ready chan struct{} // closed when what follows is set
	dir   string
	err   error
}

// take begins a lease, or gives it back at once. mu is held.
func (w *Worker) take(r *requester, g job.Lease) {
	if r.held[g.ID] != nil {
		return // said twice
	}
	d := w.devices[g.Device]
	why := ""
	switch {
	case d == nil || d.gone || g.Device == job.HomeDevice && !r.home:
		why = "there is no such device here"
	case w.resting(g.Device) != "":
		why = w.resting(g.Device)
	case len(r.held) >= 4*w.opts.Credit*len(w.devices) || len(r.held) >= job.MaxDevices:
		why = "more than was asked for"
	default:
		if why = w.unwelcome(r); why == "" {
			why = w.refuse(r, g)
		}
	}
	w.serial++
	l := &lease{
		r: r, device: d, on: job.Device{Name: clip(g.Device, job.MaxNameBytes)}, grant: g, serial: w.serial, task: -1, phase: "waiting",
		keys: make([]job.TaskKey, len(g.Tasks)), skip: make([]bool, len(g.Tasks)),
		inputs: map[job.Ref]*input{},
	}
	switch {
	case d == nil:
	case g.Device == job.HomeDevice:
		l.on = w.homeDevice()
	default:
		l.on = d.Device
	}
	left := 0
	for i, t := range g.Tasks {
		l.keys[i] = t.Task.Key()
		w.secrets.add(g.ID, l.keys[i], t.SecretHash)
		// The same lease again after a cut: what has a receipt is not done twice.
		l.skip[i] = slices.ContainsFunc(r.unsettled, func(u *receipt) bool { return !u.volatile && u.lease == g.ID && u.has(l.keys[i]) })
		if !l.skip[i] {
			left++
		}
		for _, in := range inputs(t) {
			if l.inputs[in] == nil {
				l.inputs[in] = &input{ready: make(chan struct{})}
			}
		}
	}
	if why != "" {
		w.log.Info("lease not taken", "requester", r.id, "lease", g.ID, "device", g.Device, "reason", why)
		l.ended = true
		w.sayCancelled(l, why)
		return
	}
	if left == 0 {
		r.say(0)
		return
	}
	l.ctx, l.cancel = context.WithCancelCause(w.work)
	r.busy = time.Now()
	if d.shared() {
		w.seeks(r, r.busy)
	}
	r.held[g.ID] = l
	if d.shared() {
		w.waits(r, r.busy)
	}
	w.jobs[g.Job] = r.busy
	d.queue = append(d.queue, l)
	poke(d.wake)
	w.devs.Go(func() { w.prepare(l) })
	// The next report lists it; others learn that the device is taken.
	for _, x := range w.requesters {
		if x == r {
			x.sayAt(x.spoke.Add(progressGap))
		} else {
			x.say(bidGap)
		}
	}
}

// giveBack ends a lease before its time; with finish the task that is under
// way may end. mu is held.
func (w *Worker) giveBack(l *lease, why error, finish bool) {
	if finish && l.executing > 0 {
		l.last, l.why = true, why
		return
	}
	w.end(l, why)
	l.r.say(0)
	w.bidSoon(l.r)
}

// sayCancelled tells the requester of every task of a lease that was not run
// that it will not be, so that somebody else gets it at once. That is no work
// done: it need not survive anything. mu is held.
func (w *Worker) sayCancelled(l *lease, why string) {
	for i := l.next; i < len(l.grant.Tasks); i++ {
		if !l.skip[i] {
			outcome := job.Cancelled
			if l.short && i == l.task && l.grant.Memory {
				outcome = job.OutOfVRAM
			}
			leaf := job.Leaf{
				Task: l.keys[i], Fence: l.grant.Tasks[i].Fence, Outcome: outcome, Reason: clip(why, job.MaxReasonBytes),
				Device: l.on.Name, DeviceClass: l.on.Class,
			}
			l.uncommitted++
			w.finished = append(w.finished, finished{lease: l, leaf: leaf, at: time.Now()})
		}
	}
	l.next = len(l.grant.Tasks)
	poke(w.commits)
}

// end forgets a lease. Unless the requester itself ended it, or was out of
// reach for longer than it lasts, it hears of what was not done. mu is held.
func (w *Worker) end(l *lease, why error) {
	if l.ended {
		return
	}
	l.ended = true
	if _, byThem := why.(stopped); !byThem && why != errExpired && why != errTaken && why != nil {
		w.sayCancelled(l, why.Error())
	}
	l.cancel(why)
	if l.r.held[l.grant.ID] == l {
		delete(l.r.held, l.grant.ID)
		if l.device.shared() {
			l.r.since = time.Now()
		}
	}
	l.device.queue = slices.DeleteFunc(l.device.queue, func(x *lease) bool { return x == l })
}

// inputs are the trees that a task reads: its files, and folders that its
// predecessors left.
func inputs(g job.Granted) []job.Ref {
	var out []job.Ref
	if g.Task.Input.Defined() {
		out = append(out, g.Task.Input)
	}
	for _, o := range g.Trees() {
		out = append(out, o.File)
	}
	return out
}

// prepare unpacks the inputs of a lease, in the order of its tasks, while the
// device still works on the one before; and keeps them until the lease ends.
func (w *Worker) prepare(l *lease) {
	for _, t := range l.grant.Tasks {
		for _, ref := range inputs(t) {
			if tr := w.unpack(l, ref); tr != nil {
				defer w.trees.release(tr)
			}
		}
	}
	<-l.ctx.Done()
}

// unpack makes one of a lease's inputs ready, unless it is already. The caller
// releases the tree that it returns.
func (w *Worker) unpack(l *lease, ref job.Ref) *tree {
	in := l.inputs[ref]
	if in.dir != "" || in.err != nil {
		return nil
	}
	var tr *tree
	in.err = w.retry(l, func() (err error) {
		ctx := l.ctx
		if w.waitsFor(l, ref) {
			ctx = withWaiting(ctx)
		}
		tr, err = w.fetch(ctx, l.r.id, l.grant, ref, func(f float64) { w.progress(l, -1, "fetching", f) })
		return err
	})
	if in.err == nil {
		in.dir = tr.dir
		if !l.grant.Made(ref) {
			w.mu.Lock()
			if len(l.r.content) >= 256 {
				clear(l.r.content)
			}
			l.r.content[l.grant.Job] = ref
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	close(in.ready)
	if l.device.shared() && !l.ended {
		w.waits(l.r, time.Now())
	}
	w.mu.Unlock()
	poke(l.device.wake)
	return tr
}

// waitsFor reports whether the lease's device has nothing to do until ref is here.
func (w *Worker) waitsFor(l *lease, ref job.Ref) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, i := l.device, l.after(l.next)
	return i < len(l.grant.Tasks) && slices.Contains(inputs(l.grant.Tasks[i]), ref) &&
		(d.current == l || d.current == nil && slices.Contains(d.queue, l))
}

// retry fetches again where the network may be to blame: while the requester
// is out of reach it waits for it, and one failure is forgiven.
func (w *Worker) retry(l *lease, fetch func() error) error {
	const tries = 5
	for try := 1; ; try++ {
		err := fetch()
		if err == nil {
			return nil
		}
		if l.ctx.Err() != nil {
			return context.Cause(l.ctx)
		}
		w.mu.Lock()
		linked, up := l.r.linked, l.r.up
		w.mu.Unlock()
		if try >= tries || linked && try >= 2 {
			return err
		}
		w.log.Debug("fetch again", "requester", l.r.id, "lease", l.grant.ID, "err", err)
		again := time.NewTimer(time.Second)
		var wait <-chan time.Time
		if linked {
			up, wait = nil, again.C
		}
		select {
		case <-up:
		case <-wait:
		case <-l.ctx.Done():
		}
		again.Stop()
		if l.ctx.Err() != nil {
			return context.Cause(l.ctx)
		}
	}
}

// progress notes how far a lease is; the requester hears of a
// new phase within a second, of how far it is within three.
func (w *Worker) progress(l *lease, task int, phase string, fraction float64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.ended || l.done || task == -1 && l.task >= 0 {
		return
	}
	due := l.r.progressDue()
	if within := l.r.spoke.Add(withinGap); task == l.task && phase == l.phase && within.After(due) {
		due = within
	}
	l.task, l.phase, l.fraction = task, phase, clamp(fraction)
	l.r.sayAt(due)
}
