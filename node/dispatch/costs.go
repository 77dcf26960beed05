package dispatch

import (
	"math"
)

// costs predicts the cost of tasks from their neighbours, in seconds on a
// device of speed 1.
type costs struct {
	index []int // sorted
	value []float64
	sum   float64
}

func (c *costs) add(i int, v float64) {
	if !(v > 0) || math.IsInf(v, 0) {
		return
	}
	at := len(c.index)
	for at > 0 && c.index[at-1] > i {
		at--
	}
	if at > 0 && c.index[at-1] == i {
		c.sum += v - c.value[at-1]
		c.value[at-1] = v
		return
	}
	c.index = append(c.index, 0)
	c.value = append(c.value, 0)
	copy(c.index[at+1:], c.index[at:])
	copy(c.value[at+1:], c.value[at:])
	c.index[at], c.value[at] = i, v
	c.sum += v
}

// mean is the mean cost; false where nothing is known.
func (c *costs) mean() (float64, bool) {
	if len(c.index) == 0 {
		return 0, false
	}
	return c.sum / float64(len(c.index)), true
}

// at interpolates between the nearest known tasks of the plan.
func (c *costs) at(i int) (float64, bool) {
	n := len(c.index)
	if n == 0 {
		return 0, false
	}
	lo, hi := 0, n
	for lo < hi {
		m := (lo + hi) / 2
		if c.index[m] < i {
			lo = m + 1
		} else {
			hi = m
		}
	}
	switch {
	case lo == n:
		return c.value[n-1], true
	case lo == 0 || c.index[lo] == i:
		return c.value[lo], true
	}
	f := float64(i-c.index[lo-1]) / float64(c.index[lo]-c.index[lo-1])
	return c.value[lo-1]*(1-f) + c.value[lo]*f, true
}
