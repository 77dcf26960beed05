package store_test

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
)

// What is known of a block lies in a file that the system keeps in memory as
// it likes. The program's own memory hardly grows with it.
func TestMemoryOfKnownBlocks(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // pools live through one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	s := open(t, t.TempDir(), store.Options{})
	const n = 100_000
	before := heap()
	var ids []cid.Cid
	for i := 0; i < n; {
		var group []diffupload.Block
		for range 500 {
			data := binary.LittleEndian.AppendUint64(nil, uint64(i))
			group = append(group, diffupload.Block{ID: diffupload.ChunkID(data), Data: data})
			i++
		}
		if err := s.PutMany(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		ids = append(ids[:0], group[0].ID, group[499].ID)
	}
	if missing, err := s.Missing(t.Context(), ids); len(missing) > 0 || err != nil || s.Len() != n {
		t.Errorf("%d blocks, %v, %v", s.Len(), missing, err)
	}
	if each := float64(heap()-before) / n; each > 24 {
		t.Errorf("%.1f bytes of memory per block, at most 24 are meant", each)
	} else {
		t.Logf("%.1f bytes of memory per block", each)
	}
}
