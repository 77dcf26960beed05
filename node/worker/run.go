package worker

import (
	"context"
	"fmt"
	"time"

	"idlewild/job"
	"idlewild/render"
)

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
		later := !stop && !skip && l.overdue(i, turn, time.Now())
		w.mu.Unlock()
		if later {
			<-d.kept // whoever goes on with it begins at the first that is not accounted for
			w.mu.Lock()
			stop = l.ended || l.last
			later = !stop && w.yields(l, i, turn, time.Now())
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
			l.task, l.fraction, l.phase = -1, 0, "waiting"
		}
		if _, theirs := context.Cause(l.ctx).(stopped); ok || theirs { // what was stopped was given all the same
			w.serve(l, took, time.Now())
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
	broken := func(err error) (ran, bool) {
		k.leaf = w.broken(l, i, k.leaf, start, err)
		return k, l.ctx.Err() == nil
	}

	dirs, clean, err := w.dirs(l, i)
	k.remove = clean
	// Not before: a task that waits for its files is none that could end soon.
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
