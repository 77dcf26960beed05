package dispatch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Handed is one of this machine's jobs that has stewards.
type Handed struct {
	ID       job.ID
	Stewards []peer.ID // by rank
	State    job.State
	Planned  bool
	Root     job.Ref
	At       time.Time // of its end
	Spent    float64   // of its budget, seconds of devices
	Raised   int       // grows with each change of its limits; 0: they are as submitted
}

// Handed lists this machine's jobs that have stewards.
func (d *Dispatcher) Handed() []Handed {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Handed
	for _, j := range d.board.jobs {
		if j.origin != "" || len(j.spec.Policy.Stewards) == 0 {
			continue
		}
		h := Handed{ID: j.id, State: j.State(), Planned: len(j.tasks) > 0, Root: job.RefOf(j.snapshot.Root), At: j.at, Spent: j.spent, Raised: j.raised}
		for _, s := range j.spec.Policy.Stewards {
			if p, err := peer.Decode(s); err == nil && p != d.deps.Self {
				h.Stewards = append(h.Stewards, p)
			}
		}
		out = append(out, h)
	}
	return out
}

// Copy is what a steward needs of a job that is planned.
func (d *Dispatcher) Copy(id job.ID) (Copy, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.board.byID[id]
	if j == nil || len(j.tasks) == 0 {
		return Copy{}, false
	}
	s := job.Spec{Kind: j.spec.Kind, Title: j.spec.Title, Policy: j.spec.Policy}
	if s.Title == "" && j.spec.File() != "" {
		s.Title = filepath.Base(j.spec.File())
	}
	s.Policy.Stewards, s.Policy.OnlyMissing = nil, false
	return Copy{Spec: s, Plan: j.zips, Tasks: len(j.tasks), Root: job.RefOf(j.snapshot.Root), Files: j.snapshot.Files, Bytes: j.snapshot.Bytes}, true
}

// News is what a steward that knows have, marks by task, does not know yet: at
// most max bytes of it, roughly. gone are tasks that run again.
func (d *Dispatcher) News(id job.ID, have map[int]uint64, max int) (news []Fact, gone []int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j := d.board.byID[id]; j != nil {
		return j.news(have, max)
	}
	return nil, nil
}

// Attend notes how a job's stewards are, for its status.
func (d *Dispatcher) Attend(id job.ID, list []job.StewardStatus) {
	d.post(Attended{ID: id, Stewards: list})
}

// Hold takes in results of a steward that holds a job, in the lane of its rank.
// It returns how many of them are not safe here yet.
func (d *Dispatcher) Hold(ctx context.Context, id job.ID, steward peer.ID, rank int, epoch uint64, results []Result) (missing int, err error) {
	if epoch > d.Epoch()+MaxLeap || epoch >= 1<<31 {
		return 0, fmt.Errorf("epoch %d of a steward is too far ahead", epoch)
	}
	e := Held{ID: id, Steward: steward, Epoch: epoch}
	for _, r := range results {
		o, err := d.openResult(id, steward, rank, epoch, r)
		if err != nil {
			d.log.Warn("result of a steward refused", "job", id, "steward", steward, "err", err)
			continue
		}
		e.Results = append(e.Results, o)
	}
	return d.held(ctx, e)
}

// Free says that no steward holds a job any more.
func (d *Dispatcher) Free(ctx context.Context, id job.ID) error {
	_, err := d.held(ctx, Held{ID: id})
	return err
}

func (d *Dispatcher) held(ctx context.Context, e Held) (int, error) {
	answer := make(chan int, 1)
	e.Missing = answer
	if !d.post(e) {
		return 0, ErrStopped
	}
	select {
	case n := <-answer:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-d.ctx.Done():
		return 0, ErrStopped
	}
}

// openResult checks who signed for a result. It was granted by the steward in
// its lane, or by this machine before, and handed to the steward.
func (d *Dispatcher) openResult(id job.ID, steward peer.ID, rank int, epoch uint64, r Result) (OpenedResult, error) {
	w, err := peer.Decode(r.Worker)
	if err != nil {
		return OpenedResult{}, err
	}
	by, lane := steward, rank+1
	o, err := job.OpenReceipt(r.Receipt, w, by)
	if err != nil {
		by, lane = d.deps.Self, 0
		if o, err = job.OpenReceipt(r.Receipt, w, by); err != nil {
			return OpenedResult{}, err
		}
	}
	if o.Job != id || r.Leaf < 0 || r.Leaf >= len(o.Leaves) {
		return OpenedResult{}, fmt.Errorf("receipt of job %s", o.Job)
	}
	if f := o.Leaves[r.Leaf].Fence; job.FenceLane(f) != lane || f>>32 > epoch {
		return OpenedResult{}, fmt.Errorf("fence %x is not of lane %d and at most epoch %d", f, lane, epoch)
	}
	return OpenedResult{Task: r.Task, Leaf: r.Leaf, OpenedReceipt: OpenedReceipt{Signed: r.Receipt, Receipt: o, Peer: w}}, nil
}

// Inherit goes on with another machine's job.
func (d *Dispatcher) Inherit(ctx context.Context, in Inheritance) error {
	if err := in.sound(); err != nil {
		return fmt.Errorf("job %s of %s: %w", in.ID, in.Origin, err)
	}
	return d.ask(ctx, func(ack chan error) Event { return Inherited{Inheritance: in, Secret: newSecret(), Ack: ack} })
}

// GiveBack forgets a job of origin, with what is here of its results: its
// requester has them.
func (d *Dispatcher) GiveBack(ctx context.Context, origin peer.ID, id job.ID) error {
	return d.ask(ctx, func(ack chan error) Event { return GivenBack{ID: id, Origin: origin, Ack: ack} })
}

// Inheriting is a job of another that this machine goes on with, or did.
type Inheriting struct {
	ID     job.ID
	Origin peer.ID
	Epoch  uint64
	State  job.State
	Tasks  int
	Back   bool // given back: it is being let go of
}

// Inheriting lists jobs of others.
func (d *Dispatcher) Inheriting() []Inheriting {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Inheriting
	for _, j := range d.board.jobs {
		if j.origin != "" {
			out = append(out, Inheriting{ID: j.id, Origin: j.origin, Epoch: d.board.epoch, State: j.State(), Tasks: len(j.tasks), Back: j.back})
		}
	}
	return out
}

// Accepted are the accepted results of a job of another, from a task on: at most
// max bytes of them, roughly. next is where to go on; -1: there is nothing more.
func (d *Dispatcher) Accepted(id job.ID, from, max int) (out []Result, next int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.board.byID[id]
	if j == nil || j.origin == "" || from < 0 {
		return nil, -1
	}
	return j.accepts(from, max)
}

// open opens a receipt for this machine, or for one whose job it goes on with.
func (d *Dispatcher) open(s job.Signed, worker peer.ID) (job.Receipt, error) {
	r, err := job.OpenReceipt(s, worker, d.deps.Self)
	if err == nil {
		return r, nil
	}
	var of job.Receipt
	if job.Decode(s.Body, job.MaxReceiptBytes, &of) != nil {
		return r, err
	}
	d.mu.Lock()
	j, origin := d.board.byID[of.Job], peer.ID("")
	if j != nil {
		origin = j.origin
	}
	d.mu.Unlock()
	if origin == "" {
		return r, err
	}
	return job.OpenReceipt(s, worker, origin)
}

// forget removes a job that was given back. It runs where the journal is
// written.
func (d *Dispatcher) forget(id job.ID) {
	d.journal.drop(id)
	delete(d.journal.due, id)
	d.journal.dirty = slices.DeleteFunc(d.journal.dirty, func(x job.ID) bool { return x == id })
	delete(d.runs, id)
	if err := os.RemoveAll(d.journal.jobDir(id)); err != nil {
		d.log.Warn("job not removed", "job", id, "err", err)
	}
}

// Fold packs tasks into blocks of a plan, as a Copy has them.
func Fold(tasks []job.Task) ([][]byte, error) { return folded(tasks) }
