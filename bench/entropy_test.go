package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

func floats(v []float32) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, v)
	return b.Bytes()
}

// Steps whose information is known: none, and k bits for each coordinate of a
// run in the middle.
func TestChangedEntropy(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	old := make([]float32, 3*20000)
	for i := range old {
		old[i] = 1 + rng.Float32()
	}
	if n, err := changedEntropy(floats(old), floats(old)); n != 0 || err != nil {
		t.Errorf("no change: %v bytes, %v", n, err)
	}
	for _, bits := range []int{4, 8, 12} {
		fresh := append([]float32(nil), old...)
		for i := 3 * 5000; i < 3*6000; i++ {
			step := uint32(1 + rng.IntN(1<<bits))
			fresh[i] = math.Float32frombits(math.Float32bits(fresh[i]) + step)
		}
		n, err := changedEntropy(floats(old), floats(fresh))
		if err != nil {
			t.Fatal(err)
		}
		want := float64(3*1000*bits) / 8
		if n < 0.95*want || n > 1.1*want+20 {
			t.Errorf("%d random bits in each of 3000 coordinates: %.0f bytes, want about %.0f", bits, n, want)
		}
	}
	if _, err := changedEntropy(floats(old), floats(old[3:])); err == nil {
		t.Error("arrays of two lengths: no error")
	}
}
