package worker

import (
	"fmt"
	"time"

	"idlewild/job"
)

// finished is a task that ran and has no receipt yet.
type finished struct {
	lease  *lease
	leaf   job.Leaf
	hash   []byte // of the task's secret
	inline []job.Block
	at     time.Time
}

const (
	// Receipts of short tasks are signed, synced and sent together: a lone one
	// waits this long for company, and there are at most so many in a second.
	// The last task of a lease never waits.
	company   = 5 * time.Millisecond
	commitGap = 20 * time.Millisecond

	maxLeafBytes    = 512 << 10 // of the leaves in one receipt, encoded
	maxReceiptLeafs = 64
)

// committer makes receipts of finished tasks and puts them on disk before
// anybody hears of them. It ends after end is closed and nothing is left.
func (w *Worker) committer(end <-chan struct{}) {
	for ending := false; ; {
		w.mu.Lock()
		wait, any := w.commitWait(time.Now())
		w.mu.Unlock()
		switch {
		case !any && ending:
			return
		case !any:
			select {
			case <-w.commits:
			case <-end:
				ending = true
			}
			continue
		case wait > 0 && !ending:
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-w.commits:
			case <-end:
				ending = true
			}
			t.Stop()
			continue
		}
		err := w.commit()
		if err == nil {
			continue
		}
		w.log.Error("receipts cannot be kept", "err", err)
		if ending {
			return // the work is lost, and done again by somebody
		}
		t := time.NewTimer(time.Second)
		select {
		case <-t.C:
		case <-end:
			ending = true
		}
		t.Stop()
	}
}

// commitWait is how long finished tasks may wait for company. mu is held.
func (w *Worker) commitWait(now time.Time) (wait time.Duration, any bool) {
	if len(w.finished) == 0 {
		return 0, false
	}
	for _, f := range w.finished {
		if f.lease.done || f.lease.ended {
			return 0, true
		}
	}
	return max(w.finished[0].at.Add(company).Sub(now), w.committed.Add(commitGap).Sub(now)), true
}

// commit signs and stores what is finished. After an error everything is still
// to be done, and no more work is taken until it was.
func (w *Worker) commit() error {
	w.mu.Lock()
	batch := w.finished
	w.mu.Unlock()
	receipts, err := w.receipts(batch)
	if err == nil {
		err = w.store.put(receipts)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.committed = time.Now()
	was := w.unsaved
	w.unsaved = ""
	if err != nil {
		w.unsaved = "receipts cannot be kept: " + err.Error()
	}
	if was != w.unsaved {
		w.sayAll(0)
	}
	if err != nil {
		return err
	}
	w.finished = w.finished[len(batch):]
	for _, f := range batch {
		f.lease.uncommitted--
	}
	for _, u := range receipts {
		l := u.from
		u.from = nil
		if l.done && l.uncommitted == 0 && !l.ended {
			w.end(l, nil)
			w.bidSoon(l.r)
		}
		r := w.requesters[u.requester]
		if r == nil && !u.volatile {
			r = w.requesterLocked(u.requester, true)
		}
		if r != nil && (r.linked || !u.volatile) {
			r.unsettled = append(r.unsettled, u)
			r.busy = w.committed
			r.say(0)
			w.hand(r, u.job)
		}
	}
	return nil
}

// receipts makes signed receipts of a batch: one per lease, or more where the
// leaves are big.
func (w *Worker) receipts(batch []finished) ([]*receipt, error) {
	var out []*receipt
	open := map[bool]map[*lease]*receipt{true: {}, false: {}}
	sizes := map[*receipt]int{}
	for _, f := range batch {
		enc, err := job.Encode(f.leaf)
		if err != nil {
			return nil, fmt.Errorf("leaf: %w", err)
		}
		volatile := f.leaf.Outcome == job.Cancelled
		open := open[volatile]
		u := open[f.lease]
		if u == nil || sizes[u]+len(enc) > maxLeafBytes || len(u.body.Leaves) >= maxReceiptLeafs || !u.fits(f.inline) {
			u = &receipt{
				requester: f.lease.r.id, job: f.lease.grant.Job, lease: f.lease.grant.ID, at: time.Now(), from: f.lease, volatile: volatile,
				body: job.Receipt{
					Version: 1, Requester: f.lease.r.id.String(), Worker: w.deps.Self.String(),
					Job: f.lease.grant.Job, Lease: f.lease.grant.ID, Epoch: f.lease.grant.Epoch,
				},
			}
			open[f.lease] = u
			out = append(out, u)
		}
		sizes[u] += len(enc)
		u.body.Leaves = append(u.body.Leaves, f.leaf)
		u.leaves = append(u.leaves, promise{Task: f.leaf.Task, SecretHash: f.hash})
		if len(f.inline) > 0 && u.fits(f.inline) {
			u.inline = append(u.inline, f.inline...)
		}
	}
	for _, u := range out {
		s, err := job.SignReceipt(w.deps.Key, u.body)
		if err != nil {
			return nil, err
		}
		u.signed, u.body = s, job.Receipt{}
	}
	return out, nil
}
