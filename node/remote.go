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
	"idlewild/node/worker"
	"idlewild/p2p"
)

// shareFrom is from how many blocks on all peers are asked at once. Of fewer
// there is nothing to swap, and the requester's answer is here sooner.
const shareFrom = 96

// remote is the swarm as a diffupload.Store: blocks of one job, from peers
// that may have them: all of them together where it is many blocks, else one
// after the other. It stores nothing.
type remote struct {
	blocks    p2p.Blocks
	from      []peer.ID
	requester peer.ID
	job       job.ID
	grant     job.Signed
	urgent    bool         // somebody waits for them, whatever the context says
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
		// lacking asks for what is open, at most max blocks.
		lacking := func(max int) p2p.BlockRequest {
			req := p2p.BlockRequest{Requester: r.requester, Job: r.job, Grant: r.grant, Urgent: r.urgent || worker.Waiting(ctx)}
			for _, id := range order {
				if w, ok := open[id]; ok && len(req.Wants) < max {
					req.Wants = append(req.Wants, p2p.BlockWant{ID: w.ID, Bases: w.Bases})
				}
			}
			return req
		}
		// take hands on what comes. It reports whether the reader wants more.
		take := func(results iter.Seq2[p2p.BlockResult, error]) (more bool, err error) {
			for b, err := range results {
				if err != nil {
					trouble = err
					return true, err
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
					return false, nil
				}
			}
			return true, nil
		}
		// A result has one holder, who is not its requester.
		for len(r.from) > 0 && r.from[0] == r.requester && len(open) >= shareFrom && ctx.Err() == nil {
			before := len(open)
			more, err := take(r.blocks.Gather(ctx, p2p.ShareRequest{BlockRequest: lacking(p2p.MaxGather), Near: r.from[1:]}))
			if !more {
				return
			}
			if err != nil || len(open) == before {
				break // what is left is asked for one by one, and says what is wrong
			}
		}
		for _, p := range r.from {
			if ctx.Err() != nil {
				trouble = context.Cause(ctx)
				break
			}
			req := lacking(len(order))
			if len(req.Wants) == 0 {
				return
			}
			if more, _ := take(r.blocks.FetchFrom(ctx, p, req)); !more {
				return
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
