package diffupload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
)

func TestBaseFile(t *testing.T) {
	list := []Entry{
		{Name: "a/wood.png", Size: 500},
		{Name: "b/wood.png", Size: 900},
		{Name: "cache_v1/smoke_0010.vdb", Size: 10},
		{Name: "cache_v1/smoke_0011.vdb", Size: 11},
		{Name: "cache_v1/smoke_0020.vdb", Size: 12},
		{Name: "cache_v2/smoke_0010.vdb", Size: 13},
		{Name: "cache_v2/smoke_0012.vdb", Size: 14},
		{Name: "shot#.abc", Size: 70},
		{Name: "sim/cloth_000001_00.bphys", Size: 20},
		{Name: "sim/cloth_000001_01.bphys", Size: 21},
		{Name: "sim/cloth_000007_01.bphys", Size: 22},
		{Name: "x/99999999999999999999999999.hdr", Size: 1},
	}
	b := newBaseFiles(list)
	for _, c := range []struct {
		name string
		size int64
		want string
	}{
		{"a/wood.png", 900, "a/wood.png"},
		{"cache_v1/smoke_0012.vdb", 1, "cache_v1/smoke_0011.vdb"},
		{"cache_v1/smoke_0015.vdb", 1, "cache_v1/smoke_0011.vdb"},
		{"cache_v1/smoke_0016.vdb", 1, "cache_v1/smoke_0020.vdb"},
		{"cache_v1/smoke_9.vdb", 1, "cache_v1/smoke_0010.vdb"},
		{"cache_v1/smoke_5000.vdb", 1, "cache_v1/smoke_0020.vdb"},
		{"cache_v3/smoke_0012.vdb", 1, "cache_v2/smoke_0012.vdb"}, // the same frame of the nearest version
		{"cache_v0/smoke_0012.vdb", 1, "cache_v1/smoke_0011.vdb"},
		{"sim/cloth_000002_00.bphys", 1, "sim/cloth_000001_00.bphys"},
		{"sim/cloth_000004_01.bphys", 1, "sim/cloth_000001_01.bphys"}, // equally near: the lower
		{"sim/cloth_000005_00.bphys", 1, "sim/cloth_000007_01.bphys"},
		{"c/wood.png", 600, "a/wood.png"},
		{"c/wood.png", 701, "b/wood.png"},
		{"c/wood.png", 700, "a/wood.png"},
		{"stone.PNG", 2000, "b/wood.png"},
		{"shot1.abc", 1, "shot#.abc"}, // by its extension
		{"x/88888888888888888888888888.hdr", 1, "x/99999999999999999999999999.hdr"},
		{"Makefile", 1, ""},
		{"new.blend", 1, ""},
		{"", 0, ""},
	} {
		got := ""
		if i, ok := b.baseFile(c.name, c.size); ok {
			got = list[i].Name
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if _, ok := newBaseFiles(nil).baseFile("a.png", 1); ok {
		t.Error("a base out of nothing")
	}
}

// BenchmarkBaseFiles is a look-up for each file of a long sequence.
func BenchmarkBaseFiles(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			list := make([]Entry, n)
			for i := range list {
				list[i] = Entry{Name: fmt.Sprintf("cache/fluid_%06d.vdb", 2*i), Size: int64(i)}
			}
			for b.Loop() {
				files := newBaseFiles(list)
				for i := range list {
					if _, ok := files.baseFile(fmt.Sprintf("cache/fluid_%06d.vdb", 2*i+1), 1); !ok {
						b.Fatal("no base")
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/file")
		})
	}
}

// TestSequenceIsItsOwnBase: each frame costs what changed since the one before,
// in the first transfer, in that of more frames, and in that of another version
// of the folder.
func TestSequenceIsItsOwnBase(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const frames, size = 6, 1 << 20
	frame := noise(3, size)
	dir := t.TempDir()
	server := &wire{Memory: &Memory{}}
	contents := map[string][]byte{}
	var files []File
	add := func(name string) {
		t.Helper()
		// Something small changes in every chunk.
		for i := rng.IntN(4096); i < len(frame); i += 8192 {
			frame[i]++
		}
		path := filepath.Join(dir, fmt.Sprint(len(contents)))
		if err := os.WriteFile(path, frame, 0o600); err != nil {
			t.Fatal(err)
		}
		contents[name] = bytes.Clone(frame)
		files = append(files, File{Path: path, Name: name})
	}
	snapshot := func() cid.Cid {
		t.Helper()
		r, err := Snapshot(t.Context(), server, files, Options{Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		return r.Root
	}
	local := &Memory{}
	fetch := func(earlier, root cid.Cid) int {
		t.Helper()
		server.sent.Store(0)
		to := filepath.Join(t.TempDir(), "tree")
		store := &Tiered{Local: local, Remote: server}
		if err := MaterializeFrom(t.Context(), store, Earlier{Store: local, Root: earlier}, Here{}, root, to, Limits{}, nil); err != nil {
			t.Fatal(err)
		}
		for name, want := range contents {
			if got, err := os.ReadFile(filepath.Join(to, filepath.FromSlash(name))); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s differs: %v", name, err)
			}
		}
		return int(server.sent.Load())
	}

	for i := range frames {
		add(fmt.Sprintf("v1/sim_%04d.vdb", i))
	}
	first := snapshot()
	if n := fetch(cid.Undef, first); n > size+size/2 {
		t.Errorf("%d bytes for %d frames of %d", n, frames, size)
	}
	add(fmt.Sprintf("v1/sim_%04d.vdb", frames))
	longer := snapshot()
	if n := fetch(first, longer); n > size/20 {
		t.Errorf("%d bytes for one more frame of %d", n, size)
	}
	add("v2/sim_0003.vdb")
	if n := fetch(longer, snapshot()); n > size/4 {
		t.Errorf("%d bytes for a frame of another version", n)
	}
}
