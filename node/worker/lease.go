package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"idlewild/job"
	"idlewild/render"
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
	r.held[g.ID] = l
	r.busy = time.Now()
	w.jobs[g.Job] = time.Now()
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
		if w.waitsFor(l) {
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
	close(in.ready)
	return tr
}

// waitsFor reports whether the lease's device has nothing else to do.
func (w *Worker) waitsFor(l *lease) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(l.device.queue) > 0 && l.device.queue[0] == l
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

// drive runs the queue of one device, until the worker shuts down.
func (w *Worker) drive(d *device) {
	for {
		w.mu.Lock()
		d.current = nil
		if w.work.Err() != nil {
			for len(d.queue) > 0 {
				w.end(d.queue[0], errShutdown)
			}
			w.mu.Unlock()
			return
		}
		if len(d.queue) > 0 {
			d.current = w.pick(d, time.Now())
		}
		l := d.current
		w.mu.Unlock()
		if l != nil {
			w.runLease(l)
			continue
		}
		select {
		case <-d.wake:
		case <-w.work.Done():
		}
	}
}

// runLease runs a lease's tasks in order.
func (w *Worker) runLease(l *lease) {
	final := len(l.skip) - 1
	for final >= 0 && l.skip[final] {
		final--
	}
	w.mu.Lock()
	first := l.next
	w.mu.Unlock()
	turn := time.Now()
	d := l.device
	for i := first; i < len(l.grant.Tasks); i++ {
		w.mu.Lock()
		stop := l.ended || l.last
		skip := l.skip[i]
		later := !stop && !skip && l.overdue(turn, time.Now())
		w.mu.Unlock()
		if later {
			<-d.kept // whoever goes on with it begins at the first that is not accounted for
			w.mu.Lock()
			stop = l.ended || l.last
			later = !stop && w.yields(l, turn, time.Now())
			w.mu.Unlock()
			if later {
				return
			}
		}
		if stop {
			break
		}
		if skip {
			continue
		}
		began := time.Now()
		k, ok := w.runTask(l, i)
		took := time.Since(began)
		<-d.kept
		w.mu.Lock()
		l.running = false // not before: until now a stop was one with this task to finish
		if ok {
			w.serve(l.r, took, time.Now())
			l.task, l.fraction, l.phase = -1, 0, "waiting"
		}
		w.mu.Unlock()
		if !ok {
			k.remove()
			break
		}
		kept := make(chan struct{})
		d.kept = kept
		w.devs.Go(func() {
			defer close(kept)
			w.account(l, i, i == final, k)
		})
	}
	kept := d.kept
	w.devs.Go(func() {
		<-kept
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case l.ended, l.done && l.uncommitted > 0: // the committer ends it
		default: // asked to stop between tasks, or cancelled with all work
			why := context.Cause(l.ctx)
			if why == nil {
				why = l.why
			}
			w.end(l, why)
			w.bidSoon(l.r)
		}
	})
}

// account keeps the outputs of a lease's i-th task and has it receipted.
func (w *Worker) account(l *lease, i int, final bool, k ran) {
	defer k.remove() // the receipt need not wait for it
	leaf, inline, ok := w.keepOutputs(l, i, k)
	w.mu.Lock()
	defer w.mu.Unlock()
	l.executing--
	if !ok || l.ended { // told already that it was cancelled
		return
	}
	l.next = i + 1
	l.done = final || l.last && !l.running
	l.uncommitted++
	w.finished = append(w.finished, finished{lease: l, leaf: leaf, hash: l.grant.Tasks[i].SecretHash, inline: inline, at: time.Now()})
	if l.last && !l.running && l.why != errExpired && l.why != errTaken {
		w.sayCancelled(l, l.why.Error())
	}
	poke(w.commits)
}

// ran is a task that ran, and what it left.
type ran struct {
	leaf   job.Leaf
	log    []byte
	out    string // the folder of its outputs; empty: they are not kept
	remove func() // its folders
}

// runTask runs one task; not ok means that it was cancelled, and nothing is said
// of it.
func (w *Worker) runTask(l *lease, i int) (k ran, ok bool) {
	g := l.grant.Tasks[i]
	k.leaf = job.Leaf{Task: l.keys[i], Fence: g.Fence, Device: l.on.Name, DeviceClass: l.on.Class}
	start := time.Now()
	w.mu.Lock()
	l.executing++
	w.mu.Unlock()
	defer func() {
		if !ok {
			w.mu.Lock()
			l.executing--
			w.mu.Unlock()
		}
	}()
	broken := func(err error) (ran, bool) {
		k.leaf = w.broken(l, i, k.leaf, start, err)
		return k, l.ctx.Err() == nil
	}

	dirs, clean, err := w.dirs(l, i)
	k.remove = clean
	if err != nil {
		return broken(err)
	}
	// The next lease has files that changed made anew; nobody is to blame.
	err = w.deps.Assets.Sound(dirs.In)
	w.mu.Lock()
	if err != nil && !l.last {
		l.last, l.why = true, err
	}
	if l.ended || l.last {
		w.mu.Unlock()
		return k, false
	}
	l.running = true
	w.mu.Unlock()
	w.progress(l, i, "starting", 0)

	content := ""
	if g.Task.Input.Defined() {
		content = g.Task.Input.String()
	}
	start = time.Now()
	res := w.deps.Exec.Execute(l.ctx, render.Task{Task: g.Task, Requester: l.r.id.String(), Content: content, Device: l.on}, dirs,
		func(p render.Progress) { w.progress(l, i, p.Phase, p.Fraction) })
	if l.ctx.Err() != nil {
		w.log.Debug("task cancelled", "job", l.grant.Job, "task", g.Task.Label, "reason", context.Cause(l.ctx))
		return k, false
	}
	if err := w.deps.Assets.Sound(dirs.In); err != nil {
		// Whatever came of it may be of other files.
		w.mu.Lock()
		l.last, l.why = true, err
		w.mu.Unlock()
		return broken(err)
	}

	leaf := &k.leaf
	leaf.Outcome, leaf.Reason, leaf.Meter = res.Outcome, clip(res.Reason, job.MaxReasonBytes), sane(res.Meter, time.Since(start))
	*leaf = l.grant.Readable(*leaf)
	leaf.Runner, leaf.Build = clip(res.Runner, job.MaxNameBytes), clip(res.Build, job.MaxNameBytes)
	if !leaf.Outcome.Valid() || leaf.Outcome == job.Cancelled {
		// Nobody here asked for it, so something else on this machine did.
		leaf.Outcome, leaf.Reason = job.Broken, clip("stopped by something else on this machine: "+res.Reason, job.MaxReasonBytes)
	}
	k.log = res.Log
	if leaf.Outcome == job.Succeeded {
		k.out = dirs.Out
		return k, true
	}
	leaf.LogTail = tail(string(res.Log), job.MaxLogTailBytes)
	w.log.Warn("task did not succeed", "requester", l.r.id, "job", l.grant.Job, "task", g.Task.Label, "outcome", leaf.Outcome, "reason", leaf.Reason)
	return k, true
}

// broken is the leaf of a task that this machine could not do, since start.
func (w *Worker) broken(l *lease, i int, leaf job.Leaf, start time.Time, err error) job.Leaf {
	leaf.Outcome, leaf.Reason, leaf.Outputs = job.Broken, clip(err.Error(), job.MaxReasonBytes), nil
	leaf.Meter.Wall = time.Since(start)
	w.log.Warn("task broken", "requester", l.r.id, "job", l.grant.Job, "task", l.grant.Tasks[i].Task.Label, "err", err)
	return leaf
}

// keepOutputs stores the log and the outputs of a task that ran; not ok as in runTask.
func (w *Worker) keepOutputs(l *lease, i int, k ran) (leaf job.Leaf, inline []job.Block, ok bool) {
	g := l.grant.Tasks[i]
	leaf = k.leaf
	var err error
	if len(k.log) > 0 {
		if leaf.Log, err = w.deps.Assets.Log(l.ctx, l.r.id, l.grant.Job, k.log); err != nil {
			w.log.Warn("store the log of a task", "job", l.grant.Job, "task", g.Task.Label, "err", err)
			leaf.Log = job.Ref{}
		}
	}
	if k.out == "" {
		return leaf, nil, l.ctx.Err() == nil
	}
	start := time.Now().Add(-leaf.Meter.Wall)
	if leaf.Outputs, inline, err = w.deps.Assets.Collect(l.ctx, l.r.id, l.grant.Job, k.out, g.Task.Outputs); err != nil {
		return w.broken(l, i, leaf, start, fmt.Errorf("keep the outputs: %w", err)), nil, l.ctx.Err() == nil
	}
	return leaf, inline, true
}
