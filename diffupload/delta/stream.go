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
	numberKinds
)

// flag names a yes or no of the stream that is not part of a word.
type flag int

const (
	flagLast   flag = iota // the operation reaches the end of the result
	flagKind               // three nodes of the tree of kinds, per previous kind
	flagPhase  flag = flagKind + 4*flag(opKinds)
	flagFresh  flag = flagPhase + 4 // the copy is out of the result itself
	flagTail   flag = flagFresh + 1 // the last run of a copy reaches its end
	flagKinds  flag = flagTail + 1
	exactBelow      = 3 // mantissa bits with counters
)

// stream is what both directions share: the coder, the bytes so far, the
// models.
type stream struct {
	*coder
	base []byte
	res  []byte // the result; encoding it is complete, but only what was coded is looked at

	lengths [numberKinds][2][64]counter               // tree of the bit length of a number
	heads   [numberKinds][48][1 << exactBelow]counter // tree of the bits below its leading one
	flags   [flagKinds]counter

	words *words
}

func newStream(c *coder, base, res []byte) *stream {
	s := &stream{coder: c, base: base, res: res}
	loadPrior(s)
	return s
}

// flag codes a bit of its own.
func (s *stream) flag(f flag, bit int) int {
	c := &s.flags[f]
	bit = s.bit(bit, c.p16())
	c.update(bit, 30)
	return bit
}

// num codes a number below 2^47: its bit length as a tree of six bits, then
// the bits below the leading one, of which the first few are learned.
func (s *stream) num(k number, v uint64) uint64 { return s.numIn(k, 0, v) }

// numIn is num with a context of its own for the bit length.
func (s *stream) numIn(k number, ctx int, v uint64) uint64 {
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
