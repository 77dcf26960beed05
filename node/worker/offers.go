package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// offers joins whoever has work for this machine.
func (w *Worker) offers(ctx context.Context) {
	for o := range w.deps.Swarm.Offers(ctx) {
		w.mu.Lock()
		if own := w.requesters[o.Requester]; own != nil && own.home {
			if o.Open > 0 && !w.opts.NoWork && w.lacks(o.Needs) == "" {
				w.called(own)
			}
		} else if o.Requester == w.deps.Self {
			// nobody's home: its node's own jobs are others' work
		} else if w.opts.NoWork {
			w.noteOffer(o, FateOff, "")
		} else if fate, why := w.passOver(o); why != "" {
			w.passed = fmt.Sprintf("job %s: %s", o.Job, why)
			w.noteOffer(o, fate, why)
		} else if r := w.requesterLocked(o.Requester, false); r == nil {
			w.noteOffer(o, FateFull, fmt.Sprintf("this machine works for %d requesters already", len(w.requesters)))
		} else {
			w.noteOffer(o, "", "")
			w.passed = ""
			w.called(r)
			r.hurry()
		}
		w.mu.Unlock()
	}
}

// called: r has work. mu is held.
func (w *Worker) called(r *requester) {
	r.busy = time.Now()
	w.seeks(r, r.busy)
}

// passOver says why an offer is not for this machine, or "". mu is held.
func (w *Worker) passOver(o job.Offer) (Fate, string) {
	switch {
	case o.Open <= 0:
		return FateWaiting, "nothing is open"
	case o.MaxPrice < w.opts.Price:
		return FateUnfit, fmt.Sprintf("pays %g per device-second, %g is asked here", o.MaxPrice, w.opts.Price)
	}
	if w.opts.Accept != nil {
		if err := w.opts.Accept(o.Requester); err != nil {
			return FateRefused, err.Error()
		}
	}
	why := w.lacks(o.Needs)
	if why == "" {
		return "", ""
	}
	if w.opts.Unfit != nil {
		why = w.opts.Unfit(o.Needs, why)
	}
	return FateUnfit, why
}

// lacks says what no device here has of what a job needs, or "". mu is held.
func (w *Worker) lacks(n job.Needs) string {
	why := "there is no device here"
	for _, d := range w.machine.Devices {
		if why = w.machine.Lacks(n, d); why == "" {
			return ""
		}
	}
	return why
}

// requesterLocked returns the requester, beginning a link to it if there is
// none; nil at shutdown, and where no more can be joined unless it must be. mu
// is held.
func (w *Worker) requesterLocked(id peer.ID, must bool) *requester {
	if r := w.requesters[id]; r != nil {
		return r
	}
	if w.closing || !must && (len(w.requesters) >= maxRequesters || w.crowded(id)) {
		return nil
	}
	now := time.Now()
	r := &requester{
		id: id, home: id == w.opts.Home,
		held: map[job.LeaseID]*lease{}, content: map[job.ID]job.Ref{},
		wake: make(chan struct{}, 1), redial: make(chan struct{}, 1), up: make(chan struct{}),
		busy: now, spoke: now, heard: now, cut: now, beat: 20 * time.Second,
	}
	w.requesters[id] = r
	w.peers.Go(func() { w.keep(r) })
	poke(w.joined)
	return r
}

// unwelcome says why no work of r is taken, or "". A link may be there all the
// same: for receipts of work from when it was, or because it was until now. mu is
// held.
func (w *Worker) unwelcome(r *requester) string {
	if r.home || w.opts.Accept == nil {
		return ""
	}
	if err := w.opts.Accept(r.id); err != nil {
		return err.Error()
	}
	return ""
}

// crowded reports whether id is a stranger, and as many are joined as may be. mu
// is held.
func (w *Worker) crowded(id peer.ID) bool {
	if w.opts.Stranger == nil || !w.opts.Stranger(id) {
		return false
	}
	n := 0
	for p := range w.requesters {
		if w.opts.Stranger(p) {
			n++
		}
	}
	return n >= maxStrangers
}
