package store_test

import (
	"bytes"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
	"idlewild/diffupload/store/storetest"
)

func TestBoxoBlockstore(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	b := s.Blockstore()
	var list []blocks.Block
	for i := range 5 {
		x := storetest.Block(i, 1000+i)
		block, err := blocks.NewBlockWithCid(x.Data, x.ID)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, block)
	}
	if err := b.Put(t.Context(), list[0]); err != nil {
		t.Fatal(err)
	}
	if err := b.PutMany(t.Context(), list[1:4]); err != nil {
		t.Fatal(err)
	}
	for i, x := range list {
		there := i < 4
		if ok, err := b.Has(t.Context(), x.Cid()); ok != there || err != nil {
			t.Errorf("has %d: %t, %v", i, ok, err)
		}
		got, err := b.Get(t.Context(), x.Cid())
		n, serr := b.GetSize(t.Context(), x.Cid())
		var seen []byte
		verr := b.View(t.Context(), x.Cid(), func(d []byte) error { seen = bytes.Clone(d); return nil })
		if !there {
			if !ipld.IsNotFound(err) || !ipld.IsNotFound(serr) || !ipld.IsNotFound(verr) {
				t.Errorf("a block that is not there: %v, %v, %v", err, serr, verr)
			}
			continue
		}
		if err != nil || serr != nil || verr != nil || n != len(x.RawData()) || !bytes.Equal(got.RawData(), x.RawData()) || !bytes.Equal(seen, x.RawData()) {
			t.Errorf("block %d: %d bytes, %v, %v, %v", i, n, err, serr, verr)
		}
	}
	if err := s.Pin(t.Context(), "job", []cid.Cid{list[1].Cid()}); err != nil {
		t.Fatal(err)
	}
	for i, x := range list {
		if err := b.DeleteBlock(t.Context(), x.Cid()); (err != nil) != (i == 1) {
			t.Errorf("delete %d: %v", i, err)
		}
	}
	keys, err := b.AllKeysChan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var left []cid.Cid
	for id := range keys {
		left = append(left, id)
	}
	if len(left) != 1 || left[0] != list[1].Cid() {
		t.Errorf("left: %v", left)
	}
	// Other hashes have no place here.
	weak, err := cid.Decode("bafkqabtimvwgy3yk")
	if err != nil {
		t.Fatal(err)
	}
	block, err := blocks.NewBlockWithCid([]byte("hello\n"), weak)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), block); err == nil || diffupload.CheckID(weak) == nil {
		t.Error("an identity address is taken")
	}
}
