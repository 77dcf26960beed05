package dispatch

import (
	"slices"

	"idlewild/job"
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
