package dispatch

import (
	"slices"
	"time"
)

const (
	// mostWork is how much work a device is given ahead at most, by its own
	// pace: what is lost to others when it falls silent.
	mostWork = 10 * time.Minute
	// inTime: a device begins a task if it will be done within this share of
	// the time that all the rest will take …
	inTime = 0.75
	// tooSlow: … or within so many times what the task takes elsewhere.
	tooSlow = 1.5
	// patience: so long after the last grant anybody may take anything.
	patience = 30 * time.Second
)

// cut takes the open tasks of c that go into one lease. A device holds at most
// half of what all of them will need from now, between LeaseWork and mostWork
// by its own pace, in two leases; at least one task. While nothing is known of
// their cost it is one task.
func (b *Board) cut(s *seat, j *jobState, c *class, ahead bool) []*task {
	work, lead, known := c.costs.rest()
	if !known || s.speed.n == 0 {
		// A device of which nothing is known may be a slow one.
		if _, n := b.capacity(c); ahead && c.open <= n {
			return nil // what is left goes to whoever is free first
		}
		if _, each := b.pace(j, c); known && c.rest.head() != nil && c.rest.head().whole() && b.nears(j, c, 0, each) {
			if t, _ := c.pick(0, true, func(t *task) bool { return b.may(s.w, j, t) }); t != nil {
				return []*task{t}
			}
		}
		if known { // and people do not wait for it
			return b.draw(s, j, c, []*queues{&c.rest, &c.lead}, 1, 0)
		}
		return b.draw(s, j, c, []*queues{&c.lead, &c.rest}, 1, 0)
	}
	all, each := b.pace(j, c)
	own := s.pace()
	all, each = max(all, own), max(each, 1e-9)
	cold := 0.0
	if !b.has(s, j) {
		cold = loadGuess
		if j.snapshot.Bytes > 0 {
			cold += b.fetching(s, j)
		}
	}
	held := 0.0
	if ahead {
		held = b.holds(s)
	}
	// First what people wait for, if s is of use for it.
	if t := c.lead.head(); t != nil && c.early() {
		left := lead / all
		if p, _ := c.costs.at(int(t.index)); held+cold+p/own <= max(inTime*left, tooSlow*p/each) {
			target := b.piece(s, left, held)
			if ahead && p/own > target {
				return nil
			}
			if out := b.draw(s, j, c, []*queues{&c.lead}, b.o.MaxLeaseTasks, target*own); len(out) > 0 {
				return out
			}
		}
	}
	left := work / all
	soon := left
	q, t := &c.rest, c.rest.head()
	if t != nil && t.whole() && b.nears(j, c, own, each) {
		return b.cutEnd(s, j, c, each, cold, ahead)
	}
	switch {
	case t == nil:
		if q, t = &c.lead, c.lead.head(); t == nil {
			return nil
		}
	case lead > 0:
		// So that it is back in time to help with what people wait for.
		soon = min(left, 2*max(lead/all, b.o.LeaseWork.Seconds()))
	}
	return b.cutFrom(s, j, c, q, t, left, soon, each, held, cold, ahead)
}

// cutFrom takes tasks from q, whose first is t; left is how long all of c will
// take, and soon what counts of it for the size of a lease.
func (b *Board) cutFrom(s *seat, j *jobState, c *class, q *queues, t *task, left, soon, each, held, cold float64, ahead bool) []*task {
	own := s.pace()
	cost := func(t *task) float64 {
		p, _ := c.costs.at(int(t.index))
		return p
	}
	p := cost(t)
	if !ahead && cold+p/own > max(inTime*left, tooSlow*p/each) {
		// Too long for s; another may not be.
		if x := b.shortest(c, q, cost); x != nil && cold+cost(x)/own <= inTime*left && b.mayHere(s, j, x) {
			return []*task{x}
		}
	}
	target := b.piece(s, soon, held)
	switch {
	case ahead && p/own > target:
		return nil
	case !ahead && cold+p/own > max(inTime*left, tooSlow*p/each) && b.now.Sub(c.granted) < patience:
		b.lookLater(lookAgain)
		return nil
	}
	return b.draw(s, j, c, []*queues{q}, b.o.MaxLeaseTasks, target*own)
}

// shortest is what q.short says; all that wait are told the same, unless something
// was leased in between.
func (b *Board) shortest(c *class, q *queues, cost func(*task) float64) *task {
	if m := (shortIn{b.steps, b.grants, q}); c.shortIn != m {
		b.effort++
		c.shortIn, c.short = m, q.short(cost)
	}
	return c.short
}

// piece is how long one more lease of s should last that has held seconds of
// work already, where all of it takes left.
func (b *Board) piece(s *seat, left, held float64) float64 {
	share := left / 2
	if s.w.peer == b.self && !s.w.home() {
		// A check must not wait for long.
		share = min(share, b.o.LeaseWork.Seconds()/2)
	}
	share = min(max(share, min(b.o.LeaseWork.Seconds(), left)), mostWork.Seconds())
	if held > share/4 {
		return 0 // it will ask again, in time
	}
	return share - held
}

// holds is how long s still needs for what it has.
func (b *Board) holds(s *seat) float64 {
	sum := 0.0
	for _, l := range s.w.leases {
		if l.device != s.Name {
			continue
		}
		for _, g := range l.grants {
			if !g.over && g.t.check == nil {
				p, _ := g.t.class.costs.at(int(g.t.index))
				sum += b.remaining(l, g, p/s.pace())
			}
		}
	}
	return sum
}

// draw takes the first open tasks of queues, one queue after the other, that s
// may try: at least one, up to most, of about work in all. What is made of one
// frame stays together if it can, since beginning a frame costs more than going
// on with it: s goes on with the frame that it is at, and others begin new ones
// before they help with that.
func (b *Board) draw(s *seat, j *jobState, c *class, qs []*queues, most int, work float64) []*task {
	const (
		stretch = 1.5 // of work, for the rest of a frame
		shrink  = 0.5 // of work, to end with a frame
	)
	if j.spec.Policy.Budget > 0 && !b.finishes(s) {
		work = min(work, b.unspent(j)*s.pace())
	}
	var out, aside []*task
	sum, wholeSum := 0.0, 0.0
	within := 0 // tasks that fit
	whole := 0  // tasks up to the end of the last frame that fits
	// add reports whether there may be more.
	add := func(t *task) bool {
		if !b.mayHere(s, j, t) {
			aside = append(aside, t)
			return true
		}
		p, _ := c.costs.at(int(t.index))
		if n := len(out); n > 0 {
			same := t.frame() != nil && t.frame() == out[n-1].frame()
			if !same {
				whole, wholeSum = n, sum
			}
			if sum+p > work && (!same || sum+p > stretch*work) {
				aside = append(aside, t)
				return false
			}
		}
		sum += p
		out = append(out, t)
		if sum <= work {
			within = len(out)
		}
		return len(out) < most
	}
	more := true
	if f := s.frame; f != nil && qs[0] == c.queues(f) {
		for _, t := range f.prior() {
			if more && t.phase == open && t.class == c && !t.lapsed {
				more = add(t)
			}
		}
	}
	for len(qs) > 0 && more {
		t := qs[0].pop()
		if t == nil {
			qs = qs[1:]
			continue
		}
		if !slices.Contains(out, t) && !slices.Contains(aside, t) {
			more = add(t)
		}
	}
	if more {
		whole, wholeSum = len(out), sum
	}
	keep := max(within, min(1, len(out)))
	if whole > 0 && wholeSum >= shrink*min(work, sum) {
		keep = whole
	}
	aside = append(aside, out[keep:]...)
	out = out[:keep]
	for _, t := range aside {
		c.push(t)
	}
	if len(out) > 0 {
		if s.frame = out[len(out)-1].frame(); s.frame != nil {
			s.frame.begins(c)
		}
	}
	return out
}

// begins notes that somebody is at frame f.
func (f *task) begins(c *class) {
	for _, t := range f.prior() {
		if t.class == c && !t.begun {
			t.begun = true
			if t.phase == open && t.in != nil {
				c.push(t)
			}
		}
	}
}

// frame is what t is a part of, nil where it is all of it.
func (t *task) frame() *task {
	if n := t.next(); len(n) > 0 {
		return n[0]
	}
	return nil
}
