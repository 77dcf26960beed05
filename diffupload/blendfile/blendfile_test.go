package blendfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// shape is one of the ways a .blend can be laid out.
type shape struct {
	header string
	info   Info
	order  binary.AppendByteOrder
}

var shapes = []shape{
	{"BLENDER_v248", Info{Version: 248, Pointer: 4, Endian: Little, Container: Raw}, binary.LittleEndian},
	{"BLENDER_V250", Info{Version: 250, Pointer: 4, Endian: Big, Container: Raw}, binary.BigEndian},
	{"BLENDER-v304", Info{Version: 304, Pointer: 8, Endian: Little, Container: Raw}, binary.LittleEndian},
	{"BLENDER-V276", Info{Version: 276, Pointer: 8, Endian: Big, Container: Raw}, binary.BigEndian},
	{"BLENDER17-01v0502", Info{Version: 502, Pointer: 8, Endian: Little, Container: Raw, Large: true}, binary.LittleEndian},
}

func (l shape) head(code string, size int64) []byte {
	b := []byte(code)
	u32 := func(n uint32) { b = l.order.AppendUint32(b, n) }
	u64 := func(n uint64) { b = l.order.AppendUint64(b, n) }
	switch {
	case l.info.Large:
		u32(1)
		u64(0xdeadbeef)
		u64(uint64(size))
		u64(1)
	case l.info.Pointer == 8:
		u32(uint32(size))
		u64(0xdeadbeef)
		u32(1)
		u32(1)
	default:
		u32(uint32(size))
		u32(0xdeadbeef)
		u32(1)
		u32(1)
	}
	return b
}

// file makes a .blend whose blocks have the sizes.
func (l shape) file(sizes ...int) []byte {
	b := []byte(l.header)
	for i, n := range sizes {
		b = append(b, l.head(fmt.Sprintf("DA%02d", i), int64(n))...)
		b = append(b, bytes.Repeat([]byte("ENDB"), n/4+1)[:n]...)
	}
	return append(b, l.head("ENDB", 0)...)
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// zs writes frames as Blender does: several, and a seek table behind them.
func zs(b []byte) []byte { return zsOf(b, 1000) }

var zsEncoder = sync.OnceValues(func() (*zstd.Encoder, error) { return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)) })

// zsOf writes frames of so many bytes.
func zsOf(b []byte, frame int) []byte {
	e, err := zsEncoder()
	if err != nil {
		panic(err)
	}
	var out []byte
	for len(b) > 0 {
		n := min(len(b), frame)
		out = e.EncodeAll(b[:n], out)
		b = b[n:]
	}
	table := []byte{0x5e, 0x2a, 0x4d, 0x18, 9, 0, 0, 0}
	return append(append(out, table...), make([]byte, 9)...)
}

func read(b []byte) ([]byte, Info, error) {
	r, info, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, info, err
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	return out, info, err
}

func TestEveryLayoutInEveryContainer(t *testing.T) {
	for _, l := range shapes {
		raw := l.file(10, 0, 3000, 7)
		for c, b := range map[Container][]byte{Raw: raw, Gzip: gz(raw), Zstd: zs(raw)} {
			want := l.info
			want.Container = c
			got, info, err := read(b)
			if err != nil || info != want || !bytes.Equal(got, raw) {
				t.Errorf("%s %s: %d bytes of %d, %+v, %v", l.header, c, len(got), len(raw), info, err)
			}
			// In the smallest pieces too.
			r, _, err := NewReader(iotest.OneByteReader(bytes.NewReader(b)), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(r, raw); err != nil {
				t.Errorf("%s %s: %v", l.header, c, err)
			}
		}
	}
}

func TestCutAnywhereIsSeen(t *testing.T) {
	for _, l := range shapes {
		raw := l.file(10, 0, 300, 7)
		for c, b := range map[Container][]byte{Raw: raw, Gzip: gz(raw), Zstd: zs(raw)} {
			end := len(b)
			if c == Zstd {
				end -= 17 // the seek table can be missing
			}
			for n := range end {
				_, _, err := read(b[:n])
				if c == Gzip && n >= len(b)-8 && errors.Is(err, ErrTruncated) {
					continue // everything is there but the check sum
				}
				if n < len(l.header) && errors.Is(err, ErrNotBlend) {
					continue // not yet known for what it is
				}
				if !errors.Is(err, ErrTruncated) {
					t.Fatalf("%s %s cut at %d of %d: %v", l.header, c, n, len(b), err)
				}
			}
		}
	}
}

func TestWhatIsNoBlend(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":       nil,
		"short":       []byte("BLEND"),
		"text":        []byte("version https://git-lfs.github.com/spec/v1\noid"),
		"gzip text":   gz([]byte("this is a text in a gzip container")),
		"zstd text":   zs([]byte("this is a text in a zstd container")),
		"gzip little": gz([]byte("x")),
		"pointer":     []byte("BLENDER?v304aaaaaaaaaaaa"),
		"order":       []byte("BLENDER-x304aaaaaaaaaaaa"),
		"version":     []byte("BLENDER-v3x4aaaaaaaaaaaa"),
		"format 02":   []byte("BLENDER17-02v0502aaaaaaa"),
		"header 18":   []byte("BLENDER18-01v0502aaaaaaa"),
	} {
		if _, _, err := read(b); !errors.Is(err, ErrNotBlend) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamage(t *testing.T) {
	for _, l := range shapes {
		negative := append(append([]byte(l.header), l.head("DATA", -5)...), make([]byte, 100)...)
		if _, _, err := read(negative); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: negative length: %v", l.header, err)
		}
		lying := append(append([]byte(l.header), l.head("DATA", 1<<30)...), make([]byte, 100)...)
		if _, _, err := read(lying); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: a block of 1 GiB in 100 bytes: %v", l.header, err)
		}
	}
	raw := shapes[4].file(3000)
	z := zs(raw)
	z[20] ^= 0xff
	if _, _, err := read(z); err == nil || errors.Is(err, ErrNotBlend) {
		t.Errorf("damaged zstd: %v", err)
	}
	broken := errors.New("disk on fire")
	for _, b := range [][]byte{raw, gz(raw), zs(raw)} {
		r, _, err := NewReader(io.MultiReader(bytes.NewReader(b[:len(b)/2]), iotest.ErrReader(broken)), int64(len(b)))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if !errors.Is(err, broken) {
			t.Errorf("the disk's own error became %v", err)
		}
	}
}

// zeros yields n zeros behind a header and a block head that covers them.
func bomb(t *testing.T, compress func(io.Writer) io.WriteCloser, n int64) []byte {
	t.Helper()
	var out bytes.Buffer
	w := compress(&out)
	l := shapes[4]
	w.Write([]byte(l.header))
	w.Write(l.head("DATA", n))
	if _, err := io.CopyN(w, zeros{}, n); err != nil {
		t.Fatal(err)
	}
	w.Write(l.head("ENDB", 0))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBombsAreBounded(t *testing.T) {
	zstdWriter := func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	small := bomb(t, zstdWriter, minExpanded/2)
	if _, _, err := read(small); err != nil {
		t.Errorf("%d bytes from %d: %v", minExpanded/2, len(small), err)
	}
	big := bomb(t, zstdWriter, 4*minExpanded)
	if len(big)*MaxRatio > 2*minExpanded {
		t.Fatalf("the bomb has %d bytes, too many for the test", len(big))
	}
	r, _, err := NewReader(bytes.NewReader(big), int64(len(big)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	if !errors.Is(err, ErrTooLarge) || n > max(minExpanded, int64(len(big))*MaxRatio) {
		t.Errorf("a bomb gave %d bytes and %v", n, err)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	whole := shapes[2].file(5000)
	good, cut := filepath.Join(dir, "good.blend"), filepath.Join(dir, "cut.blend")
	if err := os.WriteFile(good, gz(whole), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cut, whole[:2000], 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := Check(good); err != nil || info.Version != 304 || info.Container != Gzip {
		t.Errorf("%+v, %v", info, err)
	}
	_, err := Check(cut)
	if !errors.Is(err, ErrTruncated) || err.Error() != cut+": truncated .blend" {
		t.Errorf("%v", err)
	}
	if _, err := Check(filepath.Join(dir, "gone.blend")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func FuzzNewReader(f *testing.F) {
	for _, l := range shapes {
		raw := l.file(10, 0, 30)
		f.Add(raw)
		f.Add(gz(raw))
		f.Add(zs(raw))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, info, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer r.Close()
		n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		if info.Container == Raw && n > int64(len(b)) {
			t.Fatalf("%d bytes from %d", n, len(b))
		}
		_ = err
	})
}
