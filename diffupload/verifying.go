package diffupload

import (
	"context"
	"iter"

	"github.com/ipfs/go-cid"
)

// Verifying is a Store that takes nobody's word: what is fetched and what is
// put is checked against its CID, and nothing is yielded that was not wanted.
type Verifying struct{ Store }

// Fetch implements Store.
func (v Verifying) Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		wanted := make(map[cid.Cid]bool, len(wants))
		for _, w := range wants {
			wanted[w.ID] = true
		}
		for b, err := range v.Store.Fetch(ctx, wants) {
			if err == nil {
				if !wanted[b.ID] {
					continue
				}
				if err = VerifyBlock(b.ID, b.Data); err != nil {
					b.Data = nil
				}
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// Put implements Store.
func (v Verifying) Put(ctx context.Context, id cid.Cid, data []byte) error {
	if err := VerifyBlock(id, data); err != nil {
		return err
	}
	return v.Store.Put(ctx, id, data)
}

// PutMany implements PutManyer.
func (v Verifying) PutMany(ctx context.Context, blocks []Block) error {
	for _, b := range blocks {
		if err := VerifyBlock(b.ID, b.Data); err != nil {
			return err
		}
	}
	return PutMany(ctx, v.Store, blocks)
}
