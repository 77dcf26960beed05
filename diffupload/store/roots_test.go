package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
	"idlewild/diffupload/store/storetest"
)

// project writes files of n bytes each that are old enough to be remembered.
func project(t *testing.T, n int, seeds ...int) []diffupload.File {
	t.Helper()
	dir := t.TempDir()
	var list []diffupload.File
	old := time.Now().Add(-time.Hour)
	for _, seed := range seeds {
		path := filepath.Join(dir, fmt.Sprintf("%03d", seed))
		var data []byte
		for len(data) < n {
			data = append(data, storetest.Block(seed, min(n-len(data), 1<<20)).Data...)
			seed += 1000
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
		list = append(list, diffupload.File{Path: path, Name: filepath.Base(path)})
	}
	return list
}

func all(t *testing.T, s diffupload.Store, root cid.Cid) []cid.Cid {
	t.Helper()
	ids, err := diffupload.All(t.Context(), s, root)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestWhatLiesBelowAPinnedRootStays(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), store.Options{Grace: -1, Now: func() time.Time { return now }})
	files := project(t, 300<<10, 1, 2, 3)
	first, err := diffupload.Snapshot(t.Context(), s, files, diffupload.Options{Owner: "job 1"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := diffupload.Snapshot(t.Context(), s, files[1:], diffupload.Options{Owner: "job 2"})
	if err != nil {
		t.Fatal(err)
	}
	alien := storetest.Block(99, 1000)
	put(t, s, alien)
	now = now.Add(time.Hour)
	if freed, err := s.GC(t.Context(), 0); err != nil || freed != 1000 {
		t.Errorf("gc freed %d bytes: %v", freed, err)
	}
	one, two := all(t, s, first.Root), all(t, s, second.Root)
	pinned := func(owner string, ids []cid.Cid) (n int) {
		for _, id := range ids {
			if ok, err := s.Pinned(t.Context(), owner, id); err != nil {
				t.Fatal(err)
			} else if ok {
				n++
			}
		}
		return n
	}
	if a, b := pinned("job 1", one), pinned("job 2", two); a != len(one) || b != len(two) {
		t.Errorf("%d of %d and %d of %d blocks are pinned", a, len(one), b, len(two))
	}
	if n := pinned("job 2", one); n == 0 || n >= len(two) {
		t.Errorf("%d blocks of the first job belong to the second", n)
	}
	if pinned("job 1", []cid.Cid{alien.ID}) != 0 || pinned("job 3", one) != 0 {
		t.Error("pinned by who did not")
	}
	if o, err := s.Owners(); err != nil || fmt.Sprint(o) != "[job 1 job 2]" {
		t.Errorf("owners %v, %v", o, err)
	}
	if err := s.Unpin(t.Context(), "job 1"); err != nil {
		t.Fatal(err)
	}
	if pinned("job 1", one) != 0 {
		t.Error("still pinned")
	}
	now = now.Add(time.Hour)
	if _, err := s.GC(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if missing, err := s.Missing(t.Context(), two); len(missing) > 0 || err != nil || s.Len() != len(two) {
		t.Errorf("%d blocks of the second job are gone, %d are left: %v", len(missing), s.Len(), err)
	}
}

func TestAnUnchangedTreeIsNotReadUnlessBlocksWereDropped(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	o := store.Options{Grace: -1, Now: func() time.Time { return now }}
	s := open(t, dir, o)
	files := append(project(t, 3<<20, 1, 2), append(project(t, 5000, 3, 4), project(t, 50, 5, 6)...)...)
	cache, err := diffupload.OpenStatCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	cache.Now = func() time.Time { return time.Now().Add(time.Minute) }
	var root cid.Cid
	snapshot := func(owner string, read int) {
		t.Helper()
		r, err := diffupload.Snapshot(t.Context(), s, files, diffupload.Options{Owner: owner, Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		if r.Read != read || root.Defined() && r.Root != root {
			t.Errorf("%d files read, want %d; root %s, first %s", r.Read, read, r.Root, root)
		}
		root = r.Root
		if missing, err := s.Missing(t.Context(), all(t, s, root)); len(missing) > 0 || err != nil {
			t.Errorf("%d blocks missing: %v", len(missing), err)
		}
	}
	snapshot("a", len(files))
	snapshot("b", 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, o)
	snapshot("c", 0)

	// Pinned content stays known over a collection, other content that is
	// still there is looked for, and what is gone is read.
	now = now.Add(time.Hour)
	if _, err := s.GC(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if known, _, err := s.Whole(t.Context(), []cid.Cid{root}); err != nil || !known[0] {
		t.Errorf("a pinned root is not known to be whole: %v", err)
	}
	snapshot("d", 0)
	for _, owner := range []string{"a", "b", "c", "d"} {
		if err := s.Unpin(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(time.Hour)
	if _, err := s.GC(t.Context(), s.Stat().Bytes-1); err != nil {
		t.Fatal(err)
	}
	if known, _, err := s.Whole(t.Context(), []cid.Cid{root}); err != nil || known[0] {
		t.Errorf("known to be whole after blocks were dropped: %v", err)
	}
	r, err := diffupload.Snapshot(t.Context(), s, files, diffupload.Options{Owner: "e", Cache: cache})
	if err != nil || r.Root != root || r.Read == 0 && r.NewBlocks == 0 || r.Read == len(files) {
		t.Errorf("%d files read, %d new blocks: %v", r.Read, r.NewBlocks, err)
	}
	if missing, err := s.Missing(t.Context(), all(t, s, root)); len(missing) > 0 || err != nil {
		t.Errorf("%d blocks missing: %v", len(missing), err)
	}
	if err := s.Unpin(t.Context(), "e"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if _, err := s.GC(t.Context(), 0); err != nil || s.Len() != 0 {
		t.Errorf("%d blocks left: %v", s.Len(), err)
	}
	snapshot("f", 4) // the small ones stand in the tree
}

func TestNothingIsPinnedOnWhatWasTrueBefore(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), store.Options{Grace: -1, Now: func() time.Time { return now }})
	r, err := diffupload.Snapshot(t.Context(), s, project(t, 50_000, 1), diffupload.Options{})
	if err != nil {
		t.Fatal(err)
	}
	known, state, err := s.Whole(t.Context(), []cid.Cid{r.Root})
	if err != nil || !known[0] {
		t.Fatalf("%v %v", known, err)
	}
	now = now.Add(time.Hour)
	if _, err := s.GC(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.PinRoot(t.Context(), "job", r.Root, []cid.Cid{r.Root}, state); ok || err != nil {
		t.Errorf("pinned: %t, %v", ok, err)
	}
	if o, err := s.Owners(); err != nil || len(o) != 0 {
		t.Errorf("owners %v, %v", o, err)
	}
}

func TestWhileASnapshotRunsNothingOfItIsDropped(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), store.Options{Grace: -1, Now: func() time.Time { return now }})
	old, fresh := storetest.Block(1, 1000), storetest.Block(2, 1000)
	put(t, s, old)
	now = now.Add(time.Hour)
	release := s.Hold()
	put(t, s, fresh)
	now = now.Add(time.Hour)
	if freed, err := s.GC(t.Context(), 0); err != nil || freed != 1000 {
		t.Errorf("freed %d: %v", freed, err)
	}
	if ok, _ := s.Has(t.Context(), fresh.ID); !ok {
		t.Error("what was put during the hold is gone")
	}
	release()
	now = now.Add(time.Hour)
	if freed, err := s.GC(t.Context(), 0); err != nil || freed != 1000 {
		t.Errorf("freed %d after the release: %v", freed, err)
	}
}
