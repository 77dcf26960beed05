package dispatch

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// What is kept of peers and of what they say of themselves. A stranger may come
// once and never again, and describe itself anew with each report: what members do
// so their farm's owner bounds, whom strangers could be nobody does.
const (
	keptGone   = 64  // strangers that went last: they may be back in a moment
	mostGone   = 256 // peers that are gone, before the other strangers among them are forgotten
	mostShapes = 256 // beside those that devices have
	mostSeats  = 2 * job.MaxDevices
	mostGrants = 1024 // rights to read, beside those of jobs that go on
)

// forgetGone forgets strangers that are gone, hold no lease, and gave no result
// of a job that goes on: those have a pace, which a board that was made from the
// journals would find again. What else was known of one (that it rests, whether
// it is banned) is in the book, or was of the past few minutes.
func (b *Board) forgetGone() {
	if len(b.workers)-b.connected < max(b.forgetAt, mostGone) {
		return
	}
	giver := b.givers()
	var gone []*worker
	for _, w := range b.workers {
		if !w.connected && len(w.leases) == 0 && !giver[w.peer] && b.stranger(w.peer) {
			gone = append(gone, w)
		}
	}
	slices.SortStableFunc(gone, func(x, y *worker) int { return y.heard.Compare(x.heard) })
	for _, w := range gone[min(keptGone, len(gone)):] {
		delete(b.byPeer, w.peer)
	}
	ghost := func(w *worker) bool { return b.byPeer[w.peer] != w }
	b.workers = slices.DeleteFunc(b.workers, ghost)
	b.restful = slices.DeleteFunc(b.restful, ghost)
	b.forgetAt = len(b.workers) - b.connected + mostGone - keptGone
}

// givers are the peers of whom jobs that go on have results, or will.
func (b *Board) givers() map[peer.ID]bool {
	out := map[peer.ID]bool{}
	for _, j := range b.live {
		for _, x := range j.rets {
			if x.state != retEnded {
				out[x.peer] = true
			}
		}
	}
	return out
}

// forgetShapes forgets the sorts of device that none is of any more.
func (b *Board) forgetShapes() {
	if len(b.shapes) < max(b.shapesAt, mostShapes) {
		return
	}
	used := map[*shape]bool{}
	for _, w := range b.workers {
		for _, s := range w.seats {
			used[s.shape] = true
		}
	}
	b.shapes = slices.DeleteFunc(b.shapes, func(x *shape) bool { return !used[x] })
	for _, j := range b.jobs {
		for _, c := range j.classes {
			maps.DeleteFunc(c.fits, func(x *shape, _ bool) bool { return !used[x] })
		}
	}
	b.shapesAt = len(b.shapes) + mostShapes
}

// forgetSeats forgets devices that w once said it had, and that did nothing.
func (b *Board) forgetSeats(w *worker) {
	if len(w.seats) <= mostSeats {
		return
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(s *seat) bool {
		gone := s.w == w && !s.there
		s.listed = s.listed && !gone
		return gone
	})
	w.seats = slices.DeleteFunc(w.seats, func(s *seat) bool {
		work, checks := s.held()
		return !s.there && s.speed.n == 0 && work+checks == 0
	})
}

// paceOf is the pace of a device, of a peer that may be forgotten.
func (b *Board) paceOf(p peer.ID, device string) float64 {
	if w := b.byPeer[p]; w != nil {
		return w.seat(device).pace()
	}
	return math.Exp(b.pace0)
}

// forgetGrants forgets rights to read that are over, or of jobs that are: whoever
// is given a lease later gets a new one. It is used by the committer alone.
func (d *Dispatcher) forgetGrants(now time.Time) {
	if len(d.grants) < max(d.grantsAt, mostGrants) {
		return
	}
	d.mu.Lock()
	maps.DeleteFunc(d.grants, func(k grantKey, g readGrant) bool {
		j := d.board.byID[k.id]
		return !now.Before(g.expires) || j == nil || j.state.Ended()
	})
	d.mu.Unlock()
	d.grantsAt = len(d.grants) + mostGrants
}
