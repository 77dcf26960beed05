package node

import (
	"context"
	"iter"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
)

// only is a store that has some of the blocks of another one, and in memory
// what is put into it: what the other side has.
type only struct {
	diffupload.Memory
	behind diffupload.Store
	has    map[cid.Cid]bool // of behind
}

func newOnly(behind diffupload.Store, ids []cid.Cid) *only {
	o := &only{behind: behind, has: make(map[cid.Cid]bool, len(ids))}
	for _, id := range ids {
		o.has[id] = true
	}
	return o
}

// Missing implements diffupload.Store.
func (o *only) Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error) {
	var rest []cid.Cid
	for _, id := range ids {
		if !o.has[id] {
			rest = append(rest, id)
		}
	}
	return o.Memory.Missing(ctx, rest)
}

// Fetch implements diffupload.Store.
func (o *only) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		var old, fresh []diffupload.Want
		for _, w := range wants {
			if o.has[w.ID] {
				old = append(old, w)
			} else {
				fresh = append(fresh, w)
			}
		}
		for b, err := range o.behind.Fetch(ctx, old) {
			if !yield(b, err) {
				return
			}
		}
		for b, err := range o.Memory.Fetch(ctx, fresh) {
			if !yield(b, err) {
				return
			}
		}
	}
}

// both puts into two stores and reads from the first.
type both struct {
	diffupload.Store
	also diffupload.Store
}

// Put implements diffupload.Store.
func (b both) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return b.PutMany(ctx, []diffupload.Block{{ID: id, Data: data}})
}

// PutMany implements diffupload.PutManyer.
func (b both) PutMany(ctx context.Context, blocks []diffupload.Block) error {
	if err := diffupload.PutMany(ctx, b.Store, blocks); err != nil {
		return err
	}
	return diffupload.PutMany(ctx, b.also, blocks)
}
