package chunker

import "encoding/binary"

// Each position of the filter's sum is a word further back by tapStride bytes,
// and weighs tapShift bits more: after taps words nothing of one is left.
const (
	tapStride = 32
	tapShift  = 3
	taps      = 11 // the least for which taps*tapShift >= 32

	// filterWindow is how many bytes the filter looks at before the end of a
	// chunk.
	filterWindow = (taps-1)*tapStride + 4
)

// filter is the first stage. A position i stands for the chunk that ends with
// the byte d[i]; it can be tested from filterWindow-1 on.
//
// The sum of position i is 8 times that of i-32 and the word at i: one shift
// and one addition, for eight positions at a time in a vector of 32-bit lanes.
// The multiplication carries every bit of it to the top, where the comparison
// looks.
type filter struct {
	multiplier uint32
	limit      uint32 // the product is above it where i is nominated
}

func newFilter(def definition) filter {
	return filter{multiplier: def.multiplier, limit: ^uint32(0) - 1<<(32-def.bits())}
}

// sum returns the sum of position i.
func (*filter) sum(d []byte, i int) uint32 {
	var x uint32
	for at := i + 1 - filterWindow; at < i; at += tapStride {
		x = x<<tapShift + le32(d[at:])
	}
	return x
}

// scanReference returns the first i from i to n, exclusive, that is nominated,
// or n: what every kernel does. i is at least filterWindow-1.
func scanReference(f *filter, d []byte, i, n int) int {
	for ; i < n; i++ {
		if f.sum(d, i)*f.multiplier > f.limit {
			return i
		}
	}
	return n
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
