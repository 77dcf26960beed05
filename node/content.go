package node

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/p2p"
)

// blockStore is this machine's store, as the adapters need it.
type blockStore interface {
	diffupload.Store
	diffupload.Pinner
}

// content is the requester's side of the store: dispatch.Content and
// dispatch.Results.
type content struct {
	self   peer.ID
	store  blockStore
	blocks p2p.Blocks // nil where there is no network
	cache  *diffupload.StatCache

	mu     sync.Mutex
	served map[job.ID]int64
}

var (
	_ dispatch.Content = (*content)(nil)
	_ dispatch.Results = (*content)(nil)
)

// Snapshot implements dispatch.Content.
func (c *content) Snapshot(ctx context.Context, id job.ID, deps []job.Dep, exact bool) (dispatch.Snapshot, error) {
	files := make([]diffupload.File, len(deps))
	for i, d := range deps {
		files[i] = diffupload.File{Path: d.Path, Name: d.Name}
	}
	r, err := diffupload.Snapshot(ctx, c.store, files, diffupload.Options{Exact: exact, Cache: c.cache, Owner: ownContent(id)})
	if err != nil {
		return dispatch.Snapshot{}, err
	}
	if c.cache != nil {
		if err := c.cache.Save(); err != nil {
			return dispatch.Snapshot{}, fmt.Errorf("remember what was read: %w", err)
		}
	}
	return dispatch.Snapshot{Root: r.Root, Files: r.Files, Bytes: r.Bytes, NewBytes: r.NewBytes, NewBlocks: r.NewBlocks}, nil
}

// count notes bytes that went to another peer; it is a p2p.Served.
func (c *content) count(id job.ID, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served[id] += int64(n)
}

// Served implements dispatch.Content.
func (c *content) Served(id job.ID) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served[id]
}

// Release implements dispatch.Content.
func (c *content) Release(ctx context.Context, id job.ID) error {
	if err := c.store.Unpin(ctx, ownContent(id)); err != nil {
		return err
	}
	return c.store.Unpin(ctx, ownResults(id))
}

// Fetch implements dispatch.Results.
func (c *content) Fetch(ctx context.Context, worker peer.ID, id job.ID, leaf job.Leaf, inline []job.Block, dir string) (int64, error) {
	moved, err := c.keep(ctx, worker, id, inline)
	if err != nil {
		return moved, err
	}
	store, r := c.from(worker, id)
	for _, o := range leaf.Outputs {
		path := filepath.Join(dir, filepath.FromSlash(o.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return moved, err
		}
		err := diffupload.MaterializeFileWithin(ctx, store, o.File.Cid, path, o.Bytes)
		if err == nil {
			var fi fs.FileInfo
			if fi, err = os.Stat(path); err == nil && fi.Size() != o.Bytes {
				err = fmt.Errorf("has %d bytes where its receipt says %d", fi.Size(), o.Bytes)
			}
		}
		if err != nil {
			return moved + r.moved.Load(), fmt.Errorf("result %s of %s: %w", o.Name, worker, err)
		}
	}
	return moved + r.moved.Load(), nil
}

// keep stores blocks that came with a report, as one group.
func (c *content) keep(ctx context.Context, worker peer.ID, id job.ID, inline []job.Block) (moved int64, err error) {
	if len(inline) == 0 {
		return 0, nil
	}
	ids := make([]cid.Cid, len(inline))
	blocks := make([]diffupload.Block, len(inline))
	for i, b := range inline {
		if err := diffupload.VerifyBlock(b.CID.Cid, b.Data); err != nil {
			return moved, fmt.Errorf("results of %s: %w", worker, err)
		}
		ids[i], blocks[i] = b.CID.Cid, diffupload.Block{ID: b.CID.Cid, Data: b.Data}
		if worker != c.self {
			moved += int64(len(b.Data))
		}
	}
	if err := c.store.Pin(ctx, ownResults(id), ids); err != nil {
		return moved, err
	}
	return moved, diffupload.PutMany(ctx, c.store, blocks)
}

// maxLogBytes bounds a log that a peer sends.
const maxLogBytes = 1 << 20

// Log returns the log that a leaf names; it makes content a
// dispatch.LogFetcher.
func (c *content) Log(ctx context.Context, worker peer.ID, id job.ID, leaf job.Leaf) ([]byte, error) {
	store, _ := c.from(worker, id)
	return readFile(ctx, store, leaf.Log.Cid, maxLogBytes)
}

// from is our store in front of a worker's.
func (c *content) from(worker peer.ID, id job.ID) (diffupload.Store, *remote) {
	r := &remote{blocks: c.blocks, from: []peer.ID{worker}, requester: c.self, job: id}
	if c.blocks == nil || worker == c.self {
		r.from = nil
	}
	return &diffupload.Tiered{Local: c.store, Remote: r, Owner: ownResults(id)}, r
}
