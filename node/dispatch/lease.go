package dispatch

import (
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// lease is the board's side of a job.Lease.
type lease struct {
	id       job.LeaseID
	job      *jobState
	peer     peer.ID
	device   string
	grants   []*grant
	no       int32 // in the journal's order; -1: it is not there
	live     int32 // grants that are neither returned nor given up
	check    bool  // holds checks
	closed   bool
	seen     bool // in a Progress of the worker
	granted  moment
	missing  moment // since when it is not in a Progress; 0: it is
	progress progress
	running  moment // since when task progress.Task runs
	moved    moment // when progress last changed
	// Where progress.Phase was first heard to get on, and when; 0: it was not.
	firstAt      moment
	first, shown float32 // shown: what watchers heard of its fraction
}

// progress is what was last heard of a lease, see job.Progress.
type progress struct {
	Task     int
	Fraction float64
	Phase    string
}

// grant is one task of a lease.
type grant struct {
	lease *lease
	t     *task
	fence uint64
	pos   int32
	far   uint16 // the furthest that was heard of it, 65535 is all: what is shown does not go back while its outputs are stored
	over  bool   // returned or given up
}

// progress notes what w says it holds, and takes back what it does not.
//
// In the first report of a stream a lease that is missing was lost on the way or
// with the worker's process, unless its receipts may follow (backlog).
func (b *Board) progress(w *worker, list []job.Progress, first, backlog bool) {
	const patience = 5 * time.Second
	has := make(map[job.LeaseID]job.Progress, len(list))
	for _, p := range list {
		has[p.Lease] = p
		l := b.leases[p.Lease]
		if l == nil || l.peer != w.peer {
			w.order.Stops = append(w.order.Stops, job.Stop{Lease: p.Lease, Reason: "no such lease here"})
			b.urge(w)
			continue
		}
		if l.closed {
			b.revive(w, l)
			if l.closed && !l.job.all(l) {
				w.order.Stops = append(w.order.Stops, job.Stop{Lease: p.Lease, Reason: "its tasks are done"})
				b.urge(w)
			}
			if l.closed {
				continue
			}
		}
		if !l.seen || l.progress.Task != p.Task {
			l.running = b.moment()
		}
		if l.note(p, b.moment()) && p.Task >= 0 && p.Task < len(l.grants) {
			if g := l.grants[p.Task]; !g.over && !l.check {
				b.emit(l.job, job.Event{Type: job.EventProgress, Task: g.t.Label, Worker: w.name, Text: p.Phase, Fraction: p.Fraction})
			}
		}
		l.missing = 0
		if s := w.seat(l.device); s.speed.n == 0 {
			b.slow(s, l)
		}
	}
	for _, l := range slices.Clone(w.leases) {
		if _, ok := has[l.id]; ok {
			continue
		}
		switch {
		case first && !backlog:
			b.giveUp(l, "lost on the way or with the worker's restart")
		case l.missing == 0:
			l.missing = b.moment()
		case b.since(l.missing) >= patience && b.since(l.granted) >= 2*patience:
			b.giveUp(l, "the worker does not have it")
		}
	}
}

// note takes what is said of l now; news says that watchers should hear of it:
// within one phase of a task of a few steps only.
func (l *lease) note(p job.Progress, now moment) (news bool) {
	const step = 0.05
	was := l.progress
	switch {
	case !l.seen || was.Task != p.Task || was.Phase != p.Phase:
		l.first, l.moved, l.shown, news = 0, now, float32(p.Fraction), true
	case was.Fraction != p.Fraction:
		if l.first == 0 {
			l.first, l.firstAt = float32(p.Fraction), now
		}
		l.moved = now
		if news = math.Abs(p.Fraction-float64(l.shown)) >= step || p.Fraction == 1; news {
			l.shown = float32(p.Fraction)
		}
	}
	l.seen, l.progress = true, progress{p.Task, p.Fraction, p.Phase}
	if p.Task >= 0 && p.Task < len(l.grants) {
		g := l.grants[p.Task]
		g.far = max(g.far, uint16(math.MaxUint16*p.Fraction))
	}
	return news
}

// giveUp takes a lease back: what is not returned of it may be leased again.
// A result that comes later is still welcome.
func (b *Board) giveUp(l *lease, why string) {
	if l.closed {
		return
	}
	b.shut(l)
	for _, g := range l.grants {
		if !g.over {
			b.release(g)
		}
	}
	if why != "" {
		b.do(Note{"lease taken back", []any{"job", l.job.id, "lease", l.id, "peer", l.peer, "reason", why}})
	}
	if l.job.live() {
		b.hungry = true
	}
}

// release ends a grant without a result.
func (b *Board) release(g *grant) {
	if g.over {
		return
	}
	g.over = true
	g.lease.live--
	g.t.grants.remove(g)
	j := g.lease.job
	if g.t.check != nil {
		delete(j.checking, g.fence)
		b.queueCheck(j, g.t)
		return
	}
	b.place(j, g.t)
}

// endGrant ends a grant with its leaf; a lease without grants is done.
func (b *Board) endGrant(g *grant) {
	if !g.over {
		g.over = true
		g.lease.live--
		g.t.grants.remove(g)
	}
	l := g.lease
	if l.live <= 0 && !l.closed {
		b.shut(l)
	}
}

// shut takes a lease from its worker.
func (b *Board) shut(l *lease) {
	l.closed = true
	if w := b.byPeer[l.peer]; w != nil {
		w.leases = slices.DeleteFunc(w.leases, func(x *lease) bool { return x == l })
		b.account(w, l.device, l.job)
		b.tally(w.seat(l.device))
	}
}

// revive gives a lapsed lease back to the worker that came home with it, for
// those of its tasks that nobody else has and that fit there.
func (b *Board) revive(w *worker, l *lease) {
	if l.job.state != job.StatePlanned || l.job.barred[w.peer] != "" || l.check {
		return
	}
	s := w.seat(l.device)
	for _, g := range l.grants {
		if g.over && g.t.phase == open && l.job.rets[g.fence] == nil && b.roomFor(s, g.t) {
			g.over = false
			l.live++
			g.t.grants.add(g)
			b.place(l.job, g.t)
		}
	}
	if l.live > 0 {
		b.reopen(w, l)
	}
}

// reopen gives a closed lease back to its worker.
func (b *Board) reopen(w *worker, l *lease) {
	l.closed = false
	w.leases = append(w.leases, l)
	l.job.leaseSeq = append(l.job.leaseSeq, l)
	b.account(w, l.device, l.job)
	b.tally(w.seat(l.device))
	b.expect()
}

// await leaves a task with a worker that is out of reach, has done it, and could
// not be asked for it: as what else it holds, it is open again once that lapses.
func (b *Board) await(w *worker, g *grant) bool {
	if w == nil || w.connected || g == nil || !g.over || g.t.phase > returned || b.now.Sub(w.heard) >= b.ttl() {
		return false
	}
	g.over = false
	g.lease.live++
	g.t.grants.add(g)
	if g.lease.closed {
		b.reopen(w, g.lease)
	}
	return true
}

// stop ends a lease and tells its worker so.
func (b *Board) stop(l *lease, reason string) {
	if l.closed {
		return
	}
	b.giveUp(l, "")
	if w := b.byPeer[l.peer]; w != nil && w.connected {
		w.order.Stops = append(w.order.Stops, job.Stop{Lease: l.id, Reason: reason})
		// A lease that has not left yet need not be sent at all.
		w.order.Leases = slices.DeleteFunc(w.order.Leases, func(x job.Lease) bool { return x.ID == l.id })
		b.urge(w)
	}
}

// expect makes sure that a Tick comes when the next lease can lapse.
func (b *Board) expect() {
	if !b.lapse.IsZero() && b.lapse.After(b.now) {
		return
	}
	b.schedule(b.ttl())
}

func (b *Board) schedule(d time.Duration) {
	b.lapse = b.now.Add(d)
	b.after(d, b.expire)
}

// expire takes back the leases of workers that were not heard of for the TTL.
func (b *Board) expire() {
	b.lapse = time.Time{}
	next := time.Duration(-1)
	b.effort += len(b.workers)
	for _, w := range b.workers {
		if len(w.leases) == 0 {
			continue
		}
		left := w.heard.Add(b.ttl()).Sub(b.now)
		if left <= 0 {
			for _, l := range slices.Clone(w.leases) {
				for _, g := range l.grants {
					if !g.over {
						g.t.lapsed = true
					}
				}
				b.giveUp(l, "lapsed")
			}
			continue
		}
		if next < 0 || left < next {
			next = left
		}
	}
	if next >= 0 {
		// Everybody is looked at: not for each worker's sake alone.
		b.schedule(max(next, time.Second))
	}
}

// all reports whether everything of l has returned.
func (j *jobState) all(l *lease) bool {
	for _, g := range l.grants {
		if g.t.check != nil {
			if !g.over {
				return false
			}
		} else if j.rets[g.fence] == nil {
			return false
		}
	}
	return true
}

// sweep forgets leases that are closed and of whose tasks nothing is open, once
// there may be many.
func (b *Board) sweep(j *jobState) {
	const least = 256
	if len(j.leases) < max(least, j.sweepAt) {
		return
	}
	b.effort += len(j.leases)
	for id, l := range j.leases {
		if l.check && l.closed || l.closed && !slices.ContainsFunc(l.grants, func(g *grant) bool { return !g.t.phase.final() }) {
			for _, g := range l.grants {
				delete(j.grants, g.fence)
			}
			delete(j.leases, id)
			delete(b.leases, id)
		}
	}
	j.sweepAt = len(j.leases) * 5 / 4
}

// compact forgets leases that are over, in the order of leases.
func (j *jobState) compact() {
	j.leaseSeq = slices.DeleteFunc(j.leaseSeq, func(l *lease) bool { return l.closed })
}
