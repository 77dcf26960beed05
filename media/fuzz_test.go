package media

import (
	"bytes"
	"image"
	"os"
	"path/filepath"
	"testing"
)

// small keeps the fuzzers from spending their time on zeroing memory.
var small = Limits{Samples: 1 << 16, Channels: 32, Side: 1 << 12, FileBytes: 1 << 20}

func FuzzDecodeEXR(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.exr")
	for _, half := range []bool{false, true} {
		if err := WriteEXR(path, sampleImage(7, 5), half); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	seeds, err := filepath.Glob("testdata/*.exr")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range seeds {
		b, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeEXR(bytes.NewReader(b), int64(len(b)), small)
		root, rootErr := exrRoot(bytes.NewReader(b), int64(len(b)), small)
		if err != nil {
			return
		}
		checkDecoded(t, m)
		want, _, err := TileRoot(m)
		if err != nil {
			t.Fatal(err)
		}
		if rootErr != nil || root != want {
			t.Fatalf("root %x, %v; in bands %x, %v", want, err, root, rootErr)
		}
	})
}

func FuzzDecodePNG(f *testing.F) {
	for _, img := range []image.Image{
		image.NewNRGBA64(image.Rect(0, 0, 5, 3)), image.NewGray(image.Rect(0, 0, 2, 2)), image.NewNRGBA(image.Rect(0, 0, 3, 1)),
	} {
		b, err := EncodePNG(img)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodePNG(bytes.NewReader(b), int64(len(b)), small)
		if err != nil {
			return
		}
		checkDecoded(t, m)
	})
}

// checkDecoded holds what decoded to its limits, and to surviving what is done
// with it next.
func checkDecoded(t *testing.T, m *Image) {
	if err := m.check(); err != nil {
		t.Fatal(err)
	}
	if int64(m.Width)*int64(m.Height)*int64(len(m.Channels)) > small.Samples {
		t.Fatalf("%dx%d with %d channels decoded", m.Width, m.Height, len(m.Channels))
	}
	if _, _, err := TileRoot(m); err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers() {
		for _, p := range m.Passes(l) {
			if _, err := View(m, l, p); err != nil {
				t.Fatal(err)
			}
		}
	}
}
