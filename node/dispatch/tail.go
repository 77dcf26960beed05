package dispatch

import (
	"math"
	"slices"
	"time"

	"idlewild/job"
)

const (
	// maxCopies is how many peers may run the same task at a time.
	maxCopies = 2
	// worthCopying: a copy must be expected to end before this share of the
	// time that the first one still needs.
	worthCopying = 0.85
	// worthIt is the least gain, in seconds, that a copy is made for.
	worthIt = 0.5
	// loadGuess is what starting costs a peer that has not the content, in
	// seconds.
	loadGuess = 5.0
	// lookAgain is how often an idle worker's chance of a copy is looked at.
	lookAgain = 2 * time.Second
)

// duplicate leases to an idle device a task that runs elsewhere, if the copy
// would be done clearly earlier.
func (b *Board) duplicate(w *worker, d job.Device, bid *job.Bid) bool {
	var best *grant
	gain, running := worthIt, false
	for _, j := range b.jobs {
		if !j.live() || !b.can(w, j) || !w.rested(j, b.now) || bid.Price > j.spec.Policy.MaxPrice {
			continue
		}
		if !slices.ContainsFunc(j.classes, func(c *class) bool { return c.out > 0 }) {
			continue
		}
		for _, l := range j.leaseSeq {
			if l.closed || l.check || l.peer == w.peer {
				continue
			}
			for _, g := range l.grants {
				t := g.t
				if g.over || t.phase != leased || len(t.grants) >= maxCopies || t.grants[0].lease.peer == w.peer ||
					!b.fits(w, d, t.Needs, t.Place) || !b.may(w, j, t) {
					continue
				}
				running = true
				theirs, ok := b.projected(g)
				if !ok {
					continue
				}
				cost, _ := t.class.costs.at(t.index)
				ours := cost / w.speed(d.Name)
				if !w.worked[j.id] && !slices.Contains(bid.Jobs, j.id) {
					ours += loadGuess
				}
				if ours < theirs*worthCopying && theirs-ours > gain {
					best, gain = g, theirs-ours
				}
			}
		}
	}
	if best == nil {
		if running && !b.looking {
			b.looking = true
			b.after(lookAgain, func() { b.looking, b.hungry = false, true })
		}
		return false
	}
	b.lease(w, d, best.lease.job, []*task{best.t})
	return true
}

// projected is when g will be done, in seconds from now; false where nothing
// is known of the cost.
func (b *Board) projected(g *grant) (float64, bool) {
	l := g.lease
	w := b.byPeer[l.peer]
	s := w.speed(l.device)
	left := 0.0
	if !w.connected {
		// It may come back until the lease lapses, or not.
		left = max(0, w.heard.Add(b.o.LeaseTTL).Sub(b.now).Seconds())
	}
	for _, o := range w.leases {
		if o.device != l.device {
			continue
		}
		for _, x := range o.grants {
			if x.over {
				continue
			}
			p, ok := x.t.class.costs.at(x.t.index)
			if x.t.check != nil {
				p, ok = 1, true
			}
			if !ok {
				return 0, false
			}
			left += b.remaining(o, x, p/s)
			if x == g {
				return left, true
			}
		}
	}
	return 0, false
}

// remaining is what a grant of cost p (on its device) still needs.
func (b *Board) remaining(l *lease, g *grant, p float64) float64 {
	if !l.seen || l.progress.Task != g.pos {
		return p
	}
	ran := b.now.Sub(l.running).Seconds()
	if f := l.progress.Fraction; f > 0.05 {
		return max(ran*(1-f)/f, p*(1-f)*0.5)
	}
	if ran < p {
		return p - ran
	}
	return math.Max(ran, p/10) // overdue: as long again
}

// closeCopies ends the other attempts at a task that has its result. A worker
// that is at it stops, and the rest of its lease is open again at once.
func (b *Board) closeCopies(j *jobState, t *task) {
	for _, g := range slices.Clone(t.grants) {
		l := g.lease
		b.endGrant(g)
		if w := b.byPeer[l.peer]; l.closed {
			if w != nil && w.connected {
				w.order.Stops = append(w.order.Stops, job.Stop{Lease: l.id, Reason: "another peer was first"})
				w.order.Leases = slices.DeleteFunc(w.order.Leases, func(x job.Lease) bool { return x.ID == l.id })
				b.urge(w)
			}
			b.hungry = true
		} else if l.seen && l.progress.Task == g.pos {
			b.stop(l, "another peer was first")
		}
	}
}

// learn takes cost and speed from an accepted result.
func (b *Board) learn(j *jobState, x *ret) {
	m := x.leaf.Meter
	took := max(m.Wall-m.Load, m.Render).Seconds()
	w := b.worker(x.peer)
	// A peer cannot look fast by its own clock for long.
	if w.worked[j.id] && x.elapsed > 0 {
		took = max(took, x.elapsed.Seconds()/2)
	}
	took = max(took, 1e-5)
	device := x.leaf.Device
	s := w.speeds[device]
	if s == nil {
		s = &speed{}
		w.speeds[device] = s
	}
	c := &x.t.class.costs
	if p, ok := c.at(x.t.index); ok && x.t.check == nil {
		s.n++
		s.log += (math.Log(p/took) - s.log) / float64(min(s.n, 8))
		s.log = max(-10, min(10, s.log))
	}
	c.add(x.t.index, took*math.Exp(s.log))
}
