package diffupload

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

// painted is a picture that does not compress to nothing, with a stroke across.
func painted(stroke bool) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, 640, 480))
	seed := uint32(1)
	for y := range 480 {
		for x := range 640 {
			seed = seed*1664525 + 1013904223
			n := uint8(seed >> 29)
			m.SetNRGBA(x, y, color.NRGBA{uint8(x/3) + n, uint8(y/2) + n, uint8(x*y>>12) + n, 255})
		}
	}
	if stroke {
		for x := range 200 {
			for y := range 6 {
				m.SetNRGBA(200+x, 200+x/4+y, color.NRGBA{200, 40, 40, 255})
			}
		}
	}
	return m
}

func pngOf(t *testing.T, m image.Image, level png.CompressionLevel) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: level}).Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A picture that was painted on costs the paint, although every byte of its
// file is another one, and comes back with the same pixels.
func TestImagesMaterialiseWithTheSamePixels(t *testing.T) {
	here, there := &Memory{}, &Memory{}
	old := content{"tex/wall.png": pngOf(t, painted(false), png.DefaultCompression)}
	fresh := content{"tex/wall.png": pngOf(t, painted(true), png.BestCompression)}
	have, want := keepIn(t, here, old, Options{}), keepIn(t, here, fresh, Options{})
	keepIn(t, there, old, Options{})
	doc, err := Edits(t.Context(), here, have, want)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(fresh["tex/wall.png"]); len(doc) > n/50 {
		t.Errorf("a document of %d bytes for a picture of %d", len(doc), n)
	}
	if r, err := Rebuild(t.Context(), there, have, want, doc, Limits{}); err != nil || len(r.Named) > 0 {
		t.Fatalf("%d named: %v", len(r.Named), err)
	}
	dir := filepath.Join(t.TempDir(), "in")
	if err := Materialize(t.Context(), there, want, dir, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "tex", "wall.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	m := painted(true)
	for y := range 480 {
		for x := range 640 {
			if color.NRGBAModel.Convert(got.At(x, y)) != m.NRGBAAt(x, y) {
				t.Fatalf("pixel %d,%d is %v, was %v", x, y, got.At(x, y), m.NRGBAAt(x, y))
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".idlewild-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// The artist's own bytes where they are asked for, and what is no image.
	exact := &Memory{}
	odd := content{"wall.png": old["tex/wall.png"], "no.png": []byte("no picture"), "cut.png": fresh["tex/wall.png"][:90_000]}
	for _, o := range []Options{{Exact: true}, {}} {
		if !o.Exact {
			delete(odd, "wall.png")
		}
		dir := filepath.Join(t.TempDir(), "in")
		if err := Materialize(t.Context(), exact, keepIn(t, exact, odd, o), dir, nil); err != nil {
			t.Fatal(err)
		}
		wantTree(t, dir, odd)
	}
}
