package store_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
)

// BenchmarkSnapshot stores 200 MB of new content on disk, then looks at it
// again, then materialises it.
func BenchmarkSnapshot(b *testing.B) {
	src := b.TempDir()
	const n, size = 10, 20_000_000
	var list []diffupload.File
	for i := range n {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		p := filepath.Join(src, string(rune('a'+i)))
		if err := os.WriteFile(p, data, 0o644); err != nil {
			b.Fatal(err)
		}
		list = append(list, diffupload.File{Path: p, Name: filepath.Base(p)})
	}
	var dir string
	var s *store.Local
	var res diffupload.Result
	fresh := func() {
		dir = b.TempDir()
		s = open(b, dir, store.Options{})
	}
	snapshot := func() {
		var err error
		if res, err = diffupload.Snapshot(b.Context(), s, list, diffupload.Options{Owner: "job"}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("first", func(b *testing.B) {
		b.SetBytes(n * size)
		for b.Loop() {
			b.StopTimer()
			fresh()
			b.StartTimer()
			snapshot()
		}
	})
	b.Run("again", func(b *testing.B) {
		b.SetBytes(n * size)
		for b.Loop() {
			snapshot()
		}
	})
	b.Run("materialise", func(b *testing.B) {
		b.SetBytes(n * size)
		for b.Loop() {
			out := filepath.Join(b.TempDir(), "in")
			if err := diffupload.Materialize(b.Context(), s, res.Root, out, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
