package dispatch

import (
	"math"

	"idlewild/job"
)

// recent is how many results the pace of a device is taken from.
const recent = 8

// speed of a device against the one that the costs were first measured on, as
// a running mean in the logarithm.
type speed struct {
	log  float64
	n    int
	past [recent]sample // the nth of them at n modulo recent
}

// sample is a result of a device: which task it was and how long it took.
type sample struct {
	c    *class
	i    int32
	took float32 // logarithm of seconds
}

// mean is the pace that the last results of a device show by what their tasks
// are taken to cost now.
func (v *speed) mean() float64 {
	sum, n := 0.0, 0
	for _, x := range v.past[:min(v.n, recent)] {
		if p, ok := x.c.costs.at(int(x.i)); ok {
			sum += math.Log(p) - float64(x.took)
			n++
		}
	}
	if n == 0 {
		return v.log
	}
	return max(-10, min(10, sum/float64(n)))
}

// took is how long x took its device, in seconds.
func (x *ret) took() float64 {
	took := max(x.wall-x.load, x.render).Seconds()
	// A peer cannot look fast by its own clock for long.
	if x.elapsed > 0 && !x.first {
		took = max(took, x.elapsed.Seconds()/2)
	}
	return max(took, 1e-5)
}

// learn takes cost and speed from an accepted result.
func (b *Board) learn(j *jobState, x *ret) {
	took := x.took()
	s := b.worker(x.peer).seat(x.device)
	c := &x.t.class.costs
	if p, ok := c.at(int(x.t.index)); ok {
		if s.speed.n > 0 {
			c.judge(p/s.pace(), took)
		}
		s.speed.past[s.speed.n%recent] = sample{x.t.class, x.t.index, float32(math.Log(took))}
		s.speed.n++
		s.speed.log += (math.Log(p/took) - s.speed.log) / float64(min(s.speed.n, recent))
		s.speed.log = max(-10, min(10, s.speed.log))
		b.pace0 += (s.speed.log - b.pace0) / 64
		b.tally(s)
	}
	v := took * s.pace()
	c.add(int(x.t.index), v)
	if x.t.Place == job.Anywhere {
		if b.usual == 0 {
			b.usual = v
		}
		b.usual += (v - b.usual) / 64
	}
	if j.learnt++; j.learnt >= j.refineAt && x.t.whole() && b.shown(x.t.class) {
		b.refine(j)
	}
}

// refine finds what j's tasks cost, and how fast those are who did them, anew
// from all results. The first result of a device says how fast it is only as far
// as it is known what its task cost, and what a task cost as far as the device is
// known: only later ones tell one from the other. It is done again when a quarter
// more is known, until so much is that it changes little. Of tiles it is not done:
// all of a frame are one device's, and nothing tells one from the other.
func (b *Board) refine(j *jobState) {
	const (
		first  = 8
		most   = 1 << 13
		rounds = 3
	)
	if j.refineAt = max(first, j.learnt+j.learnt/4); j.learnt < first || j.learnt > most {
		return
	}
	var seats []*seat
	for range rounds {
		seats = b.priced(j)
		// Only how they are to each other is found, so on the whole they stay.
		off, n := 0.0, 0
		for _, s := range seats {
			if s.speed.n > 0 {
				was := s.speed.log
				s.speed.log = s.speed.mean()
				off, n = off+s.speed.log-was, n+1
			}
		}
		for _, s := range seats {
			if s.speed.n > 0 {
				s.speed.log -= off / float64(n)
			}
		}
	}
	b.priced(j)
	for _, s := range seats {
		b.tally(s)
	}
}

// priced takes what j's tasks cost from all results, by the paces of devices as
// they are, and returns those devices.
func (b *Board) priced(j *jobState) []*seat {
	for _, c := range j.classes {
		c.costs.forget()
	}
	b.refined++
	b.effort += len(j.tasks)
	var seats []*seat
	for _, t := range j.tasks {
		x := t.accepted
		if x == nil || x.state != retJudged || x.wall == 0 {
			continue
		}
		s := b.worker(x.peer).seat(x.device)
		if s.sorted != b.refined {
			s.sorted = b.refined
			seats = append(seats, s)
		}
		t.class.costs.add(int(t.index), x.took()*s.pace())
	}
	return seats
}

// slow notes what is seen of the pace of a device that has no result yet, by how
// far it is with l. Those that are fast have results first: if the others counted
// as equals, all would seem faster than it is. It is not taken for fast by that.
func (b *Board) slow(s *seat, l *lease) {
	at := l.progress.Task
	if l.check || at < 0 || at >= len(l.grants) || l.progress.Fraction <= 0.02 {
		return
	}
	t := l.grants[at].t
	if !t.whole() || b.connected <= few || len(b.live) < 2 {
		return // one job alone shows its preview sooner without, and of few devices each counts for much
	}
	ran := b.since(l.running).Seconds()
	if cost, ok := t.class.costs.at(int(t.index)); ok && ran > 0 {
		s.shown = max(-10, math.Log(cost*l.progress.Fraction/ran))
		b.tally(s)
	}
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
