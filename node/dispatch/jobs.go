package dispatch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// newSecret is what a job's challenges are derived from.
func newSecret() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return b
}

// ask posts an event that is acknowledged, and waits for that.
func (d *Dispatcher) ask(ctx context.Context, make1 func(ack chan error) Event) error {
	ack := make(chan error, 1)
	if !d.post(make1(ack)) {
		return ErrStopped
	}
	select {
	case err := <-ack:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-d.ctx.Done():
		return ErrStopped
	}
}

// Inspect implements localapi.Jobs.
func (d *Dispatcher) Inspect(ctx context.Context, s job.Spec) (job.Inspection, error) {
	k, err := d.kind(s)
	if err != nil {
		return job.Inspection{}, err
	}
	return d.inspect(ctx, k, s)
}

// inspect looks at a job's files, and at what the farm's machines have for it:
// those that were here since this program started.
func (d *Dispatcher) inspect(ctx context.Context, k Kind, s job.Spec) (job.Inspection, error) {
	in, err := k.Inspect(ctx, s)
	if err != nil {
		return in, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var machines []job.Machine
	for _, w := range d.board.workers {
		machines = append(machines, w.machine)
	}
	in.Problems = append(in.Problems, in.Doubts(machines)...)
	return in, nil
}

func (d *Dispatcher) kind(s job.Spec) (Kind, error) {
	if err := s.Validate(); err != nil {
		return nil, job.Refuse("", err.Error(), "")
	}
	k := d.deps.Kinds[s.Kind]
	if k == nil {
		var known []string
		for name := range d.deps.Kinds {
			known = append(known, string(name))
		}
		slices.Sort(known)
		return nil, job.Refuse("kind", fmt.Sprintf("%q is not known here", s.Kind), fmt.Sprintf("this machine knows %v", known))
	}
	return k, nil
}

// Submit implements localapi.Jobs.
func (d *Dispatcher) Submit(ctx context.Context, s job.Spec) (job.ID, error) {
	if _, err := d.kind(s); err != nil {
		return "", err
	}
	if err := d.deps.Sink.Check(s); err != nil {
		if errors.Is(err, job.ErrRefused) {
			return "", err
		}
		return "", job.Refuse("output", err.Error(), "choose a folder that can be written")
	}
	id := job.NewID(time.Now())
	err := d.ask(ctx, func(ack chan error) Event { return Submitted{ID: id, Spec: s, Secret: newSecret(), Ack: ack} })
	if err != nil {
		return "", err
	}
	return id, nil
}

// Steer implements localapi.Jobs.
func (d *Dispatcher) Steer(ctx context.Context, id job.ID, a job.Action) error {
	return d.ask(ctx, func(ack chan error) Event { return Steered{ID: id, Action: a, Ack: ack} })
}

// Resubmit implements localapi.Jobs.
func (d *Dispatcher) Resubmit(ctx context.Context, id job.ID) (job.ID, error) {
	d.mu.Lock()
	j := d.board.byID[id]
	if j == nil {
		d.mu.Unlock()
		return "", job.ErrUnknownJob
	}
	s, ended := j.spec, j.state.Ended()
	d.mu.Unlock()
	if !ended {
		return "", job.Refuse("job "+string(id), "it has not ended", "wait for its end, or cancel it: what it delivered by then is reused as well")
	}
	// A copy of unsaved work was of that moment; what is wanted now is saved.
	s.Input, s.CopyOf = s.File(), ""
	s.Policy.Reuse, s.Policy.OnlyMissing = true, false
	return d.Submit(ctx, s)
}

// Requeue implements localapi.Jobs. The content of a job that ended was let go
// of; it is stored again, and must still be the same.
func (d *Dispatcher) Requeue(ctx context.Context, id job.ID, label string) error {
	s, root, ended, err := d.settledJob(ctx, id)
	switch {
	case err != nil:
		return err
	case ended && root.Root.Defined():
		k, err := d.kind(s)
		if err != nil {
			return err
		}
		in, err := k.Inspect(ctx, s)
		if err != nil {
			return fmt.Errorf("inspect: %w", err)
		}
		again, err := d.deps.Content.Snapshot(ctx, id, in.Deps, s.Policy.Exact)
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		if again.Root != root.Root {
			if err := d.deps.Content.Release(ctx, id); err != nil {
				d.log.Warn("content not released", "job", id, "err", err)
			}
			return fmt.Errorf("the job's files changed since it was submitted; submit it again")
		}
	}
	err = d.ask(ctx, func(ack chan error) Event { return Requeued{ID: id, Label: label, Ack: ack} })
	if err != nil && ended && root.Root.Defined() {
		if err := d.deps.Content.Release(context.WithoutCancel(ctx), id); err != nil {
			d.log.Warn("content not released", "job", id, "err", err)
		}
	}
	return err
}

// settledJob returns what Requeue must know. Of a job that has just ended it
// waits until everything is let go of, so that nothing new goes with it.
func (d *Dispatcher) settledJob(ctx context.Context, id job.ID) (s job.Spec, snap Snapshot, ended bool, err error) {
	for {
		d.mu.Lock()
		j := d.board.byID[id]
		if j == nil {
			d.mu.Unlock()
			return s, snap, false, job.ErrUnknownJob
		}
		tasks, cleaned := len(j.tasks), j.cleaned
		s, snap, ended = j.spec, j.snapshot, j.state.Ended()
		d.mu.Unlock()
		switch {
		case tasks == 0:
			return s, snap, ended, fmt.Errorf("job %s has no tasks", id)
		case !ended || cleaned:
			return s, snap, ended, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return s, snap, ended, ctx.Err()
		case <-d.ctx.Done():
			return s, snap, ended, ErrStopped
		}
	}
}

// Allows reports whether the lists of a job let p have its content. Of a job that
// is not on the board there are none: what is asked directly has grants as well.
func (d *Dispatcher) Allows(id job.ID, p peer.ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.board.byID[id]
	if d.board.stranger(p) && (j == nil || !j.forStrangers()) {
		return false
	}
	return j == nil || j.allows(p)
}
