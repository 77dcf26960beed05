package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
	"idlewild/diffupload/store/storetest"
)

func open(t testing.TB, dir string, o store.Options) *store.Local {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	local := func(t *testing.T) diffupload.Store { return open(t, t.TempDir(), store.Options{}) }
	t.Run("Local", func(t *testing.T) { storetest.Run(t, local) })
	t.Run("Memory", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) diffupload.Store { return &diffupload.Memory{} })
	})
	t.Run("Tiered", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) diffupload.Store {
			return &diffupload.Tiered{Local: local(t), Remote: &diffupload.Memory{}, Owner: "job"}
		})
	})
	t.Run("TieredOfRemote", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) diffupload.Store {
			remote := &diffupload.Memory{}
			return &putsFar{Tiered: diffupload.Tiered{Local: &diffupload.Memory{}, Remote: remote}, remote: remote}
		})
	})
	t.Run("Decorators", func(t *testing.T) {
		storetest.Run(t, func(*testing.T) diffupload.Store {
			return diffupload.Verifying{Store: &diffupload.Counting{Store: &diffupload.Faulty{Store: &diffupload.Memory{}}}}
		})
	})
}

// putsFar puts into the remote half, so that every fetch goes there first.
type putsFar struct {
	diffupload.Tiered
	remote *diffupload.Memory
}

func (p *putsFar) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return p.remote.Put(ctx, id, data)
}

func (p *putsFar) PutMany(ctx context.Context, blocks []diffupload.Block) error {
	return p.remote.PutMany(ctx, blocks)
}

func (p *putsFar) Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error) {
	return p.remote.Missing(ctx, ids)
}

func put(t *testing.T, s diffupload.Store, blocks ...diffupload.Block) {
	t.Helper()
	if err := diffupload.PutMany(t.Context(), s, blocks); err != nil {
		t.Fatal(err)
	}
}

// files are the blocks on disk below a store's folder.
func files(t *testing.T, dir string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, "blocks", "*", "*.data"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBlocksAndPinsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	a := storetest.Block(1, 5000)
	put(t, s, a)
	if err := s.Pin(t.Context(), "job", []cid.Cid{a.ID}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), a.ID, a.Data); !errors.Is(err, store.ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
	if _, err := s.Missing(t.Context(), []cid.Cid{a.ID}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("missing after close: %v", err)
	}
	s = open(t, dir, store.Options{})
	if got := s.Stat(); got.Blocks != 1 || got.Bytes != 5000 || s.Len() != 1 {
		t.Errorf("%+v after restart", got)
	}
	if ok, err := s.Pinned(t.Context(), "job", a.ID); !ok || err != nil {
		t.Errorf("pin after restart: %t, %v", ok, err)
	}
	if o, err := s.Owners(); err != nil || fmt.Sprint(o) != "[job]" {
		t.Errorf("owners %v, %v", o, err)
	}
}

func TestViewForBoxo(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	a := storetest.Block(1, 5000)
	put(t, s, a)
	var got []byte
	err := s.Blockstore().View(t.Context(), a.ID, func(b []byte) error { got = bytes.Clone(b); return nil })
	if err != nil || !bytes.Equal(got, a.Data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	err = s.Blockstore().View(t.Context(), storetest.Block(2, 10).ID, func([]byte) error { return nil })
	if !ipld.IsNotFound(err) {
		t.Errorf("a block that is not there: %v", err)
	}
}

func TestTwoDaemonsOnOneStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	put(t, s, storetest.Block(1, 10)) // the first goes on
}

func TestDamagedBlocksAreDropped(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	flipped, torn, whole := storetest.Block(1, 5000), storetest.Block(2, 5000), storetest.Block(3, 5000)
	gone := storetest.Block(4, 5000)
	put(t, s, flipped, torn, whole, gone)
	for _, f := range files(t, dir) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case bytes.Equal(data, flipped.Data):
			data[100] ^= 1
			err = os.WriteFile(f, data, 0o644)
		case bytes.Equal(data, torn.Data):
			err = os.Truncate(f, 1000)
		case bytes.Equal(data, gone.Data):
			err = os.Remove(f)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read, dropped, err := s.Verify(t.Context())
	if read != 4 || dropped != 3 || err != nil {
		t.Errorf("verify read %d, dropped %d, %v", read, dropped, err)
	}
	for _, b := range []diffupload.Block{flipped, torn, gone} {
		if _, err := s.Get(t.Context(), b.ID); !errors.Is(err, diffupload.ErrNotFound) {
			t.Errorf("damaged block: %v", err)
		}
		if ok, err := s.Has(t.Context(), b.ID); ok || err != nil {
			t.Errorf("has a damaged block: %t, %v", ok, err)
		}
	}
	if got := s.Stat(); got.Blocks != 1 || got.Bytes != 5000 || len(files(t, dir)) != 1 {
		t.Errorf("%+v, %d files", got, len(files(t, dir)))
	}
	put(t, s, flipped) // and can be stored again
	if data, err := s.Get(t.Context(), flipped.ID); err != nil || !bytes.Equal(data, flipped.Data) {
		t.Errorf("stored again: %v", err)
	}
}

func TestBlocksThatACrashLeftOutOfTheIndexAreFound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	a, b := storetest.Block(1, 5000), storetest.Block(2, 7000)
	put(t, s, a)
	index, err := os.ReadFile(filepath.Join(dir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, b)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// As after a crash: the index as it was before b, and half a batch.
	if err := os.WriteFile(filepath.Join(dir, "index.db"), index, 0o600); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(dir, "blocks", ".temp", "batch-1-1")
	if err := os.MkdirAll(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "X.data"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	if got := s.Stat(); got.Blocks != 2 || got.Bytes != 12000 {
		t.Errorf("%+v after a crash, want both blocks", got)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("half a batch is still there: %v", err)
	}
	if _, err := s.Get(t.Context(), b.ID); err != nil {
		t.Error(err)
	}
}

func TestQuotaDropsTheLeastRecentlyUsed(t *testing.T) {
	now := time.Unix(1e9, 0)
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	later := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	dir := t.TempDir()
	s := open(t, dir, store.Options{QuotaBytes: 10_000, Now: clock})
	var blocks []diffupload.Block
	for i := range 10 {
		b := storetest.Block(i, 1000)
		blocks = append(blocks, b)
		put(t, s, b)
		later(2 * time.Minute)
	}
	if err := s.Pin(t.Context(), "job", []cid.Cid{blocks[0].ID}); err != nil {
		t.Fatal(err)
	}
	later(time.Hour)
	if _, err := s.Get(t.Context(), blocks[1].ID); err != nil { // used again
		t.Fatal(err)
	}
	put(t, s, storetest.Block(100, 1000))
	if st := s.Stat(); st.Bytes > 10_000 {
		t.Errorf("%d bytes with a quota of 10000", st.Bytes)
	}
	for i, want := range []bool{true, true, false, false, true, true} {
		if ok, err := s.Has(t.Context(), blocks[i].ID); ok != want || err != nil {
			t.Errorf("block %d is there: %t, %v; want %t", i, ok, err, want)
		}
	}
	if n := len(files(t, dir)); n != s.Len() {
		t.Errorf("%d files for %d blocks", n, s.Len())
	}

	// Pinned blocks do not make room, nor do those in use right now.
	var ids []cid.Cid
	for i := range 9 {
		b := storetest.Block(200+i, 1000)
		later(time.Hour)
		put(t, s, b)
		ids = append(ids, b.ID)
	}
	if err := s.Pin(t.Context(), "big", ids); err != nil {
		t.Fatal(err)
	}
	later(time.Hour)
	err := s.PutMany(t.Context(), []diffupload.Block{storetest.Block(300, 2000)})
	if !errors.Is(err, diffupload.ErrFull) {
		t.Errorf("a store full of pins took a block: %v", err)
	}
	if err := s.Unpin(t.Context(), "big"); err != nil {
		t.Fatal(err)
	}
	put(t, s, storetest.Block(300, 2000))
	err = s.PutMany(t.Context(), []diffupload.Block{storetest.Block(301, 9500)})
	if !errors.Is(err, diffupload.ErrFull) {
		t.Errorf("blocks in use right now made room: %v", err)
	}
	later(time.Hour)
	if freed, err := s.GC(t.Context(), 0); err != nil || freed == 0 || s.Len() != 1 {
		t.Errorf("gc freed %d, %v, left %d blocks; want the pinned one", freed, err, s.Len())
	}
}

// A file in the place of the folder for a group's temporary files fails every
// write, as a full disk does.
func TestAWriteThatFailsLeavesTheStoreUsable(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	a, b := storetest.Block(1, 1000), storetest.Block(2, 1000)
	put(t, s, a)
	temp := filepath.Join(dir, "blocks", ".temp")
	if err := os.RemoveAll(temp); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(temp, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), b.ID, b.Data); err == nil {
		t.Error("put without a folder to write in")
	}
	if ok, err := s.Has(t.Context(), b.ID); ok || err != nil {
		t.Errorf("has what was not written: %t, %v", ok, err)
	}
	if _, err := s.Get(t.Context(), a.ID); err != nil {
		t.Error(err)
	}
	if err := os.Remove(temp); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, s, b)
}
