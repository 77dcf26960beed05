package dispatch

import (
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// feedAll offers what is open to everybody who asked: a first lease to each
// device before anybody gets a second.
func (b *Board) feedAll() {
	for credit := 1; credit <= b.o.Credit; credit++ {
		for _, w := range b.workers {
			if w.connected && len(w.bids) > 0 {
				b.feed(w, credit)
			}
		}
	}
	for _, w := range b.workers {
		if w.connected {
			b.tell(w)
		}
	}
	b.recount = true
}

// feed leases to w's devices what they asked for, up to credit leases each.
func (b *Board) feed(w *worker, credit int) {
	if !w.connected || w.fresh || w.leaving != "" || w.score.Banned != "" {
		return
	}
	for i := range w.bids {
		bid := &w.bids[i]
		d, ok := w.device(bid.Device)
		if !ok {
			continue
		}
		for bid.Want > 0 {
			if !b.feedOne(w, d, bid, credit) {
				break
			}
			bid.Want--
		}
	}
}

// feedOne makes one lease for a device, or returns false.
func (b *Board) feedOne(w *worker, d job.Device, bid *job.Bid, credit int) bool {
	work, checks := w.held(d.Name)
	if w.peer == b.self {
		if checks < 2 && b.leaseCheck(w, d) {
			return true
		}
		if !w.home() {
			// A check should not have to wait behind two leases.
			credit = min(credit, 1)
		}
	}
	if work+checks >= credit {
		return false
	}
	j, c := b.choose(w, d, bid, work > 0)
	if j == nil {
		return work == 0 && b.duplicate(w, d, bid)
	}
	tasks := b.cut(w, d, j, c)
	if len(tasks) == 0 {
		return work == 0 && b.duplicate(w, d, bid)
	}
	b.lease(w, d, j, tasks)
	return true
}

// choose picks the job that a device works on next, and which of its classes:
// the highest priority, and there the job with the least members for what
// remains of it, where the device's own job counts half. ahead says that the
// device is busy and would only queue.
func (b *Board) choose(w *worker, d job.Device, bid *job.Bid, ahead bool) (*jobState, *class) {
	var best *jobState
	var bestClass *class
	bestLoad := math.Inf(1)
	for _, j := range b.jobs {
		if !j.live() || !b.can(w, j) || !w.rested(j, b.now) || bid.Price > j.spec.Policy.MaxPrice {
			continue
		}
		if best != nil && j.spec.Policy.Priority < best.spec.Policy.Priority {
			continue
		}
		c := b.chooseClass(w, d, j, ahead)
		if c == nil {
			continue
		}
		load := float64(1+c.out) / float64(c.open)
		if slices.Contains(bid.Jobs, j.id) || w.worked[j.id] {
			load /= 2
		}
		if best == nil || j.spec.Policy.Priority > best.spec.Policy.Priority || load < bestLoad {
			best, bestClass, bestLoad = j, c, load
		}
	}
	return best, bestClass
}

// chooseClass picks the class of j whose first open task has the lowest rank.
func (b *Board) chooseClass(w *worker, d job.Device, j *jobState, ahead bool) *class {
	var best *class
	var first *task
	for _, c := range j.classes {
		if c.open == 0 || !b.fits(w, d, c.needs, c.place) {
			continue
		}
		if ahead {
			// What is left goes to whoever is free first.
			if _, n := b.capacity(j, c); c.open <= n {
				continue
			}
		}
		t := b.peek(w, j, c)
		if t == nil {
			continue
		}
		if first == nil || t.Rank < first.Rank || t.Rank == first.Rank && t.index < first.index {
			best, first = c, t
		}
	}
	return best
}

// peek returns the first task of c that w may take.
func (b *Board) peek(w *worker, j *jobState, c *class) *task {
	var aside []*task
	var found *task
	for found == nil {
		t := c.pop()
		if t == nil {
			break
		}
		aside = append(aside, t)
		if b.may(w, j, t) {
			found = t
		}
	}
	for _, t := range aside {
		c.push(t)
	}
	return found
}

// may reports whether w may try t, given who failed at it.
func (b *Board) may(w *worker, j *jobState, t *task) bool {
	failures := 0
	for _, a := range t.ended {
		if a.peer == w.peer && a.outcome == job.Failed {
			failures++
		}
	}
	if failures == 0 && !slices.Contains(t.avoid, w.peer) {
		return true
	}
	// A second time only where nobody else could.
	return failures < 2 && !b.others(w.peer, j, t)
}

// others reports whether a connected peer other than p could try t.
func (b *Board) others(p peer.ID, j *jobState, t *task) bool {
	for _, o := range b.workers {
		if o.peer == p || !b.can(o, j) || slices.Contains(t.avoid, o.peer) {
			continue
		}
		if slices.ContainsFunc(t.ended, func(a attempt) bool { return a.peer == o.peer && a.outcome == job.Failed }) {
			continue
		}
		for _, d := range o.machine.Devices {
			if b.fits(o, d, t.Needs, t.Place) {
				return true
			}
		}
	}
	return false
}

// fits reports whether device d of w can run tasks with these needs there. The
// requester's own work goes to its home slot where there is one, and nothing
// else does.
func (b *Board) fits(w *worker, d job.Device, n job.Needs, p job.Place) bool {
	home := d.Name == job.HomeDevice
	if p == job.Anywhere && home || p != job.Anywhere && (w.peer != b.self || !home && w.home()) {
		return false
	}
	return w.machine.Has(n, d)
}

// home reports whether the machine has a slot for its own finishing and checks.
func (w *worker) home() bool {
	_, ok := w.device(job.HomeDevice)
	return ok
}

// capacity is the speed of all devices that can work on c now, together, and
// their number.
func (b *Board) capacity(j *jobState, c *class) (float64, int) {
	if c.devices > 0 && c.capVer == b.members && b.now.Sub(c.capAt) < time.Second {
		return c.capacity, c.devices
	}
	c.capacity, c.devices, c.capAt, c.capVer = 0, 0, b.now, b.members
	for _, w := range b.workers {
		if !b.can(w, j) {
			continue
		}
		for _, d := range w.machine.Devices {
			if b.fits(w, d, c.needs, c.place) && (b.wants(w, d.Name) || len(w.leases) > 0) {
				c.capacity += w.speed(d.Name)
				c.devices++
			}
		}
	}
	return c.capacity, c.devices
}

// cut takes the open tasks of c that go into one lease: a quarter of what all
// of them will need from now (two leases make the half that a device takes of
// the remaining time), at most LeaseWork, and at least one task. While
// nothing is known of their cost it is one task.
func (b *Board) cut(w *worker, d job.Device, j *jobState, c *class) []*task {
	mean, known := c.costs.mean()
	target, most := 0.0, 1
	if known {
		total, _ := b.capacity(j, c)
		own := w.speed(d.Name)
		left := mean * float64(c.open+c.out) / max(total, own)
		target = min(left/4, b.o.LeaseWork.Seconds()) * own
		most = b.o.MaxLeaseTasks
		if w.peer == b.self && !w.home() {
			target = min(target, b.o.LeaseWork.Seconds()/4*own)
		}
	}
	var out, aside []*task
	sum := 0.0
	for len(out) < most {
		t := c.pop()
		if t == nil {
			break
		}
		if !b.may(w, j, t) {
			aside = append(aside, t)
			continue
		}
		p, _ := c.costs.at(t.index)
		if len(out) > 0 && sum+p > target {
			aside = append(aside, t)
			break
		}
		sum += p
		out = append(out, t)
	}
	for _, t := range aside {
		c.push(t)
	}
	return out
}

// lease grants tasks to a device.
func (b *Board) lease(w *worker, d job.Device, j *jobState, tasks []*task) {
	r := &grantRecord{Peer: b.peerNo(j, w.peer), Device: d.Name, Fence: b.fence(), Tasks: make([]int, len(tasks))}
	for i, t := range tasks {
		r.Tasks[i] = t.index
		if i > 0 {
			b.fence()
		}
	}
	id := b.leaseID()
	r.Lease = packLease(id)
	if x := j.accounts[account{w.peer, d.Name}]; x != nil && (x.total > 0 || !x.since.IsZero()) {
		// So that a restart does not forget how long it was here.
		total := x.total
		if !x.since.IsZero() {
			total += b.now.Sub(x.since)
		}
		b.do(Write{j.id, &accountRecord{Peer: r.Peer, Device: d.Name, Millis: total.Milliseconds()}})
	}
	if n := len(j.leaseSeq); n >= 64 && n&(n-1) == 0 {
		j.leaseSeq = slices.DeleteFunc(j.leaseSeq, func(l *lease) bool { return l.closed })
	}
	b.write(j, r)
	l := j.leases[id]
	for _, g := range l.grants {
		g.t.grants = append(g.t.grants, g)
		b.place(j, g.t)
		b.emit(j, job.Event{Type: job.EventLeased, Task: g.t.Label, Worker: w.peer.String()})
	}
	b.hand(w, l)
}

// hand puts a lease into w's order.
func (b *Board) hand(w *worker, l *lease) {
	j := l.job
	l.live, l.granted, l.running = len(l.grants), b.now, b.now
	w.leases = append(w.leases, l)
	b.leases[l.id] = l
	o := job.Lease{ID: l.id, Job: j.id, Device: l.device, Epoch: b.epoch, TTL: b.o.LeaseTTL}
	for _, g := range l.grants {
		gr := job.Granted{Task: g.t.Task, Fence: g.fence, SecretHash: job.HashSecret(j.secretOf(w.peer, l.id, g.t.key, g.fence))}
		prior := g.t.prior
		if g.t.check != nil {
			prior = g.t.check.t.prior
		}
		for i := range g.t.After {
			p := job.Prior{Task: g.t.After[i]}
			if t := find(prior, g.t.After[i]); t != nil && t.accepted != nil {
				p.Outputs = t.accepted.leaf.Outputs
			}
			gr.Prior = append(gr.Prior, p)
		}
		o.Tasks = append(o.Tasks, gr)
	}
	w.order.Leases = append(w.order.Leases, o)
	b.urge(w)
	b.expect()
}

func find(ts []*task, k job.TaskKey) *task {
	for _, t := range ts {
		if t.key == k {
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
	j.checks = append(j.checks, t)
	b.hungry = true
}

// leaseCheck gives this machine the checks of one job that wait.
func (b *Board) leaseCheck(w *worker, d job.Device) bool {
	const most = 16
	for _, j := range b.jobs {
		if len(j.checks) == 0 || !j.live() || !w.rested(j, b.now) {
			continue
		}
		l := &lease{job: j, peer: w.peer, device: d.Name, check: true}
		var left []*task
		for _, t := range j.checks {
			if len(l.grants) == most || !b.fits(w, d, t.Needs, job.AtRequester) {
				left = append(left, t)
				continue
			}
			g := &grant{lease: l, t: t, fence: b.fence(), pos: len(l.grants)}
			l.grants = append(l.grants, g)
			j.checking[g.fence] = g
		}
		if len(l.grants) == 0 {
			continue
		}
		j.checks = left
		l.id = b.leaseID()
		j.leases[l.id] = l
		j.leaseSeq = append(j.leaseSeq, l)
		b.hand(w, l)
		return true
	}
	return false
}
