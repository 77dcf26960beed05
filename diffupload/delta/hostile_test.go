package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
)

// wellBehaved decodes and sees that what comes out keeps to the bounds.
func wellBehaved(t *testing.T, base, patch []byte, max int) {
	t.Helper()
	got, err := Decode(base, patch, max)
	switch n, _ := declaredSize(patch); {
	case err != nil && !errors.Is(err, ErrPatch):
		t.Fatalf("error %v is no ErrPatch", err)
	case err != nil && got != nil:
		t.Fatal("bytes beside an error")
	case err == nil && (len(got) > max || len(got) != n):
		t.Fatalf("%d bytes where %d are declared and %d allowed", len(got), n, max)
	}
}

func TestDamagedPatchesKeepToTheBounds(t *testing.T) {
	for _, v := range vectors() {
		patch := Encode(v.base, v.fresh, v.hints)
		for i := range patch {
			wellBehaved(t, v.base, patch[:i], len(v.fresh))
			first, step := i%4, 4 // two bits of each byte; make test-long takes all
			if os.Getenv("IDLEWILD_SLOW") != "" {
				first, step = 0, 1
			}
			for bit := first; bit < 8; bit += step {
				p := bytes.Clone(patch)
				p[i] ^= 1 << bit
				wellBehaved(t, v.base, p, len(v.fresh))
			}
			if i > 20 {
				break
			}
		}
		wellBehaved(t, nil, patch, len(v.fresh))
		wellBehaved(t, v.base[:len(v.base)/2], patch, len(v.fresh))
		wellBehaved(t, v.base, append(bytes.Clone(patch), 1, 2, 3), len(v.fresh))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		p := make([]byte, r.IntN(60))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		wellBehaved(t, vectors()[0].base, p, 1<<16)
	}
}

func TestBombsAreRefused(t *testing.T) {
	big := newStream(newEncoder(), nil, nil)
	big.num(numSize, MaxSize+1)
	bombs := map[string][]byte{"longer than any": big.finish(false)}

	res := make([]byte, 64<<20)
	words := newStream(newEncoder(), nil, res)
	words.num(numSize, uint64(len(res)))
	var p position
	if _, err := words.head(&p, op{kind: opWords, len: len(res)}); err != nil {
		t.Fatal(err)
	}
	bombs["64 MiB of words"] = words.finish(false)

	ops := newStream(newEncoder(), []byte("base"), res)
	ops.num(numSize, uint64(len(res)))
	p = position{}
	for range maxWork + 2 {
		if _, err := ops.head(&p, op{kind: opCopy, len: 1}); err != nil {
			t.Fatal(err)
		}
		ops.flag(flagTail, 1)
	}
	bombs["copies of one byte"] = ops.finish(false)

	stored := newStream(newEncoder(), nil, res)
	stored.num(numSize, uint64(len(res)))
	p = position{}
	if _, err := stored.head(&p, op{kind: opStored, len: len(res)}); err != nil {
		t.Fatal(err)
	}
	bombs["stored and not there"] = stored.finish(false)

	for name, b := range bombs {
		if out, err := Decode([]byte("base"), b, MaxSize); !errors.Is(err, ErrPatch) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	// What declares more than is allowed costs no memory.
	patch := Encode(nil, res[:8<<20], nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Decode(nil, patch, 1<<20); !errors.Is(err, ErrPatch) {
		t.Errorf("over the bound: %v", err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("refusing takes %d bytes", n)
	}
}

func FuzzDecode(f *testing.F) {
	base := vectors()[0].base
	for _, v := range vectors() {
		f.Add(v.base, Encode(v.base, v.fresh, v.hints))
	}
	f.Add(base, []byte{})
	f.Fuzz(func(t *testing.T, base, patch []byte) { wellBehaved(t, base, patch, 1<<16) })
}

func FuzzEncode(f *testing.F) {
	for _, v := range vectors() {
		f.Add(v.base, v.fresh, 0, len(v.base))
	}
	f.Add([]byte("0"), []byte("1"), 0, 1)
	f.Fuzz(func(t *testing.T, base, fresh []byte, off, n int) {
		hints := []Hint{{New: Span{Len: len(fresh)}, Base: Span{Off: off, Len: n}}}
		if _, err := encodeOps(base, fresh, plan(base, fresh, hints)); err != nil {
			t.Fatal(err)
		}
		patch := Encode(base, fresh, hints)
		if got, err := Decode(base, patch, len(fresh)); err != nil || !bytes.Equal(got, fresh) {
			t.Fatalf("%v", err)
		}
	})
}

// Very many copies are no more than decoding takes.
func TestManyOperationsCanBeDecoded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	base := make([]byte, 16<<20)
	for i := 0; i < len(base); i += 8 {
		binary.LittleEndian.PutUint64(base[i:], rng.Uint64())
	}
	const n, size = maxWork + 100, 16
	fresh := make([]byte, 0, n*size)
	p := &planner{base: base}
	for i := range n {
		src := rng.IntN(len(base)-size) &^ 3
		p.copies = append(p.copies, placed{i * size, op{kind: opCopy, len: size, src: src}})
		fresh = append(fresh, base[src:src+size]...)
	}
	p.fresh = fresh
	patch, err := encodeOps(base, fresh, p.finish())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(base, patch, len(fresh)); err != nil || !bytes.Equal(got, fresh) {
		t.Fatal(err)
	}
}
