package delta

import "math/bits"

// number names what a number of the stream counts; each has counters of its
// own.
type number int

const (
	numSize   number = iota // bytes of the result
	numLength               // bytes of an operation
	numJump                 // bytes between where a copy was expected and is, zigzag
	numRun                  // whole words between islands
	numIsland               // words of an island
	numFrame                // bytes of a frame
	numOrder                // size of the tables of words, log2
	numberKinds
)

// choice names a yes or no of the stream that is not part of a word.
type choice int

const (
	flagLast    choice = iota // the operation reaches the end of the result
	flagKind                  // three nodes of the tree of kinds, per previous kind
	flagPhase   choice = flagKind + 4*choice(opKinds)
	flagTail    choice = flagPhase + 4   // the last run of a copy reaches its end
	flagBack    choice = flagTail + 1    // a copy has the distance of the last but one
	flagAligned choice = flagBack + 1    // a frame holds differences
	flagPlanes  choice = flagAligned + 1 // the bytes of its words are apart
	flagKinds   choice = flagPlanes + 1
	exactBelow         = 3 // mantissa bits with counters
)

// stream is what both directions share: the coder, the bytes so far, the
// models.
type stream struct {
	*coder
	base []byte
	res  []byte // the result; encoding it is complete, but only what was coded is looked at

	numbers

	history [4]uint64 // hashes of the last numbers
	recalls [recallOrders][recallSlots]recall

	order int // of the tables of words
	words *words
}

func newStream(c *coder, base, res []byte) *stream {
	s := &stream{coder: c, base: base, res: res}
	s.numbers = prior().numbers
	return s
}

// flag codes a bit of its own.
func (s *stream) flag(f choice, bit int) int {
	c := &s.flags[f]
	bit = s.bit(bit, c.p16())
	c.update(bit, 30)
	return bit
}

// recall is a number that came after some others.
type recall struct {
	check uint32
	sure  uint32 // times it was right in a row, at most 3
	value uint64
}

const (
	recallOrders = 3
	recallSlots  = 1 << 12
)

// num codes a number below 2^47. Where it came after the same numbers before,
// one bit says so; else it is its bit length, as a tree of six bits, and the
// bits below the leading one, of which the first few are learned.
func (s *stream) num(k number, v uint64) uint64 { return s.numIn(k, 0, v) }

// numIn is num with a context of its own for the bit length.
func (s *stream) numIn(k number, ctx int, v uint64) uint64 {
	h := &s.history
	kk := uint64(k)<<1 | uint64(ctx)
	keys := [recallOrders]uint64{
		hash2(hash2(h[0], h[1]), hash2(h[2], h[3])+kk),
		hash2(hash2(h[0], h[1]), kk),
		hash2(h[0], kk+99),
	}
	var slots [recallOrders]*recall
	known, hit := false, false
	var wrong [recallOrders]uint64
	for i, key := range keys {
		r := &s.recalls[i][key>>40&(recallSlots-1)]
		slots[i] = r
		if hit || r.check != uint32(key)|1 {
			continue
		}
		if known && (r.value == wrong[0] || r.value == wrong[1]) {
			continue
		}
		wrong[min(i, 1)], known = r.value, true
		c := &s.recallHits[k][i][r.sure]
		b := 0
		if v == r.value {
			b = 1
		}
		b = s.bit(b, c.p16())
		c.update(b, 60)
		if b == 1 {
			hit, v = true, r.value
		}
	}
	if !hit {
		v = s.plainNum(k, ctx, v)
	}
	for i, key := range keys {
		r := slots[i]
		switch {
		case r.check != uint32(key)|1:
			*r = recall{check: uint32(key) | 1, value: v}
		case r.value == v:
			r.sure = min(r.sure+1, 3)
		case r.sure > 1:
			r.sure >>= 1
		default:
			r.value, r.sure = v, 0
		}
	}
	copy(h[1:], h[:3])
	h[0] = hash2(v, kk)
	return v
}

// plainNum codes a number that was not foreseen.
func (s *stream) plainNum(k number, ctx int, v uint64) uint64 {
	n := bits.Len64(v)
	node := 1
	for i := 5; i >= 0; i-- {
		c := &s.lengths[k][ctx][node]
		b := s.bit(n>>i&1, c.p16())
		c.update(b, 30)
		node = node<<1 | b
	}
	n = node & 63
	if n == 0 {
		return 0
	}
	n = min(n, 47)
	r := uint64(1)
	node = 1
	for i := n - 2; i >= 0; i-- {
		b := int(v >> i & 1)
		if node < 1<<exactBelow {
			c := &s.heads[k][n][node]
			b = s.bit(b, c.p16())
			c.update(b, 30)
			node = node<<1 | b
		} else {
			b = s.bit(b, 1<<15)
		}
		r = r<<1 | uint64(b)
	}
	return r
}
