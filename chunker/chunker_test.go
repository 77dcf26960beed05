package chunker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	chunk "github.com/ipfs/boxo/chunker"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write testdata/golden.txt anew: changes the format")

// noise returns n bytes that depend on seed alone, in every language: the
// blocks sha2-256(seed, little-endian 8 bytes || counter, likewise).
func noise(seed uint64, n int) []byte {
	out := make([]byte, 0, n+sha256.Size)
	var in [16]byte
	binary.LittleEndian.PutUint64(in[:], seed)
	for i := uint64(0); len(out) < n; i++ {
		binary.LittleEndian.PutUint64(in[8:], i)
		sum := sha256.Sum256(in[:])
		out = append(out, sum[:]...)
	}
	return out[:n]
}

// structured returns bytes like a mesh: little-endian counters in records.
func structured(n int) []byte {
	out := make([]byte, 0, n+16)
	for i := uint32(0); len(out) < n; i++ {
		out = binary.LittleEndian.AppendUint32(out, i)
		out = binary.LittleEndian.AppendUint32(out, i*i>>7)
		out = binary.LittleEndian.AppendUint64(out, 0x3f800000_00000000)
	}
	return out[:n]
}

type vector struct {
	name string
	p    Params
	data []byte
}

func vectors() []vector {
	own := [32]byte{1, 2, 3}
	small := Params{Min: 64, Avg: 256, Max: 1024}
	return []vector{
		{"noise-default", Params{}, noise(1, 2<<20)},
		{"noise-keyed", Params{Key: own}, noise(1, 2<<20)},
		{"noise-small", small, noise(2, 20000)},
		{"noise-odd-average", Params{Min: 100, Avg: 1000, Max: 5000}, noise(3, 60000)},
		{"noise-fixed", Params{Min: 512, Avg: 512, Max: 512}, noise(4, 5000)},
		{"zeros", Params{}, make([]byte, 1<<20+17)},
		{"structured", Params{}, structured(1 << 20)},
		{"short", Params{}, noise(5, 100)},
		{"at-min", small, noise(6, 64)},
		{"empty", Params{}, nil},
	}
}

func lengths(t testing.TB, d []byte, p Params) []int {
	t.Helper()
	var out []int
	for c, err := range Chunks(bytes.NewReader(d), p) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, len(c.Data))
	}
	return out
}

func TestGoldenCuts(t *testing.T) {
	var b strings.Builder
	fmt.Fprintln(&b, "# name: lengths of the chunks (see vectors in chunker_test.go). A difference is a change of format.")
	for _, v := range vectors() {
		fast := lengths(t, v.data, v.p)
		slow, err := Reference(v.data, v.p)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(fast) != fmt.Sprint(slow) {
			t.Errorf("%s: cuts %v, reference %v", v.name, fast, slow)
		}
		fmt.Fprintf(&b, "%s: %s\n", v.name, strings.Trim(fmt.Sprint(slow), "[]"))
	}
	const golden = "testdata/golden.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("cuts changed:\n%s\nwant\n%s", b.String(), want)
	}
}

func TestChunksAreTheInputWithinBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.IntRange(64, 300).Draw(t, "min")
		avg := lo + rapid.IntRange(0, 2000).Draw(t, "avg")
		hi := avg + rapid.IntRange(0, 5000).Draw(t, "max")
		p := Params{Min: lo, Avg: avg, Max: hi, Key: [32]byte{byte(rapid.IntRange(0, 255).Draw(t, "key"))}}
		d := noise(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 40000).Draw(t, "n"))
		if rapid.Bool().Draw(t, "low entropy") {
			for i := range d {
				d[i] &= 1
			}
		}
		var whole []byte
		var cuts []int
		last := false
		for c, err := range Chunks(iotest.HalfReader(bytes.NewReader(d)), p) {
			if err != nil {
				t.Fatal(err)
			}
			if last {
				t.Fatal("a short chunk that is not the last")
			}
			if c.Offset != int64(len(whole)) || len(c.Data) > hi || len(c.Data) == 0 {
				t.Fatalf("chunk of %d at %d, after %d", len(c.Data), c.Offset, len(whole))
			}
			last = len(c.Data) < lo
			whole = append(whole, c.Data...)
			cuts = append(cuts, len(c.Data))
		}
		if !bytes.Equal(whole, d) {
			t.Fatal("chunks are not the input")
		}
		slow, err := Reference(d, p)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(cuts) != fmt.Sprint(slow) {
			t.Fatalf("cuts %v, reference %v", cuts, slow)
		}
	})
}

func set(d []byte, p Params, t *testing.T) map[[32]byte]int {
	out := map[[32]byte]int{}
	for c, err := range Chunks(bytes.NewReader(d), p) {
		if err != nil {
			t.Fatal(err)
		}
		out[sha256.Sum256(c.Data)] = len(c.Data)
	}
	return out
}

func TestAnEditStaysLocal(t *testing.T) {
	p := Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}
	d := noise(9, 4<<20)
	have := set(d, p, t)
	rng := rand.New(rand.NewPCG(1, 2))
	worst, sum := 0, 0
	const edits = 50
	for range edits {
		at := rng.IntN(len(d) - 100)
		e := append(append(append([]byte(nil), d[:at]...), noise(rng.Uint64(), rng.IntN(50))...), d[at+rng.IntN(50):]...)
		fresh := 0
		for id, n := range set(e, p, t) {
			if _, ok := have[id]; !ok {
				fresh += n
			}
		}
		worst, sum = max(worst, fresh), sum+fresh
	}
	// One chunk is changed, and now and then it takes some to meet again.
	if mean := sum / edits; mean > 4*p.Avg || worst > 8*p.Max {
		t.Errorf("an insertion makes %d new bytes in the mean, %d at worst", mean, worst)
	}
}

func TestTheKeyMovesCuts(t *testing.T) {
	d := noise(1, 1<<20)
	a := lengths(t, d, Params{})
	b := lengths(t, d, Params{Key: [32]byte{7}})
	if fmt.Sprint(a) == fmt.Sprint(b) {
		t.Error("another key, the same cuts")
	}
	if fmt.Sprint(a) != fmt.Sprint(lengths(t, d, Params{Key: PublicKey})) {
		t.Error("the zero key is not PublicKey")
	}
}

func TestReadErrorsAreNotTheEnd(t *testing.T) {
	for _, want := range []error{io.ErrUnexpectedEOF, errors.New("disk on fire")} {
		r := io.MultiReader(bytes.NewReader(noise(1, 300<<10)), iotest.ErrReader(want))
		var got error
		for _, err := range Chunks(r, Params{}) {
			got = err
		}
		if !errors.Is(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	for _, err := range Chunks(bytes.NewReader(nil), Params{Min: 10}) {
		if err == nil {
			t.Error("sizes out of bounds accepted")
		}
	}
}

func TestSplitterIsBoxos(t *testing.T) {
	d := noise(3, 1<<20)
	var s chunk.Splitter = NewSplitter(bytes.NewReader(d), Params{})
	blocks, errs := chunk.Chan(s)
	var whole []byte
	for b := range blocks {
		whole = append(whole, b...)
	}
	if err := <-errs; err != io.EOF {
		t.Errorf("ended with %v", err)
	}
	if !bytes.Equal(whole, d) {
		t.Error("blocks are not the input")
	}
	if _, err := s.NextBytes(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

func FuzzAgainstReference(f *testing.F) {
	f.Add([]byte("a short one"), byte(0))
	f.Add(noise(1, 3000), byte(1))
	f.Add(make([]byte, 3000), byte(2))
	f.Fuzz(func(t *testing.T, d []byte, key byte) {
		p := Params{Min: 64, Avg: 128, Max: 700, Key: [32]byte{key}}
		slow, err := Reference(d, p)
		if err != nil {
			t.Fatal(err)
		}
		if fast := lengths(t, d, p); fmt.Sprint(fast) != fmt.Sprint(slow) {
			t.Fatalf("cuts %v, reference %v", fast, slow)
		}
	})
}

func BenchmarkChunks(b *testing.B) {
	d := noise(1, 64<<20)
	for _, c := range []struct {
		name string
		data []byte
	}{{"noise", d}, {"zeros", make([]byte, 64<<20)}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.data)))
			for b.Loop() {
				for _, err := range Chunks(bytes.NewReader(c.data), Params{}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
