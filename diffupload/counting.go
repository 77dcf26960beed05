package diffupload

import (
	"context"
	"iter"
	"sync/atomic"
)

// Counting is a Store that counts what is fetched through it.
type Counting struct {
	Store
	fetched, fetchedBytes atomic.Int64
}

// Fetched is the number of blocks that Fetch yielded, and their bytes.
func (c *Counting) Fetched() (blocks, bytes int64) { return c.fetched.Load(), c.fetchedBytes.Load() }

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

// PutMany implements PutManyer.
func (c *Counting) PutMany(ctx context.Context, blocks []Block) error {
	return PutMany(ctx, c.Store, blocks)
}
