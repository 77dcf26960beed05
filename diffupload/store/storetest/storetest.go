// Package storetest holds every implementation of diffupload.Store to the
// text of that interface.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
)

// Block makes a chunk of n bytes that depend on seed.
func Block(seed, n int) diffupload.Block {
	data := bytes.Repeat(fmt.Appendf(nil, "<%d>", seed), n/2+1)[:n]
	return diffupload.Block{ID: diffupload.ChunkID(data), Data: data}
}

// Run checks stores that open makes: each an empty one of its own.
func Run(t *testing.T, open func(t *testing.T) diffupload.Store) {
	t.Run("PutThenFetch", func(t *testing.T) { putThenFetch(t, open(t)) })
	t.Run("MissingKeepsOrder", func(t *testing.T) { missingKeepsOrder(t, open(t)) })
	t.Run("FetchOfWhatIsNotThere", func(t *testing.T) { fetchAbsent(t, open(t)) })
	t.Run("PutRefusesWrongBytes", func(t *testing.T) { putRefuses(t, open(t)) })
	t.Run("PutTwice", func(t *testing.T) { putTwice(t, open(t)) })
	t.Run("BytesAreNotShared", func(t *testing.T) { bytesAreNotShared(t, open(t)) })
	t.Run("PutMany", func(t *testing.T) { putMany(t, open(t)) })
	t.Run("FetchEndsWithContext", func(t *testing.T) { fetchEndsWithContext(t, open(t)) })
	t.Run("FetchStopsWhenTold", func(t *testing.T) { fetchStops(t, open(t)) })
	t.Run("Concurrent", func(t *testing.T) { concurrent(t, open(t)) })
	t.Run("Pins", func(t *testing.T) {
		p, ok := open(t).(diffupload.Pinner)
		if !ok {
			t.Skip("does not pin")
		}
		pins(t, p)
	})
}

func put(t *testing.T, s diffupload.Store, blocks ...diffupload.Block) {
	t.Helper()
	for _, b := range blocks {
		if err := s.Put(t.Context(), b.ID, b.Data); err != nil {
			t.Fatalf("put %d bytes: %v", len(b.Data), err)
		}
	}
}

func wants(blocks ...diffupload.Block) []diffupload.Want {
	var out []diffupload.Want
	for _, b := range blocks {
		out = append(out, diffupload.Want{ID: b.ID})
	}
	return out
}

func putThenFetch(t *testing.T, s diffupload.Store) {
	node := []byte{0xa0}
	blocks := []diffupload.Block{
		Block(1, 1), Block(2, 1000), Block(3, 64<<10), Block(4, diffupload.MaxBlockBytes),
		{ID: diffupload.NodeID(node), Data: node},
	}
	put(t, s, blocks...)
	got := map[cid.Cid][]byte{}
	for b, err := range s.Fetch(t.Context(), wants(blocks...)) {
		if err != nil {
			t.Fatal(err)
		}
		if got[b.ID] != nil {
			t.Errorf("%s came twice", b.ID)
		}
		got[b.ID] = b.Data
	}
	for _, b := range blocks {
		if !bytes.Equal(got[b.ID], b.Data) {
			t.Errorf("%s: %d bytes came back of %d", b.ID, len(got[b.ID]), len(b.Data))
		}
	}
	for range s.Fetch(t.Context(), nil) {
		t.Error("something came where nothing was wanted")
	}
}

func missingKeepsOrder(t *testing.T, s diffupload.Store) {
	var ids, want []cid.Cid
	for i := range 20 {
		b := Block(i, 100+i)
		ids = append(ids, b.ID)
		if i%3 == 0 {
			put(t, s, b)
		} else {
			want = append(want, b.ID)
		}
	}
	got, err := s.Missing(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("missing %v, want %v", got, want)
	}
	if got, err := s.Missing(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("missing of nothing: %v, %v", got, err)
	}
}

func fetchAbsent(t *testing.T, s diffupload.Store) {
	here, gone := Block(1, 500), Block(2, 500)
	put(t, s, here)
	var came, failed bool
	for b, err := range s.Fetch(t.Context(), wants(gone, here)) {
		switch {
		case err == nil && b.ID == here.ID:
			came = true
		case errors.Is(err, diffupload.ErrNotFound) && b.ID == gone.ID:
			failed = true
		default:
			t.Errorf("%s: %v", b.ID, err)
		}
	}
	if !came || !failed {
		t.Errorf("the block that is there came: %t; the other was said not to be found: %t", came, failed)
	}
}

func putRefuses(t *testing.T, s diffupload.Store) {
	a, b := Block(1, 100), Block(2, 100)
	if err := s.Put(t.Context(), a.ID, b.Data); err == nil {
		t.Error("bytes of another block accepted")
	}
	big := make([]byte, diffupload.MaxBlockBytes+1)
	if err := s.Put(t.Context(), diffupload.ChunkID(big), big); err == nil {
		t.Error("a block over MaxBlockBytes accepted")
	}
	if err := s.Put(t.Context(), cid.Undef, nil); err == nil {
		t.Error("an undefined address accepted")
	}
	if m, err := s.Missing(t.Context(), []cid.Cid{a.ID}); err != nil || len(m) != 1 {
		t.Errorf("what was refused is there: %v, %v", m, err)
	}
}

func putTwice(t *testing.T, s diffupload.Store) {
	b := Block(1, 3000)
	put(t, s, b, b)
	if data, err := diffupload.Get(t.Context(), s, b.ID); err != nil || !bytes.Equal(data, b.Data) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

func bytesAreNotShared(t *testing.T, s diffupload.Store) {
	b := Block(1, 3000)
	mine := bytes.Clone(b.Data)
	if err := s.Put(t.Context(), b.ID, mine); err != nil {
		t.Fatal(err)
	}
	clear(mine)
	for range 2 {
		data, err := diffupload.Get(t.Context(), s, b.ID)
		if err != nil || !bytes.Equal(data, b.Data) {
			t.Fatalf("changed from outside: %v", err)
		}
		clear(data)
	}
}

func putMany(t *testing.T, s diffupload.Store) {
	var blocks []diffupload.Block
	var ids []cid.Cid
	for i := range 700 {
		b := Block(i, 10+i)
		blocks = append(blocks, b)
		ids = append(ids, b.ID)
	}
	blocks = append(blocks, blocks[0])
	if err := diffupload.PutMany(t.Context(), s, blocks); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Missing(t.Context(), ids); err != nil || len(m) != 0 {
		t.Errorf("%d of %d missing, %v", len(m), len(ids), err)
	}
	bad := diffupload.Block{ID: blocks[1].ID, Data: blocks[2].Data}
	if err := diffupload.PutMany(t.Context(), s, []diffupload.Block{blocks[3], bad}); err == nil {
		t.Error("wrong bytes in a group accepted")
	}
	if err := diffupload.PutMany(t.Context(), s, nil); err != nil {
		t.Error(err)
	}
}

func fetchEndsWithContext(t *testing.T, s diffupload.Store) {
	blocks := []diffupload.Block{Block(1, 100), Block(2, 100), Block(3, 100)}
	put(t, s, blocks...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range s.Fetch(ctx, wants(blocks...)) {
		if err == nil {
			n++
		}
		cancel()
	}
	if n != 1 {
		t.Errorf("%d blocks came of a fetch that was ended after one", n)
	}
	if err := s.Put(ctx, blocks[0].ID, blocks[0].Data); err == nil {
		t.Error("put after the end of its context")
	}
}

func fetchStops(t *testing.T, s diffupload.Store) {
	blocks := []diffupload.Block{Block(1, 100), Block(2, 100), Block(3, 100)}
	put(t, s, blocks...)
	for range s.Fetch(t.Context(), wants(blocks...)) {
		break
	}
	put(t, s, Block(4, 100)) // and is still alive
}

func concurrent(t *testing.T, s diffupload.Store) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				b := Block(i*(1+w%2), 2000) // some of them the same as others'
				if err := s.Put(t.Context(), b.ID, b.Data); err != nil {
					t.Error(err)
					return
				}
				data, err := diffupload.Get(t.Context(), s, b.ID)
				if err != nil || !bytes.Equal(data, b.Data) {
					t.Errorf("after put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func pins(t *testing.T, p diffupload.Pinner) {
	a, b := Block(1, 10).ID, Block(2, 10).ID
	check := func(owner string, id cid.Cid, want bool) {
		t.Helper()
		if got, err := p.Pinned(t.Context(), owner, id); err != nil || got != want {
			t.Errorf("pinned(%s): %t, %v; want %t", owner, got, err, want)
		}
	}
	for _, step := range []error{
		p.Pin(t.Context(), "job1", []cid.Cid{a, b}), // not there yet: allowed
		p.Pin(t.Context(), "job1", []cid.Cid{a}),    // once more
		p.Pin(t.Context(), "job2", []cid.Cid{a}),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	check("job1", a, true)
	check("job1", b, true)
	check("job2", a, true)
	check("job2", b, false)
	check("job3", a, false)
	if err := p.Unpin(t.Context(), "job1"); err != nil {
		t.Fatal(err)
	}
	check("job1", a, false)
	check("job2", a, true)
	if err := p.Unpin(t.Context(), "nobody"); err != nil {
		t.Errorf("unpin of an unknown owner: %v", err)
	}
}
