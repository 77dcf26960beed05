package chunker

import (
	"bytes"
	"encoding/binary"
)

// sipWindow is how many bytes before the end of a chunk the hash looks at.
const sipWindow = 64

// cutter finds cuts. It is constant after construction.
type cutter struct {
	Params
	kernel
	filter
	sip         sipState
	early, late uint64 // a hash below it accepts, for lengths up to Avg and beyond
}

func newCutter(p Params) (*cutter, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	k, err := chosenKernel()
	if err != nil {
		return nil, err
	}
	return newCutterWith(p.filled(), k), nil
}

func newCutterWith(p Params, k kernel) *cutter {
	def := define(p)
	pre := def.bits()
	return &cutter{
		Params: p,
		kernel: k,
		filter: newFilter(def),
		sip:    newSip(def.sip),
		early:  1 << (64 - (def.lg + 2 - pre)),
		late:   1 << (64 - (def.lg - 2 - pre)),
	}
}

// cut returns the length of the first chunk of d. Where d does not decide that,
// because it ends before Max bytes and without a cut, found is false and n is
// how much of d holds none: the done of the next call with the same bytes and
// more behind them.
func (c *cutter) cut(d []byte, done int) (n int, found bool) {
	end := min(len(d), c.Max)
	// i is the index of a last byte of a chunk, L-1 of the definition. Both
	// limits leave out the cut at end, which needs no reason.
	i := max(c.Min, filterWindow-1, done)
	last := end - 1
	if i < last {
		mid := min(max(i, c.Avg), last)
		if k := c.decide(d, i, mid, c.early); k < mid {
			return k + 1, true
		}
		if k := c.decide(d, mid, last, c.late); k < last {
			return k + 1, true
		}
		i = last
	}
	if len(d) >= c.Max {
		return c.Max, true
	}
	return i, false
}

// decide returns the first i from from to end, exclusive, that is nominated and
// accepted under limit, or end.
func (c *cutter) decide(d []byte, from, end int, limit uint64) int {
	var r refused
	for i := from; ; i++ {
		i = c.scan(&c.filter, d, i, end)
		if i >= end || c.sip.sum64((*[sipWindow]byte)(d[i+1-sipWindow:])) < limit {
			return min(i, end)
		}
		i = r.skip(d, i, end)
	}
}

// maxPeriod is the longest period of a run that is skipped. A hash for each
// longer one costs less than the scan of it.
const maxPeriod = 4096

// refused holds the last positions that were nominated and refused, all under
// one limit.
type refused struct {
	at [8]int
	n  int
}

// skip notes that i is refused, and returns the last position, at least i, that
// is known to be nowhere near a cut: if the window of i and what comes after it
// repeat what was a period before, where nothing since was accepted, then as
// long as bytes repeat so do the answers. Without this, a run whose period
// holds a nominated position would cost a hash per period.
func (r *refused) skip(d []byte, i, end int) int {
	from, last := i+1-filterWindow, i
	for _, before := range r.at[:min(r.n, len(r.at))] {
		if period := i - before; period <= min(maxPeriod, from) {
			same := matching(d[from-period:], d[from:end])
			last = max(last, from+same-1)
		}
	}
	r.at[r.n%len(r.at)] = i
	r.n++
	return last
}

// matching returns how many bytes at the front of a and b are the same; b is
// the shorter one.
func matching(a, b []byte) int {
	n := 0
	const step = 4096
	for n+step <= len(b) && bytes.Equal(a[n:n+step], b[n:n+step]) {
		n += step
	}
	for n+8 <= len(b) && binary.LittleEndian.Uint64(a[n:]) == binary.LittleEndian.Uint64(b[n:]) {
		n += 8
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
