package p2p

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// ProtocolShare gathers many blocks of a job from all who have them: one stream
// per gatherer and holder.
const ProtocolShare Protocol = "share"

// ErrNoShare is matched where the job's requester does not speak ProtocolShare:
// the blocks are to be fetched from it as ever.
var ErrNoShare = errors.New("the requester does not share blocks out")

// Bounds of sharing. What one stream can make this host remember is
// MaxGather wants of some 390 bytes, so that all streams together stay below
// 256 MiB; the blocks kept for others take recentBytes.
const (
	// MaxGather is how many blocks one Gather may ask for.
	MaxGather        = 8192
	maxShareBases    = 1 // of a want, that are remembered
	maxSharesPerPeer = 4
	maxShares        = 64 // streams of others that are served at once
	maxJobsShared    = 256
	maxCredit        = 64 << 20
	recentBytes      = 64 << 20
	recentFor        = 30 * time.Second // after the gathering ended
)

// ShareRequest is what a Gather asks for.
type ShareRequest struct {
	BlockRequest
	// Near are members that may have blocks of the job. They are asked where the
	// requester, who names those who do have some, is out of reach.
	Near []peer.ID
}

type shareKey struct {
	requester peer.ID
	job       job.ID
}

// share is one job whose blocks are passed around here. It lives while
// somebody gathers here, or asks here.
type share struct {
	mu      sync.Mutex
	deck    *deck           // where this host deals; nil elsewhere
	askers  map[*asker]bool // those who ask here now
	seeds   []peer.ID       // that went away with all they wanted, the last at the end
	gather  *gather         // our own gathering, which learns of those who ask; nil: none
	removed bool            // it was dropped from shares.of
}

// shares are all jobs whose blocks are passed around here.
type shares struct {
	mu      sync.Mutex
	of      map[shareKey]*share
	streams map[peer.ID]int // of others, that are served
	total   int

	recent recentBlocks
}

func (x *shares) enter(p peer.ID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.total >= maxShares || x.streams[p] >= maxSharesPerPeer {
		return false
	}
	if x.streams == nil {
		x.streams = map[peer.ID]int{}
	}
	x.streams[p]++
	x.total++
	return true
}

func (x *shares) leave(p peer.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.total--
	if x.streams[p]--; x.streams[p] == 0 {
		delete(x.streams, p)
	}
}

// get returns the share of a job with its mutex held.
func (x *shares) get(k shareKey, deals bool) *share {
	for {
		x.mu.Lock()
		s := x.of[k]
		if s == nil {
			s = &share{askers: map[*asker]bool{}}
			if deals {
				s.deck = newDeck()
			}
			if x.of == nil {
				x.of = map[shareKey]*share{}
			}
			x.trimLocked()
			x.of[k] = s
		}
		x.mu.Unlock()
		s.mu.Lock()
		if !s.removed {
			return s
		}
		s.mu.Unlock()
	}
}

// trimLocked drops shares that nobody uses, while there are many.
func (x *shares) trimLocked() {
	for k, s := range x.of {
		if len(x.of) < maxJobsShared {
			return
		}
		if s.mu.TryLock() {
			if len(s.askers) == 0 && s.gather == nil {
				s.removed = true
				delete(x.of, k)
			}
			s.mu.Unlock()
		}
	}
}

// others are the peers that take part in the share, but p; s.mu is held.
func (s *share) others(p peer.ID, max int) []peer.ID {
	seen := map[peer.ID]bool{p: true}
	var out []peer.ID
	add := func(q peer.ID) {
		if !seen[q] && len(out) < max {
			seen[q] = true
			out = append(out, q)
		}
	}
	for a := range s.askers {
		add(a.scope.reader)
	}
	for i := len(s.seeds) - 1; i >= 0; i-- {
		add(s.seeds[i])
	}
	return out
}

// arrived tells those who wait for a block that it is here.
func (s *share) arrived(id cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.askers {
		a.has(id)
	}
}

// busy reports whether anybody asks here for blocks of the share.
func (s *share) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.askers) > 0
}

// recentBlocks keeps what was gathered last until it is in the store, so that
// it can be passed on at once. The zero value is ready.
type recentBlocks struct {
	mu    sync.Mutex
	byID  map[cid.Cid]*list.Element
	order list.List // of BlockResult, the newest in front
	bytes int
}

func (r *recentBlocks) put(id cid.Cid, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[id] != nil {
		return
	}
	if r.byID == nil {
		r.byID = map[cid.Cid]*list.Element{}
	}
	r.byID[id] = r.order.PushFront(BlockResult{ID: id, Data: data})
	for r.bytes += len(data); r.bytes > recentBytes; {
		r.dropLocked(r.order.Back())
	}
}

func (r *recentBlocks) dropLocked(e *list.Element) {
	b := r.order.Remove(e).(BlockResult)
	delete(r.byID, b.ID)
	r.bytes -= len(b.Data)
}

func (r *recentBlocks) get(id cid.Cid) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.byID[id]; e != nil {
		return e.Value.(BlockResult).Data
	}
	return nil
}

// forget drops blocks that are in the store by now.
func (r *recentBlocks) forget(ids []cid.Cid) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		if e := r.byID[id]; e != nil {
			r.dropLocked(e)
		}
	}
}

// recentFirst is a Source that knows what is not stored yet.
type recentFirst struct {
	recent *recentBlocks
	Source
}

func (s recentFirst) Get(ctx context.Context, id cid.Cid) ([]byte, error) {
	if b := s.recent.get(id); b != nil {
		return b, nil
	}
	return s.Source.Get(ctx, id)
}

func (s recentFirst) Has(ctx context.Context, id cid.Cid) (bool, error) {
	if s.recent.get(id) != nil {
		return true, nil
	}
	return s.Source.Has(ctx, id)
}
