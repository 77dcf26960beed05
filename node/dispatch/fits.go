package dispatch

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// suits reports whether s can run tasks of c.
func (b *Board) suits(s *seat, c *class) bool {
	if s.shape == nil {
		return false
	}
	ok, known := c.fits[s.shape]
	if !known {
		ok = b.fits(s.w, s.Device, c.needs, c.place)
		c.fits[s.shape] = ok
	}
	return ok && (c.lessons == nil || b.cramped(s.w, s.Device, c) == "")
}

// may reports whether w may try t, given who failed at it.
func (b *Board) may(w *worker, j *jobState, t *task) bool {
	failures := 0
	for _, a := range t.also().ended {
		if a.peer == w.peer && a.outcome == job.Failed {
			failures++
		}
	}
	if failures == 0 && !slices.Contains(t.also().avoid, w.peer) {
		return true
	}
	// A second time only where nobody else could.
	return failures < 2 && !b.others(w.peer, j, t)
}

// others reports whether a connected peer other than p could try t.
func (b *Board) others(p peer.ID, j *jobState, t *task) bool {
	return b.could(j, t, func(o *worker) bool { return o.peer != p })
}

// could reports whether one of those that count is connected, and could try t.
func (b *Board) could(j *jobState, t *task, counts func(*worker) bool) bool {
	for _, o := range b.workers {
		if !counts(o) || !b.can(o, j) || slices.Contains(t.also().avoid, o.peer) {
			continue
		}
		if slices.ContainsFunc(t.also().ended, func(a attempt) bool { return a.peer == o.peer && a.outcome == job.Failed }) {
			continue
		}
		for _, d := range o.machine.Devices {
			if b.fits(o, d, t.Needs, t.Place) && (t.class == nil || b.cramped(o, d, t.class) == "") {
				return true
			}
		}
	}
	return false
}

// fits reports whether device d of w can run tasks with these needs there. The
// requester's own work goes to its home slot where there is one, and nothing else
// does. AtMember keeps strangers away.
func (b *Board) fits(w *worker, d job.Device, n job.Needs, p job.Place) bool {
	if p == job.AtMember && w.stranger {
		return false
	}
	home := d.Name == job.HomeDevice
	if own := p == job.AtRequester; !own && home || own && (w.peer != b.self || !home && w.home()) {
		return false
	}
	return w.machine.Has(n, d)
}

// home reports whether the machine has a slot for its own finishing and checks.
func (w *worker) home() bool {
	_, ok := w.device(job.HomeDevice)
	return ok
}
