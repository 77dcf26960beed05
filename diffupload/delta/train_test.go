package delta

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var train = flag.String("train", "", "make prior.bin from pairs, DIR/base, DIR/fresh, DIR/hints for each DIR of the pattern")

// untrained is knowledge that knows nothing.
func untrained() *knowledge {
	k := &knowledge{}
	k.each(func(cs []counter) {
		for i := range cs {
			cs[i] = evens
		}
	}, func(ws []int32) {
		for i := range ws {
			ws[i] = 1 << 14
		}
	})
	return k
}

// bytes is the inverse of read.
func (k *knowledge) bytes() []byte {
	var b []byte
	k.each(func(cs []counter) {
		for _, c := range cs {
			n := min(c&1023, trainCap)
			st := min(max((c.stretch()+8)>>4, -127), 127)
			b = append(b, byte(st), byte(n))
		}
	}, func(ws []int32) {
		for _, w := range ws {
			w = min(max((w+32)>>6, -1<<15), 1<<15-1)
			b = append(b, byte(w), byte(w>>8))
		}
	})
	return b
}

// learn codes a pair and keeps what was learned.
func (k *knowledge) learn(base, fresh []byte, hints []Hint) int {
	s := newStream(newEncoder(), base, fresh)
	s.numbers = k.numbers
	ops := plan(base, fresh, hints)
	s.order = tableOrder(base, fresh, ops)
	s.num(numOrder, uint64(s.order)) // island does not, for words are there
	s.words = newWords(s.order)
	s.words.judgement = k.judgement
	out, err := s.encode(ops)
	if err != nil {
		panic(err)
	}
	n := len(out)
	k.numbers, k.judgement = s.numbers, s.words.judgement
	return n
}

// trainCap is how often a counter of the prior counts what it was told at most.
const trainCap = counter(6)

// readHints reads lines of four numbers: offset and length in fresh and base.
func readHints(name string) []Hint {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	var hints []Hint
	for {
		var h Hint
		if _, err := fmt.Fscan(f, &h.New.Off, &h.New.Len, &h.Base.Off, &h.Base.Len); err != nil {
			return hints
		}
		hints = append(hints, h)
	}
}

// TestTrain makes the prior anew, which changes the format.
func TestTrain(t *testing.T) {
	if *train == "" {
		t.Skip("NOT RUN: no -train PATTERN")
	}
	dirs, err := filepath.Glob(*train)
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no pairs: %v", err)
	}
	k := untrained()
	for range 2 {
		for _, d := range dirs {
			base, err := os.ReadFile(d + "/base")
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := os.ReadFile(d + "/fresh")
			if err != nil {
				t.Fatal(err)
			}
			t.Log(d, k.learn(base, fresh, readHints(d+"/hints")))
		}
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	out := e.EncodeAll(k.bytes(), nil)
	if err := os.WriteFile("prior.bin", out, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Log(len(out), "bytes")
}
