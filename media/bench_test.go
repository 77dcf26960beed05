package media

import (
	"path/filepath"
	"testing"
)

func BenchmarkDecodeEXR(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.exr")
	m := sampleImage(1280, 720)
	if err := WriteEXR(path, m, true); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(4 * len(m.Channels) * m.Width * m.Height))
	for b.Loop() {
		if _, err := DecodeFile(path, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTileRoot(b *testing.B) {
	m := sampleImage(1280, 720)
	b.SetBytes(int64(4 * len(m.Channels) * m.Width * m.Height))
	for b.Loop() {
		if _, _, err := TileRoot(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRoot hashes the pixels of a file: decoded whole and then hashed,
// and in bands.
func BenchmarkRoot(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.exr")
	m := sampleImage(1920, 1080)
	if err := WriteEXR(path, m, true); err != nil {
		b.Fatal(err)
	}
	for _, way := range []struct {
		name string
		root func() error
	}{
		{"whole", func() error {
			m, err := DecodeFile(path, Limits{})
			if err == nil {
				_, _, err = TileRoot(m)
			}
			return err
		}},
		{"bands", func() error { _, err := PixelRoot(path, Limits{}); return err }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(m.Channels) * m.Width * m.Height))
			b.ReportAllocs()
			for b.Loop() {
				if err := way.root(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
