package delta

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// TestRoundTrips draws bases, and results that are edits of them.
func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBytes(t, "base")
		fresh := drawEdit(t, base)
		var hints []Hint
		for range rapid.IntRange(0, 3).Draw(t, "hints") {
			span := func(n int) Span {
				return Span{rapid.IntRange(-1, n+1).Draw(t, "off"), rapid.IntRange(-1, n+1).Draw(t, "len")}
			}
			hints = append(hints, Hint{New: span(len(fresh)), Base: span(len(base))})
		}
		patch := Encode(base, fresh, hints)
		if len(patch) > len(fresh)+16 {
			t.Fatalf("%d bytes for %d", len(patch), len(fresh))
		}
		if n, err := DeclaredSize(patch); err != nil || n != len(fresh) {
			t.Fatalf("declared %d, %v; want %d", n, err, len(fresh))
		}
		got, err := Decode(base, patch, len(fresh))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, fresh) {
			t.Fatalf("got %x, want %x", got, fresh)
		}
	})
}

// drawBytes draws records of words with little in them, as meshes have.
func drawBytes(t *rapid.T, name string) []byte {
	n := rapid.IntRange(0, 3000).Draw(t, name)
	if rapid.Bool().Draw(t, "random") {
		return rapid.SliceOfN(rapid.Byte(), min(n, 200), min(n, 200)).Draw(t, name)
	}
	stride := rapid.IntRange(1, 40).Draw(t, "stride")
	step := rapid.IntRange(0, 9).Draw(t, "step")
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i%stride*17 + i/stride*step)
	}
	return b
}

func drawEdit(t *rapid.T, base []byte) []byte {
	fresh := bytes.Clone(base)
	for range rapid.IntRange(0, 6).Draw(t, "edits") {
		at := rapid.IntRange(0, len(fresh)).Draw(t, "at")
		switch rapid.IntRange(0, 3).Draw(t, "edit") {
		case 0: // change
			for i := at; i < min(at+rapid.IntRange(1, 30).Draw(t, "n"), len(fresh)); i++ {
				fresh[i] += byte(rapid.IntRange(0, 3).Draw(t, "by"))
			}
		case 1: // insert
			fresh = append(fresh[:at:at], append(drawBytes(t, "new"), fresh[at:]...)...)
		case 2: // delete
			fresh = append(fresh[:at:at], fresh[min(at+rapid.IntRange(0, 300).Draw(t, "n"), len(fresh)):]...)
		case 3: // repeat
			fresh = append(fresh, fresh[at:min(at+300, len(fresh))]...)
		}
	}
	return fresh
}
