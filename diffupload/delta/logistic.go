package delta

// stretch and squash are ln(p/(1-p)) and its inverse. A probability has 16
// bits; the stretched side counts in 1/256 and ends at ±maxStretch.
const maxStretch = 11*256 - 1

// squashKnots is 65536/(1+e^-x) for x = -11, -10.5 … 11.
var squashKnots = [45]int32{
	1, 2, 3, 5, 8, 13, 22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743,
	32768,
	40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500,
	65514, 65523, 65528, 65531, 65533, 65534, 65535,
}

// squashTable holds squash of -maxStretch … maxStretch, interpolated between
// the knots; stretchTable its inverse for the upper 12 bits of a probability.
var squashTable, stretchTable = logisticTables()

func logisticTables() (sq [2*maxStretch + 1]uint16, st [4096]int16) {
	for i := range sq {
		x := i + 1 // in 1/256 above -11
		w := int32(x & 127)
		sq[i] = uint16((squashKnots[x>>7]*(128-w) + squashKnots[x>>7+1]*w + 64) >> 7)
	}
	d := 0
	for i := range st {
		for d < len(sq)-1 && int(sq[d]) < i*16+8 {
			d++
		}
		st[i] = int16(d - maxStretch)
	}
	return sq, st
}

func squash(d int32) uint32 {
	d = min(max(d, -maxStretch), maxStretch)
	return uint32(squashTable[d+maxStretch])
}

// counter is an adaptive probability: 22 bits of it above 10 bits that say how
// often it was told. It moves by 1/(n+1.5) of its error, so that the first
// observations weigh most.
type counter uint32

const evens counter = 1 << 31

// p16 is the probability in 16 bits, never 0.
func (c counter) p16() uint32 { return max(uint32(c)>>16, 1) }

func (c counter) stretch() int32 { return int32(stretchTable[c>>20]) }

func (c *counter) update(bit int, limit counter) {
	n := *c & 1023
	p := int64(*c >> 10)
	target := int64(bit) * (1<<22 - 1)
	p += (target - p) * int64(steps[n]) >> 16
	if n < limit {
		n++
	}
	*c = counter(p)<<10 | n
}

// steps[n] is 65536/(n+1.5).
var steps = func() (t [1024]uint32) {
	for n := range t {
		t[n] = 65536 * 2 / uint32(2*n+3)
	}
	return t
}()
