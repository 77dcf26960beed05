package imagefile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/zlib"

	"idlewild/diffupload/imagefile"
)

// open returns the opened form of an image.
func open(b []byte) ([]byte, imagefile.Format, error) {
	r, format, err := imagefile.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	form, err := io.ReadAll(r)
	return form, format, err
}

// seekable is memory that can be written like a file.
type seekable struct {
	b  []byte
	at int
}

func (s *seekable) Write(p []byte) (int, error) {
	if n := s.at + len(p) - len(s.b); n > 0 {
		s.b = append(s.b, make([]byte, n)...)
	}
	s.at += copy(s.b[s.at:], p)
	return len(p), nil
}

func (s *seekable) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += int64(s.at)
	case io.SeekEnd:
		off += int64(len(s.b))
	}
	s.at = int(off)
	return off, nil
}

func rebuild(form []byte, format imagefile.Format) ([]byte, error) {
	var out seekable
	err := imagefile.Rebuild(&out, bytes.NewReader(form), format, 1<<32)
	return out.b, err
}

// roundTrip opens an image, rebuilds it and opens that; it returns the form and
// what was rebuilt.
func roundTrip(t *testing.T, b []byte, want imagefile.Format) (form, rebuilt []byte) {
	t.Helper()
	form, format, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	if format != want {
		t.Fatalf("format %q, want %q", format, want)
	}
	if rebuilt, err = rebuild(form, format); err != nil {
		t.Fatal(err)
	}
	if max := len(form)*9/4 + 1<<16; len(rebuilt) > max {
		t.Errorf("%d bytes out of %d, at most %d should be", len(rebuilt), len(form), max)
	}
	again, _, err := open(rebuilt)
	if err != nil {
		t.Fatalf("what was rebuilt: %v", err)
	}
	if !bytes.Equal(form, again) {
		t.Fatal("opened again it is another form")
	}
	return form, rebuilt
}

// chunk is a PNG chunk.
func chunk(kind string, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	b = append(append(b, kind...), data...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}

// kind of PNG.
type kind struct {
	name          string
	depth, colour int
}

var kinds = []kind{
	{"gray1", 1, 0}, {"gray2", 2, 0}, {"gray4", 4, 0}, {"gray8", 8, 0}, {"gray16", 16, 0},
	{"rgb8", 8, 2}, {"rgb16", 16, 2},
	{"palette1", 1, 3}, {"palette2", 2, 3}, {"palette4", 4, 3}, {"palette8", 8, 3},
	{"gray-alpha8", 8, 4}, {"gray-alpha16", 16, 4}, {"rgba8", 8, 6}, {"rgba16", 16, 6},
}

// makePNG writes a PNG of any kind: noise over a gradient, any filter in any
// row, pixels in IDAT chunks of random sizes, other chunks before and behind.
// It shares no code with the package.
func makePNG(rng *rand.Rand, k kind, w, h int, interlaced bool) []byte {
	bits := k.depth * map[int]int{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[k.colour]
	ihdr := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(w)), uint32(h))
	ihdr = append(ihdr, byte(k.depth), byte(k.colour), 0, 0, 0)
	type size struct{ w, h int }
	passes := []size{{w, h}}
	if interlaced {
		ihdr[12] = 1
		passes = []size{
			{(w + 7) / 8, (h + 7) / 8}, {(w + 3) / 8, (h + 7) / 8}, {(w + 3) / 4, (h + 3) / 8}, {(w + 1) / 4, (h + 3) / 4},
			{(w + 1) / 2, (h + 1) / 4}, {w / 2, (h + 1) / 2}, {w, h / 2},
		}
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	for _, p := range passes {
		if p.w == 0 || p.h == 0 {
			continue
		}
		row := make([]byte, 1+(p.w*bits+7)/8)
		for y := range p.h {
			// Any bytes are a valid row under any filter.
			row[0] = byte(rng.IntN(5))
			for i := range row[1:] {
				row[1+i] = byte(i/7+y) + byte(rng.IntN(4))
			}
			z.Write(row)
		}
	}
	z.Close()

	out := append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", ihdr)...)
	out = append(out, chunk("gAMA", []byte{0, 0, 0xb1, 0x8f})...)
	if k.colour == 3 {
		plte := make([]byte, 3<<k.depth)
		for i := range plte {
			plte[i] = byte(rng.Uint32())
		}
		out = append(out, chunk("PLTE", plte)...)
		out = append(out, chunk("tRNS", []byte{0, 128})...)
	}
	out = append(out, chunk("tEXt", []byte("Software\x00a test"))...)
	for data := packed.Bytes(); len(data) > 0; {
		n := min(len(data), rng.IntN(8192))
		out = append(out, chunk("IDAT", data[:n])...)
		data = data[n:]
	}
	out = append(out, chunk("zTXt", bytes.Repeat([]byte("more "), 1000))...)
	return append(out, chunk("IEND", nil)...)
}

// samePNG compares pixels as Go's decoder sees them, without a conversion.
func samePNG(t *testing.T, a, b []byte) {
	t.Helper()
	ia, err := png.Decode(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	ib, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("what was rebuilt: %v", err)
	}
	if ia.Bounds() != ib.Bounds() || ia.ColorModel() != nil && !sameModel(ia.ColorModel(), ib.ColorModel()) {
		t.Fatal("another kind of image")
	}
	if !bytes.Equal(pix(ia), pix(ib)) {
		t.Fatal("pixels differ")
	}
}

func sameModel(a, b color.Model) bool {
	p, ok := a.(color.Palette)
	if !ok {
		return a == b
	}
	q, ok := b.(color.Palette)
	if !ok || len(p) != len(q) {
		return false
	}
	for i := range p {
		if p[i] != q[i] {
			return false
		}
	}
	return true
}

func pix(m image.Image) []byte {
	switch m := m.(type) {
	case *image.Gray:
		return m.Pix
	case *image.Gray16:
		return m.Pix
	case *image.RGBA:
		return m.Pix
	case *image.RGBA64:
		return m.Pix
	case *image.NRGBA:
		return m.Pix
	case *image.NRGBA64:
		return m.Pix
	case *image.Paletted:
		return m.Pix
	}
	panic("unknown kind of image")
}

// others returns a PNG's chunks but IDAT, in order, with one empty IDAT.
func others(b []byte) string {
	var out strings.Builder
	for p := 8; p < len(b); {
		n := 12 + int(binary.BigEndian.Uint32(b[p:]))
		if string(b[p+4:p+8]) != "IDAT" {
			out.Write(b[p : p+n])
		} else if !strings.HasSuffix(out.String(), "IDAT") {
			out.WriteString("IDAT")
		}
		p += n
	}
	return out.String()
}

func TestPNGComesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, k := range kinds {
		for _, size := range []struct{ w, h int }{{201, 70}, {64, 64}, {1, 33}, {5, 3}, {700, 1}} {
			for _, interlaced := range []bool{false, true} {
				b := makePNG(rng, k, size.w, size.h, interlaced)
				t.Run(k.name, func(t *testing.T) {
					_, rebuilt := roundTrip(t, b, imagefile.PNG)
					samePNG(t, b, rebuilt)
					if others(b) != others(rebuilt) {
						t.Error("other chunks differ")
					}
				})
			}
		}
	}
}

// TestNarrow: the worst that rebuilding can do to the size.
func TestNarrow(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	roundTrip(t, makePNG(rng, kind{"gray8", 8, 0}, 1, 200_000, false), imagefile.PNG)
}

// TestFormIsThePixels: how an encoder packed an image leaves no trace.
func TestFormIsThePixels(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	m := image.NewNRGBA(image.Rect(0, 0, 300, 200))
	for i := range m.Pix {
		m.Pix[i] = byte(i/300) + byte(rng.IntN(9))
	}
	var first []byte
	for _, level := range []png.CompressionLevel{png.NoCompression, png.BestSpeed, png.BestCompression} {
		var b bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: level}).Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		form, _ := roundTrip(t, b.Bytes(), imagefile.PNG)
		if first == nil {
			first = form
		}
		if !bytes.Equal(form, first) {
			t.Error("the form depends on the encoder")
		}
	}
}

// TestStrokeChangesLittle: what differs between two forms is what was painted.
func TestStrokeChangesLittle(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	m := image.NewNRGBA(image.Rect(0, 0, 256, 256))
	for i := range m.Pix {
		m.Pix[i] = byte(i>>10) + byte(rng.IntN(5))
	}
	encode := func() []byte {
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		form, _, err := open(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return form
	}
	before := encode()
	const painted = 40 * 40
	for y := 100; y < 140; y++ {
		for x := 120; x < 160; x++ {
			m.SetNRGBA(x, y, color.NRGBA{200, 30, 20, 255})
		}
	}
	after := encode()
	if len(before) != len(after) {
		t.Fatalf("form of %d bytes became %d", len(before), len(after))
	}
	differ := 0
	for i := range before {
		if before[i] != after[i] {
			differ++
		}
	}
	if max := (42 * 43) * 4; differ == 0 || differ > max {
		t.Errorf("%d bytes differ for %d pixels, at most %d should", differ, painted, max)
	}
}

// A PNG that says that it holds more pixels than its bytes can is refused before
// one of them is read.
func TestClaimsAreWeighedFirst(t *testing.T) {
	b := makePNG(rand.New(rand.NewPCG(7, 8)), kind{"rgb8", 8, 2}, 120, 90, false)
	for claim, refused := range map[byte]bool{0: false, 0x10: true} { // a million rows
		b[21] = claim
		binary.BigEndian.PutUint32(b[29:], crc32.ChecksumIEEE(b[12:29]))
		r, _, err := imagefile.Open(bytes.NewReader(b), int64(len(b)))
		if errors.Is(err, imagefile.ErrNotOpened) != refused {
			t.Errorf("%d more rows: %v", int(claim)<<16, err)
		}
		if err == nil {
			r.Close()
		}
	}
}

// TestNotOpened: what is none of ours, foreign or damaged is told so at once
// or while it is read.
func TestNotOpened(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	good := makePNG(rng, kind{"rgb8", 8, 2}, 120, 90, false)
	insert := func(c []byte) []byte { // behind IHDR
		return append(append(bytes.Clone(good[:33]), c...), good[33:]...)
	}
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		return b
	}
	set := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		head := b[8:33]
		binary.BigEndian.PutUint32(head[21:], crc32.ChecksumIEEE(head[4:21]))
		return b
	}
	first := bytes.Index(good, []byte("IDAT"))
	for name, b := range map[string][]byte{
		"text":                  bytes.Repeat([]byte("not an image "), 1000),
		"jpeg":                  append([]byte{0xff, 0xd8, 0xff, 0xe0}, make([]byte, 5000)...),
		"small":                 good[:50],
		"animation":             insert(chunk("acTL", make([]byte, 8))),
		"apple":                 insert(chunk("CgBI", make([]byte, 4))),
		"critical":              insert(chunk("NEWC", nil)),
		"two headers":           insert(good[8:33]),
		"cut in a chunk":        good[:len(good)-3000],
		"cut before the end":    good[:len(good)-12],
		"bytes after the end":   append(bytes.Clone(good), 0),
		"checksum of a chunk":   flip(40),
		"checksum of pixels":    flip(first + 200),
		"no width":              append(append(bytes.Clone(good[:16]), 0, 0, 0, 0), good[20:]...),
		"fewer pixels":          set(23, 91),
		"more pixels":           set(23, 89),
		"huge":                  set(16, 0x7f),
		"high":                  set(20, 0x7f),
		"depth":                 set(24, 3),
		"colour":                set(25, 5),
		"palette without PLTE":  set(25, 3),
		"interlace":             set(28, 2),
		"nothing but the start": append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 4000)...),
		"exr of nothing":        append([]byte("\x76\x2f\x31\x01\x02\x00\x00\x00"), make([]byte, 4000)...),
	} {
		if _, _, err := open(b); !errors.Is(err, imagefile.ErrNotOpened) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := open(good); err != nil {
		t.Fatal(err)
	}
}

// TestBadFilter: a row with an unknown filter is not opened.
func TestBadFilter(t *testing.T) {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	rng := rand.New(rand.NewPCG(9, 9))
	for range 60 {
		row := make([]byte, 101)
		for i := range row {
			row[i] = byte(rng.Uint32())
		}
		row[0] = 5
		z.Write(row)
	}
	z.Close()
	b := append([]byte("\x89PNG\r\n\x1a\n"), chunk("IHDR", []byte{0, 0, 0, 100, 0, 0, 0, 60, 8, 0, 0, 0, 0})...)
	b = append(append(b, chunk("IDAT", packed.Bytes())...), chunk("IEND", nil)...)
	if _, _, err := open(b); !errors.Is(err, imagefile.ErrNotOpened) {
		t.Error(err)
	}
}

// failing is a file that cannot be read from some byte on.
type failing struct {
	b  []byte
	at int64
}

var errDisk = errors.New("disk is broken")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.at {
		return 0, errDisk
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}

// TestFileTroubleIsNotDamage: an error of the file itself comes back as it is.
func TestFileTroubleIsNotDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 1))
	b := makePNG(rng, kind{"rgb8", 8, 2}, 400, 300, false)
	r, _, err := imagefile.Open(failing{b, int64(len(b))}, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	for _, at := range []int64{0, 10, int64(len(b)) / 2} {
		r, _, err := imagefile.Open(failing{b, at}, int64(len(b)))
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if !errors.Is(err, errDisk) || errors.Is(err, imagefile.ErrNotOpened) {
			t.Errorf("at %d: %v", at, err)
		}
	}
}

// TestClose: closing ends it at any time, and reading on says so.
func TestClose(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 1))
	b := makePNG(rng, kind{"rgb8", 8, 2}, 400, 300, false)
	for _, n := range []int64{0, 1, 1000, 100_000} {
		r, _, err := imagefile.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("read %d bytes after closing: %v", n, err)
		}
	}
}

// TestRebuildRefuses: a form that Open did not write, in many ways.
func TestRebuildRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 1))
	form, _, err := open(makePNG(rng, kind{"rgb8", 8, 2}, 120, 90, false))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(form); n += 1 + n/20 {
		if _, err := rebuild(form[:n], imagefile.PNG); !errors.Is(err, imagefile.ErrForm) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if _, err := rebuild(append(bytes.Clone(form), 0), imagefile.PNG); !errors.Is(err, imagefile.ErrForm) {
		t.Errorf("a byte more: %v", err)
	}
	other := bytes.Clone(form)
	other[len("idlewild png ")]++
	if _, err := rebuild(other, imagefile.PNG); !errors.Is(err, imagefile.ErrForm) {
		t.Errorf("version: %v", err)
	}
	if _, err := rebuild(form, imagefile.EXR); !errors.Is(err, imagefile.ErrForm) {
		t.Errorf("PNG as OpenEXR: %v", err)
	}
	if _, err := rebuild(form, "gif-open"); err == nil {
		t.Error("unknown format was rebuilt")
	}
	var out seekable
	if err := imagefile.Rebuild(&out, bytes.NewReader(form), imagefile.PNG, 5000); !errors.Is(err, imagefile.ErrTooLarge) || len(out.b) > 5000 {
		t.Errorf("limit: %d bytes, %v", len(out.b), err)
	}
}

// BenchmarkPNG sets both ways beside Go's own decoder of the same file.
func BenchmarkPNG(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	m := image.NewNRGBA(image.Rect(0, 0, 1024, 1024))
	for i := range m.Pix {
		m.Pix[i] = byte(i>>12) + byte(rng.IntN(12))
	}
	var file bytes.Buffer
	if err := png.Encode(&file, m); err != nil {
		b.Fatal(err)
	}
	form, format, err := open(file.Bytes())
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(form)))
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("image-png", func() error {
		_, err := png.Decode(bytes.NewReader(file.Bytes()))
		return err
	})
	run("open", func() error {
		r, _, err := imagefile.Open(bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.Copy(io.Discard, r)
		return err
	})
	run("rebuild", func() error {
		return imagefile.Rebuild(io.Discard, bytes.NewReader(form), format, 1<<30)
	})
}
