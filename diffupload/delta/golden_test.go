package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the golden patches anew, which changes the format")

type vector struct {
	name        string
	base, fresh []byte
	hints       []Hint
	most        int // bytes of its patch
}

// vectors are small stand-ins for what happens to datablocks.
var vectors = sync.OnceValue(func() []vector {
	mesh := make([]float32, 3*600)
	for i := range mesh {
		mesh[i] = float32(float64(int(1000*math.Sqrt(float64(i*i%977+1)))) / 4096)
	}
	floats := func(v []float32) []byte {
		var b []byte
		for _, f := range v {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
		}
		return b
	}
	base := floats(mesh)
	whole := func(base, fresh []byte) []Hint {
		return []Hint{{New: Span{Len: len(fresh)}, Base: Span{Len: len(base)}}}
	}
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(base)) }

	one := edit(func(b []byte) []byte { copy(b[3000:], "\x12\x34\x56\x40"); return b })
	moved := append([]float32(nil), mesh...)
	for i := 900; i < 1200; i += 3 {
		moved[i] += 0.25
	}
	inserted := edit(func(b []byte) []byte {
		return append(b[:2000:2000], append([]byte("sixteen new byte"), b[2000:]...)...)
	})
	deleted := edit(func(b []byte) []byte { return append(b[:2000:2000], b[2400:]...) })
	shifted := edit(func(b []byte) []byte { return append([]byte("odd"), b...) })
	repeated := bytes.Repeat(base[:480], 20)
	r := rand.New(rand.NewPCG(5, 6))
	random := make([]byte, 5000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	return []vector{
		{"one-word", base, one, whole(base, one), 16},
		{"same", base, base, whole(base, base), 8},
		{"moved", base, floats(moved), whole(base, base), 150},
		{"inserted", base, inserted, whole(base, inserted), 44},
		{"deleted", base, deleted, whole(base, deleted), 16},
		{"shifted-no-hints", base, shifted, nil, 24},
		{"repeated-no-base", nil, repeated, nil, 1200},
		{"random", base, random, nil, len(random) + 16},
		{"empty", base, nil, nil, 2},
		{"byte", nil, []byte{7}, nil, 6},
	}
})

// TestGolden holds the format still: patches that were made once decode to
// the same bytes for ever, and the encoder makes the same ones.
func TestGolden(t *testing.T) {
	const name = "testdata/golden.txt"
	if got := fmt.Sprintf("%x", sha256.Sum256(priorFile)); got != "09d59a3f0f313e92f91c11c2af9c98cc35e5471f290e64933a8de354362061c5" {
		t.Errorf("prior.bin has sha256 %s: patches of before cannot be read", got)
	}
	var b strings.Builder
	want := map[string]string{}
	if text, err := os.ReadFile(name); err == nil {
		for line := range strings.Lines(string(text)) {
			k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			want[k] = v
		}
	} else if !*update {
		t.Fatal(err)
	}
	for _, v := range vectors() {
		patch := Encode(v.base, v.fresh, v.hints)
		if len(patch) > v.most {
			t.Errorf("%s: %d bytes, at most %d are good", v.name, len(patch), v.most)
		}
		if len(patch) > 2000 {
			continue // random bytes are not worth the room
		}
		fmt.Fprintf(&b, "%s %x\n", v.name, patch)
		if *update {
			continue
		}
		old, err := hex.DecodeString(want[v.name])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(v.base, old, len(v.fresh)); err != nil || !bytes.Equal(got, v.fresh) {
			t.Errorf("%s: the golden patch: %v", v.name, err)
		}
		if !bytes.Equal(patch, old) {
			t.Errorf("%s: a patch of %d bytes differs from the golden one of %d", v.name, len(patch), len(old))
		}
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
