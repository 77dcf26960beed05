package imagefile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"idlewild/diffupload/imagefile"
)

// seeds are images of every kind, small ones: what a fuzzer does to a byte
// should hit something.
func seeds() (out [][]byte) {
	rng := rand.New(rand.NewPCG(20, 26))
	for _, k := range kinds {
		out = append(out, makePNG(rng, k, 11, 5, false), makePNG(rng, k, 9, 7, true))
	}
	for _, parts := range exrFiles {
		small := slices.Clone(parts)
		for i := range small {
			small[i].w, small[i].h, small[i].tile = small[i].w%13+3, small[i].h%7+2, min(small[i].tile, 4)
		}
		b, _ := makeEXR(rng, inOrder, small...)
		out = append(out, b)
	}
	return out
}

// summed returns a PNG with the checksums of its chunks made right, so that
// what a fuzzer changes is looked at.
func summed(b []byte) []byte {
	b = bytes.Clone(b)
	for p := 8; p+12 <= len(b); {
		n := int(binary.BigEndian.Uint32(b[p:]))
		if n > len(b)-p-12 {
			break
		}
		binary.BigEndian.PutUint32(b[p+8+n:], crc32.ChecksumIEEE(b[p+4:p+8+n]))
		p += 12 + n
	}
	return b
}

// FuzzOpen: what is opened comes back, and anything else is not opened.
func FuzzOpen(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.HasPrefix(b, []byte("\x89PNG")) {
			b = summed(b)
		}
		form, format, err := open(b)
		if err != nil {
			if !errors.Is(err, imagefile.ErrNotOpened) {
				t.Fatal(err)
			}
			return
		}
		rebuilt, err := rebuild(form, format)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := open(rebuilt)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, form) {
			t.Fatal("opened again it is another form")
		}
	})
}

// FuzzRebuild: any bytes as a form.
func FuzzRebuild(f *testing.F) {
	for _, b := range seeds() {
		form, format, err := open(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(form, format == imagefile.PNG)
	}
	f.Fuzz(func(t *testing.T, form []byte, png bool) {
		format := imagefile.EXR
		if png {
			format = imagefile.PNG
		}
		var out seekable
		err := imagefile.Rebuild(&out, bytes.NewReader(form), format, 8<<20)
		if err != nil && !errors.Is(err, imagefile.ErrForm) && !errors.Is(err, imagefile.ErrTooLarge) {
			t.Fatal(err)
		}
		if len(out.b) > 8<<20 {
			t.Fatalf("%d bytes written", len(out.b))
		}
	})
}
