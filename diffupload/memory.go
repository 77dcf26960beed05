package diffupload

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
)

// Memory is a Store in memory, for tests and for the few small blocks that
// travel inside a message. The zero value is ready. It is safe for concurrent
// use.
type Memory struct {
	mu     sync.Mutex
	blocks map[cid.Cid][]byte
	pins   map[string]map[cid.Cid]bool
}

var (
	_ Store     = (*Memory)(nil)
	_ PutManyer = (*Memory)(nil)
	_ Pinner    = (*Memory)(nil)
)

// Missing implements Store.
func (m *Memory) Missing(ctx context.Context, ids []cid.Cid) ([]cid.Cid, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []cid.Cid
	for _, id := range ids {
		if _, ok := m.blocks[id]; !ok {
			out = append(out, id)
		}
	}
	return out, ctx.Err()
}

// Fetch implements Store.
func (m *Memory) Fetch(ctx context.Context, wants []Want) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for _, w := range wants {
			if ctx.Err() != nil {
				return
			}
			data, err := m.Get(ctx, w.ID)
			if !yield(Block{ID: w.ID, Data: data}, err) {
				return
			}
		}
	}
}

// Get returns one block, or ErrNotFound.
func (m *Memory) Get(_ context.Context, id cid.Cid) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blocks[id]
	if !ok {
		return nil, ErrNotFound
	}
	return bytes.Clone(data), nil
}

// Has reports whether id is here.
func (m *Memory) Has(_ context.Context, id cid.Cid) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.blocks[id]
	return ok, nil
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return m.PutMany(ctx, []Block{{ID: id, Data: data}})
}

// PutMany implements PutManyer.
func (m *Memory) PutMany(ctx context.Context, blocks []Block) error {
	for _, b := range blocks {
		if err := VerifyBlock(b.ID, b.Data); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blocks == nil {
		m.blocks = map[cid.Cid][]byte{}
	}
	for _, b := range blocks {
		if _, ok := m.blocks[b.ID]; !ok {
			m.blocks[b.ID] = bytes.Clone(b.Data)
		}
	}
	return nil
}

// Delete forgets a block.
func (m *Memory) Delete(id cid.Cid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.blocks, id)
}

// Len is the number of blocks.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.blocks)
}

// ids are the addresses of all blocks, in no order.
func (m *Memory) ids() []cid.Cid {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.blocks))
}

// Pin implements Pinner.
func (m *Memory) Pin(_ context.Context, owner string, ids []cid.Cid) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pins == nil {
		m.pins = map[string]map[cid.Cid]bool{}
	}
	if m.pins[owner] == nil {
		m.pins[owner] = map[cid.Cid]bool{}
	}
	for _, id := range ids {
		m.pins[owner][id] = true
	}
	return nil
}

// Unpin implements Pinner.
func (m *Memory) Unpin(_ context.Context, owner string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pins, owner)
	return nil
}

// Pinned implements Pinner.
func (m *Memory) Pinned(_ context.Context, owner string, id cid.Cid) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pins[owner][id], nil
}
