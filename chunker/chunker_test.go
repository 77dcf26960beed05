package chunker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

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

// binaryNoise returns n bytes that are 0 or 1.
func binaryNoise(seed uint64, n int) []byte {
	d := noise(seed, n)
	for i := range d {
		d[i] &= 1
	}
	return d
}

// period repeats d up to n bytes.
func period(d []byte, n int) []byte { return bytes.Repeat(d, n/len(d)+1)[:n] }

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
		{"noise-odd-average", Params{Min: 400, Avg: 1500, Max: 5000}, noise(3, 60000)},
		{"noise-fixed", Params{Min: 512, Avg: 512, Max: 512}, noise(4, 5000)},
		{"noise-largest", Params{Min: 64 << 10, Avg: 256 << 10, Max: MaxChunkBytes}, noise(7, 3<<20)},
		{"zeros", Params{}, make([]byte, 1<<20+17)},
		{"structured", Params{}, structured(1 << 20)},
		{"bits", Params{Min: 512, Avg: 2048, Max: 8192}, binaryNoise(8, 100000)},
		{"period", Params{Min: 512, Avg: 2048, Max: 8192}, period(noise(9, 777), 60000)},
		{"short", Params{}, noise(5, 100)},
		{"at-min", small, noise(6, 64)},
		{"empty", Params{}, nil},
	}
}

// with returns the lengths into which one kernel cuts d.
func with(k kernel, d []byte, p Params) []int {
	c := newCutterWith(p.filled(), k)
	var out []int
	for len(d) > 0 {
		n, found := c.cut(d, 0)
		if !found {
			n = len(d)
		}
		out = append(out, n)
		d = d[n:]
	}
	return out
}

func lengths(t testing.TB, r io.Reader, p Params) []int {
	t.Helper()
	var out []int
	for c, err := range Chunks(r, p) {
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
		want, err := Reference(v.data, v.p)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kernels() {
			if got := with(k, v.data, v.p); !slices.Equal(got, want) {
				t.Errorf("%s, kernel %s: cuts %v, reference %v", v.name, k.name, got, want)
			}
		}
		fmt.Fprintf(&b, "%s: %s\n", v.name, strings.Trim(fmt.Sprint(want), "[]"))
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

// mixed draws bytes as files have them: noise, runs, repetitions, few values.
func mixed(t *rapid.T) []byte {
	var d []byte
	for range rapid.IntRange(0, 6).Draw(t, "pieces") {
		n := rapid.IntRange(0, 9000).Draw(t, "bytes")
		seed := rapid.Uint64().Draw(t, "seed")
		switch rapid.IntRange(0, 4).Draw(t, "sort") {
		case 0:
			d = append(d, noise(seed, n)...)
		case 1:
			d = append(d, bytes.Repeat([]byte{byte(seed)}, n)...)
		case 2:
			d = append(d, binaryNoise(seed, n)...)
		case 3:
			d = append(d, period(noise(seed, 1+int(seed%700)), n)...)
		case 4:
			d = append(d, structured(n)...)
		}
	}
	return d
}

func params(t *rapid.T) Params {
	lo := rapid.IntRange(MinChunkBytes, 700).Draw(t, "min")
	avg := lo + rapid.IntRange(0, 2000).Draw(t, "avg")
	hi := avg + rapid.IntRange(0, 5000).Draw(t, "max")
	return Params{Min: lo, Avg: avg, Max: hi, Key: [32]byte{rapid.Byte().Draw(t, "key")}}
}

// oddReader deals out what rng says, with errors only where the bytes end.
type oddReader struct {
	d   []byte
	rng *rand.Rand
}

func (r *oddReader) Read(p []byte) (int, error) {
	n := copy(p, r.d[:min(len(r.d), r.rng.IntN(3000))])
	r.d = r.d[n:]
	if len(r.d) == 0 && r.rng.IntN(2) == 0 {
		return n, io.EOF // with the last bytes, or after them
	}
	return n, nil
}

func TestKernelsStreamsAndSplitAgreeWithReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, p := mixed(t), params(t)
		want, err := Reference(d, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kernels() {
			if got := with(k, d, p); !slices.Equal(got, want) {
				t.Fatalf("kernel %s: cuts %v, reference %v", k.name, got, want)
			}
		}
		check := func(how string, chunks func(func(Chunk, error) bool)) {
			var whole []byte
			var cuts []int
			for c, err := range chunks {
				if err != nil {
					t.Fatal(err)
				}
				if c.Offset != int64(len(whole)) || cap(c.Data) != len(c.Data) {
					t.Fatalf("%s: chunk at %d after %d, capacity %d of %d", how, c.Offset, len(whole), cap(c.Data), len(c.Data))
				}
				whole = append(whole, c.Data...)
				cuts = append(cuts, len(c.Data))
			}
			if !bytes.Equal(whole, d) {
				t.Fatalf("%s: chunks are not the input", how)
			}
			if !slices.Equal(cuts, want) {
				t.Fatalf("%s: cuts %v, reference %v", how, cuts, want)
			}
		}
		check("split", Split(d, p))
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "deal"), 0))
		check("stream", Chunks(&oddReader{d, rng}, p))
	})
}

// TestStreamsBeyondTheBuffer has data longer than a buffer, cut with the sizes
// that have a pool and those that have none.
func TestStreamsBeyondTheBuffer(t *testing.T) {
	d := append(noise(11, 3<<20), make([]byte, 2<<20)...)
	d = append(d, noise(12, 1<<20)...)
	for _, p := range []Params{{}, {Min: 64 << 10, Avg: 256 << 10, Max: MaxChunkBytes}, {Min: 64, Avg: 300, Max: 2000}} {
		var want []int
		for c, err := range Split(d, p) {
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, len(c.Data))
		}
		for _, r := range []io.Reader{bytes.NewReader(d), iotest.HalfReader(bytes.NewReader(d)), &oddReader{d, rand.New(rand.NewPCG(1, 1))}} {
			if got := lengths(t, r, p); !slices.Equal(got, want) {
				t.Errorf("%d/%d/%d: stream %v, split %v", p.Min, p.Avg, p.Max, got, want)
			}
		}
	}
}

func FuzzAgainstReference(f *testing.F) {
	f.Add([]byte("a short one"), byte(0), uint16(0), uint16(64))
	f.Add(noise(1, 5000), byte(1), uint16(300), uint16(128))
	f.Add(make([]byte, 3000), byte(2), uint16(10), uint16(1))
	f.Add(period(noise(3, 100), 4000), byte(3), uint16(330), uint16(200))
	f.Add(structured(6000), byte(4), uint16(100), uint16(400))
	f.Fuzz(func(t *testing.T, d []byte, key byte, lo, avg uint16) {
		p := Params{Key: [32]byte{key}}
		p.Min = MinChunkBytes + int(lo%1000)
		p.Avg = p.Min + int(avg%1000)
		p.Max = p.Avg + 1500
		want, err := Reference(d, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kernels() {
			if got := with(k, d, p); !slices.Equal(got, want) {
				t.Fatalf("kernel %s: cuts %v, reference %v", k.name, got, want)
			}
		}
		if got := lengths(t, iotest.OneByteReader(bytes.NewReader(d)), p); !slices.Equal(got, want) {
			t.Fatalf("stream: cuts %v, reference %v", got, want)
		}
	})
}

func TestSizesOutOfBoundsAreRefused(t *testing.T) {
	for _, p := range []Params{
		{Min: MinChunkBytes - 1}, {Min: -1}, {Min: 100, Avg: 99, Max: 200}, {Min: 100, Avg: 200, Max: 199},
		{Max: MaxChunkBytes + 1}, {Min: DefaultAvg + 1}, {Max: DefaultAvg - 1},
	} {
		err := p.Validate()
		if err == nil || !strings.Contains(err.Error(), "chunk sizes") {
			t.Errorf("%+v: %v", p, err)
		}
		n := 0
		for _, got := range Chunks(bytes.NewReader(noise(1, 1000)), p) {
			if n++; got == nil || got.Error() != err.Error() {
				t.Errorf("%+v: Chunks gives %v", p, got)
			}
		}
		for _, got := range Split(noise(1, 1000), p) {
			if n++; got == nil || got.Error() != err.Error() {
				t.Errorf("%+v: Split gives %v", p, got)
			}
		}
		if n != 2 {
			t.Errorf("%+v: %d answers", p, n)
		}
		if _, got := Reference(nil, p); got == nil {
			t.Errorf("%+v: the reference takes it", p)
		}
	}
	for _, p := range []Params{{}, {Min: MinChunkBytes, Avg: MinChunkBytes, Max: MinChunkBytes}, {Max: MaxChunkBytes}} {
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheKeyMovesCuts(t *testing.T) {
	d := noise(1, 2<<20)
	cuts := func(p Params) map[int]bool {
		at, out := 0, map[int]bool{}
		for _, n := range with(kernels()[0], d, p) {
			at += n
			out[at] = true
		}
		delete(out, len(d))
		return out
	}
	public := cuts(Params{})
	if want := cuts(Params{Key: PublicKey}); len(public) < 20 || !mapsEqual(public, want) {
		t.Error("the zero key is not PublicKey")
	}
	// Every bit of the key counts, and another key is another place to cut.
	for _, at := range []int{0, 15, 16, 31} {
		key := PublicKey
		key[at] ^= 0x80
		common := 0
		for c := range cuts(Params{Key: key}) {
			if public[c] {
				common++
			}
		}
		if common > 2 {
			t.Errorf("%d of %d cuts stay with another byte %d of the key", common, len(public), at)
		}
	}
}

func mapsEqual(a, b map[int]bool) bool {
	for k := range a {
		if !b[k] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestSipHashIsThePublishedOne(t *testing.T) {
	// The vector of the paper's appendix, and two of the authors' list.
	var key [16]byte
	var in [64]byte
	for i := range key {
		key[i] = byte(i)
	}
	for i := range in {
		in[i] = byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 15: 0xa129ca6149be45e5, 8: 0x93f5f5799a932462} {
		if got := sipHash(key, in[:n]); got != want {
			t.Errorf("sipHash of %d bytes: %#x, want %#x", n, got, want)
		}
	}
	s := newSip(key)
	if got, want := s.sum64(&in), sipHash(key, in[:]); got != want {
		t.Errorf("sum64 %#x, sipHash %#x", got, want)
	}
}

func TestSizesAreThoseAskedFor(t *testing.T) {
	const n = 96 << 20
	d := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{5})
	rng.Read(d)
	for _, p := range []Params{{}, {Min: 4 << 10, Avg: 16 << 10, Max: 64 << 10}} {
		p = p.filled()
		cuts := with(kernels()[0], d, p)
		early, most := 0, 0
		sum2 := 0.0
		mean := float64(n) / float64(len(cuts))
		for _, c := range cuts[:len(cuts)-1] {
			if c <= p.Min || c > p.Max {
				t.Fatalf("a chunk of %d", c)
			}
			if c <= p.Avg {
				early++
			}
			if c == p.Max {
				most++
			}
			sum2 += (float64(c) - mean) * (float64(c) - mean)
		}
		// Level 2 cuts a quarter as often as 1/avg before the average and four
		// times as often beyond it. The mean is Min plus the means of the two
		// exponentials.
		share := 1 - math.Exp(-float64(p.Avg-p.Min)/float64(4*p.Avg))
		want := float64(p.Min) + float64(4*p.Avg)*share + (1-share)*float64(p.Avg)/4
		if math.Abs(mean/want-1) > .04 {
			t.Errorf("mean %.0f, want %.0f", mean, want)
		}
		if got := float64(early) / float64(len(cuts)); math.Abs(got-share) > .05 {
			t.Errorf("%.3f of the chunks end before the average, want %.3f", got, share)
		}
		if sigma := math.Sqrt(sum2 / float64(len(cuts))); sigma > .4*mean {
			t.Errorf("deviation %.0f for a mean of %.0f", sigma, mean)
		}
		if most > len(cuts)/200 {
			t.Errorf("%d of %d chunks have the greatest length", most, len(cuts))
		}
	}
}

func ids(d []byte, p Params) map[[32]byte]int {
	out := map[[32]byte]int{}
	for c, err := range Split(d, p) {
		if err != nil {
			panic(err)
		}
		out[sha256.Sum256(c.Data)] = len(c.Data)
	}
	return out
}

func TestAnEditStaysLocal(t *testing.T) {
	p := Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}
	d := noise(9, 1<<20)
	have := ids(d, p)
	rng := rand.New(rand.NewPCG(1, 2))
	worst, sum := 0, 0
	const edits = 50
	for range edits {
		at := rng.IntN(len(d) - 100)
		e := append(append(append([]byte(nil), d[:at]...), noise(rng.Uint64(), rng.IntN(50))...), d[at+rng.IntN(50):]...)
		fresh := 0
		for id, n := range ids(e, p) {
			if _, ok := have[id]; !ok {
				fresh += n
			}
		}
		worst, sum = max(worst, fresh), sum+fresh
	}
	// One chunk is changed, and now and then it takes some to meet again.
	if mean := sum / edits; mean > 3*p.Avg || worst > 4*p.Max {
		t.Errorf("an insertion makes %d new bytes in the mean, %d at worst", mean, worst)
	}
}

func TestErrorsOfTheReaderAreNotTheEnd(t *testing.T) {
	fire := errors.New("disk on fire")
	d := noise(1, 1500<<10)
	for _, want := range []error{io.ErrUnexpectedEOF, fire} {
		var got error
		n := 0
		for c, err := range Chunks(io.MultiReader(bytes.NewReader(d), iotest.ErrReader(want)), Params{}) {
			if got != nil {
				t.Fatal("something after an error")
			}
			if got = err; err == nil {
				n += len(c.Data)
			}
		}
		if !errors.Is(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if n >= len(d) || n < 1<<20-DefaultMax {
			t.Errorf("%d bytes of %d came before the error", n, len(d))
		}
	}
	for _, err := range Chunks(iotest.ErrReader(fire), Params{}) {
		if err != fire {
			t.Errorf("got %v", err)
		}
	}
	last := error(nil)
	for _, err := range Chunks(stuck{}, Params{}) {
		last = err
	}
	if last != io.ErrNoProgress {
		t.Errorf("a reader that never reads: %v", last)
	}
}

// stuck reads nothing and says nothing.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// endless is a stream of noise that repeats after 16 MiB.
type endless struct {
	d    []byte
	left int
}

func (r *endless) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	at := r.left % len(r.d)
	n := copy(p[:min(len(p), r.left)], r.d[at:])
	r.left -= n
	return n, nil
}

func TestMemoryDoesNotGrowWithTheStream(t *testing.T) {
	r := &endless{noise(1, 1<<20), 256 << 20}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for c, err := range Chunks(r, Params{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += len(c.Data)
	}
	runtime.ReadMemStats(&after)
	if n != 256<<20 {
		t.Fatalf("%d bytes", n)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
		t.Errorf("%d bytes were allocated for a stream of 256 MiB", got)
	}
}

func TestAChunkMayBeKeptWhereTheLoopIsLeft(t *testing.T) {
	d := noise(1, 1<<20)
	var kept []byte
	for c, err := range Chunks(bytes.NewReader(d), Params{}) {
		if err != nil {
			t.Fatal(err)
		}
		kept = c.Data
		break
	}
	for range Chunks(bytes.NewReader(make([]byte, 2<<20)), Params{}) {
	}
	if !bytes.Equal(kept, d[:len(kept)]) {
		t.Error("the buffer of a chunk that may still be looked at was used again")
	}
}

// counted counts the calls of a kernel: one for each hash, and two for each
// chunk.
func counted(k kernel, calls *int) kernel {
	scan := k.scan
	k.scan = func(f *filter, d []byte, i, n int) int { *calls++; return scan(f, d, i, n) }
	return k
}

// TestOddDataIsNotSlower asserts by counting, not by time. The scan itself
// costs the same for all data, so what differs is how often it is stopped for
// a hash, which costs about what scanning 1 KiB costs: with fewer than one in
// 1 KiB no data takes twice the time of real data.
func TestOddDataIsNotSlower(t *testing.T) {
	const n = 4 << 20
	record := func(size int, fields ...byte) []byte { return append(make([]byte, size-len(fields)), fields...) }
	sorts := map[string][]byte{
		"zeros": make([]byte, n), "noise": noise(1, n), "bits": binaryNoise(2, n), "structured": structured(n),
		"text":        period([]byte("the quick brown fox jumps over the lazy dog. "), n),
		"ones as f32": period(record(4, 0x80, 0x3f), n), "sparse": period(record(64, 0x80, 0x3f), n),
	}
	for b := range 256 {
		sorts[fmt.Sprintf("byte %d", b)] = bytes.Repeat([]byte{byte(b)}, n/16)
	}
	for seed := range uint64(200) {
		size := 1 + int(seed*seed%5000)
		sorts[fmt.Sprintf("period %d", size)] = period(noise(100+seed, size), n/4)
	}
	for name, d := range sorts {
		for key := range byte(3) {
			calls := 0
			chunks := len(with(counted(kernels()[0], &calls), d, Params{Key: [32]byte{key}}))
			if got := calls - 2*chunks; got > len(d)/1024 {
				t.Errorf("%s, key %d: %d hashes in %d KiB", name, key, got, len(d)>>10)
			}
		}
	}
}

// TestARunWhosePeriodIsNominated looks for such runs, and checks that they are
// passed over and not hashed period by period.
func TestARunWhosePeriodIsNominated(t *testing.T) {
	p := Params{}.filled()
	f := newFilter(define(p))
	tried, many := 0, 0
	for seed := uint64(0); tried < 20 && seed < 20000; seed++ {
		d := period(noise(seed, 50+int(seed%400)), 3000)
		size := 50 + int(seed%400)
		hits := 0
		for i := 2000; i < 2000+size; i++ {
			if scanReference(&f, d, i, i+1) == i {
				hits++
			}
		}
		if hits == 0 {
			continue
		}
		if hits > 1 {
			many++
		}
		tried++
		d = period(d[:size], 1<<20)
		calls := 0
		cuts := with(counted(kernels()[0], &calls), d, p)
		if accepted := cuts[0] < p.Max; !accepted && calls > 40*len(cuts) {
			t.Errorf("period %d of seed %d: %d calls for %d chunks", size, seed, calls, len(cuts))
		}
	}
	if tried < 20 {
		t.Errorf("only %d runs found", tried)
	}
	t.Logf("%d runs, %d of them with more than one nominated position", tried, many)
}

func BenchmarkKernels(b *testing.B) {
	d := noise(1, 8<<20)
	for _, k := range kernels() {
		if k.name == "reference" {
			continue
		}
		b.Run(k.name, func(b *testing.B) {
			b.SetBytes(int64(len(d)))
			for b.Loop() {
				with(k, d, Params{})
			}
		})
	}
}
