package dispatch

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// asks reports whether j has work for s as far as prices, rests and j's limits
// go.
func (b *Board) asks(s *seat, j *jobState) bool {
	return s.price <= j.spec.Policy.MaxPrice && b.mayWork(s, j) && s.w.rested(j, b.now) && (b.finishes(s) || b.within(s.w, j))
}

// finishes reports whether s only finishes and checks its own machine's jobs:
// that is not limited.
func (b *Board) finishes(s *seat) bool {
	return s.Name == job.HomeDevice || s.w.peer == b.self && !s.w.home()
}

// within reports whether w may take more of j without breaking a limit of it.
func (b *Board) within(w *worker, j *jobState) bool {
	if b.limit(j) != "" {
		return false
	}
	most := j.spec.Policy.MaxWorkers
	return most == 0 || j.hands(most, w) < most
}

// hands counts machines that work on j, w aside, up to most of them.
func (j *jobState) hands(most int, w *worker) int {
	seen := make(map[peer.ID]bool)
	for _, l := range j.leaseSeq {
		if l.closed || l.check || l.device == job.HomeDevice || l.peer == w.peer {
			continue
		}
		if seen[l.peer] = true; len(seen) >= most {
			break
		}
	}
	return len(seen)
}

// limit says why j asks for nothing more, or "".
func (b *Board) limit(j *jobState) string {
	budget := j.spec.Policy.Budget
	if budget == 0 || b.unspent(j) > 0 {
		return ""
	}
	d := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)).Round(time.Second) }
	return fmt.Sprintf("asks for nothing more: of its budget of %v of device time %v are used and the rest is under way; as much again: idlewild resume %s",
		d(budget), d(j.spent), j.id)
}

// unspent is what is left of j's budget when all that is leased is done, in
// seconds of devices; infinite without a budget.
func (b *Board) unspent(j *jobState) float64 {
	if j.spec.Policy.Budget == 0 {
		return math.Inf(1)
	}
	left := j.spec.Policy.Budget - j.spent
	for _, l := range j.leaseSeq {
		if left <= 0 {
			break
		}
		if l.check || l.device == job.HomeDevice {
			continue
		}
		pace := b.paceOf(l.peer, l.device)
		for _, g := range l.grants {
			switch {
			case g.t.Place == job.AtRequester:
			case g.over:
				if x := j.rets[g.fence]; x != nil && x.state < retSafe {
					left -= x.wall.Seconds() // on its way here
				}
			default:
				left -= b.guess(j, g.t) / pace
			}
		}
	}
	return left
}

// guess is what a task will cost: as is predicted, else as results of its job
// did so far, else as a usual task does.
func (b *Board) guess(j *jobState, t *task) float64 {
	if p, ok := t.class.costs.at(int(t.index)); ok {
		return p
	}
	if n := len(j.rets); n > 0 && j.spent > 0 {
		return j.spent / float64(n)
	}
	return b.typical()
}

// mostWall is what one result may take of a budget, whatever its worker says.
const mostWall = 24 * time.Hour

// spend takes a result off j's budget.
func (j *jobState) spend(x *ret) {
	if x.device == job.HomeDevice || x.t.Place == job.AtRequester {
		return
	}
	most := mostWall
	if x.t.timeout > 0 {
		most = min(most, x.t.timeout)
	}
	j.spent += min(x.wall, most).Seconds()
}

// extend gives j as much again as it had so far. It reports whether j had used it up.
func (b *Board) extend(j *jobState) bool {
	if j.state != job.StatePlanned || b.limit(j) == "" {
		return false
	}
	l := j.spec.Policy.Limits
	l.Budget = min(2*l.Budget, job.MostBudget)
	b.write(j, &limitsRecord{Limits: l})
	j.limited = false
	b.hungry = true
	return true
}

// tellLimit says once that a job has come to its limit.
func (b *Board) tellLimit(j *jobState) {
	if j.spec.Policy.Budget == 0 || j.limited || !j.live() || j.open == 0 {
		return
	}
	if why := b.limit(j); why != "" {
		j.limited = true
		b.emit(j, job.Event{Type: job.EventWarning, Text: why})
	}
}

// urgency is how much sooner x is wanted than y, whatever is served how well:
// what somebody waits for, what has the higher priority, what would be late.
func (b *Board) urgency(x, y *jobState) int {
	p, q := &x.spec.Policy, &y.spec.Policy
	if p.Interactive != q.Interactive {
		if p.Interactive {
			return 1
		}
		return -1
	}
	if c := cmp.Compare(p.Priority, q.Priority); c != 0 {
		return c
	}
	late, too := b.pressed(x), b.pressed(y)
	switch {
	case late && too:
		return q.Deadline.Compare(p.Deadline)
	case late:
		return 1
	case too:
		return -1
	}
	return 0
}

// pressed reports whether j would be late with the share of devices that it has.
// What is late already is no more urgent than the rest.
func (b *Board) pressed(j *jobState) bool {
	d := j.spec.Policy.Deadline
	if d.IsZero() || !b.now.Before(d) {
		return false
	}
	_, _, high := b.left(j)
	if high == 0 {
		for _, c := range j.classes {
			if all, _ := b.pace(j, c); all > 0 && c.place != job.AtRequester {
				high += float64(c.costs.left) * b.typical() / all
			}
		}
	}
	return b.now.Add(time.Duration(min(high, 1e9) * float64(time.Second))).After(d)
}

// outranked reports whether somebody waits for something else than j that s
// could do.
func (b *Board) outranked(s *seat, j *jobState) bool {
	if j.spec.Policy.Interactive {
		return false
	}
	for _, o := range b.live {
		if o.spec.Policy.Interactive && o.open > 0 && o.live() && b.asks(s, o) {
			return true
		}
	}
	return false
}

// settleRoom is how long a device that was cleared has to ask for work.
const settleRoom = 5 * time.Second

// makeRoom clears devices for work that somebody waits for and that nobody who
// is free can take: for each open task the device that would be done with it
// soonest, counting what is thrown away there.
func (b *Board) makeRoom() {
	for _, j := range b.live {
		if !j.spec.Policy.Interactive || !j.live() || j.open == 0 {
			continue
		}
		open := 0
		var cost float64
		var of *class
		for _, c := range j.classes {
			if c.place != job.AtRequester && c.open > 0 {
				open += c.open
				of = c
			}
		}
		if of == nil {
			continue
		}
		if mean, ok := of.costs.mean(); ok {
			cost = mean
		} else {
			cost = b.typical()
		}
		for _, w := range b.workers {
			for _, s := range w.seats {
				if b.since(s.cleared) < settleRoom {
					open-- // it is about to ask
				}
			}
		}
		for ; open > 0; open-- {
			var best *seat
			least := math.Inf(1)
			for _, w := range b.workers {
				for _, s := range w.seats {
					if n, _ := s.held(); n == 0 || s.Name == job.HomeDevice || !b.ready(s) || !b.suits(s, of) || !b.asks(s, j) || b.serves(s) {
						continue
					}
					took := cost/s.pace() + b.thrown(s)
					if !b.has(s, j) {
						took += loadGuess + b.fetching(s, j)
					}
					if took < least {
						best, least = s, took
					}
				}
			}
			if best == nil {
				break
			}
			best.cleared = b.moment()
			for _, l := range append([]*lease(nil), best.w.leases...) {
				if l.device == best.Name && !l.check {
					b.stop(l, "somebody waits for other work")
				}
			}
		}
	}
}

// serves reports whether s is at work that somebody waits for, or cleared for it.
func (b *Board) serves(s *seat) bool {
	if b.since(s.cleared) < settleRoom {
		return true
	}
	for _, l := range s.w.leases {
		if l.device == s.Name && l.job.spec.Policy.Interactive {
			return true
		}
	}
	return false
}

// thrown is how long s has been at the task that it runs.
func (b *Board) thrown(s *seat) float64 {
	for _, l := range s.w.leases {
		if l.device == s.Name && l.seen && l.progress.Task >= 0 {
			return b.since(l.running).Seconds()
		}
	}
	return 0
}

// worth ranks devices of which each would get the last task: by pace, over the
// price, times what became of their checked results. Higher is better.
func (s *seat) worth() float64 {
	x := s.w.score
	good := float64(x.Accepted+1) / float64(x.Accepted+x.Rejected+1)
	return s.speed.log - math.Log1p(s.price) + math.Log(good)
}

// lateBy is how long after its deadline j is expected to end, in seconds; 0
// where it is not.
func (j *jobState) lateBy(end time.Time) float64 {
	if j.spec.Policy.Deadline.IsZero() {
		return 0
	}
	return max(0, end.Sub(j.spec.Policy.Deadline).Seconds())
}
