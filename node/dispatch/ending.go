package dispatch

import "slices"

// ending is when the last tasks of a class are given out by length instead of
// by rank: the long ones first, and to those who are done with them in time.
const (
	// endFrom: from when all that is left takes so many times as long as the
	// longest open task does on a usual device.
	endFrom = 3.0
	// fastEnough: a device of so many times the usual speed takes the longest
	// task though it will not be done in time: few others would be sooner.
	fastEnough = 2.0
)

// ends lists the open tasks of a class by their place in the plan, as costs
// are. What is not open any more is passed over.
type ends [][]*task

// whole reports whether t is all that is rendered of its frame. What joins or
// finishes what others made is not.
func (t *task) whole() bool {
	if f := t.frame(); f != nil {
		return len(f.prior()) == 1
	}
	return len(t.prior()) == 0
}

// index begins to keep c's open tasks by length.
func (c *class) index() {
	if c.ends != nil {
		return
	}
	c.ends = make(ends, len(c.costs.bins))
	for _, h := range c.rest.all() {
		for _, t := range *h {
			if t.in == h && t.phase == open {
				c.ends.add(c, t)
			}
		}
	}
}

func (e ends) add(c *class, t *task) {
	i := c.costs.bin(int(t.index))
	e[i] = append(e[i], t)
}

// first returns an open task of bin i that ok takes, or nil.
func (e ends) first(i int, ok func(*task) bool) *task {
	e[i] = slices.DeleteFunc(e[i], func(t *task) bool { return t.phase != open })
	for _, t := range e[i] {
		if ok(t) {
			return t
		}
	}
	return nil
}

// pick returns the longest open task of at most limit that ok takes, or with
// short the shortest of all.
func (c *class) pick(limit float64, short bool, ok func(*task) bool) (*task, float64) {
	c.index()
	c.costs.link()
	var not []int
	for {
		best, cost := -1, 0.0
		for i := range c.ends {
			if len(c.ends[i]) == 0 || slices.Contains(not, i) {
				continue
			}
			v := c.costs.value(i)
			if short && (best < 0 || v < cost) || !short && v <= limit && v > cost {
				best, cost = i, v
			}
		}
		if best < 0 {
			return nil, 0
		}
		if t := c.ends.first(best, ok); t != nil {
			return t, cost
		}
		if len(c.ends[best]) > 0 {
			not = append(not, best)
		}
	}
}

// shown reports whether the preview of c no longer counts: it is there or, beside
// other jobs, all under way, since one slow device may be at the last of it for
// very long.
func (b *Board) shown(c *class) bool {
	return c.costs.early == 0 || len(b.live) > 1 && c.lead.head() == nil
}

// nears reports whether the end of c is near; own is the pace of a device that
// would join those that work on it.
func (b *Board) nears(j *jobState, c *class, own, each float64) bool {
	if _, _, ok := c.costs.rest(); !ok || each <= 0 || !b.shown(c) {
		return false
	}
	return c.lasts(j, own) < endFrom*c.costs.longest/each
}

// lasts is how long those that work on c will be at what is left of it: of what
// is leased half is done on the average.
func (c *class) lasts(j *jobState, own float64) float64 {
	return (c.costs.work - c.costs.out/2) / max(j.members, own, 1e-9)
}

// cutEnd takes the tasks of one lease near the end of c: the longest that s does
// until then.
func (b *Board) cutEnd(s *seat, j *jobState, c *class, each, cold float64, ahead bool) []*task {
	if ahead {
		return nil // what is left goes to whoever is free first
	}
	own := s.pace()
	ok := func(t *task) bool { return b.may(s.w, j, t) }
	left := c.lasts(j, own)
	if own >= fastEnough*each {
		left = max(left, cold+c.costs.longest/own)
	}
	t, cost := c.pick((left-cold)*own, false, ok)
	if t == nil {
		t, cost = c.pick(0, true, ok)
		if t == nil {
			return nil
		}
		if cold+cost/own > tooSlow*cost/each && b.now.Sub(c.granted) < patience {
			b.lookLater(lookAgain)
			return nil
		}
	}
	out := []*task{t}
	for sum := cost; len(out) < b.o.MaxLeaseTasks; {
		t, cost := c.pick(b.o.LeaseWork.Seconds()*own-sum, false, func(t *task) bool { return !slices.Contains(out, t) && ok(t) })
		if t == nil {
			break
		}
		sum += cost
		out = append(out, t)
	}
	if s.frame = t.frame(); s.frame != nil {
		s.frame.begins(c)
	}
	return out
}
