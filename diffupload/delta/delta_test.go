package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
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
		if n, err := declaredSize(patch); err != nil || n != len(fresh) {
			t.Fatalf("declared %d, %v; want %d", n, err, len(fresh))
		}
		got, err := Decode(base, patch, len(fresh))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, fresh) {
			t.Fatalf("got %x, want %x", got, fresh)
		}
		if _, err := Decode(base, patch, len(fresh)-1); !errors.Is(err, ErrPatch) {
			t.Fatalf("a byte more than is allowed: %v", err)
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

// TestBeyondTheSlowCoder has more that is new than is coded word by word:
// differences to the base, compressible words without base, media.
func TestBeyondTheSlowCoder(t *testing.T) {
	const edited = 4*maxWords + 1<<20 // bytes
	base := make([]byte, 2*edited)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(base); i += 4 {
		binary.LittleEndian.PutUint32(base[i:], 0x3f000000+uint32(i)+uint32(r.Uint32()>>16))
	}
	fresh := bytes.Clone(base)
	for i := 0; i < edited; i += 4 {
		fresh[i] += byte(r.Uint32())
	}
	media := make([]byte, 1<<20)
	for i := 0; i < len(media); i += 4 {
		binary.LittleEndian.PutUint32(media[i:], r.Uint32())
	}
	fresh = append(fresh, media...)
	for i := range 2 << 20 {
		fresh = append(fresh, byte(i>>2*(i&3)))
	}
	// Words begin at odd places, before and behind what is stored.
	fresh = append(append([]byte("odd"), fresh...), base[:1<<20]...)
	fresh[len(fresh)-9000]++
	patch := Encode(base, fresh, []Hint{{New: Span{Off: 3, Len: len(base)}, Base: Span{Len: len(base)}}})
	if most := len(media) + len(base)/6; len(patch) > most {
		t.Errorf("%d bytes, at most %d are good", len(patch), most)
	}
	got, err := Decode(base, patch, len(fresh))
	if err != nil || !bytes.Equal(got, fresh) {
		t.Fatalf("%d bytes of %d: %v", len(got), len(fresh), err)
	}
}

func BenchmarkEncode(b *testing.B) {
	base := make([]byte, 32<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(base); i += 4 {
		binary.LittleEndian.PutUint32(base[i:], r.Uint32())
	}
	edit := bytes.Clone(base)
	for i := 0; i < 200; i++ {
		edit[r.IntN(len(edit))]++
	}
	hint := []Hint{{New: Span{Len: len(base)}, Base: Span{Len: len(base)}}}
	for _, c := range []struct {
		name        string
		base, fresh []byte
		hints       []Hint
	}{
		{"200 edits", base, edit, hint},
		{"200 edits, no hint", base, edit, nil},
		{"media", base[:1<<20], base[8<<20:], nil},
		{"half of it new words", base[:1<<20], bytes.Repeat([]byte("words of little"), 70_000), nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.fresh)))
			for b.Loop() {
				Encode(c.base, c.fresh, c.hints)
			}
		})
	}
	patch := Encode(base, edit, hint)
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(edit)))
		for b.Loop() {
			if _, err := Decode(base, patch, len(edit)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The coder's last bytes may be zeros, which are left out.
func TestPatchesThatEndInZerosAreWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	pairs := 1000 // one in 256 ends in a zero
	if os.Getenv("IDLEWILD_SLOW") != "" {
		pairs = 10_000
	}
	for n := range pairs {
		base := make([]byte, 4+rnd.IntN(400))
		for i := range base {
			base[i] = byte(rnd.Uint32())
		}
		fresh := bytes.Clone(base)
		fresh[rnd.IntN(len(fresh))] ^= byte(1 + rnd.IntN(255))
		got, err := Decode(base, Encode(base, fresh, nil), len(fresh))
		if err != nil || !bytes.Equal(got, fresh) {
			t.Fatalf("pair %d: %v", n, err)
		}
	}
}
