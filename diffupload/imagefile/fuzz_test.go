package imagefile_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"idlewild/diffupload/imagefile"
)

// seeds are images of every kind.
func seeds() (out [][]byte) {
	rng := rand.New(rand.NewPCG(20, 26))
	for _, k := range kinds {
		out = append(out, makePNG(rng, k, 80, 50, false), makePNG(rng, k, 61, 37, true))
	}
	for _, parts := range exrFiles {
		b, _ := makeEXR(rng, inOrder, parts...)
		out = append(out, b)
	}
	return out
}

// FuzzOpen: what is opened comes back, and anything else is not opened.
func FuzzOpen(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
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
