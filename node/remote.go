package node

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/p2p"
)

// remote is the swarm as a diffupload.Store: blocks of one job, from peers
// that may have them, asked one after the other. It stores nothing.
type remote struct {
	blocks    p2p.Blocks
	from      []peer.ID
	requester peer.ID
	job       job.ID
	grant     job.Signed
	moved     atomic.Int64 // bytes that crossed the network
}

var _ diffupload.Store = (*remote)(nil)

// Missing says that nothing is: only fetching shows what the peers hold.
func (r *remote) Missing(context.Context, []cid.Cid) ([]cid.Cid, error) { return nil, nil }

// Put refuses: blocks go to peers when they ask for them.
func (r *remote) Put(context.Context, cid.Cid, []byte) error {
	return errors.New("the swarm stores no blocks")
}

// Fetch implements diffupload.Store. A peer's trouble is reported only for the
// blocks that no later peer gave.
func (r *remote) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		open := map[cid.Cid]diffupload.Want{}
		var order []cid.Cid
		for _, w := range wants {
			if _, twice := open[w.ID]; !twice {
				open[w.ID] = w
				order = append(order, w.ID)
			}
		}
		var trouble error
		for _, p := range r.from {
			req := p2p.BlockRequest{Requester: r.requester, Job: r.job, Grant: r.grant}
			for _, id := range order {
				if w, ok := open[id]; ok {
					req.Wants = append(req.Wants, p2p.BlockWant{ID: w.ID, Bases: w.Bases})
				}
			}
			if len(req.Wants) == 0 {
				return
			}
			for b, err := range r.blocks.FetchFrom(ctx, p, req) {
				if err != nil {
					trouble = err
					break
				}
				r.moved.Add(b.Moved)
				if b.Err != nil {
					trouble = b.Err
					continue
				}
				if _, ok := open[b.ID]; !ok {
					continue
				}
				delete(open, b.ID)
				if !yield(diffupload.Block{ID: b.ID, Data: b.Data}, nil) {
					return
				}
			}
			if ctx.Err() != nil {
				trouble = context.Cause(ctx)
				break
			}
		}
		for _, id := range order {
			if _, ok := open[id]; !ok {
				continue
			}
			err := diffupload.ErrNotFound
			if trouble != nil {
				err = fmt.Errorf("%w: %w", diffupload.ErrNotFound, trouble)
			}
			if !yield(diffupload.Block{ID: id}, err) {
				return
			}
		}
	}
}
