package dispatch

import (
	"math"
	"time"

	"idlewild/job"
)

// left is how long the rest of a job will take, in seconds, and the range in
// which that should lie; 0 where unknown. The range comes from how wrong
// predictions of this job's tasks have been, and from workers coming and going.
func (b *Board) left(j *jobState) (mid, low, high float64) {
	const restless = 0.1
	unsure := restless
	longest, last, again := 0.0, 0.0, 0.0 // a task that somebody is at, what the last of them still needs, and a copy of it
	unready := j.unready()
	for _, c := range j.classes {
		// What comes after others costs what the first of it did.
		if mean, known := c.costs.mean(); known && unready[c] > 0 && c.place != job.AtRequester {
			if all, _ := b.pace(j, c); all > 0 {
				mid += mean * float64(unready[c]) / all
			}
		}
		if c.open+c.out == 0 {
			continue
		}
		u := b.underWay(j, c)
		work, _, ok := c.costs.rest()
		mean, _ := c.costs.mean()
		switch {
		case ok:
			work = max(work-u.whole+u.rest, u.rest)
		case u.n > 0: // the first ones tell how far they are
			mean = u.whole / float64(u.n)
			work = u.rest + mean*float64(c.open+c.out-u.n)
		default:
			return 0, 0, 0
		}
		all, each := b.pace(j, c)
		if all <= 0 {
			return 0, 0, 0
		}
		if among := b.among(j, c, work); among > 0 {
			all = among
		}
		mid += work / all
		unsure = max(unsure, restless+2*c.costs.sigma()/math.Sqrt(float64(max(c.costs.known, 1))))
		if each > 0 {
			longest = max(longest, mean/each)
		}
		if u.last > last {
			if last = u.last; each > 0 {
				again = u.longest / each
			}
		}
	}
	if b.connected > few {
		last = min(last, mid+again) // who is free by then makes a copy
	}
	if mid = max(mid, last, b.homeLeft(j, unready)); mid == 0 {
		return 0, 0, 0
	}
	unsure = min(unsure, 0.9)
	return mid, mid * (1 - unsure), mid*(1+unsure) + longest
}

// costLeft is what the rest of a job will take of devices, in seconds, and how
// many bytes of results will come; nil where unknown.
func (b *Board) costLeft(j *jobState) (device, bytes *job.Span) {
	mid, low, high := b.left(j)
	if mid == 0 {
		return nil, nil
	}
	seconds, tasks, back := 0.0, 0, 0
	for _, c := range j.classes {
		if c.place == job.AtRequester || c.open+c.out == 0 {
			continue
		}
		work, _, ok := c.costs.rest()
		_, each := b.pace(j, c)
		if !ok || each <= 0 {
			return nil, nil
		}
		seconds += work / each
		tasks += c.open + c.out
	}
	for _, t := range j.tasks {
		if t.accepted != nil && t.Place != job.AtRequester {
			back++
		}
	}
	span := func(x float64) *job.Span { return &job.Span{Low: x * low / mid, Likely: x, High: x * high / mid} }
	if back > 0 && j.results > 0 {
		bytes = span(float64(j.results) / float64(back) * float64(tasks))
	}
	return span(seconds), bytes
}

// among is the speed at which work of c goes on beside jobs that are as urgent as
// j: devices go where the least speed is for what remains, so all of them end
// together. It is 0 where j is alone.
func (b *Board) among(j *jobState, c *class, work float64) float64 {
	if c.place == job.AtRequester || len(b.live) < 2 {
		return 0
	}
	sum := work
	for _, o := range b.live {
		if o == j || !o.live() || o.spec.Policy.Priority < j.spec.Policy.Priority || j.spec.Policy.Interactive && !o.spec.Policy.Interactive {
			continue
		}
		for _, x := range o.classes {
			if x.place == job.AtRequester || x.open+x.out == 0 {
				continue
			}
			w, _, ok := x.costs.rest()
			if !ok {
				w = float64(x.costs.left) * b.typical()
			}
			sum += w
		}
	}
	if sum <= work {
		return 0
	}
	all, _ := b.capacity(c)
	return all * work / sum
}

// unready counts the tasks whose predecessors are not there yet.
func (j *jobState) unready() map[*class]int {
	n := map[*class]int{}
	for _, t := range j.tasks {
		if t.phase == blocked {
			n[t.class]++
		}
	}
	return n
}

// homeLeft is how long this machine needs for the checks of j that wait or run
// and for what it has to finish, also of frames that are not there yet, in
// seconds. Others render meanwhile: at the end this is what is waited for.
func (b *Board) homeLeft(j *jobState, unready map[*class]int) float64 {
	left := b.checksLeft(j).Seconds()
	for _, c := range j.classes {
		mean, known := c.costs.mean()
		if c.place != job.AtRequester || !known {
			continue
		}
		if _, each := b.pace(j, c); each > 0 {
			left += mean / each * float64(unready[c]+c.open+c.out)
		}
	}
	return left
}

// checksLeft is how long the checks of j take that wait or run, as long as one
// takes here: those of this machine one after another, those of members beside
// each other and them. It is 0 before this machine ran one.
func (b *Board) checksLeft(j *jobState) time.Duration {
	home, away := time.Duration(len(j.checks)-j.handed)*b.checkEvery(), time.Duration(0)
	if j.handed > 0 {
		away = b.checkTime
	}
	for _, g := range j.checking {
		l := g.lease
		if g.over {
			continue
		}
		rest := b.checkTime
		if l.seen && l.progress.Task == int(g.pos) {
			rest = max(rest-b.since(l.running), rest/10)
		}
		if l.peer == b.self {
			home += rest
		} else {
			away = max(away, rest)
		}
	}
	return max(home, away)
}

// underWay is what is known of the tasks of a class that somebody is at, in
// seconds on a device of speed 1.
type underWay struct {
	n     int
	whole float64 // what they cost
	rest  float64 // of that, what is still to do
	last  float64 // seconds until the last of them is done
	// longest is what that one costs.
	longest float64
}

// underWay looks at the tasks of c that say how far they are, where there are so
// few that they matter. Before a cost is known only those count that got on.
func (b *Board) underWay(j *jobState, c *class) (u underWay) {
	const few = 256
	if len(j.leaseSeq) > few {
		return u
	}
	soonest := map[*task]underWay{} // of two copies the sooner one counts
	for _, l := range j.leaseSeq {
		w := b.byPeer[l.peer]
		if l.closed || l.check || w == nil || !w.connected || !l.seen || l.progress.Task < 0 || l.progress.Task >= len(l.grants) {
			continue
		}
		g := l.grants[l.progress.Task]
		if g.over || g.t.class != c || g.t.accepted != nil || g.t.active != nil {
			continue
		}
		pace := w.seat(l.device).pace()
		cost, known := c.costs.at(int(g.t.index))
		rest := b.remaining(l, g, cost/pace)
		if !known {
			if f := l.progress.Fraction; l.first == 0 || f <= 0.05 || f-float64(l.first) <= 0.02 {
				continue
			}
			cost = (b.since(l.running).Seconds() + rest) * pace
		}
		x := underWay{whole: cost, rest: min(rest*pace, 1e9), last: rest}
		if was, ok := soonest[g.t]; !ok || x.last < was.last {
			soonest[g.t] = x
		}
	}
	for _, l := range j.leaseSeq { // in an order that is the same each time
		for _, g := range l.grants {
			if x, ok := soonest[g.t]; ok {
				delete(soonest, g.t)
				u.n++
				u.whole += x.whole
				u.rest += x.rest
				if x.last > u.last {
					u.last, u.longest = x.last, x.whole
				}
			}
		}
	}
	return u
}
