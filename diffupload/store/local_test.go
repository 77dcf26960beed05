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
			return &diffupload.Counting{Store: &diffupload.Faulty{Store: &diffupload.Memory{}}}
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

// packs are the pack files below a store's folder.
func packs(t *testing.T, dir string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, "packs", "*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// change has the pack in which data lies changed, from where data begins.
func change(t *testing.T, dir string, data []byte, change func(f *os.File, at int64) error) {
	t.Helper()
	for _, p := range packs(t, dir) {
		all, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(all, data)
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(change(f, int64(at)), f.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("the block is in no pack")
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
	flipped, whole := storetest.Block(1, 5000), storetest.Block(3, 5000)
	torn, gone := storetest.Block(2, 5000), storetest.Block(4, 5000)
	put(t, s, flipped, whole, torn, gone)
	change(t, dir, flipped.Data, func(f *os.File, at int64) error {
		_, err := f.WriteAt([]byte{flipped.Data[100] ^ 1}, at+100)
		return err
	})
	change(t, dir, torn.Data, func(f *os.File, at int64) error { return f.Truncate(at + 1000) })
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
	if got := s.Stat(); got.Blocks != 1 || got.Bytes != 5000 {
		t.Errorf("%+v", got)
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
	last := packs(t, dir)[0]
	whole, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	// The beginning of a third block, as a write that was cut off leaves it.
	if err := os.WriteFile(last, append(whole, whole[8:3000]...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, store.Options{})
	if got := s.Stat(); got.Blocks != 2 || got.Bytes != 12000 {
		t.Errorf("%+v after a crash, want both blocks", got)
	}
	if got, err := os.ReadFile(last); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("%d bytes in the pack, want %d, %v", len(got), len(whole), err)
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
	if st := s.Stat(); st.DiskBytes > st.Bytes*3/2 {
		t.Errorf("%+v", st)
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
