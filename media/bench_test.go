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
