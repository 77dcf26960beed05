package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"idlewild/diffupload"
)

// Blockstore is the same store for boxo and whatever else takes a blockstore.
// It refuses addresses that blocks here cannot have.
func (l *Local) Blockstore() interface {
	blockstore.Blockstore
	blockstore.Viewer
} {
	return boxo{l}
}

type boxo struct{ l *Local }

// Has implements blockstore.Blockstore.
func (b boxo) Has(ctx context.Context, id cid.Cid) (bool, error) { return b.l.Has(ctx, id) }

// Get implements blockstore.Blockstore.
func (b boxo) Get(ctx context.Context, id cid.Cid) (blocks.Block, error) {
	data, err := b.l.Get(ctx, id)
	if err != nil {
		return nil, notFound(id, err)
	}
	return blocks.NewBlockWithCid(data, id)
}

// View implements blockstore.Viewer.
func (b boxo) View(ctx context.Context, id cid.Cid, f func([]byte) error) error {
	data, err := b.l.Get(ctx, id)
	if err != nil {
		return notFound(id, err)
	}
	return f(data)
}

// GetSize implements blockstore.Blockstore.
func (b boxo) GetSize(ctx context.Context, id cid.Cid) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	if err := diffupload.CheckID(id); err != nil {
		return -1, ipld.ErrNotFound{Cid: id}
	}
	e, ok, err := b.l.index.find(keyOf(id))
	if err != nil {
		return -1, b.l.wrap(err)
	}
	if !ok {
		return -1, ipld.ErrNotFound{Cid: id}
	}
	return int(e.size), nil
}

// Put implements blockstore.Blockstore.
func (b boxo) Put(ctx context.Context, block blocks.Block) error {
	return b.l.Put(ctx, block.Cid(), block.RawData())
}

// PutMany implements blockstore.Blockstore.
func (b boxo) PutMany(ctx context.Context, bs []blocks.Block) error {
	group := make([]diffupload.Block, len(bs))
	for i, block := range bs {
		group[i] = diffupload.Block{ID: block.Cid(), Data: block.RawData()}
	}
	return b.l.PutMany(ctx, group)
}

// DeleteBlock implements blockstore.Blockstore. A block that somebody pinned
// is not deleted.
func (b boxo) DeleteBlock(ctx context.Context, id cid.Cid) error {
	if diffupload.CheckID(id) != nil {
		return nil // not here
	}
	return b.l.ask(ctx, &request{remove: id})
}

// errPinned is returned for a block that is to be deleted and in use.
var errPinned = errors.New("block is in use by a job")

// removeBlock drops a block that nobody pinned. Only the writer calls it.
func (l *Local) removeBlock(id cid.Cid) error {
	k := keyOf(id)
	if _, ok, err := l.index.find(k); err != nil || !ok {
		return l.wrap(err)
	}
	kept, err := l.mark()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if kept.has(k) {
		return fmt.Errorf("delete %s: %w", id, errPinned)
	}
	l.dropping.Lock()
	gone, _, err := l.index.remove([]key{k}, false, 1<<62)
	l.dropping.Unlock()
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if len(gone) == 0 {
		return fmt.Errorf("delete %s: %w", id, errPinned)
	}
	for _, e := range gone {
		l.packs.discount(e)
	}
	return l.compact()
}

// AllKeysChan implements blockstore.Blockstore: every block, as a chunk.
func (b boxo) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	var at key
	keys, err := b.l.index.after(&at, 1024)
	if err != nil {
		return nil, b.l.wrap(err)
	}
	out := make(chan cid.Cid)
	go func() {
		defer close(out)
		for ; err == nil && len(keys) > 0; keys, err = b.l.index.after(&at, 1024) {
			for _, k := range keys {
				select {
				case out <- k.cid():
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

func notFound(id cid.Cid, err error) error {
	if errors.Is(err, diffupload.ErrNotFound) {
		return ipld.ErrNotFound{Cid: id}
	}
	return err
}
