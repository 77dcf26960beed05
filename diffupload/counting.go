package diffupload

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/ipfs/go-cid"
)

// Counting is a Store that counts what passes it.
type Counting struct {
	Store
	fetched, fetchedBytes atomic.Int64
	put, putBytes         atomic.Int64
}

// Fetched is the number of blocks that Fetch yielded, and their bytes.
func (c *Counting) Fetched() (blocks, bytes int64) { return c.fetched.Load(), c.fetchedBytes.Load() }

// Stored is the number of blocks that were put, and their bytes.
func (c *Counting) Stored() (blocks, bytes int64) { return c.put.Load(), c.putBytes.Load() }

// Fetch implements Store.
func (c *Counting) Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for b, err := range c.Store.Fetch(ctx, wants) {
			if err == nil {
				c.fetched.Add(1)
				c.fetchedBytes.Add(int64(len(b.Data)))
			}
			if !yield(b, err) {
				return
			}
		}
	}
}

// Put implements Store.
func (c *Counting) Put(ctx context.Context, id cid.Cid, data []byte) error {
	err := c.Store.Put(ctx, id, data)
	if err == nil {
		c.put.Add(1)
		c.putBytes.Add(int64(len(data)))
	}
	return err
}

// PutMany implements PutManyer.
func (c *Counting) PutMany(ctx context.Context, blocks []Block) error {
	if err := PutMany(ctx, c.Store, blocks); err != nil {
		return err
	}
	for _, b := range blocks {
		c.put.Add(1)
		c.putBytes.Add(int64(len(b.Data)))
	}
	return nil
}
