package dispatch

import (
	"time"

	"idlewild/job"
)

// settleDelay is how long news of settled work waits for another order to ride
// along with. No worker waits for it.
const settleDelay = 100 * time.Millisecond

// flush sends each worker the order that this step made for it.
func (b *Board) flush() {
	b.effort += len(b.owing)
	for _, w := range drain(&b.owing) {
		w.owed = false
		if !w.connected {
			w.order = job.Order{}
			continue
		}
		o := w.order
		if !w.urgent {
			if len(o.Settled) > 0 && !w.waiting {
				w.waiting = true
				b.after(settleDelay, func() {
					w.waiting = false
					if w.connected && len(w.order.Settled) > 0 {
						b.urge(w)
					}
				})
			}
			continue
		}
		w.order, w.urgent = job.Order{}, false
		o.Epoch, o.BeatEvery, o.Resting = b.epoch, b.beat(), w.resting
		b.countOrder(o)
		b.do(Send{w.peer, w.stream, o})
	}
}

func (b *Board) owe(w *worker) {
	if !w.owed {
		w.owed = true
		b.owing = append(b.owing, w)
	}
}

// urge makes w's order go out with this step.
func (b *Board) urge(w *worker) {
	w.urgent = true
	b.owe(w)
}

func (b *Board) sayTo(w *worker, s job.Settled) {
	if len(s.Reason) > job.MaxReasonBytes {
		s.Reason = s.Reason[:job.MaxReasonBytes]
	}
	for i, old := range w.order.Settled {
		if old.Job == s.Job && old.Lease == s.Lease && old.Task == s.Task {
			w.order.Settled[i] = s
			return
		}
	}
	w.order.Settled = append(w.order.Settled, s)
	if len(w.order.Settled) >= 1024 || w.leaving != "" {
		b.urge(w)
	}
	b.owe(w)
}

// settle tells x's worker how things stand with x.
func (b *Board) settle(j *jobState, x *ret) {
	w := b.byPeer[x.peer]
	if w == nil || !w.connected || x.live != nil && x.live.via != "" {
		return
	}
	s := job.Settled{Job: j.id, Lease: j.leaseOf(x), Task: x.t.key()}
	switch x.state {
	case retHeld, retFetching:
		return // nothing is certain yet
	case retSafe:
	case retJudged:
		s.Ruling, s.Reason = x.verdict.Ruling, x.verdict.Reason
	case retEnded:
		s.Ruling, s.Reason = job.Unsure, x.settled
	}
	if s.Ruling != "" && !j.foreign(x.fence) {
		s.Secret = j.secretOf(x.peer, s.Lease, s.Task, x.fence)
	}
	b.sayTo(w, s)
}
