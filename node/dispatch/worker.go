package dispatch

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// worker is what the board knows of a peer that works for us. It outlives the
// peer's streams.
type worker struct {
	peer      peer.ID
	connected bool
	stream    uint64
	fresh     bool   // no report came on this stream yet
	session   string // of its process
	machine   job.Machine
	bids      []job.Bid
	leaving   string
	heard     time.Time
	score     Score
	resting   string // as told last

	leases []*lease // held, oldest first
	rests  map[job.ID]*rest
	speeds map[string]*speed
	last   map[string]time.Time // when a device last returned something
	worked map[job.ID]bool      // has that job's content

	order   job.Order
	urgent  bool
	owed    bool
	waiting bool // a timer will send what is settled
}

// rest keeps a peer off a job for a while.
type rest struct {
	until time.Time
	n     int
	why   string
}

// speed of a device against the one that the costs were first measured on, as
// a running mean in the logarithm.
type speed struct {
	log float64
	n   int
}

func (w *worker) speed(device string) float64 {
	if s := w.speeds[device]; s != nil {
		return math.Exp(s.log)
	}
	return 1
}

func (w *worker) device(name string) (job.Device, bool) {
	for _, d := range w.machine.Devices {
		if d.Name == name {
			return d, true
		}
	}
	return job.Device{}, false
}

// held counts the leases of a device, checks aside.
func (w *worker) held(device string) (work, checks int) {
	for _, l := range w.leases {
		if l.device == device {
			if l.check {
				checks++
			} else {
				work++
			}
		}
	}
	return work, checks
}

// short is a peer's name for people.
func short(p peer.ID) string {
	s := p.String()
	return s[max(0, len(s)-8):]
}

func (b *Board) worker(p peer.ID) *worker {
	w := b.byPeer[p]
	if w == nil {
		w = &worker{peer: p, rests: map[job.ID]*rest{}, speeds: map[string]*speed{}, last: map[string]time.Time{}, worked: map[job.ID]bool{}}
		b.byPeer[p] = w
		b.workers = append(b.workers, w)
	}
	return w
}

func (b *Board) opened(e Opened) {
	w := b.worker(e.Peer)
	if w.connected {
		b.do(Hangup{w.peer, w.stream})
		b.away(w)
	}
	w.connected, w.stream, w.fresh = true, e.Stream, true
	w.heard, w.score, w.bids, w.leaving, w.resting = b.now, e.Score, nil, "", ""
	w.order, w.urgent = job.Order{}, false
	b.members++
	b.urge(w) // says epoch and beat
}

func (b *Board) closed(e Closed) {
	w := b.byPeer[e.Peer]
	if w == nil || !w.connected || w.stream != e.Stream {
		return
	}
	b.away(w)
	b.hungry = true // others may be all that is left for some task
}

// away marks w as gone. Its leases stay until they lapse: it may come back
// with what it did.
func (b *Board) away(w *worker) {
	w.connected = false
	w.order, w.urgent = job.Order{}, false
	b.members++
	b.account(w)
}

func (b *Board) reported(e Reported) {
	w := b.byPeer[e.Peer]
	if w == nil || !w.connected || w.stream != e.Stream {
		return
	}
	r := e.Report
	w.heard = b.now
	if r.Machine != nil {
		w.machine = *r.Machine
		b.members++
	}
	first := w.fresh
	w.fresh, w.session = false, r.Session
	if (w.leaving == "") != (r.Leaving == "") {
		b.members++
	}
	w.leaving = r.Leaving
	w.bids = slices.Clone(r.Bids)
	for i := range r.Bids {
		for _, id := range r.Bids[i].Jobs {
			if b.byID[id] != nil {
				w.worked[id] = true
			}
		}
	}
	for _, o := range e.Receipts {
		b.receipt(w, o, r.Inline)
	}
	size := 0
	for _, x := range r.Receipts {
		size += len(x.Body)
	}
	b.progress(w, r.Progress, first, len(r.Receipts) >= 32 || size >= job.MaxReceiptBytes/4)
	b.count(w, e)
	b.feed(w, b.o.Credit)
	b.tell(w)
	b.account(w)
	if w.leaving != "" && len(w.order.Settled) > 0 {
		b.urge(w)
	}
}

// count counts a report as a message about each job that it speaks of; one that
// only asks for work speaks of all that have some.
func (b *Board) count(w *worker, e Reported) {
	about := map[*jobState]bool{}
	for _, o := range e.Receipts {
		about[b.byID[o.receipt.Job]] = true
	}
	for _, p := range e.Report.Progress {
		if l := b.leases[p.Lease]; l != nil {
			about[l.job] = true
		}
	}
	for _, j := range b.jobs {
		if about[j] || len(about) == 0 && j.live() {
			j.messages++
		}
	}
}

// countOrder does the same for an order.
func (b *Board) countOrder(o job.Order) {
	about := map[job.ID]bool{}
	for _, l := range o.Leases {
		about[l.Job] = true
	}
	for _, s := range o.Settled {
		about[s.Job] = true
	}
	for _, s := range o.Stops {
		if l := b.leases[s.Lease]; l != nil {
			about[l.job.id] = true
		}
	}
	for _, j := range b.jobs {
		if about[j.id] || len(about) == 0 && j.live() {
			j.messages++
		}
	}
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
			l.running = b.now
		}
		if changed := l.progress != p; changed && p.Task >= 0 && p.Task < len(l.grants) {
			if g := l.grants[p.Task]; !g.over && !l.check {
				b.emit(l.job, job.Event{Type: job.EventProgress, Task: g.t.Label, Worker: w.peer.String(), Text: p.Phase, Fraction: p.Fraction})
			}
		}
		l.seen, l.progress, l.missing = true, p, time.Time{}
	}
	for _, l := range slices.Clone(w.leases) {
		if _, ok := has[l.id]; ok {
			continue
		}
		switch {
		case first && !backlog:
			b.giveUp(l, "lost on the way or with the worker's restart")
		case l.missing.IsZero():
			l.missing = b.now
		case b.now.Sub(l.missing) >= patience && b.now.Sub(l.granted) >= 2*patience:
			b.giveUp(l, "the worker does not have it")
		}
	}
}

// giveUp takes a lease back: what is not returned of it may be leased again.
// A result that comes later is still welcome.
func (b *Board) giveUp(l *lease, why string) {
	if l.closed {
		return
	}
	l.closed = true
	if w := b.byPeer[l.peer]; w != nil {
		w.leases = slices.DeleteFunc(w.leases, func(x *lease) bool { return x == l })
		b.account(w)
	}
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
	g.t.grants = slices.DeleteFunc(g.t.grants, func(x *grant) bool { return x == g })
	j := g.lease.job
	if g.t.check != nil {
		delete(j.checking, g.fence)
		b.queueCheck(j, g.t)
		return
	}
	b.place(j, g.t)
}

// returnedGrant ends a grant with its leaf; a lease without grants is done.
func (b *Board) endGrant(g *grant) {
	if !g.over {
		g.over = true
		g.lease.live--
		g.t.grants = slices.DeleteFunc(g.t.grants, func(x *grant) bool { return x == g })
	}
	l := g.lease
	if l.live <= 0 && !l.closed {
		l.closed = true
		if w := b.byPeer[l.peer]; w != nil {
			w.leases = slices.DeleteFunc(w.leases, func(x *lease) bool { return x == l })
		}
	}
}

// revive gives a lapsed lease back to the worker that came home with it, for
// those of its tasks that nobody else has.
func (b *Board) revive(w *worker, l *lease) {
	if l.job.state != job.StatePlanned || l.job.barred[w.peer] != "" || l.check {
		return
	}
	for _, g := range l.grants {
		if g.over && g.t.phase == open && l.job.rets[g.fence] == nil {
			g.over = false
			l.live++
			g.t.grants = append(g.t.grants, g)
			b.place(l.job, g.t)
		}
	}
	if l.live > 0 {
		l.closed = false
		w.leases = append(w.leases, l)
		b.expect()
	}
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
	b.schedule(b.o.LeaseTTL)
}

func (b *Board) schedule(d time.Duration) {
	b.lapse = b.now.Add(d)
	b.after(d, b.expire)
}

// expire takes back the leases of workers that were not heard of for the TTL.
func (b *Board) expire() {
	b.lapse = time.Time{}
	next := time.Duration(-1)
	for _, w := range b.workers {
		if len(w.leases) == 0 {
			continue
		}
		left := w.heard.Add(b.o.LeaseTTL).Sub(b.now)
		if left <= 0 {
			for _, l := range slices.Clone(w.leases) {
				b.giveUp(l, "lapsed")
			}
			continue
		}
		if next < 0 || left < next {
			next = left
		}
	}
	if next >= 0 {
		b.schedule(next)
	}
}

// restFor keeps w off j for a time that grows with each call.
func (b *Board) restFor(w *worker, j *jobState, why string) {
	r := w.rests[j.id]
	if r == nil {
		r = &rest{}
		w.rests[j.id] = r
	}
	d := min(2*time.Second<<min(r.n, 10), 5*time.Minute)
	r.n++
	r.until, r.why = b.now.Add(d), why
	b.after(d, func() { b.hungry = true })
}

func (w *worker) rested(j *jobState, now time.Time) bool {
	r := w.rests[j.id]
	return r == nil || !now.Before(r.until)
}

// can reports whether w may work on j at all now.
func (b *Board) can(w *worker, j *jobState) bool {
	return w.connected && w.leaving == "" && w.score.Banned == "" && j.barred[w.peer] == ""
}

// tell keeps a worker that gets no work informed of the reason.
func (b *Board) tell(w *worker) {
	why := w.score.Banned
	if why == "" {
		some, all := "", true
		for _, j := range b.jobs {
			if !j.live() {
				continue
			}
			if r := j.barred[w.peer]; r != "" {
				some = fmt.Sprintf("no more work on job %s: a result was rejected: %s", j.id, r)
			} else if r := w.rests[j.id]; r != nil && b.now.Before(r.until) {
				some = fmt.Sprintf("rests from job %s for %v: %s", j.id, r.until.Sub(b.now).Round(time.Second), r.why)
			} else {
				all = false
			}
		}
		if all {
			why = some
		}
	}
	if len(why) > job.MaxReasonBytes {
		why = why[:job.MaxReasonBytes]
	}
	if (why == "") != (w.resting == "") {
		w.resting = why
		b.urge(w)
	}
	w.resting = why
}

// account keeps count of the time that w's devices are joined to jobs which
// have work for them. It is called whenever that may have changed.
func (b *Board) account(w *worker) {
	for _, j := range b.jobs {
		if j.state != job.StatePlanned {
			continue
		}
		for _, d := range w.machine.Devices {
			here, elsewhere := 0, 0
			for _, l := range w.leases {
				if l.device == d.Name {
					if l.job == j {
						here++
					} else {
						elsewhere++
					}
				}
			}
			on := w.connected && (here > 0 || elsewhere == 0 && j.live() && b.can(w, j) && b.wants(w, d.Name) && b.hasWork(j, w, d))
			a := account{w.peer, d.Name}
			x := j.accounts[a]
			if x == nil {
				if !on {
					continue
				}
				x = j.joined(a)
			}
			if on == !x.since.IsZero() {
				continue
			}
			if on {
				x.since = b.now
			} else {
				x.total += b.now.Sub(x.since)
				x.since = time.Time{}
			}
		}
	}
}

// wants reports whether a device bids at all.
func (b *Board) wants(w *worker, device string) bool {
	for i := range w.bids {
		if w.bids[i].Device == device && w.bids[i].Want > 0 {
			return true
		}
	}
	return false
}

func (b *Board) hasWork(j *jobState, w *worker, d job.Device) bool {
	for _, c := range j.classes {
		if c.open > 0 && b.fits(w, d, c.needs, c.place) {
			return true
		}
	}
	return false
}

// settleAccounts closes the accounts of a job that ends.
func (b *Board) settleAccounts(j *jobState) {
	for _, a := range j.accOrder {
		x := j.accounts[a]
		if !x.since.IsZero() {
			x.total += b.now.Sub(x.since)
			x.since = time.Time{}
		}
		if x.total > 0 {
			b.write(j, &accountRecord{Peer: b.peerNo(j, a.peer), Device: a.device, Millis: x.total.Milliseconds()})
		}
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
