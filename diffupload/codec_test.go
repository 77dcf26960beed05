package diffupload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

func TestCodecRoundTrips(t *testing.T) {
	var c Codec
	base := noise(1, 60_000)
	edited := bytes.Clone(base)
	copy(edited[30_000:], "an edit in the middle of it")
	d, ok := c.Encode(base, edited)
	if !ok || len(d) > 60 {
		t.Errorf("an edit of 27 bytes: delta of %d bytes, %t", len(d), ok)
	}
	if got, err := c.Decode(base, d, len(edited)); err != nil || !bytes.Equal(got, edited) {
		t.Errorf("decode: %v", err)
	}
	if _, err := c.Decode(noise(2, 60_000), d, len(edited)); err == nil {
		got, _ := c.Decode(noise(2, 60_000), d, len(edited))
		if bytes.Equal(got, edited) {
			t.Error("another base gives the same block")
		}
	}
	if _, ok := c.Encode(nil, noise(3, 5000)); ok {
		t.Error("noise got smaller")
	}
	if _, ok := c.Encode(nil, nil); ok {
		t.Error("nothing got smaller")
	}
	rapid.Check(t, func(t *rapid.T) {
		base := noise(rapid.Uint64Range(0, 99).Draw(t, "base"), rapid.IntRange(0, 3000).Draw(t, "base size"))
		var block []byte
		for range rapid.IntRange(1, 5).Draw(t, "pieces") {
			if len(base) > 0 && rapid.Bool().Draw(t, "of the base") {
				at := rapid.IntRange(0, len(base)-1).Draw(t, "at")
				block = append(block, base[at:]...)
			} else {
				block = append(block, make([]byte, rapid.IntRange(0, 2000).Draw(t, "zeros"))...)
			}
		}
		d, ok := c.Encode(base, block)
		if !ok {
			return
		}
		got, err := c.Decode(base, d, MaxBlockBytes)
		if err != nil || !bytes.Equal(got, block) {
			t.Fatalf("%d bytes of %d: %v", len(got), len(block), err)
		}
		if len(block) > 0 {
			if _, err := c.Decode(base, d, len(block)-1); !errors.Is(err, ErrDelta) {
				t.Fatalf("over the bound: %v", err)
			}
		}
	})
}

func TestDeltaBombIsRefusedBeforeMemory(t *testing.T) {
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := e.EncodeAll(make([]byte, 32<<20), []byte{methodZstd})
	// The same without its size in the header, and two frames in one.
	var s bytes.Buffer
	s.WriteByte(methodZstd)
	w, err := zstd.NewWriter(&s)
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		w.Write(make([]byte, 1<<20))
	}
	w.Close()
	two := e.EncodeAll(make([]byte, 1<<20), e.EncodeAll([]byte("x"), []byte{methodZstd}))
	for name, d := range map[string][]byte{"sized": bomb, "unsized": s.Bytes(), "two frames": two, "method": {9, 1, 2, 3},
		"patch": patch(nil, make([]byte, 1<<20)), "patch of nothing": {methodPatch, 0xff}, "empty": nil, "short": {0}} {
		if out, err := (Codec{}).Decode(nil, d, 64<<10); !errors.Is(err, ErrDelta) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	const times = 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		Codec{}.Decode(nil, bomb, 64<<10)
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / times; took > 1<<20 {
		t.Errorf("refusing a bomb takes %d bytes", took)
	}
}

func FuzzCodecDecode(f *testing.F) {
	base := noise(1, 2000)
	d, _ := Codec{}.Encode(base, append(bytes.Clone(base), "more"...))
	f.Add(base, d)
	f.Add(base, patch(base, append(bytes.Clone(base[700:]), "more"...)))
	z, _ := Codec{}.Encode(nil, make([]byte, 3000))
	f.Add([]byte(nil), z)
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		out, err := Codec{}.Decode(base, delta, 5000)
		if err == nil && len(out) > 5000 {
			t.Fatalf("%d bytes over the bound", len(out))
		}
	})
}

func TestEditedBlocksBecomePatches(t *testing.T) {
	base := noise(1, 200_000)
	scattered := bytes.Clone(base)
	for i := 100; i < len(scattered); i += 4000 {
		scattered[i]++
	}
	moved := append(append(bytes.Clone(base[50_000:]), "between"...), base[:50_000]...)
	for name, block := range map[string][]byte{"scattered": scattered, "moved": moved, "cut": base[7:], "same": base} {
		d, ok := Codec{}.Encode(base, block)
		if !ok || d[0] != methodPatch {
			t.Errorf("%s: method %d, %d bytes", name, d[0], len(d))
		}
		if got, err := (Codec{}).Decode(base, d, len(block)); err != nil || !bytes.Equal(got, block) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d, ok := (Codec{}).Encode(noise(2, 200_000), append(base[:100_000:100_000], make([]byte, 100_000)...)); ok {
		t.Errorf("%d bytes out of a base that is not like the block", len(d))
	}
}

// Floats that all moved a little have nothing in common but their places.
func TestPlacesAreCompared(t *testing.T) {
	base := make([]byte, 64<<10)
	for i := 0; i < len(base); i += 4 {
		binary.LittleEndian.PutUint32(base[i:], math.Float32bits(1+float32(i%977)/1000))
	}
	block := bytes.Clone(base)
	for i, n := range noise(3, len(base)/4) {
		block[4*i] += n
	}
	plain, _ := Codec{}.Encode(nil, block)
	d, ok := Codec{}.Encode(base, block)
	if !ok || d[0] != methodLess || len(d) > len(block)*2/5 || len(d) > len(plain) {
		t.Errorf("method %d, %d bytes; %d without a base", d[0], len(d), len(plain))
	}
	if got, err := (Codec{}).Decode(base, d, len(block)); err != nil || !bytes.Equal(got, block) {
		t.Error(err)
	}
}

func BenchmarkCodecEncode(b *testing.B) {
	base := noise(1, 1<<20)
	one, many := bytes.Clone(base), bytes.Clone(base)
	one[1000]++
	for i := 100; i < len(many); i += 4000 {
		many[i]++
	}
	for name, block := range map[string][]byte{"one edit": one, "many edits": many, "nothing alike": noise(2, 1<<20)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(block)))
			for b.Loop() {
				Codec{}.Encode(base, block)
			}
		})
	}
}
