package blendfile

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
)

// BenchmarkCanonical makes a file of 100 MB canonical: the coordinates of 40
// meshes.
func BenchmarkCanonical(b *testing.B) {
	w := newWorld(b, shapes[2], 1)
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 40 {
		name := "MEMesh " + string(rune('A'+i))
		w.add("ME", name, "Mesh", w.id(name, map[string]any{"co": name + " co"}))
		data := make([]byte, 2400000)
		for j := 0; j < len(data); j += 4 {
			v := r.Uint32()>>9 | 0x3f800000
			data[j], data[j+1], data[j+2], data[j+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
		}
		w.raw("DATA", name+" co", 0, 1, data)
	}
	file := w.end()
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		seq, _, err := Canonical(context.Background(), bytes.NewReader(file), int64(len(file)), Options{})
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range seq {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
