package diffupload

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/ipfs/go-cid"

	"idlewild/chunker"
)

// Bounds of the memory that a snapshot holds beside its list of addresses.
const (
	sinkBytes  = 8 << 20 // of one group of blocks; one is written while one fills
	sinkBlocks = 512
)

// sink takes the blocks of a snapshot and stores those that the store lacks,
// in groups, behind the hashing. It is for many goroutines.
type sink struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	store  Store
	owner  string
	groups chan []Block
	done   chan struct{}
	bufs   *sync.Pool // of *[]byte, chunker.MaxChunkBytes at most

	mu        sync.Mutex
	seen      map[cid.Cid]bool
	ids       []cid.Cid
	group     []Block
	size      int
	newBytes  int64 // written by the flusher alone until done
	newBlocks int
}

func newSink(ctx context.Context, cancel context.CancelCauseFunc, store Store, o Options) *sink {
	s := &sink{
		ctx: ctx, cancel: cancel, store: store, owner: o.Owner,
		groups: make(chan []Block),
		done:   make(chan struct{}),
		seen:   map[cid.Cid]bool{},
		bufs:   &sync.Pool{New: func() any { return new([]byte) }},
	}
	go s.write()
	return s
}

// add takes a block; data is the sink's from now on.
func (s *sink) add(id cid.Cid, data []byte) {
	s.mu.Lock()
	if s.seen[id] {
		s.mu.Unlock()
		s.free(data)
		return
	}
	s.seen[id] = true
	s.ids = append(s.ids, id)
	s.group = append(s.group, Block{ID: id, Data: data})
	s.size += len(data)
	var full []Block
	if s.size >= sinkBytes || len(s.group) >= sinkBlocks {
		full, s.group, s.size = s.group, nil, 0
	}
	s.mu.Unlock()
	if full != nil {
		s.send(full)
	}
}

// know takes the addresses of blocks that are in the store already.
func (s *sink) know(ids []cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if !s.seen[id] {
			s.seen[id] = true
			s.ids = append(s.ids, id)
		}
	}
}

func (s *sink) send(group []Block) {
	select {
	case s.groups <- group:
	case <-s.ctx.Done():
	}
}

// close writes what is left and waits. No add may follow.
func (s *sink) close() {
	if len(s.group) > 0 {
		s.send(s.group)
		s.group = nil
	}
	close(s.groups)
	<-s.done
}

func (s *sink) write() {
	defer close(s.done)
	for group := range s.groups {
		if s.ctx.Err() != nil {
			continue
		}
		if err := s.writeGroup(group); err != nil {
			s.cancel(fmt.Errorf("store blocks: %w", err))
		}
	}
}

func (s *sink) writeGroup(group []Block) error {
	ids := make([]cid.Cid, len(group))
	for i, b := range group {
		ids[i] = b.ID
	}
	// Pinned first: between the question and the answer's use nothing that is
	// there may be collected.
	if err := pin(s.ctx, s.store, s.owner, ids); err != nil {
		return err
	}
	missing, err := s.store.Missing(s.ctx, ids)
	if err != nil {
		return err
	}
	lacks := make(map[cid.Cid]bool, len(missing))
	for _, id := range missing {
		lacks[id] = true
	}
	var fresh []Block
	for _, b := range group {
		if lacks[b.ID] {
			fresh = append(fresh, b)
		}
	}
	if len(fresh) > 0 {
		if err := PutMany(s.ctx, s.store, fresh); err != nil {
			return err
		}
	}
	for _, b := range fresh {
		s.newBlocks++
		s.newBytes += int64(len(b.Data))
	}
	for _, b := range group {
		s.free(b.Data)
	}
	return nil
}

// buffer returns a copy of data in memory that free takes back.
func (s *sink) buffer(data []byte) []byte {
	p := s.bufs.Get().(*[]byte)
	return append((*p)[:0], data...)
}

func (s *sink) free(data []byte) {
	if cap(data) > chunker.MaxChunkBytes*5/4 {
		return
	}
	s.bufs.Put(&data)
}

// hashing computes addresses on its own goroutines.
type hashing struct {
	jobs chan *hashJob
	wg   sync.WaitGroup
}

type hashJob struct {
	data []byte
	size int64
	id   cid.Cid
	done chan struct{} // closed once id is set and data is the sink's
}

func newHashing(s *sink) *hashing {
	h := &hashing{jobs: make(chan *hashJob)}
	for range runtime.GOMAXPROCS(0) {
		h.wg.Go(func() {
			for j := range h.jobs {
				j.id = ChunkID(j.data)
				s.add(j.id, j.data)
				j.data = nil
				close(j.done)
			}
		})
	}
	return h
}

func (h *hashing) close() {
	close(h.jobs)
	h.wg.Wait()
}
