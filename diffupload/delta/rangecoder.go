package delta

// coder is a binary range coder with carry (G. N. N. Martin, 1979; the
// byte-wise carry is that of LZMA, Igor Pavlov) over a window of 48 bits, in
// one of two directions, so that one description of the format serves both.
type coder struct {
	decoding bool
	rng      uint64

	low   uint64 // encoding: of the interval; bit 48 is the carry
	out   []byte
	have  bool // cache holds a byte
	cache byte
	ff    int // bytes 0xff that wait for a carry

	in   []byte // decoding
	pos  int    // next byte of in; behind its end all bytes are 0
	code uint64 // offset of the patch in the interval
}

const (
	topBits = 48
	minRng  = 1 << 40
)

func newEncoder() *coder { return &coder{rng: 1 << topBits} }

func newDecoder(in []byte) *coder {
	c := &coder{decoding: true, rng: 1 << topBits, in: in}
	for range topBits / 8 {
		c.code = c.code<<8 | uint64(c.next())
	}
	return c
}

func (c *coder) next() byte {
	c.pos++
	if c.pos <= len(c.in) {
		return c.in[c.pos-1]
	}
	return 0
}

// bit codes one bit whose probability to be 1 is p of 65536, 0 < p < 65536.
// The argument counts when encoding, the result is the bit either way.
func (c *coder) bit(bit int, p uint32) int {
	bound := (c.rng >> 16) * uint64(p)
	if c.decoding {
		bit = 0
		if c.code < bound {
			bit = 1
		}
	}
	if bit != 0 {
		c.rng = bound
	} else {
		c.rng -= bound
		c.low += bound
		c.code -= bound
	}
	for c.rng < minRng {
		c.rng <<= 8
		if c.decoding {
			c.code = c.code<<8 | uint64(c.next())
		} else {
			c.shift()
		}
	}
	return bit
}

func (c *coder) shift() {
	top := c.low >> (topBits - 8)
	if top != 0xff {
		if c.have {
			c.out = append(c.out, c.cache+byte(top>>8))
		}
		for ; c.ff > 0; c.ff-- {
			c.out = append(c.out, 0xff+byte(top>>8))
		}
		c.cache, c.have = byte(top), true
	} else {
		c.ff++
	}
	c.low = c.low << 8 & (1<<topBits - 1)
}

// finish returns the coded bytes: the shortest that stay in the interval,
// whatever follows them (open) or where zeros follow.
func (c *coder) finish(open bool) []byte {
	end := c.low + c.rng - 1
	for k := topBits; k >= 0; k -= 8 {
		mask := uint64(1)<<k - 1
		v := (c.low + mask) &^ mask
		if v > end || open && v+mask > end {
			continue
		}
		c.low = v
		for i := k; i < topBits; i += 8 {
			c.shift()
		}
		break
	}
	c.shift() // brings out the cache and what waited for a carry
	if !open {
		for len(c.out) > 0 && c.out[len(c.out)-1] == 0 {
			c.out = c.out[:len(c.out)-1]
		}
	}
	return c.out
}
