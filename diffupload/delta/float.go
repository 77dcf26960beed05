package delta

import "math/bits"

// addFloats is a + b - c of IEEE 754 singles, on integers: rounded towards
// zero, and not at all where one of them is no ordinary number or the result
// leaves the range.
func addFloats(a, b, c uint32) (uint32, bool) {
	ea, eb, ec := int(a>>23&255), int(b>>23&255), int(c>>23&255)
	if ea == 255 || eb == 255 || ec == 255 {
		return 0, false
	}
	e := max(ea, eb, ec)
	if e == 0 {
		return 0, false
	}
	sum := mantissa(a, ea, e) + mantissa(b, eb, e) - mantissa(c, ec, e)
	if sum == 0 {
		return 0, true
	}
	var sign uint32
	if sum < 0 {
		sign, sum = 1<<31, -sum
	}
	n := bits.Len64(uint64(sum))
	e += n - 48
	if e <= 0 || e >= 255 {
		return 0, false
	}
	return sign | uint32(e)<<23 | uint32(uint64(sum)<<(64-n)>>40)&(1<<23-1), true
}

// mantissa is a number in units of 2^-24 of the last place that exponent e
// has; one without exponent is 0.
func mantissa(v uint32, ev, e int) int64 {
	if ev == 0 {
		return 0
	}
	m := int64(v&(1<<23-1)|1<<23) << 24 >> min(e-ev, 63)
	if v>>31 != 0 {
		return -m
	}
	return m
}
