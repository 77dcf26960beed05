package node

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/p2p"
)

// holders are the members that are connected, as a store of the Blenders that
// they share.
type holders struct {
	blocks p2p.Blocks
	near   func() []peer.ID
	moved  atomic.Int64

	mu   sync.Mutex
	gave peer.ID // who gave something last
}

var _ diffupload.Store = (*holders)(nil)

// Missing says that nothing is: only fetching shows what members share.
func (h *holders) Missing(context.Context, []cid.Cid) ([]cid.Cid, error) { return nil, nil }

// Put refuses.
func (h *holders) Put(context.Context, cid.Cid, []byte) error {
	return errors.New("members store no blocks")
}

// Fetch asks one member after the other, first the one that gave something last.
func (h *holders) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		open := map[cid.Cid]bool{}
		for _, w := range wants {
			open[w.ID] = true
		}
		h.mu.Lock()
		gave := h.gave
		h.mu.Unlock()
		peers := h.near()
		slices.SortStableFunc(peers, func(a, b peer.ID) int {
			return cmp.Compare(btoi(b == gave), btoi(a == gave))
		})
		for _, p := range peers {
			req := p2p.BlockRequest{Requester: p, Job: treesJob}
			for _, w := range wants {
				if open[w.ID] {
					req.Wants = append(req.Wants, p2p.BlockWant{ID: w.ID})
				}
			}
			if len(req.Wants) == 0 || ctx.Err() != nil {
				break
			}
			for b, err := range h.blocks.FetchFrom(ctx, p, req) {
				if err != nil {
					break
				}
				h.moved.Add(b.Moved)
				if b.Err != nil || !open[b.ID] {
					continue
				}
				delete(open, b.ID)
				h.mu.Lock()
				h.gave = p
				h.mu.Unlock()
				if !yield(diffupload.Block{ID: b.ID, Data: b.Data}, nil) {
					return
				}
			}
		}
		for _, w := range wants {
			if open[w.ID] {
				delete(open, w.ID)
				if !yield(diffupload.Block{ID: w.ID}, diffupload.ErrNotFound) {
					return
				}
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// nowhere is a store that keeps nothing.
type nowhere struct{}

func (nowhere) Missing(_ context.Context, ids []cid.Cid) ([]cid.Cid, error) { return ids, nil }
func (nowhere) Put(context.Context, cid.Cid, []byte) error                  { return nil }
func (nowhere) Fetch(_ context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		for _, w := range wants {
			if !yield(diffupload.Block{ID: w.ID}, diffupload.ErrNotFound) {
				return
			}
		}
	}
}
