package dispatch

import (
	"math"
)

// maxBins bounds what is kept of a class's costs, whatever its size.
const maxBins = 512

// costs predicts the cost of the tasks of one class from their neighbours in
// the plan, in seconds on a device of speed 1, and keeps the sum of what is
// left. Tasks that stand together share a bin.
type costs struct {
	n     int // tasks of the job
	bins  []bin
	known int // bins that know something
	stale bool
	sum   float64
	seen  int

	// How wrong predictions were: a running mean of the squared logarithm of
	// what came over what was said.
	wrong  float64
	judged int

	left     int // tasks that are open or leased
	early    int // of them, of the preview
	work     float64
	lead     float64 // of work, the preview's
	workSeen int     // seen when work was summed up, and
	workLeft int     // left
	out      float64 // of work, what is leased
	longest  float64 // open task, by its mean
}

type bin struct {
	sum           float64
	n             int
	left, early   int
	out           int // of left, leased
	before, after int // the nearest bins that know something, -1: none
}

func newCosts(n int) costs {
	return costs{n: n, bins: make([]bin, max(1, min(n, maxBins)))}
}

func (c *costs) bin(i int) int {
	if c.n <= len(c.bins) {
		return max(0, min(i, len(c.bins)-1))
	}
	return max(0, min(int(int64(i)*int64(len(c.bins))/int64(c.n)), len(c.bins)-1))
}

func (c *costs) add(i int, v float64) {
	if !(v > 0) || math.IsInf(v, 0) {
		return
	}
	b := &c.bins[c.bin(i)]
	if b.n == 0 {
		c.known++
		c.stale = true
	}
	b.sum, b.n = b.sum+v, b.n+1
	c.sum, c.seen = c.sum+v, c.seen+1
}

// forget lets go of what tasks cost, not of what is left.
func (c *costs) forget() {
	for i := range c.bins {
		c.bins[i].sum, c.bins[i].n = 0, 0
	}
	c.known, c.sum, c.seen, c.work, c.stale = 0, 0, 0, 0, true
}

// judge notes what a prediction was worth.
func (c *costs) judge(said, came float64) {
	e := math.Log(said / came)
	c.judged++
	c.wrong += (e*e - c.wrong) / float64(min(c.judged, 64))
}

// sigma is the usual error of a prediction, as a logarithm; a guess while
// there is nothing to go by.
func (c *costs) sigma() float64 {
	if c.judged < 4 {
		return 0.5
	}
	return math.Sqrt(c.wrong)
}

// mean is the mean cost; false where nothing is known.
func (c *costs) mean() (float64, bool) {
	if c.seen == 0 {
		return 0, false
	}
	return c.sum / float64(c.seen), true
}

// link finds each bin's neighbours again. It runs once for each bin that comes
// to know something, so the cost of it does not grow with the job.
func (c *costs) link() {
	if !c.stale {
		return
	}
	c.stale = false
	last := -1
	for i := range c.bins {
		c.bins[i].before = last
		if c.bins[i].n > 0 {
			last = i
		}
	}
	last = -1
	for i := len(c.bins) - 1; i >= 0; i-- {
		c.bins[i].after = last
		if c.bins[i].n > 0 {
			last = i
		}
	}
}

// at is what task i of the plan is expected to cost: the mean of its bin, or
// the line between the nearest two.
func (c *costs) at(i int) (float64, bool) {
	if c.known == 0 {
		return 0, false
	}
	c.link()
	return c.value(c.bin(i)), true
}

func (c *costs) value(i int) float64 {
	b := &c.bins[i]
	mean := func(i int) float64 { return c.bins[i].sum / float64(c.bins[i].n) }
	switch {
	case b.n > 0:
		return mean(i)
	case b.before < 0:
		return mean(b.after)
	case b.after < 0:
		return mean(b.before)
	}
	f := float64(i-b.before) / float64(b.after-b.before)
	return mean(b.before)*(1-f) + mean(b.after)*f
}

// count notes that d more tasks at i are open or leased, of the preview or not.
func (c *costs) count(i, d int, early bool) {
	b := &c.bins[c.bin(i)]
	c.left += d
	b.left += d
	if early {
		c.early += d
		b.early += d
	}
}

// opened notes that d fewer tasks at i are leased.
func (c *costs) opened(i, d int) { c.bins[c.bin(i)].out -= d }

// rest is what all tasks that are open or leased will cost, and of it what the
// preview will; false where nothing is known. It is summed up again when a
// share of them changed, or as much became known.
func (c *costs) rest() (all, lead float64, ok bool) {
	if c.known == 0 {
		return 0, 0, false
	}
	near := c.left / 64
	if c.early > 0 {
		near = min(near, c.early/8)
	}
	if off := c.workLeft - c.left; c.work == 0 || off > near || -off > near || c.seen-c.workSeen > c.seen/64 {
		c.link()
		c.work, c.lead, c.workSeen, c.workLeft, c.out, c.longest = 0, 0, c.seen, c.left, 0, 0
		for i := range c.bins {
			if b := &c.bins[i]; b.left > 0 {
				v := c.value(i)
				c.work += float64(b.left) * v
				c.lead += float64(b.early) * v
				c.out += float64(b.out) * v
				if b.left > b.out {
					c.longest = max(c.longest, v)
				}
			}
		}
	}
	return c.work, c.lead, true
}
