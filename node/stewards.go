package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/steward"
	"idlewild/node/worker"
	"idlewild/p2p"
)

// NoSteward, as the one steward of a job, says that it shall have none, whatever
// the settings say.
const NoSteward = "none"

// wards is steward.Store: what this machine keeps of others' jobs.
type wards struct {
	store  blockStore
	blocks p2p.Blocks
	near   func() []peer.ID
}

// wardBatch is how many blocks are pinned and fetched at a time.
const wardBatch = 256

// Hold implements steward.Store.
func (w wards) Hold(ctx context.Context, requester peer.ID, id job.ID, read job.Signed, roots []job.Ref) error {
	owner := wardOf(requester, id)
	far := &remote{blocks: w.blocks, from: append([]peer.ID{requester}, w.near()...), requester: requester, job: id, grant: read}
	tier := &diffupload.Tiered{Local: w.store, Remote: far, Owner: owner}
	for _, root := range roots {
		err := w.each(ctx, tier, root, func(ids []cid.Cid) error {
			if err := w.store.Pin(ctx, owner, ids); err != nil {
				return err
			}
			missing, err := w.store.Missing(ctx, ids)
			if err != nil || len(missing) == 0 {
				return err
			}
			wants := make([]diffupload.Want, len(missing))
			for i, m := range missing {
				wants[i].ID = m
			}
			for _, err := range tier.Fetch(ctx, wants) {
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each hands out the blocks below root, some at a time.
func (w wards) each(ctx context.Context, from diffupload.Store, root job.Ref, f func([]cid.Cid) error) error {
	if !root.Defined() {
		return nil
	}
	var ids []cid.Cid
	for id, err := range diffupload.Blocks(ctx, from, root.Cid) {
		if err != nil {
			return err
		}
		if ids = append(ids, id); len(ids) == wardBatch {
			if err := f(ids); err != nil {
				return err
			}
			ids = ids[:0]
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return f(ids)
}

// Serve implements steward.Store.
func (w wards) Serve(ctx context.Context, requester peer.ID, id job.ID, content job.Ref, results []job.Ref) error {
	pin := func(owner string) func([]cid.Cid) error {
		return func(ids []cid.Cid) error { return w.store.Pin(ctx, owner, ids) }
	}
	if err := w.each(ctx, w.store, content, pin(ownContent(id))); err != nil {
		return err
	}
	for _, r := range results {
		if err := w.each(ctx, w.store, r, pin(ownResults(id))); err != nil {
			return err
		}
	}
	return nil
}

// Drop implements steward.Store.
func (w wards) Drop(ctx context.Context, requester peer.ID, id job.ID) error {
	return w.store.Unpin(ctx, wardOf(requester, id))
}

// ward keeps a result for the requester whose job this machine goes on with.
func (c *content) ward(ctx context.Context, x dispatch.Returned) error {
	w := wards{store: c.store}
	for _, o := range x.Leaf.Outputs {
		err := w.each(ctx, c.store, o.File, func(ids []cid.Cid) error { return c.store.Pin(ctx, wardOf(x.Origin, x.Job), ids) })
		if err != nil {
			return fmt.Errorf("keep a result for %s: %w", x.Origin, err)
		}
	}
	return nil
}

// newSteward makes this machine one that has stewards, and is one where its
// owner lets it.
func (n *Node) newSteward(dir string) (*steward.Part, error) {
	p, err := steward.New(steward.Deps{
		Self: n.self, Key: n.key, Jobs: n.jobs, Net: n.host, Store: wards{store: n.blocks, blocks: n.host, near: n.near},
		Members: n.near, Hears: n.worker.Hears, Dir: dir, Log: n.log,
		Heed: func(c steward.Claim) string { return string(n.worker.Claim(worker.Claim(c))) },
		Accept: func(requester peer.ID) error {
			switch only := n.cfg.Steward.OnlyFrom; {
			case !n.cfg.Steward.Enabled:
				return errors.New("its owner does not want it to be a steward (steward.enabled)")
			case len(only) > 0 && !n.named(only, requester):
				return errors.New("its owner lets it be a steward for others only (steward.only_from)")
			}
			return nil
		},
	}, n.cfg.stewardTimes)
	if err == nil {
		n.host.ServeSteward(p)
	}
	return p, err
}
