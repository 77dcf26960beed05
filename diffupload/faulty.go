package diffupload

import (
	"bytes"
	"context"
	"iter"
	"sync/atomic"

	"github.com/ipfs/go-cid"
)

// Faulty is a Store that fails on purpose, for tests. Each func may be nil.
type Faulty struct {
	Store
	// Drop leaves a wanted block unanswered.
	Drop func(cid.Cid) bool
	// Corrupt flips a bit of a fetched block.
	Corrupt func(cid.Cid) bool
	// Refuse is asked before a block is put; what it returns is the error.
	Refuse func(cid.Cid, []byte) error
	// FullAfter, where it is not 0, is how many bytes can be put until the
	// store says ErrFull.
	FullAfter int64

	put atomic.Int64
}

// Fetch implements Store.
func (f *Faulty) Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for b, err := range f.Store.Fetch(ctx, wants) {
			if err == nil && f.Drop != nil && f.Drop(b.ID) {
				continue
			}
			if err == nil && len(b.Data) > 0 && f.Corrupt != nil && f.Corrupt(b.ID) {
				b.Data = bytes.Clone(b.Data)
				b.Data[len(b.Data)/2] ^= 1
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// Put implements Store.
func (f *Faulty) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return f.PutMany(ctx, []Block{{ID: id, Data: data}})
}

// PutMany implements PutManyer.
func (f *Faulty) PutMany(ctx context.Context, blocks []Block) error {
	for i, b := range blocks {
		var err error
		if f.Refuse != nil {
			err = f.Refuse(b.ID, b.Data)
		}
		if err == nil && f.FullAfter != 0 && f.put.Add(int64(len(b.Data))) > f.FullAfter {
			err = ErrFull
		}
		if err != nil {
			if i > 0 {
				_ = PutMany(ctx, f.Store, blocks[:i]) // as a real disk: some are there
			}
			return err
		}
	}
	return PutMany(ctx, f.Store, blocks)
}
