package node

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
	"idlewild/job"
)

// The job that `idlewild render` ran ends, and with it the program: what was
// stored is let go of all the same, without a word of warning.
func TestContentIsReleasedWhileShuttingDown(t *testing.T) {
	blocks, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer blocks.Close()
	c := &content{store: blocks}
	id, data := job.NewID(time.Now()), []byte("a scene")
	block := diffupload.ChunkID(data)
	owners := []string{ownContent(id), ownResults(id)}
	for _, owner := range owners {
		if err := blocks.Pin(t.Context(), owner, []cid.Cid{block}); err != nil {
			t.Fatal(err)
		}
	}
	if err := blocks.Put(t.Context(), block, data); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := c.Release(ended, id); err != nil {
		t.Error(err)
	}
	for _, owner := range owners {
		if pinned, err := blocks.Pinned(t.Context(), owner, block); pinned || err != nil {
			t.Errorf("%s: pinned is %v, %v", owner, pinned, err)
		}
	}
}

type farmKey struct {
	key [32]byte
	ok  bool
}

func (f farmKey) ContentKey() ([32]byte, bool) { return f.key, f.ok }

// A farm's jobs are cut with its key, and without one, or without a farm, with
// the public one.
func TestContentIsCutWithTheFarmsKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scene.bin")
	data := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	root := func(farm contentKeyer) cid.Cid {
		t.Helper()
		c := &content{store: &diffupload.Memory{}, farm: farm}
		s, err := c.Snapshot(t.Context(), job.NewID(time.Now()), []job.Dep{{Path: path, Name: "scene.bin"}}, true)
		if err != nil {
			t.Fatal(err)
		}
		return s.Root
	}
	public := root(nil)
	if got := root(farmKey{}); got != public {
		t.Error("a farm without a key cuts otherwise than no farm")
	}
	ours := root(farmKey{[32]byte{1}, true})
	if ours == public || ours != root(farmKey{[32]byte{1}, true}) || ours == root(farmKey{[32]byte{2}, true}) {
		t.Error("the cuts do not follow the farm's key")
	}
}
