package diffupload

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"idlewild/chunker"
)

func TestHolesAreCutAsZeros(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = 60<<20 + 12345
	for _, at := range []int64{0, 20 << 20, 45<<20 + 777} {
		if _, err := f.WriteAt(noise(uint64(at), 300_000), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if !hasHoles(st) {
		t.Skip("NOT RUN: this disk has no holes")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{}, {Chunk: chunker.Params{Min: 4 << 10, Avg: 16 << 10, Max: 64 << 10}}} {
		var store Memory
		got, err := SnapshotFile(t.Context(), &store, path, o)
		if err != nil {
			t.Fatal(err)
		}
		want, err := SnapshotReader(t.Context(), &Memory{}, bytes.NewReader(whole), o)
		if err != nil {
			t.Fatal(err)
		}
		if got.Root != want.Root {
			t.Errorf("%s, want %s", got.Root, want.Root)
		}
		out := filepath.Join(t.TempDir(), "out")
		if err := MaterializeFile(t.Context(), &store, got.Root, out, MaxFileBytes); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, whole) {
			t.Errorf("%d bytes came back: %v", len(b), err)
		}
	}
}

func TestATerabyteOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(path, []byte("begin"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Skipf("NOT RUN: no file of 1 TB can be made: %v", err)
	}
	if st, err := os.Stat(path); err != nil || !hasHoles(st) {
		t.Skip("NOT RUN: this disk has no holes")
	}
	// It takes seconds; whatever it takes, it ends when it is told to.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := SnapshotFile(ctx, &Memory{}, path, Options{}); err == nil {
		t.Error("a cancelled snapshot succeeded")
	}
	// What a whole terabyte comes to takes the race detector most of a minute: make test-long.
	size := int64(1) << 36
	if lasting() {
		size = 1 << 40
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var store Memory
	r, err := SnapshotFile(t.Context(), &store, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); r.Bytes != size || store.Len() > 100 || took > 10*time.Minute {
		t.Errorf("%d bytes, %d blocks, %v", r.Bytes, store.Len(), took)
	}
	t.Log(time.Since(began), store.Len())
}

func TestSnapshotWithBLAKE3(t *testing.T) {
	files := map[string][]byte{"a": noise(1, 400_000), "b/c": noise(2, 5000), "b/d": []byte("small"), "e": noise(3, 400_000)}
	_, list := tree(t, files)
	var store Memory
	r, err := Snapshot(t.Context(), &store, list, Options{Hash: BLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range allOf(t, &store, r.Root) {
		if hashOf(id) != BLAKE3 {
			t.Errorf("%s is of another hash", id)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := Materialize(t.Context(), &store, r.Root, out, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, out, files)
	if _, err := Snapshot(t.Context(), &store, list, Options{Hash: 0x11}); err == nil {
		t.Error("sha1 is taken")
	}
	mixed := treeNode(Entry{Name: "a", CID: Ref{SHA256.ChunkID([]byte("a"))}, Size: 1, Kind: KindChunk},
		Entry{Name: "b", CID: Ref{BLAKE3.ChunkID([]byte("a"))}, Size: 1, Kind: KindChunk})
	if _, err := EncodeNode(mixed); err == nil {
		t.Error("a node of two hashes")
	}
}
