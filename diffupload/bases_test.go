package diffupload

import (
	"bytes"
	"context"
	"iter"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ipfs/go-cid"
)

// wire is a remote store that answers as a peer does: with a delta against the
// best of the bases that were named. It counts what it sends.
type wire struct {
	*Memory
	sent atomic.Int64 // fetches run side by side
}

func (w *wire) Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for _, want := range wants {
			data, err := w.Get(ctx, want.ID)
			if err != nil {
				yield(Block{ID: want.ID}, err)
				return
			}
			best := len(data)
			if d, ok := (Codec{}).Encode(nil, data); ok {
				best = len(d)
			}
			for _, id := range want.Bases {
				if base, err := w.Get(ctx, id); err == nil {
					if d, ok := (Codec{}).Encode(base, data); ok {
						best = min(best, len(d))
					}
				}
			}
			w.sent.Add(int64(best))
			if !yield(Block{ID: want.ID, Data: data}, nil) {
				return
			}
		}
	}
}

// TestEarlierVersionIsTheBase: a file with a small change in every chunk, which
// is what saving a scene again makes of it, costs the changes.
func TestEarlierVersionIsTheBase(t *testing.T) {
	first := noise(1, 3<<20)
	second := bytes.Clone(first)
	for i := 0; i < len(second); i += 4096 {
		second[i] ^= 0xff
	}
	second = append(bytes.Clone(second[:100_000]), append([]byte("something new"), second[100_000:]...)...)

	dir := t.TempDir()
	server := &wire{Memory: &Memory{}}
	snapshot := func(content []byte) cid.Cid {
		t.Helper()
		path := filepath.Join(dir, "source")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := Snapshot(t.Context(), server, []File{{Path: path, Name: "a/scene.bin"}, {Path: path, Name: "b.bin"}}, Options{Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		return r.Root
	}
	old, now := snapshot(first), snapshot(second)

	fetch := func(local *Memory, previous, root cid.Cid) int {
		t.Helper()
		server.sent.Store(0)
		to := filepath.Join(t.TempDir(), "tree")
		if err := MaterializeFrom(t.Context(), &Tiered{Local: local, Remote: server}, Earlier{Store: local, Root: previous}, Here{}, root, to, Limits{}, nil); err != nil {
			t.Fatal(err)
		}
		want := second
		if root == old {
			want = first
		}
		for _, name := range []string{"a/scene.bin", "b.bin"} {
			if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s differs: %v", name, err)
			}
		}
		return int(server.sent.Load())
	}
	local := &Memory{}
	if n := fetch(local, cid.Undef, old); n < len(first) {
		t.Fatalf("noise came as %d bytes", n)
	}
	if n := fetch(local, old, now); n > len(first)/20 {
		t.Errorf("%d bytes for a change of %d", n, len(second)/4096)
	}
	// What is not there any more, or was never a manifest, is no base and no
	// trouble.
	if n := fetch(&Memory{}, old, now); n < len(first) {
		t.Errorf("%d bytes without a base", n)
	}
	if n := fetch(&Memory{}, now, now); n < len(first) {
		t.Errorf("%d bytes with itself as base", n)
	}
}
