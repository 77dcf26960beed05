package p2p

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

func TestABlockIsCompressedOnceForAll(t *testing.T) {
	var c compressed
	address := func(i int) cid.Cid {
		h, err := mh.Sum(fmt.Appendf(nil, "%d", i), mh.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		return cid.NewCidV1(cid.Raw, h)
	}
	text := bytes.Repeat([]byte("all work and no play makes jack a dull boy\n"), 2000)
	var wg sync.WaitGroup
	got := make([][]byte, 8)
	for i := range got {
		wg.Go(func() { got[i], _ = c.of(address(0), text) })
	}
	wg.Wait()
	for _, b := range got {
		if len(b) == 0 || &b[0] != &got[0][0] {
			t.Fatal("compressed more than once")
		}
	}
	if back, err := decompress(got[0], len(text)); err != nil || !bytes.Equal(back, text) {
		t.Error(err)
	}
	if _, ok := c.of(address(1), noise(1, 100_000)); ok {
		t.Error("noise was compressed")
	}
	if _, ok := c.of(address(2), []byte("short")); ok {
		t.Error("a few bytes were compressed")
	}
	// It stays within its bounds, and what is asked for stays.
	half := append(noise(2, 100_000), make([]byte, 100_000)...)
	for i := range 1000 {
		c.of(address(10+i), half)
		if again, _ := c.of(address(0), text); &again[0] != &got[0][0] {
			t.Fatalf("dropped after %d others", i)
		}
	}
	sum := 0
	for e := c.order.Front(); e != nil; e = e.Next() {
		sum += cap(e.Value.(*compressedBlock).data)
	}
	if sum != c.bytes || c.bytes > maxCompressedBytes || c.order.Len() != len(c.byID) {
		t.Errorf("%d bytes counted, %d there, %d blocks of %d", c.bytes, sum, c.order.Len(), len(c.byID))
	}
}
