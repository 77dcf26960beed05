package blendfile

import "fmt"

// space hands out canonical addresses. A datablock gets the bucket that its
// key's hash says, or the next that is free, and as many as its blocks take.
//
// With pointers of 8 bytes an address is 0x7f80000000000000 | bucket<<24 |
// number<<4, number from 1: as two floats or a double it is no number, so that
// it is not taken for data nor data for it. With 4 bytes it is bucket<<8 |
// number<<4, bucket from 1.
type space struct {
	prefix  uint64
	shift   uint // bits of an address within a bucket
	buckets uint32
	left    int
	tries   int // buckets that may still be looked at
	taken   map[uint32]bool
}

// spareTries is how many buckets are looked at in vain: between many datablocks
// there may be no room for one of many blocks, or little.
const spareTries = 1 << 23

func newSpace(pointer int) *space {
	if pointer == 8 {
		return &space{prefix: 0x7f80 << 48, shift: 24, buckets: 1 << 31, left: 1 << 30, tries: spareTries, taken: map[uint32]bool{}}
	}
	return &space{shift: 8, buckets: 1 << 24, left: 1 << 22, tries: spareTries, taken: map[uint32]bool{0: true}}
}

// take returns the address before the first of n blocks.
func (s *space) take(key uint64, n int) (uint64, error) {
	need := (n >> (s.shift - 4)) + 1
	if s.left -= need; s.left < 0 {
		return 0, fmt.Errorf("%w: too many blocks for their addresses", ErrNotVouched)
	}
	s.tries += need
	at := uint32(key>>32) % s.buckets
	for free := 0; free < need; {
		if s.tries--; s.tries < 0 {
			return 0, fmt.Errorf("%w: no room for the addresses of %d blocks", ErrNotVouched, n)
		}
		b := at + uint32(free)
		switch {
		case b >= s.buckets:
			at, free = 0, 0
		case s.taken[b]:
			at, free = b+1, 0
		default:
			free++
		}
	}
	for i := range need {
		s.taken[at+uint32(i)] = true
	}
	return s.prefix | uint64(at)<<s.shift, nil
}

// filter says of most addresses that no block has them.
type filter struct {
	bits []uint64
	mask uint64
}

// newFilter makes a filter for n addresses: 16 bits for each, 2 MiB at most.
func newFilter(n int) filter {
	size := uint64(1 << 10)
	for size < uint64(n)*16 && size < 1<<24 {
		size *= 2
	}
	return filter{make([]uint64, size/64), size - 1}
}

func (f *filter) place(v uint64) (int, uint64) {
	h := (v * 0x9e3779b97f4a7c15 >> 32) & f.mask
	return int(h / 64), 1 << (h % 64)
}

func (f *filter) add(v uint64)      { i, b := f.place(v); f.bits[i] |= b }
func (f *filter) has(v uint64) bool { i, b := f.place(v); return f.bits[i]&b != 0 }

type bitset []uint64

func newBitset(n int) bitset       { return make(bitset, (n+63)/64) }
func (b bitset) set(i uint32)      { b[i/64] |= 1 << (i % 64) }
func (b bitset) has(i uint32) bool { return b[i/64]&(1<<(i%64)) != 0 }
