package dispatch

import (
	"cmp"
	"math"
	"slices"
	"time"

	"idlewild/job"
)

const (
	// maxCopies is how many peers may run the same task at a time: one more
	// where a third would be done hopelessly many times sooner.
	maxCopies  = 2
	hopelessly = 3
	// lately is the same of frames that are not cut, of many jobs: one may outlast all the rest.
	lately = 1.5
	// some waiting devices are so many that they are looked at now and then only, each every lookAgain.
	some = 64
	// few workers are so many that none can be done without.
	few = 8
	// worthCopying: a copy must be expected to end before this share of the
	// time that the first one still needs.
	worthCopying = 0.85
	// worthHurry: the same where other work waits, for the preview's sake.
	worthHurry = 0.5
	// worthIt is the least gain, in seconds, that a copy is made for.
	worthIt = 0.5
	// loadGuess is what starting costs a peer that has not the content, in
	// seconds.
	loadGuess = 5.0
	// lookAgain is how often an idle worker's chance of a copy is looked at.
	lookAgain = 2 * time.Second
	// feedAgain: while so many wait, what is open is offered to all of them no
	// more often. Who asks anew is answered at once.
	feedAgain = lookAgain / 4
)

// look is a leased task and when it is expected to be done.
type look struct {
	g    *grant
	end  moment
	pace float64 // of a device whose copy could pay, at least
}

// copyAll looks whether idle devices could do better what others are at. While
// many wait it does so every lookAgain only.
func (b *Board) copyAll() {
	if len(b.waiting) > some && b.now.Sub(b.copied) < lookAgain {
		b.lookLater(lookAgain)
		return
	}
	var idle []*seat
	for _, s := range b.waiting {
		if s.idle != 0 && s.want > 0 && b.ready(s) {
			idle = append(idle, s)
		}
	}
	if len(idle) == 0 {
		return
	}
	b.copied = b.now
	b.effort += len(idle)
	slices.SortStableFunc(idle, func(x, y *seat) int { return cmp.Compare(y.speed.log, x.speed.log) })
	for _, s := range idle {
		b.duplicate(s)
	}
}

// lookLater has those that wait looked at again d from now at the latest.
func (b *Board) lookLater(d time.Duration) {
	at := b.now.Add(d)
	if !b.lookBy.IsZero() && !at.Before(b.lookBy) {
		return
	}
	b.lookBy = at
	b.after(d, func() {
		if !b.lookBy.IsZero() && !b.now.Before(b.lookBy) {
			b.lookBy, b.hungry = time.Time{}, true
		}
	})
}

// early reports whether a preview is in the works and more will come after it.
func (c *class) early() bool { return c.costs.early > 0 && c.rest.head() != nil }

// hurried reports whether the last of such a preview is leased.
func (c *class) hurried() bool {
	return c.costs.early*10 <= c.previews && c.early() && c.lead.head() == nil
}

// hurry leases to a device a task of its job's preview that is all leased
// already, if the copy would be done much earlier: people wait for it.
func (b *Board) hurry(s *seat) bool {
	j := s.on
	if j == nil || !j.live() || !slices.ContainsFunc(j.classes, (*class).hurried) {
		return false
	}
	b.lookAt(j)
	if s.pace() < j.pays {
		return false
	}
	return b.copy(s, []*jobState{j}, worthHurry, b.holds(s), true)
}

// duplicate leases to an idle device a task that runs elsewhere, if the copy
// would be done clearly earlier.
func (b *Board) duplicate(s *seat) bool {
	if len(b.waiting) > some && b.since(s.looked) < lookAgain {
		b.lookLater(lookAgain)
		return false
	}
	s.looked = b.moment()
	return b.copy(s, b.live, worthCopying, 0, false)
}

// copy leases to s a copy of the task that gains most by it, of those that may
// be copied, or only of previews: it must be done within the share worth of the time
// that the first attempt still needs. held is what s does before it.
func (b *Board) copy(s *seat, jobs []*jobState, worth, held float64, early bool) bool {
	if s.speed.n == 0 && b.connected > few {
		return false // it may be slower than those it would help
	}
	var best *grant
	gain, running := worthIt, false
	pace, now := s.pace(), b.moment()
	for _, j := range jobs {
		if !j.live() || !b.asks(s, j) {
			continue
		}
		if !slices.ContainsFunc(j.classes, func(c *class) bool { return c.out > 0 && b.suits(s, c) }) {
			continue
		}
		running = true
		if b.lookAt(j); pace < j.pays {
			continue
		}
		cold := 0.0
		if !b.has(s, j) {
			cold = b.fetching(s, j)
			cold += loadGuess
		}
		var of *class
		each := 0.0
		for _, x := range j.looks {
			b.effort++
			theirs := time.Duration(x.end - now).Seconds()
			if theirs <= gain+cold+held {
				break // and so are all behind it
			}
			if pace < x.pace {
				continue
			}
			// What costs little to know comes first: most are out of the question.
			g, t := x.g, x.g.t
			if g.over || t.phase != leased {
				continue
			}
			cost, ok := t.class.costs.at(int(t.index))
			if ours := cost/pace + cold + held; !ok || ours >= theirs*worth || theirs-ours <= gain {
				continue
			}
			if slices.ContainsFunc(t.grants.all(), func(o *grant) bool { return o.lease.peer == s.w.peer }) ||
				!b.suits(s, t.class) || early && !(t.early() && t.class.hurried()) || !b.mayHere(s, j, t) {
				continue
			}
			cost = max(cost, b.proven(t))
			ours := cost/pace + cold + held
			if t.class != of {
				of = t.class
				_, each = b.pace(j, of)
			}
			if ours > tooSlow*cost/each+cold+held {
				continue // a slow one's copy would keep a faster one from it
			}
			sooner := float64(hopelessly)
			if t.whole() && len(b.live) > 1 {
				sooner = lately
			}
			if t.grants.len() >= maxCopies && ours*sooner > theirs {
				continue
			}
			if len(b.live) > 1 && theirs-ours < paysOff*(cold-loadGuess) {
				continue // that much content for one copy
			}
			if ours < theirs*worth && theirs-ours > gain {
				best, gain = g, theirs-ours
			}
		}
	}
	if best == nil {
		if running {
			b.lookLater(lookAgain)
		}
		return false
	}
	if t := best.t; t.grants.len() > maxCopies {
		b.stop(b.last(t), "somebody else will be sooner")
	}
	b.lease(s, best.lease.job, []*task{best.t})
	return true
}

// proven is what t costs at the least, if two who are at it took so much already.
// That one did may be its own fault.
func (b *Board) proven(t *task) float64 {
	first, second := 0.0, 0.0
	for _, g := range t.grants.all() {
		l := g.lease
		w := b.byPeer[l.peer]
		if w == nil || !l.seen || l.progress.Task != int(g.pos) {
			continue
		}
		ran := b.since(l.running).Seconds()
		if f := l.progress.Fraction; f > 0.05 {
			ran = max(ran, time.Duration(l.moved-l.running).Seconds()/f)
		}
		switch cost := ran * w.seat(l.device).pace(); {
		case cost > first:
			first, second = cost, first
		case cost > second:
			second = cost
		}
	}
	return second
}

// last is the lease of a task's attempts that will be done last.
func (b *Board) last(t *task) *lease {
	var last *lease
	longest := 0.0
	for _, g := range t.grants.all() {
		if left := b.ends(g); last == nil || left > longest {
			last, longest = g.lease, left
		}
	}
	return last
}

// ends is when g will be done, in seconds from now.
func (b *Board) ends(g *grant) float64 {
	l := g.lease
	w := b.byPeer[l.peer]
	if w == nil {
		return math.Inf(1)
	}
	left := 0.0
	if !w.connected {
		// It may come back until the lease lapses, or not.
		left = max(0, w.heard.Add(b.ttl()).Sub(b.now).Seconds())
	}
	pace := w.seat(l.device).pace()
	for _, o := range w.leases {
		if o.device != l.device {
			continue
		}
		for _, x := range o.grants {
			if x.over {
				continue
			}
			cost := pace // a check takes a second
			if x.t.check == nil {
				cost, _ = x.t.class.costs.at(int(x.t.index))
			}
			left += b.yet(w, o, x, cost/pace)
			if x == g {
				return left
			}
		}
	}
	return left
}

// lookAt brings j's looks up to date, the more often the less there is to see
// and the sooner it ends.
func (b *Board) lookAt(j *jobState) {
	const (
		near  = 64  // looks may be as old as such a part of the longest time left
		all   = 256 // looks of all jobs, and
		least = 32  // of each
	)
	most := max(all/max(len(b.live), 1), least)
	if old := b.now.Sub(j.lookedAt); old < j.lookFor || old == 0 && !j.lookedAt.IsZero() {
		return
	}
	j.lookedAt = b.now
	now := b.moment()
	j.compact()
	b.effort += len(j.leaseSeq)
	looks := j.looks[:0]
	copies := false
	for _, l := range j.leaseSeq {
		w := b.byPeer[l.peer]
		if l.check || w == nil {
			continue
		}
		left := 0.0
		if !w.connected {
			// It may come back until the lease lapses, or not.
			left = max(0, w.heard.Add(b.ttl()).Sub(b.now).Seconds())
		}
		pace := w.seat(l.device).pace()
		for _, o := range w.leases {
			if o.device != l.device {
				continue
			}
			for _, x := range o.grants {
				if x.over {
					continue
				}
				cost := pace // a check takes a second
				if x.t.check == nil {
					cost, _ = x.t.class.costs.at(int(x.t.index))
				}
				left += b.yet(w, o, x, cost/pace)
				if o == l && cost > 0 {
					looks = append(looks, look{x, now + moment(min(left, 1e9)*float64(time.Second)), cost / (left * worthCopying)})
					copies = copies || x.t.grants.len() > 1
				}
			}
			if o == l {
				break
			}
		}
	}
	if copies {
		// Of two copies the sooner one counts.
		soonest := map[*task]*grant{}
		ends := map[*task]moment{}
		for _, x := range looks {
			if t := x.g.t; t.grants.len() > 1 && (soonest[t] == nil || x.end < ends[t]) {
				soonest[t], ends[t] = x.g, x.end
			}
		}
		looks = slices.DeleteFunc(looks, func(x look) bool { return soonest[x.g.t] != nil && soonest[x.g.t] != x.g })
	}
	if len(looks) > most {
		// Numbers are sorted much faster than looks.
		ends := make([]moment, len(looks))
		for i, x := range looks {
			ends[i] = x.end
		}
		slices.Sort(ends)
		last := ends[len(ends)-most]
		looks = slices.DeleteFunc(looks, func(x look) bool { return x.end < last })
	}
	slices.SortStableFunc(looks, func(x, y look) int { return cmp.Compare(y.end, x.end) })
	clear(looks[min(len(looks), most):])
	j.looks = looks[:min(len(looks), most)]
	j.pays, j.lookFor = math.Inf(1), 0
	var of *class
	each := 0.0
	for i := range j.looks {
		x := &j.looks[i]
		if c := x.g.t.class; c != of {
			of = c
			_, each = b.pace(j, of)
		}
		x.pace = max(x.pace, each/tooSlow)
		j.pays = min(j.pays, x.pace)
	}
	if len(j.looks) > 0 {
		each := time.Duration(len(j.leaseSeq)) * time.Millisecond
		j.lookFor = max(min(lookAgain, each), min(time.Duration(j.looks[0].end-now)/near, 8*each))
		if len(b.waiting) > some {
			j.lookFor = max(j.lookFor, lookAgain) // so often all that wait are looked at
		}
	}
}

// yet is remaining, for those who ask whether a copy would be sooner: of many workers
// one that is out of reach has most likely lost the frame that it is at.
func (b *Board) yet(w *worker, l *lease, g *grant, p float64) float64 {
	if !w.connected && b.connected > few && len(b.live) > 1 && g.t.check == nil && g.t.whole() {
		return p
	}
	return b.remaining(l, g, p)
}

// remaining is what a grant of cost p (on its device) still needs.
func (b *Board) remaining(l *lease, g *grant, p float64) float64 {
	const unsure = 0.1 // of p: nobody is done just because it was said
	if !l.seen || l.progress.Task != int(g.pos) {
		return p
	}
	if f := l.progress.Fraction; f > 0.05 {
		rest := time.Duration(l.moved-l.running).Seconds() * (1 - f) / f
		if d := f - float64(l.first); l.first > 0 && d > 0.02 { // what came before its phase got on is no measure
			rest = time.Duration(l.moved-l.firstAt).Seconds() * (1 - f) / d
		}
		return max(max(rest, p*(1-f)*0.5)-b.since(l.moved).Seconds(), p*unsure)
	}
	ran := b.since(l.running).Seconds()
	if ran < p {
		return max(p-ran, p*unsure)
	}
	return ran // overdue: as long again
}

// closeCopies ends the other attempts at a task that has its result. A worker
// that is at it stops, and the rest of its lease is open again at once.
func (b *Board) closeCopies(j *jobState, t *task) {
	for _, g := range slices.Clone(t.grants.all()) {
		l := g.lease
		b.endGrant(g)
		if w := b.byPeer[l.peer]; l.closed {
			if w != nil && w.connected {
				w.order.Stops = append(w.order.Stops, job.Stop{Lease: l.id, Reason: "another peer was first"})
				w.order.Leases = slices.DeleteFunc(w.order.Leases, func(x job.Lease) bool { return x.ID == l.id })
				b.urge(w)
			}
			b.hungry = true
		} else if l.seen && l.progress.Task == int(g.pos) {
			b.stop(l, "another peer was first")
		}
	}
}
