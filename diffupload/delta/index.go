package delta

import (
	"encoding/binary"
	"math/bits"
)

// index finds where a window of bytes was seen: two places per hash, the
// earlier and the latest.
type index struct {
	window int // 8 or 16 bytes
	step   int // between places of the base, at most 32
	shift  uint
	slots  [][2]int32 // place + 1
}

// maxSlots bounds an index at 32 MiB.
const maxSlots = 1 << 22

func newIndex(window, step, places int) *index {
	order := min(bits.Len(uint(places)), bits.Len(maxSlots-1))
	return &index{window: window, step: step, shift: uint(64 - order), slots: make([][2]int32, 1<<order)}
}

// hash is of the window at b; false where it is one byte all over, which is
// found everywhere.
func (x *index) hash(b []byte) (uint64, bool) {
	u := binary.LittleEndian.Uint64(b)
	r := u & 0xff * 0x0101010101010101
	if x.window == 8 {
		return u * mul1 >> x.shift, u != r
	}
	v := binary.LittleEndian.Uint64(b[8:])
	return (u*mul1 ^ bits.RotateLeft64(v*mul2, 31)) * mul1 >> x.shift, u != r || v != r
}

func (x *index) add(b []byte, place int) {
	if h, ok := x.hash(b); ok {
		s := &x.slots[h]
		if s[0] == 0 {
			s[0] = int32(place + 1)
		} else {
			s[1] = int32(place + 1)
		}
	}
}

// addAll enters every step-th window of b, whose first byte is place.
func (x *index) addAll(b []byte, place int) {
	for i := 0; i+x.window <= len(b); i += x.step {
		x.add(b[i:], place+i)
	}
}

// equalBytes is how many bytes a and b have in common from their start; they
// are equally long.
func equalBytes(a, b []byte) int {
	n := 0
	for ; n+8 <= len(a); n += 8 {
		if d := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); d != 0 {
			return n + bits.TrailingZeros64(d)>>3
		}
	}
	for n < len(a) && a[n] == b[n] {
		n++
	}
	return n
}
