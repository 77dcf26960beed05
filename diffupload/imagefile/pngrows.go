package imagefile

// rowCoder turns rows of one pass into their opened form and back. It holds the
// row before, as PNG's filters do.
//
// The opened form of a row of 8- or 16-bit samples is what a predictor over the
// pixels left, above and above left leaves (the median edge detector of
// LOCO-I, ISO 14495-1), of red and blue less that of green, sample by sample in
// planes: all of the first channel of the row, then the second, and so on.
// 16-bit differences are folded to positive ones (0, -1, 1, -2, … become 0, 1,
// 2, 3, …), the high bytes of a channel before its low ones. Palette indices and
// packed bits are left as they are. No encoder's choice is in it, and a changed
// pixel changes itself, the next one, and the two below.
type rowCoder struct {
	n, bytes  int // samples of a pixel, bytes of a sample; 0: rows are left as they are
	step      int // bytes that PNG's filters look back
	width     int
	cur, prev []byte
	out       []byte
}

func newRowCoder(h pngHeader, width int) *rowCoder {
	n := int(h.rowBytes(int64(width)))
	c := &rowCoder{step: max(1, pngSamples[h.colour]*h.depth/8), width: width, cur: make([]byte, n), prev: make([]byte, n)}
	if h.predicted() {
		c.n, c.bytes, c.out = pngSamples[h.colour], h.depth/8, make([]byte, n)
	}
	return c
}

// open returns the opened form of a filtered row, valid until the next call.
func (c *rowCoder) open(filtered []byte, filter byte) []byte {
	c.cur, c.prev = c.prev, c.cur
	unfilter(c.cur, c.prev, filtered, filter, c.step)
	switch {
	case c.n == 0:
		return c.cur
	case c.bytes == 1:
		for ch := range c.n {
			predict8(c.plane(ch), c.cur[ch:], c.prev[ch:], c.n)
		}
		if c.n >= 3 {
			g := c.plane(1)
			subtract8(c.plane(0), g)
			subtract8(c.plane(2), g)
		}
	default:
		for ch := range c.n {
			predict16(c.plane(ch), c.cur[ch*2:], c.prev[ch*2:], c.n*2)
		}
		if c.n >= 3 {
			g := c.plane(1)
			subtract16(c.plane(0), g)
			subtract16(c.plane(2), g)
		}
		for ch := range c.n {
			fold16(c.plane(ch))
		}
	}
	return c.out
}

// plane is the part of out that belongs to a channel.
func (c *rowCoder) plane(ch int) []byte {
	w := c.width * c.bytes
	return c.out[ch*w : ch*w+w]
}

// close takes a row's opened form, which it may change, and returns the row.
func (c *rowCoder) close(opened []byte) []byte {
	c.cur, c.prev = c.prev, c.cur
	if c.n == 0 {
		copy(c.cur, opened)
		return c.cur
	}
	copy(c.out, opened)
	if c.bytes == 1 {
		if c.n >= 3 {
			g := c.plane(1)
			add8(c.plane(0), g)
			add8(c.plane(2), g)
		}
		for ch := range c.n {
			restore8(c.cur[ch:], c.plane(ch), c.prev[ch:], c.n)
		}
		return c.cur
	}
	for ch := range c.n {
		unfold16(c.plane(ch))
	}
	if c.n >= 3 {
		g := c.plane(1)
		add16(c.plane(0), g)
		add16(c.plane(2), g)
	}
	for ch := range c.n {
		restore16(c.cur[ch*2:], c.plane(ch), c.prev[ch*2:], c.n*2)
	}
	return c.cur
}

// median predicts a value from those left, above and above left.
func median(left, up, corner int) int {
	lo, hi := min(left, up), max(left, up)
	return max(lo, min(hi, left+up-corner))
}

// predict8 writes to out what prediction leaves of every step-th byte of cur.
func predict8(out, cur, prev []byte, step int) {
	left, corner := 0, 0
	i := 0
	for x := range out {
		v, up := int(cur[i]), int(prev[i])
		out[x] = byte(v - median(left, up, corner))
		left, corner = v, up
		i += step
	}
}

// restore8 undoes predict8.
func restore8(cur, res, prev []byte, step int) {
	left, corner := 0, 0
	i := 0
	for _, r := range res {
		up := int(prev[i])
		v := byte(int(r) + median(left, up, corner))
		cur[i] = v
		left, corner = int(v), up
		i += step
	}
}

func subtract8(a, b []byte) {
	for i := range a {
		a[i] -= b[i]
	}
}

func add8(a, b []byte) {
	for i := range a {
		a[i] += b[i]
	}
}

// predict16 is predict8 for big-endian samples. The high bytes of what is left
// come before the low ones.
func predict16(out, cur, prev []byte, step int) {
	hi, lo := halves(out)
	left, corner := 0, 0
	i := 0
	for x := range hi {
		v, up := int(cur[i])<<8|int(cur[i+1]), int(prev[i])<<8|int(prev[i+1])
		d := v - median(left, up, corner)
		hi[x], lo[x] = byte(d>>8), byte(d)
		left, corner = v, up
		i += step
	}
}

// restore16 undoes predict16.
func restore16(cur, res, prev []byte, step int) {
	hi, lo := halves(res)
	left, corner := 0, 0
	i := 0
	for x := range hi {
		up := int(prev[i])<<8 | int(prev[i+1])
		v := uint16(int(hi[x])<<8 | int(lo[x]) + median(left, up, corner))
		cur[i], cur[i+1] = byte(v>>8), byte(v)
		left, corner = int(v), up
		i += step
	}
}

func halves(plane []byte) (hi, lo []byte) {
	n := len(plane) / 2
	return plane[:n:n], plane[n : 2*n]
}

func subtract16(a, b []byte) { each16(a, b, func(x, y uint16) uint16 { return x - y }) }
func add16(a, b []byte)      { each16(a, b, func(x, y uint16) uint16 { return x + y }) }

func fold16(a []byte) {
	each16(a, a, func(x, _ uint16) uint16 { return x<<1 ^ uint16(int16(x)>>15) })
}

func unfold16(a []byte) {
	each16(a, a, func(x, _ uint16) uint16 { return x>>1 ^ -(x & 1) })
}

// each16 sets every 16-bit value of plane a to f of it and that of plane b.
func each16(a, b []byte, f func(x, y uint16) uint16) {
	ah, al := halves(a)
	bh, bl := halves(b)
	for i := range ah {
		v := f(uint16(ah[i])<<8|uint16(al[i]), uint16(bh[i])<<8|uint16(bl[i]))
		ah[i], al[i] = byte(v>>8), byte(v)
	}
}

// PNG's row filters.
const (
	filterNone = iota
	filterSub
	filterUp
	filterAverage
	filterPaeth
)

// unfilter sets row to what in holds, filtered with the row prev above it.
func unfilter(row, prev, in []byte, filter byte, step int) {
	prev, in = prev[:len(row)], in[:len(row)]
	switch filter {
	case filterNone:
		copy(row, in)
	case filterSub:
		copy(row[:step], in)
		for i := step; i < len(row); i++ {
			row[i] = in[i] + row[i-step]
		}
	case filterUp:
		for i := range row {
			row[i] = in[i] + prev[i]
		}
	case filterAverage:
		for i := range min(step, len(row)) {
			row[i] = in[i] + prev[i]/2
		}
		for i := step; i < len(row); i++ {
			row[i] = in[i] + byte((int(row[i-step])+int(prev[i]))/2)
		}
	case filterPaeth:
		for ch := range step {
			left, corner := 0, 0
			for i := ch; i < len(row); i += step {
				up := int(prev[i])
				v := in[i] + byte(paeth(left, up, corner))
				row[i] = v
				left, corner = int(v), up
			}
		}
	}
}

// filterRow writes a row with PNG's filter Paeth.
func filterRow(out, row, prev []byte, step int) {
	prev, out = prev[:len(row)], out[:len(row)]
	for i := range min(step, len(row)) {
		out[i] = row[i] - prev[i]
	}
	for i := step; i < len(row); i++ {
		out[i] = row[i] - byte(paeth(int(row[i-step]), int(prev[i]), int(prev[i-step])))
	}
}

// paeth is the predictor of PNG 9.4: of its neighbours the one nearest to
// left+up-corner. It has no jumps, which noise would make the machine guess.
func paeth(left, up, corner int) int {
	pl, pu := up-corner, left-corner
	pc := pl + pu
	pl, pu, pc = max(pl, -pl), max(pu, -pu), max(pc, -pc)
	p := left
	if pu < pl {
		p = up
	}
	if pc < min(pl, pu) {
		p = corner
	}
	return p
}
