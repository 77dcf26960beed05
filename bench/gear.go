package main

import "math/bits"

// gear is FastCDC with normalisation at level 2 (Xia et al., "FastCDC", 2016),
// the plain way: what chunk compares new bytes with.
type gear struct {
	table         [256]uint64
	min, avg, max int
}

// newGear draws its table from seed by splitmix64.
func newGear(seed uint64, minBytes, avg, maxBytes int) *gear {
	g := &gear{min: minBytes, avg: avg, max: maxBytes}
	for i := range g.table {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		g.table[i] = z ^ z>>31
	}
	return g
}

// cut returns the length of the first chunk of d.
func (g *gear) cut(d []byte) int {
	n := min(len(d), g.max)
	if n <= g.min {
		return n
	}
	lg := bits.Len(uint(g.avg)) - 1
	early, late := ^uint64(0)<<(64-(lg+2)), ^uint64(0)<<(64-(lg-2))
	var h uint64
	for i := max(0, g.min-64); i < n; i++ {
		h = h<<1 + g.table[d[i]]
		mask := early
		if i >= g.avg {
			mask = late
		}
		if i >= g.min && h&mask == 0 {
			return i + 1
		}
	}
	return n
}
