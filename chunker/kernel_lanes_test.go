//go:build amd64 || arm64

package chunker

import (
	"testing"
	"unsafe"

	"pgregory.net/rapid"
)

// groupsModel is what a kernel in assembly does, instruction by instruction,
// with registers of so many lanes of 32 bits: 8 for AVX2, 4 for NEON. sums[q]
// is one register: the sums of the positions q, q+4, ..., of which lane l is
// the one at q+4*l, 32 bytes before those that come next; with 4 lanes a second
// register, q+16, has the other half of 32 positions.
func groupsModel(lanes int) func(p *byte, n int, f *filter) int {
	return func(p *byte, n int, f *filter) int {
		at := func(offset int) uint32 { // of a load, as the processor sees it
			return le32(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(p), offset)), 4))
		}
		load := func(offset int) []uint32 {
			r := make([]uint32, lanes)
			for l := range r {
				r[l] = at(offset + 4*l)
			}
			return r
		}
		var starts []int
		for q := 0; q < 32; q += 4 * lanes {
			starts = append(starts, q, q+1, q+2, q+3)
		}
		sums := map[int][]uint32{}
		for _, q := range starts {
			sums[q] = make([]uint32, lanes)
		}
		step := func(q, offset int) []uint32 {
			w := load(offset + q - 3)
			for l := range w {
				sums[q][l] = sums[q][l]<<3 + w[l]
			}
			return sums[q]
		}
		for offset := -320; offset < 0; offset += 32 {
			for _, q := range starts {
				step(q, offset)
			}
		}
		for group := 0; group < n; group += groupBytes {
			var highest uint32
			products := map[int]uint32{} // by position
			for _, half := range []int{0, 32} {
				for _, q := range starts {
					for l, x := range step(q, group+half) {
						products[half+q+4*l] = x * f.multiplier
						highest = max(highest, x*f.multiplier)
					}
				}
			}
			if highest <= f.limit {
				continue
			}
			for i := range groupBytes {
				if products[i] > f.limit {
					return group + i
				}
			}
		}
		return n
	}
}

// TestAssemblyIsItsModel compares the two on whole groups, and the model with
// the reference.
func TestAssemblyIsItsModel(t *testing.T) {
	if assembly == nil {
		t.Skip("NOT RUN: this processor cannot run the kernel in assembly")
	}
	rapid.Check(t, func(t *rapid.T) {
		n := groupBytes * rapid.IntRange(1, 20).Draw(t, "groups")
		d := append(noise(rapid.Uint64().Draw(t, "seed"), filterWindow-1), mixed(t)...)
		d = append(d, noise(1, max(0, filterWindow-1+n-len(d)))...)
		f := filter{
			multiplier: rapid.Uint32().Draw(t, "multiplier") | 1,
			limit:      ^uint32(0) - 1<<rapid.IntRange(0, 31).Draw(t, "bits"),
		}
		i := filterWindow - 1
		want := groupsModel(lanes)(&d[i], n, &f)
		if got := assembly(&d[i], n, &f); got != want {
			t.Fatalf("assembly %d, model %d of %d", got, want, n)
		}
		if ref := scanReference(&f, d, i, i+n) - i; ref != want {
			t.Fatalf("model %d, reference %d of %d", want, ref, n)
		}
	})
}
