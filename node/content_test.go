package node

import (
	"context"
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
