package dispatch

import (
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
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
	// stay is what a job weighs for a device that works on it already.
	stay = 0.75
	// move is what a job weighs for a device that has to fetch its content.
	move = 1.3
	// paysOff: a device fetches content only where what is left of the job
	// takes so many times as long.
	paysOff = 3
	// linkGuess is how fast content comes to a peer of which nothing is known,
	// in bytes a second.
	linkGuess = 6e6
)

// feedAll offers what is open to everybody who asked: a first lease to each
// device before anybody gets a second.
func (b *Board) feedAll() {
	if len(b.waiting) > some && b.now.Sub(b.fed) < feedAgain {
		b.lookLater(b.fed.Add(feedAgain).Sub(b.now))
		b.tellAll()
		return
	}
	b.fed = b.now
	b.effort += len(b.waiting)
	b.waiting = slices.DeleteFunc(b.waiting, func(s *seat) bool {
		s.listed = s.want > 0 && b.ready(s)
		return !s.listed
	})
	idle := 0
	for _, s := range b.waiting {
		if s.idle != 0 {
			idle++
		}
	}
	open := b.openTasks()
	// Where there is less than there are hands, the best comes first.
	for range min(open, 8) {
		if open >= idle {
			break
		}
		var best *seat
		b.effort += len(b.waiting)
		for _, s := range b.waiting {
			if s.idle != 0 && s.Name != job.HomeDevice && (best == nil || s.worth() > best.worth()) {
				best = s
			}
		}
		if best == nil || !b.feedOne(best, 1) {
			break
		}
	}
	made := b.grants
	open = b.openTasks()
	for credit := 1; credit <= b.o.Credit; credit++ {
		b.effort += len(b.waiting)
		for _, s := range b.waiting {
			if b.grants != made {
				made, open = b.grants, b.openTasks()
			}
			if open == 0 {
				break
			}
			if len(b.waiting) > some && b.since(s.tried) < lookAgain {
				b.lookLater(lookAgain) // there was nothing for it just now
				continue
			}
			if b.feedSeat(s, credit); s.want > 0 {
				s.tried = b.moment()
			}
		}
	}
	b.makeRoom()
	b.copyAll()
	b.tellAll()
}

// openTasks counts what could be leased now, checks included.
func (b *Board) openTasks() int {
	n := 0
	for _, j := range b.live {
		if j.live() {
			n += j.open + len(j.checks)
		}
	}
	return n
}

// ready reports whether s may be given anything at all.
func (b *Board) ready(s *seat) bool {
	w := s.w
	return w.connected && !w.fresh && w.leaving == "" && w.score.Banned == "" && s.there
}

// feed leases to w's devices what they asked for, up to credit leases each.
func (b *Board) feed(w *worker, credit int) {
	for _, s := range w.seats {
		if b.passed(s) {
			continue
		}
		b.feedSeat(s, credit)
		if s.want > 0 && b.ready(s) {
			if work, _ := s.held(); work == 0 {
				for s.want > 0 && b.duplicate(s) {
				}
			}
			s.tried = b.moment()
		}
	}
}

// passed reports whether s waits, as one of many, and there was nothing for it
// just now: that it says so once more changes nothing. It is looked at again with
// all others.
func (b *Board) passed(s *seat) bool {
	if len(b.waiting) <= some || s.idle == 0 || s.tried < s.idle || b.since(s.tried) >= lookAgain {
		return false
	}
	b.lookLater(lookAgain)
	return true
}

func (b *Board) feedSeat(s *seat, credit int) {
	for s.want > 0 && b.ready(s) && b.feedOne(s, credit) {
	}
}

// feedOne makes one lease for a device, or returns false.
func (b *Board) feedOne(s *seat, credit int) bool {
	w := s.w
	work, checks := s.held()
	if w.peer == b.self {
		// Finished frames are what is waited for: they take turns with checks.
		if s.Name == job.HomeDevice && checks > 0 && work == 0 && b.leaseWork(s, false) {
			return true
		}
		if b.checksNow(checks) && b.leaseCheck(s) {
			return true
		}
		if !w.home() {
			// A check should not have to wait behind two leases.
			credit = min(credit, 1)
		}
	} else if work+checks < credit && b.leaseCheck(s) {
		return true
	}
	if work+checks >= credit {
		return false
	}
	if b.hurry(s) {
		return true
	}
	return b.leaseWork(s, work > 0)
}

// leaseWork makes a lease of tasks of a plan, or returns false.
func (b *Board) leaseWork(s *seat, ahead bool) bool {
	j, tasks := b.choose(s, ahead)
	if j == nil {
		return false
	}
	b.lease(s, j, tasks)
	return true
}

// choose picks the job that a device works on next, and the tasks: the most
// urgent, and there the job with the least speed of members for what remains
// of it. ahead says that the device is busy and would only queue.
func (b *Board) choose(s *seat, ahead bool) (*jobState, []*task) {
	if j := s.on; ahead && j != nil && j.open > 0 && j.live() && !b.outranked(s, j) {
		// It will choose anew when it is free.
		if !b.asks(s, j) {
			return nil, nil
		}
		if tasks := b.chooseTasks(s, j, true); len(tasks) > 0 {
			return j, tasks
		}
		return nil, nil
	}
	var not []*jobState // have nothing for it after all
	for {
		var best *jobState
		least := math.Inf(1)
		for _, j := range b.live {
			if j.open == 0 || !j.live() || !b.asks(s, j) || slices.Contains(not, j) {
				continue
			}
			more := 1
			if best != nil {
				if more = b.urgency(j, best); more < 0 {
					continue
				}
			}
			load, ok := b.load(s, j)
			if !ok {
				continue
			}
			if more > 0 || load < least {
				best, least = j, load
			}
		}
		if best == nil {
			return nil, nil
		}
		if tasks := b.chooseTasks(s, best, ahead); len(tasks) > 0 {
			return best, tasks
		}
		not = append(not, best)
	}
}

// load is how well j is served: the speed of its members, s among them, for the
// work that remains. It is false where s can do nothing of it, or would have to
// fetch content for so long that it does not pay.
func (b *Board) load(s *seat, j *jobState) (float64, bool) {
	suits, work := false, 0.0
	b.effort += len(j.classes)
	for _, c := range j.classes {
		if c.open == 0 || !b.suits(s, c) {
			continue
		}
		suits = true
		w, _, ok := c.costs.rest()
		if !ok {
			w = float64(c.costs.left) * b.typical()
		}
		work += w
	}
	if !suits {
		return 0, false
	}
	own := s.pace()
	others := j.members
	if s.member == j {
		others -= s.counted
	}
	load := (others + own) / max(work, 1e-9)
	switch {
	case s.on == j:
		load *= stay
	case !b.has(s, j) && j.snapshot.Bytes > 0:
		if b.usual > 0 && b.fetching(s, j)*paysOff > work/(others+own) && len(b.live) > 1 {
			return 0, false
		}
		load *= move
	}
	return load, true
}

// has reports whether s's machine has the content of j.
func (b *Board) has(s *seat, j *jobState) bool {
	return slices.Contains(s.w.worked, j)
}

// fetching is how long s's machine will be at fetching the content of j.
func (b *Board) fetching(s *seat, j *jobState) float64 {
	rate := s.w.rate
	if rate == 0 {
		if rate = b.rate; rate == 0 {
			rate = linkGuess
		}
	}
	return float64(j.snapshot.Bytes) / rate
}

// typical is what a task costs where nothing is known of its job.
func (b *Board) typical() float64 {
	if b.usual > 0 {
		return b.usual
	}
	return 1
}

// chooseTasks picks tasks of the class of j whose first one goes before those of the others.
func (b *Board) chooseTasks(s *seat, j *jobState, ahead bool) []*task {
	var not []*class
	for {
		var best *class
		var first *task
		for _, c := range j.classes {
			if c.open == 0 || !b.suits(s, c) || slices.Contains(not, c) {
				continue
			}
			t := c.next()
			if t != nil && (first == nil || t.before(first)) {
				best, first = c, t
			}
		}
		if best == nil {
			return nil
		}
		if tasks := b.cut(s, j, best, ahead); len(tasks) > 0 {
			return tasks
		}
		not = append(not, best)
	}
}

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

// capacity is the speed of all devices that can work on c, together, and their
// number. One that is barred from a job among many still counts.
func (b *Board) capacity(c *class) (speed float64, n int) {
	for _, x := range b.shapes {
		if x.n == 0 {
			continue
		}
		ok, known := c.fits[x]
		if !known {
			continue // none of them asked for it yet
		}
		if ok && (c.lessons == nil || x.machine.Has(b.learnt(c, x.device.Type), x.device)) {
			speed += x.speed
			n += x.n
		}
	}
	return max(speed, 0), n
}

// pace is the speed at which c goes on: that of its job's members, or its share
// of all, whichever is more.
func (b *Board) pace(j *jobState, c *class) (speed, each float64) {
	all, n := b.capacity(c)
	if n == 0 {
		return 0, 0
	}
	if b.sharing < 0 {
		b.sharing = 0
		for _, o := range b.live {
			if o.live() && o.open > 0 {
				b.sharing++
			}
		}
	}
	each = all / float64(n)
	return max(all/float64(max(b.sharing, 1)), min(j.members, all)), each
}

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

// lease grants tasks to a device.
func (b *Board) lease(s *seat, j *jobState, tasks []*task) {
	w := s.w
	r := &grantRecord{Peer: b.peerNo(j, w.peer), Device: s.Name, Fence: b.fence(j), Tasks: make([]int, len(tasks))}
	for i, t := range tasks {
		r.Tasks[i] = int(t.index)
		if i > 0 {
			b.fence(j)
		}
	}
	id := b.leaseID()
	r.Lease = packLease(id)
	if x := j.account(account{w.peer, s.Name}); x != nil && (x.total > 0 || x.since != 0) {
		// So that a restart does not forget how long it was here.
		total := x.total
		if x.since != 0 {
			total += b.since(x.since)
		}
		b.do(Write{j.id, &accountRecord{Peer: r.Peer, Device: s.Name, Millis: total.Milliseconds()}})
	}
	if len(j.leaseSeq) >= max(64, j.compactAt) {
		j.compact()
		j.compactAt = 2 * len(j.leaseSeq)
	}
	b.sweep(j)
	b.write(j, r)
	l := j.leases[id]
	for _, g := range l.grants {
		g.t.grants.add(g)
		b.place(j, g.t)
		b.emit(j, job.Event{Type: job.EventLeased, Task: g.t.Label, Worker: w.name})
	}
	tasks[0].class.granted = b.now
	s.on = j
	b.hand(s, l)
}

// hand puts a lease into the order of s's worker.
func (b *Board) hand(s *seat, l *lease) {
	j, w := l.job, s.w
	l.live, l.granted, l.running = int32(len(l.grants)), b.moment(), b.moment()
	w.leases = append(w.leases, l)
	b.leases[l.id] = l
	s.want--
	b.tally(s)
	b.account(w, s.Name, j)
	// Receipts of a steward's leases go to a requester that may be older.
	o := job.Lease{ID: l.id, Job: j.id, Device: l.device, Epoch: b.epoch, TTL: b.ttl(), Memory: j.origin == ""}
	for _, g := range l.grants {
		task := g.t.Task()
		gr := job.Granted{Task: task, Fence: g.fence, SecretHash: job.HashSecret(j.secretOf(w.peer, l.id, g.t.key(), g.fence))}
		for _, k := range task.After {
			p := job.Prior{Task: k}
			if g.t.check != nil {
				p.Outputs, _ = b.given(j, g.t.check, k)
			} else if t := find(g.t.prior(), k); t != nil && t.ready() {
				p.Outputs = j.outputs(t)
			}
			gr.Prior = append(gr.Prior, p)
		}
		o.Tasks = append(o.Tasks, gr)
	}
	w.order.Leases = append(w.order.Leases, o)
	b.urge(w)
	b.expect()
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

func find(ts []*task, k job.TaskKey) *task {
	for _, t := range ts {
		if t.is(k) {
			return t
		}
	}
	return nil
}

// queueCheck puts a check into the queue of this machine.
func (b *Board) queueCheck(j *jobState, t *task) {
	if t.check.state != retSafe && !t.check.recheck {
		return
	}
	// Somebody is under suspicion until the next look: it goes before first looks.
	at := len(j.checks)
	if again(t) {
		at = slices.IndexFunc(j.checks, func(o *task) bool { return !again(o) })
		if at < 0 {
			at = len(j.checks)
		}
	}
	j.checks = slices.Insert(j.checks, at, t)
	j.countHanded()
	b.hungry = true
}

// again reports whether a check is one more look at a result.
func again(t *task) bool { return len(t.check.looks) > 0 }

// countHanded counts the waiting checks that members may run.
func (j *jobState) countHanded() {
	j.handed = 0
	for _, t := range j.checks {
		if t.check.want != byHome {
			j.handed++
		}
	}
}

// leaseCheck gives a device a check of one job that waits, this machine as many
// as it does in a turn.
func (b *Board) leaseCheck(s *seat) bool {
	most := 1
	w := s.w
	if w.peer == b.self && b.checkTime > 0 && !b.crowded {
		most = int(min(max(checkTurn/b.checkTime, 1), 16))
	}
	var jobs []*jobState
	for _, j := range b.live {
		if len(j.checks) > 0 && j.live() && w.rested(j, b.now) && (w.peer == b.self || j.handed > 0 && b.can(w, j)) {
			jobs = append(jobs, j)
		}
	}
	slices.SortStableFunc(jobs, func(x, y *jobState) int { return b.urgency(y, x) })
	for _, j := range jobs {
		l := &lease{job: j, no: -1, peer: w.peer, device: s.Name, check: true}
		var left []*task
		for _, t := range j.checks {
			if len(l.grants) == most || !b.mayCheck(s, t) {
				left = append(left, t)
				continue
			}
			if !t.ofClaim() {
				t.check.checker = w.peer
			}
			if t.check.want == byClass {
				t.check.replicas = append(t.check.replicas, w.peer)
			}
			g := &grant{lease: l, t: t, fence: b.fence(j), pos: int32(len(l.grants))}
			l.grants = append(l.grants, g)
			t.check.runs = append(t.check.runs, g)
			j.checking[g.fence] = g
		}
		if len(l.grants) == 0 {
			continue
		}
		j.checks = left
		j.countHanded()
		l.id = b.leaseID()
		j.leases[l.id] = l
		j.leaseSeq = append(j.leaseSeq, l)
		b.hand(s, l)
		return true
	}
	return false
}
