package store

import (
	"bytes"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"

	"idlewild/diffupload"
	"idlewild/diffupload/store/storetest"
)

// faulty is a pack on a disk that is full after left bytes.
type faulty struct {
	packFile
	left *atomic.Int64
}

func (f faulty) WriteAt(b []byte, at int64) (int, error) {
	if room := f.left.Add(-int64(len(b))); room < 0 {
		n := max(int64(len(b))+room, 0)
		f.packFile.WriteAt(b[:n], at)
		return int(n), &os.PathError{Op: "write", Path: "pack", Err: syscall.ENOSPC}
	}
	return f.packFile.WriteAt(b, at)
}

func openSmall(t testing.TB, dir string, packBytes int64, o Options) *Local {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	l.packs.max = packBytes
	return l
}

func closeStore(t testing.TB, l *Local) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskLeavesTheStoreUsable(t *testing.T) {
	dir := t.TempDir()
	l := openSmall(t, dir, packBytes, Options{})
	left := new(atomic.Int64)
	left.Store(7000)
	l.packs.open = func(path string, flag int) (packFile, error) {
		f, err := openFile(path, flag)
		return faulty{f, left}, err
	}
	a, b := storetest.Block(1, 5000), storetest.Block(2, 5000)
	if err := l.Put(t.Context(), a.ID, a.Data); err != nil {
		t.Fatal(err)
	}
	if err := l.Put(t.Context(), b.ID, b.Data); !errors.Is(err, diffupload.ErrFull) {
		t.Errorf("put on a full disk: %v", err)
	}
	if ok, err := l.Has(t.Context(), b.ID); ok || err != nil {
		t.Errorf("has what was not written: %t, %v", ok, err)
	}
	if got, err := l.Get(t.Context(), a.ID); err != nil || !bytes.Equal(got, a.Data) {
		t.Error(err)
	}
	left.Store(1 << 20)
	if err := l.Put(t.Context(), b.ID, b.Data); err != nil {
		t.Errorf("put once there is room: %v", err)
	}
	closeStore(t, l)
	l = openSmall(t, dir, packBytes, Options{})
	defer closeStore(t, l)
	if read, dropped, err := l.Verify(t.Context()); read != 2 || dropped != 0 || err != nil {
		t.Errorf("%d read, %d dropped, %v", read, dropped, err)
	}
	if st := l.Stat(); st.DiskBytes != int64(len(packMagic))+2*recordBytes(5000) {
		t.Errorf("%+v", st)
	}
}

// Space that dropped blocks leave is won back, and readers notice nothing.
func TestDroppedBlocksGiveTheirSpaceBack(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1e9, 0)
	l := openSmall(t, dir, 20_000, Options{Now: func() time.Time { return now }, Grace: -1})
	var kept []diffupload.Block
	var ids []cid.Cid
	for i := range 100 {
		b := storetest.Block(i, 1000+i)
		if err := l.Put(t.Context(), b.ID, b.Data); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			kept, ids = append(kept, b), append(ids, b.ID)
		}
	}
	if n := len(l.packs.known); n < 5 {
		t.Fatalf("%d packs", n)
	}
	if err := l.Pin(t.Context(), "job", ids); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			for _, b := range kept {
				if data, err := l.Get(t.Context(), b.ID); err != nil || !bytes.Equal(data, b.Data) {
					stopped <- errors.Join(err, errors.New("a block could not be read while packs were emptied"))
					return
				}
			}
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
		}
	}()
	freed, err := l.GC(t.Context(), 0)
	close(stop)
	if rerr := <-stopped; rerr != nil {
		t.Error(rerr)
	}
	st := l.Stat()
	if err != nil || freed == 0 || st.Blocks != int64(len(kept)) || st.DiskBytes > st.Bytes*4/3+1000 {
		t.Errorf("freed %d, %v, %+v", freed, err, st)
	}
	closeStore(t, l)
	l = openSmall(t, dir, 20_000, Options{})
	defer closeStore(t, l)
	if read, dropped, err := l.Verify(t.Context()); read != len(kept) || dropped != 0 || err != nil {
		t.Errorf("%d read, %d dropped, %v", read, dropped, err)
	}
	if again := l.Stat(); again != st {
		t.Errorf("%+v after restart, %+v before", again, st)
	}
}

// syncing counts the bytes that were written to a pack and are not synced.
type syncing struct {
	packFile
	unsynced *int
}

func (s syncing) WriteAt(b []byte, at int64) (int, error) {
	*s.unsynced += len(b)
	return s.packFile.WriteAt(b, at)
}

func (s syncing) Sync() error {
	*s.unsynced = 0
	return s.packFile.Sync()
}

// TestPutIsOnDisk: when a block is said to be here, everything of it was synced.
func TestPutIsOnDisk(t *testing.T) {
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	unsynced := 0
	l.packs.max = 1 << 20 // several of them
	l.packs.open = func(path string, flag int) (packFile, error) {
		f, err := openFile(path, flag)
		return syncing{f, &unsynced}, err
	}
	for i := range 40 {
		data := bytes.Repeat([]byte{byte(i)}, 1000+i*2000)
		if err := l.Put(t.Context(), diffupload.ChunkID(data), data); err != nil {
			t.Fatal(err)
		}
		if unsynced != 0 {
			t.Fatalf("block %d: %d bytes are not synced", i, unsynced)
		}
	}
	if n := len(l.packs.numbers()); n < 2 {
		t.Errorf("%d packs", n)
	}
}

// Whatever happens to the end of the last pack, what lies before it stays.
func TestTornAnywhere(t *testing.T) {
	dir := t.TempDir()
	l := openSmall(t, dir, packBytes, Options{})
	a, b := storetest.Block(1, 300), storetest.Block(2, 200)
	for _, x := range []diffupload.Block{a, b} {
		if err := l.Put(t.Context(), x.ID, x.Data); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, l)
	path := l.packs.path(1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := len(whole) - int(recordBytes(200))
	for n := second; n < len(whole); n++ {
		if at := n - second; at > recordHead && at%32 != 0 {
			continue // within the data one place is as another
		}
		for _, spoil := range []bool{false, true} {
			data := bytes.Clone(whole[:n])
			if spoil {
				data = bytes.Clone(whole)
				data[n] ^= 0x40
			}
			fresh := t.TempDir()
			p, err := openPacks(fresh + "/packs")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p.path(1), data, 0o600); err != nil {
				t.Fatal(err)
			}
			l := openSmall(t, fresh, packBytes, Options{}) // no index: everything is looked for
			if got, err := l.Get(t.Context(), a.ID); err != nil || !bytes.Equal(got, a.Data) {
				t.Errorf("cut at %d, spoilt %t: the block before is gone: %v", n, spoil, err)
			}
			if _, err := l.Get(t.Context(), b.ID); !errors.Is(err, diffupload.ErrNotFound) {
				t.Errorf("cut at %d, spoilt %t: %v", n, spoil, err)
			}
			if err := l.Put(t.Context(), b.ID, b.Data); err != nil {
				t.Error(err)
			}
			closeStore(t, l)
			l = openSmall(t, fresh, packBytes, Options{})
			if read, dropped, err := l.Verify(t.Context()); read != 2 || dropped != 0 || err != nil {
				t.Errorf("cut at %d, spoilt %t: %d read, %d dropped, %v", n, spoil, read, dropped, err)
			}
			closeStore(t, l)
		}
	}
}

// The store is a map, over puts, losses of the index, restarts and collections.
func TestStoreIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "store")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		now := time.Unix(1e9, 0)
		reopen := func() *Local {
			l, err := Open(dir, Options{Now: func() time.Time { return now }, Grace: -1})
			if err != nil {
				t.Fatal(err)
			}
			l.packs.max = 6000
			return l
		}
		l := reopen()
		defer func() { l.Close() }()
		pinned, have := map[int]bool{}, map[int]bool{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Hour)
			i := rapid.IntRange(0, 20).Draw(t, "block")
			b := storetest.Block(i, 100+i*90)
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				if err := l.Put(t.Context(), b.ID, b.Data); err != nil {
					t.Fatal(err)
				}
				have[i] = true
			case 3:
				if err := l.Pin(t.Context(), "job", []cid.Cid{b.ID}); err != nil {
					t.Fatal(err)
				}
				pinned[i] = true
			case 4:
				if _, err := l.GC(t.Context(), 0); err != nil {
					t.Fatal(err)
				}
				for i := range have {
					if !pinned[i] {
						delete(have, i)
					}
				}
			case 5:
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = reopen()
			}
		}
		if l.Len() != len(have) {
			t.Fatalf("%d blocks, want %d", l.Len(), len(have))
		}
		for i := range have {
			b := storetest.Block(i, 100+i*90)
			if data, err := l.Get(t.Context(), b.ID); err != nil || !bytes.Equal(data, b.Data) {
				t.Fatalf("block %d: %v", i, err)
			}
		}
		var live int64
		for _, k := range l.packs.known {
			live += k.live
		}
		if live != l.index.bytes.Load()+int64(l.Len())*recordHead {
			t.Fatalf("%d live bytes in packs, %d in the index", live, l.index.bytes.Load())
		}
	})
}
