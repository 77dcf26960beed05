package p2p

import (
	"container/list"
	"sync"

	"github.com/ipfs/go-cid"
)

// Bounds of what is kept compressed: enough for the receivers of a job, which
// ask for its blocks at about the same time.
const (
	maxCompressedBytes  = 32 << 20
	maxCompressedBlocks = 4096
)

// compressed keeps blocks as they were sent last, so that many receivers cost
// one compression. The zero value is ready.
type compressed struct {
	mu    sync.Mutex
	byID  map[cid.Cid]*list.Element
	order list.List // of *compressedBlock, the one asked for last in front
	bytes int
}

type compressedBlock struct {
	id   cid.Cid
	once sync.Once
	data []byte // nil: it is not worth it
	size int    // of data, once it is counted
}

// of returns data, whose address is id, compressed; false where that does not
// save enough. Who asks while another's is being made waits for it.
func (c *compressed) of(id cid.Cid, data []byte) ([]byte, bool) {
	if len(data) < compressFrom {
		return nil, false
	}
	c.mu.Lock()
	e, ok := c.byID[id]
	if ok {
		c.order.MoveToFront(e)
	} else {
		if c.byID == nil {
			c.byID = map[cid.Cid]*list.Element{}
		}
		e = c.order.PushFront(&compressedBlock{id: id})
		c.byID[id] = e
	}
	c.mu.Unlock()
	b := e.Value.(*compressedBlock)
	b.once.Do(func() {
		if z, ok := compress(data); ok {
			b.data = z
		}
		c.count(e, b)
	})
	return b.data, b.data != nil
}

// count enters what was made and drops what was not asked for longest.
func (c *compressed) count(e *list.Element, b *compressedBlock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[b.id] != e {
		return // dropped already
	}
	b.size = cap(b.data)
	c.bytes += b.size
	for c.bytes > maxCompressedBytes || c.order.Len() > maxCompressedBlocks {
		last := c.order.Back()
		old := c.order.Remove(last).(*compressedBlock)
		delete(c.byID, old.id)
		c.bytes -= old.size
	}
}
