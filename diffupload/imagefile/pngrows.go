package imagefile

// bandRows is how many rows share a decision about colours.
const bandRows = 32

// rowCoder turns rows of one pass into their opened form and back. It holds the
// row before, as PNG's filters do.
//
// The opened form of a row of 8- or 16-bit samples is what foretell leaves,
// channel by channel: all of the first channel of the row, then the second, and
// so on. In bands of colour that say so, which are those whose first row gets
// smaller by it, what is left of green is taken off red and blue: renders and
// photographs have their noise in common. 16-bit differences are folded to
// positive ones (0, -1, 1, -2, … become 0, 1, 2, 3, …), the high bytes of a
// channel before its low ones. Palette indices and packed bits are left as they
// are.
//
// No encoder's choice is in the form. A changed pixel changes itself, the next
// one and three in the row below; the decision about a band depends on one row
// alone, so that few edits touch it.
type rowCoder struct {
	n, bytes  int // samples of a pixel, bytes of a sample; n is 0 where rows are left as they are
	step      int // bytes that PNG's filters look back
	width     int
	cur, prev []byte // a row, and its last pixel once more
	out       []byte // a byte for the band, and a row
	row       int    // rows done
	less      bool   // green is taken off in this band
}

func newRowCoder(h pngHeader, width int) *rowCoder {
	n := int(h.rowBytes(int64(width)))
	c := &rowCoder{step: max(1, pngSamples[h.colour]*h.depth/8), width: width}
	c.cur, c.prev = make([]byte, n+c.step), make([]byte, n+c.step)
	if h.predicted() {
		c.n, c.bytes, c.out = pngSamples[h.colour], h.depth/8, make([]byte, n+1)
	}
	return c
}

// begins says whether the next row begins a band that has a byte of its own.
func (c *rowCoder) begins() bool { return c.n >= 3 && c.row%bandRows == 0 }

// next makes the current row the one before and returns the place for another.
func (c *rowCoder) next() []byte {
	c.cur, c.prev = c.prev, c.cur
	c.row++
	return c.cur[:len(c.cur)-c.step]
}

// end repeats the last pixel of the current row, which stands above right of
// the last one of the next.
func (c *rowCoder) end() {
	copy(c.cur[len(c.cur)-c.step:], c.cur[max(0, len(c.cur)-2*c.step):])
}

// open returns the opened form of a filtered row, valid until the next call:
// with the byte of the band before it where one begins.
func (c *rowCoder) open(filtered []byte, filter byte) []byte {
	begins := c.begins()
	row := c.next()
	unfilter(row, c.prev, filtered, filter, c.step)
	c.end()
	if c.n == 0 {
		return row
	}
	for ch := range c.n {
		if c.bytes == 1 {
			predict8(c.plane(ch), c.cur[ch:], c.prev[ch:], c.n)
		} else {
			predict16(c.plane(ch), c.cur[ch*2:], c.prev[ch*2:], c.n*2)
		}
	}
	if begins {
		c.less = c.decide()
		c.out[0] = 0
		if c.less {
			c.out[0] = 1
		}
	}
	if c.less {
		for _, ch := range []int{0, 2} {
			c.apply(ch, sub8, sub16)
		}
	}
	if c.bytes == 2 {
		for ch := range c.n {
			each16(c.plane(ch), c.plane(ch), fold16)
		}
	}
	if begins {
		return c.out
	}
	return c.out[1:]
}

// decide says whether red and blue get smaller when green is taken off.
func (c *rowCoder) decide() bool {
	var with, without int64
	g := c.plane(1)
	for _, ch := range []int{0, 2} {
		p := c.plane(ch)
		if c.bytes == 1 {
			for i := range p {
				with += magnitude(int(int8(p[i] - g[i])))
				without += magnitude(int(int8(p[i])))
			}
			continue
		}
		ph, pl := halves(p)
		gh, gl := halves(g)
		for i := range ph {
			v, u := uint16(ph[i])<<8|uint16(pl[i]), uint16(gh[i])<<8|uint16(gl[i])
			with += magnitude(int(int16(v - u)))
			without += magnitude(int(int16(v)))
		}
	}
	return with < without
}

func magnitude(n int) int64 { return int64(max(n, -n)) }

// apply sets the plane of a channel to what f8 or f16 makes of it and green's.
func (c *rowCoder) apply(ch int, f8 func(a, b []byte), f16 func(x, y uint16) uint16) {
	if c.bytes == 1 {
		f8(c.plane(ch), c.plane(1))
	} else {
		each16(c.plane(ch), c.plane(1), f16)
	}
}

// plane is the part of out that belongs to a channel.
func (c *rowCoder) plane(ch int) []byte {
	w := c.width * c.bytes
	return c.out[1+ch*w : 1+ch*w+w]
}

// band is told the byte of the band that begins.
func (c *rowCoder) band(b byte) bool {
	c.less = b == 1
	return b <= 1
}

// close takes a row's opened form and returns the row.
func (c *rowCoder) close(opened []byte) []byte {
	row := c.next()
	if c.n == 0 {
		copy(row, opened)
		return row
	}
	copy(c.out[1:], opened)
	if c.bytes == 2 {
		for ch := range c.n {
			each16(c.plane(ch), c.plane(ch), unfold16)
		}
	}
	if c.less {
		for _, ch := range []int{0, 2} {
			c.apply(ch, add8, add16)
		}
	}
	for ch := range c.n {
		if c.bytes == 1 {
			restore8(c.cur[ch:], c.plane(ch), c.prev[ch:], c.n)
		} else {
			restore16(c.cur[ch*2:], c.plane(ch), c.prev[ch*2:], c.n*2)
		}
	}
	c.end()
	return row
}

// foretell predicts a sample from those left, above, above left and above right
// of it. Where they differ by less than even they are taken for noise around
// one value and averaged; else for an edge, which the median edge detector of
// LOCO-I follows (Weinberger, Seroussi, Sapiro, 1996; ISO 14495-1).
func foretell(left, up, corner, next, even int) int {
	lo, hi := min(left, up), max(left, up)
	if max(hi, corner, next)-min(lo, corner, next) < even {
		return (3*left + 2*up + corner + 2*next) >> 3
	}
	return max(lo, min(hi, left+up-corner))
}

// even of 8-bit samples, of 255.
const even8 = 64

// predict8 writes to out what prediction leaves of every step-th byte of cur,
// below prev. Left of the first stands what is above it.
func predict8(out, cur, prev []byte, step int) {
	up := int(prev[0])
	left, corner := up, up
	i := 0
	for x := range out {
		v, next := int(cur[i]), int(prev[i+step])
		out[x] = byte(v - foretell(left, up, corner, next, even8))
		left, corner, up = v, up, next
		i += step
	}
}

// restore8 undoes predict8.
func restore8(cur, res, prev []byte, step int) {
	up := int(prev[0])
	left, corner := up, up
	i := 0
	for _, r := range res {
		next := int(prev[i+step])
		v := byte(int(r) + foretell(left, up, corner, next, even8))
		cur[i] = v
		left, corner, up = int(v), up, next
		i += step
	}
}

func sub8(a, b []byte) {
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
	up := int(prev[0])<<8 | int(prev[1])
	left, corner := up, up
	i := 0
	for x := range hi {
		v, next := int(cur[i])<<8|int(cur[i+1]), int(prev[i+step])<<8|int(prev[i+step+1])
		d := v - foretell(left, up, corner, next, even8<<8)
		hi[x], lo[x] = byte(d>>8), byte(d)
		left, corner, up = v, up, next
		i += step
	}
}

// restore16 undoes predict16.
func restore16(cur, res, prev []byte, step int) {
	hi, lo := halves(res)
	up := int(prev[0])<<8 | int(prev[1])
	left, corner := up, up
	i := 0
	for x := range hi {
		next := int(prev[i+step])<<8 | int(prev[i+step+1])
		v := uint16((int(hi[x])<<8 | int(lo[x])) + foretell(left, up, corner, next, even8<<8))
		cur[i], cur[i+1] = byte(v>>8), byte(v)
		left, corner, up = int(v), up, next
		i += step
	}
}

func halves(plane []byte) (hi, lo []byte) {
	n := len(plane) / 2
	return plane[:n:n], plane[n : 2*n]
}

func sub16(x, y uint16) uint16 { return x - y }
func add16(x, y uint16) uint16 { return x + y }

// fold16 makes a signed difference a small positive number.
func fold16(x, _ uint16) uint16   { return x<<1 ^ uint16(int16(x)>>15) }
func unfold16(x, _ uint16) uint16 { return x>>1 ^ -(x & 1) }

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
