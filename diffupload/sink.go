package diffupload

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/ipfs/go-cid"
)

// Bounds of the memory of a snapshot, however much it reads.
const (
	groupBytes  = 3 << 20 // of new blocks; one group is written while one fills
	groupBlocks = 512
	groupPins   = 4096
	batchBytes  = 512 << 10 // of chunks that are hashed together, or one that is longer
	batchChunks = 256
)

// sink takes the blocks of a snapshot and stores those that the store lacks,
// in groups, behind the hashing. It is for many goroutines.
type sink struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	store  Store
	owner  string // for whom each block is pinned; "": nobody
	groups chan *group
	free   chan *group
	done   chan struct{}

	mu      sync.Mutex
	filling *group
	before  map[cid.Cid]bool // of the group before, which may not be written yet
	turns   int              // groups that were handed to the writer
	blocks  int

	newBytes  int64 // written by the writer alone until done
	newBlocks int
}

// group is new blocks, their bytes in one piece of memory.
type group struct {
	arena  []byte
	blocks []Block
	have   map[cid.Cid]bool
	pins   []cid.Cid // new or not
}

func newSink(ctx context.Context, cancel context.CancelCauseFunc, store Store, owner string) *sink {
	s := &sink{
		ctx: ctx, cancel: cancel, store: store, owner: owner,
		groups: make(chan *group),
		free:   make(chan *group, 2),
		done:   make(chan struct{}),
	}
	s.filling = &group{have: map[cid.Cid]bool{}}
	s.free <- &group{}
	go s.write()
	return s
}

// add takes blocks; their data is the caller's again when it returns.
func (s *sink) add(blocks ...Block) {
	if s.ctx.Err() != nil {
		return
	}
	ids := make([]cid.Cid, len(blocks))
	for i, b := range blocks {
		ids[i] = b.ID
	}
	s.mu.Lock()
	turns := s.turns
	s.mu.Unlock()
	missing, err := s.store.Missing(s.ctx, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.turns > turns+1 {
		// What was being written when the store was asked is in neither group
		// any more.
		missing, err = s.store.Missing(s.ctx, ids)
	}
	if err != nil {
		s.cancel(fmt.Errorf("store blocks: %w", err))
		return
	}
	s.blocks += len(blocks)
	next := 0 // of missing, which is in the order of blocks
	for _, b := range blocks {
		g := s.filling
		if s.owner != "" {
			g.pins = append(g.pins, b.ID)
		}
		if next == len(missing) || missing[next] != b.ID {
			if len(g.pins) >= groupPins {
				s.turn()
			}
			continue
		}
		next++
		if g.have[b.ID] || s.before[b.ID] {
			continue
		}
		if g.arena == nil {
			g.arena = make([]byte, 0, groupBytes)
		}
		if len(g.arena)+len(b.Data) > groupBytes && len(g.blocks) > 0 {
			s.turn()
			if g = s.filling; g.arena == nil {
				g.arena = make([]byte, 0, groupBytes)
			}
		}
		at := len(g.arena)
		g.arena = append(g.arena, b.Data...)
		g.have[b.ID] = true
		g.blocks = append(g.blocks, Block{ID: b.ID, Data: g.arena[at:len(g.arena):len(g.arena)]})
		if len(g.blocks) >= groupBlocks || len(g.pins) >= groupPins {
			s.turn()
		}
	}
}

// turn hands the group that fills to the writer, waiting while it is busy.
func (s *sink) turn() {
	select {
	case s.groups <- s.filling:
	case <-s.ctx.Done():
		return
	}
	s.turns++
	s.before = s.filling.have
	select {
	case s.filling = <-s.free:
	case <-s.ctx.Done():
		s.filling = &group{}
	}
	s.filling.have = map[cid.Cid]bool{}
}

// flush writes what there is and returns when it is stored. It is not for use
// beside add.
func (s *sink) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn() // now the group before is written
	s.turn() // and so is that one
}

// close ends the writing. No add may follow.
func (s *sink) close() {
	close(s.groups)
	<-s.done
}

func (s *sink) write() {
	defer close(s.done)
	for g := range s.groups {
		if s.ctx.Err() == nil {
			if err := s.writeGroup(g); err != nil {
				s.cancel(fmt.Errorf("store blocks: %w", err))
			}
		}
		select {
		case s.free <- &group{arena: g.arena[:0], blocks: g.blocks[:0], pins: g.pins[:0]}:
		default: // there is another already, after a snapshot was given up
		}
	}
}

func (s *sink) writeGroup(g *group) error {
	if err := pin(s.ctx, s.store, s.owner, g.pins); err != nil {
		return err
	}
	if len(g.blocks) == 0 {
		return nil
	}
	put := func(ctx context.Context, blocks []Block) error { return PutMany(ctx, s.store, blocks) }
	if h, ok := s.store.(HashedPutter); ok {
		put = h.PutHashed
	}
	if err := put(s.ctx, g.blocks); err != nil {
		return err
	}
	for _, b := range g.blocks {
		s.newBlocks++
		s.newBytes += int64(len(b.Data))
	}
	return nil
}

// hashing computes addresses on its own goroutines.
type hashing struct {
	hash Hash
	jobs chan *batch
	room chan []byte // memory for batches
	wg   sync.WaitGroup
}

// batch is a run of a file's chunks.
type batch struct {
	data   []byte // of the chunks that are not known
	sizes  []int
	known  []cid.Cid // defined where the address of the chunk is known
	ids    []cid.Cid
	hashed chan struct{} // closed once ids are set
}

func newHashing(s *sink, hash Hash) *hashing {
	workers := runtime.GOMAXPROCS(0)
	h := &hashing{hash: hash, jobs: make(chan *batch), room: make(chan []byte, workers+3)}
	for range cap(h.room) {
		h.room <- nil
	}
	for range workers {
		h.wg.Go(func() {
			for b := range h.jobs {
				h.do(s, b)
			}
		})
	}
	return h
}

func (h *hashing) do(s *sink, b *batch) {
	b.ids = make([]cid.Cid, len(b.sizes))
	blocks := make([]Block, 0, len(b.sizes))
	rest := b.data
	for i, n := range b.sizes {
		if b.known[i].Defined() {
			b.ids[i] = b.known[i]
			continue
		}
		b.ids[i] = h.hash.ChunkID(rest[:n])
		blocks = append(blocks, Block{ID: b.ids[i], Data: rest[:n]})
		rest = rest[n:]
	}
	s.add(blocks...)
	if cap(b.data) > batchBytes {
		b.data = nil // it was for one long chunk
	}
	h.room <- b.data[:0]
	b.data = nil
	close(b.hashed)
}

// batch returns an empty one once there is memory for it.
func (h *hashing) batch(ctx context.Context) (*batch, bool) {
	select {
	case m := <-h.room:
		if m == nil {
			m = make([]byte, 0, batchBytes)
		}
		return &batch{data: m, hashed: make(chan struct{})}, true
	case <-ctx.Done():
		return nil, false
	}
}

func (h *hashing) close() {
	close(h.jobs)
	h.wg.Wait()
}
