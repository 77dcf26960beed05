package main

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// changedEntropy is how many bytes the step from one array of float32 to
// another, little-endian and of the same length, carries: which triples
// changed, and to what. Of several estimates it is the smallest, so that a
// bound on it is strict:
//
//   - which: run lengths of changed and unchanged triples, or log2 of the
//     number of ways to choose so many of so many;
//   - to what: the differences of the ordered bit patterns by sign and number
//     of significant bits, with the bits below as they are, or the four byte
//     planes of these differences or of the XOR by their own frequencies.
//
// All are entropies of order 0: what an ideal coder with these statistics
// given for free would need.
func changedEntropy(old, fresh []byte) (float64, error) {
	if len(old) != len(fresh) || len(old)%12 != 0 {
		return 0, errors.New("arrays of coordinates differ in length")
	}
	n := len(old) / 12
	var changed []bool
	var classes []int
	var low float64 // bits below the class
	var difference, xor [4][]int
	moved := 0
	for i := range n {
		is := string(old[12*i:12*i+12]) != string(fresh[12*i:12*i+12])
		changed = append(changed, is)
		if !is {
			continue
		}
		moved++
		for k := range 3 {
			a := binary.LittleEndian.Uint32(old[12*i+4*k:])
			b := binary.LittleEndian.Uint32(fresh[12*i+4*k:])
			d := int64(ordered(b)) - int64(ordered(a))
			size := bits.Len64(uint64(max(d, -d)))
			low += float64(max(0, size-1))
			if d < 0 {
				size = -size
			}
			classes = append(classes, size)
			folded := uint32(d<<1) ^ uint32(d>>63)
			for p := range 4 {
				difference[p] = append(difference[p], int(folded>>(8*p)&255))
				xor[p] = append(xor[p], int((a^b)>>(8*p)&255))
			}
		}
	}
	if moved == 0 {
		return 0, nil
	}
	values := entropy(classes) + low
	for _, planes := range [][4][]int{difference, xor} {
		var sum float64
		for _, p := range planes {
			sum += entropy(p)
		}
		values = min(values, sum)
	}
	return (values + min(choose(n, moved), runs(changed))) / 8, nil
}

// ordered maps the bits of a float32 so that greater numbers have greater
// values.
func ordered(b uint32) uint32 {
	if b>>31 != 0 {
		return ^b
	}
	return b | 1<<31
}

// entropy of order 0 of all symbols together, in bits.
func entropy(symbols []int) float64 {
	count := map[int]int{}
	for _, s := range symbols {
		count[s]++
	}
	var sum float64
	for _, c := range count {
		sum -= float64(c) * math.Log2(float64(c)/float64(len(symbols)))
	}
	return sum
}

// choose is log2 of the number of ways to take k of n.
func choose(n, k int) float64 {
	g := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	return (g(n) - g(k) - g(n-k)) / math.Ln2
}

// runs is what the lengths of runs cost: each by the number of its bits, and
// the bits below the first.
func runs(changed []bool) float64 {
	var classes []int
	var low float64
	length := 0
	for i, c := range changed {
		length++
		if i+1 < len(changed) && changed[i+1] == c {
			continue
		}
		size := bits.Len(uint(length))
		low += float64(size - 1)
		classes = append(classes, size)
		length = 0
	}
	return entropy(classes) + low
}
