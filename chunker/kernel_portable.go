package chunker

import "encoding/binary"

// portableBlock is how many positions scanPortable takes in one go: sixteen rows
// of tapStride.
const portableBlock = 8 * tapStride

// row holds the sums of tapStride positions.
type row [tapStride]uint32

// scanPortable is a kernel for every machine: per position a load, a sum, a
// multiplication and a comparison that nearly always comes out the same.
func scanPortable(f *filter, d []byte, i, n int) int {
	if i >= n {
		return n
	}
	var above, below row
	above.before((*[filterWindow - 1]byte)(d[i+1-filterWindow:]))
	for ; i < n && i+portableBlock <= len(d); i += portableBlock {
		b := (*[portableBlock + 3]byte)(d[i-3:])
		if f.nominates(&above, &below, b) {
			return min(i+f.first(&above, b[:]), n)
		}
		above = below
	}
	if i >= n {
		return n
	}
	return i + f.first(&above, d[i-3:n])
}

// before makes s the sums of the row before a position, without the words that
// have no weight any more one row later. b ends before that position.
func (s *row) before(b *[filterWindow - 1]byte) {
	for r := range tapStride {
		c := (*[(taps-2)*tapStride + 4]byte)(b[r:]) // an array has one bounds check
		x := le32(c[0:])
		x = x<<tapShift + le32(c[1*tapStride:])
		x = x<<tapShift + le32(c[2*tapStride:])
		x = x<<tapShift + le32(c[3*tapStride:])
		x = x<<tapShift + le32(c[4*tapStride:])
		x = x<<tapShift + le32(c[5*tapStride:])
		x = x<<tapShift + le32(c[6*tapStride:])
		x = x<<tapShift + le32(c[7*tapStride:])
		x = x<<tapShift + le32(c[8*tapStride:])
		x = x<<tapShift + le32(c[9*tapStride:])
		s[r] = x
	}
}

// nominates reports whether f nominates anything in a block, whose first
// position ends with b[3]. Above are the sums of the row before it; below
// become, if it does not, those of its last. It goes down four columns at a
// time, whose sums stay in registers.
//
//go:noinline
func (f *filter) nominates(above, below *row, b *[portableBlock + 3]byte) bool {
	m, limit := f.multiplier, f.limit
	for r := 0; r < tapStride; r += 4 {
		s, t := (*[4]uint32)(above[r:]), (*[4]uint32)(below[r:])
		c := (*[portableBlock - tapStride + 7]byte)(b[r:])
		// An array has one bounds check, and a loop over the rows would have the
		// sums on the stack.
		w, x, y, z := s[0], s[1], s[2], s[3]
		w = w<<tapShift + binary.LittleEndian.Uint32(c[0*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[0*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[0*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[0*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		w = w<<tapShift + binary.LittleEndian.Uint32(c[1*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[1*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[1*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[1*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		w = w<<tapShift + binary.LittleEndian.Uint32(c[2*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[2*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[2*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[2*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		w = w<<tapShift + binary.LittleEndian.Uint32(c[3*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[3*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[3*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[3*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		w = w<<tapShift + binary.LittleEndian.Uint32(c[4*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[4*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[4*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[4*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		w = w<<tapShift + binary.LittleEndian.Uint32(c[5*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[5*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[5*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[5*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		w = w<<tapShift + binary.LittleEndian.Uint32(c[6*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[6*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[6*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[6*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		w = w<<tapShift + binary.LittleEndian.Uint32(c[7*tapStride+0:])
		x = x<<tapShift + binary.LittleEndian.Uint32(c[7*tapStride+1:])
		y = y<<tapShift + binary.LittleEndian.Uint32(c[7*tapStride+2:])
		z = z<<tapShift + binary.LittleEndian.Uint32(c[7*tapStride+3:])
		if w*m > limit || x*m > limit || y*m > limit || z*m > limit {
			return true
		}
		t[0], t[1], t[2], t[3] = w, x, y, z
	}
	return false
}

// first goes through positions in order, from that which ends with b[3] to the
// end of b. It returns how many come before the first that is nominated. s are
// the sums of the row before, and change.
func (f *filter) first(s *row, b []byte) int {
	m, limit := f.multiplier, f.limit
	i := 0
	for ; len(b) >= tapStride+3; b = b[tapStride:] {
		w := (*[tapStride + 3]byte)(b)
		for r := range tapStride {
			x := s[r]<<tapShift + binary.LittleEndian.Uint32(w[r:])
			if x*m > limit {
				return i + r
			}
			s[r] = x
		}
		i += tapStride
	}
	for r := range len(b) - 3 {
		if (s[r]<<tapShift+binary.LittleEndian.Uint32(b[r:]))*m > limit {
			return i + r
		}
	}
	return i + max(0, len(b)-3)
}
