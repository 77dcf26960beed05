package node

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/p2p"
)

// gatherPart is which part of a content's progress its blocks are; the rest is
// the writing of its files.
const gatherPart = 0.9

// gather brings the blocks of a manifest that is new here into the store, many
// at a time: only then do those who fetch the same content have something to
// swap. What does not come is left to the unpacking, which says what it lacks.
func (f *fetching) gather(ctx context.Context, limit int64, progress func(part float64)) error {
	if len(f.far.from) == 0 {
		return nil
	}
	var group []cid.Cid
	seen := map[cid.Cid]bool{}
	done, size := int64(0), max(1, f.top.Size)
	flush := func() error {
		missing, err := f.a.store.Missing(ctx, group)
		group = group[:0]
		clear(seen)
		if err != nil || len(missing) < shareFrom {
			return err // the unpacking fetches what is few
		}
		wants := make([]diffupload.Want, len(missing))
		for i, id := range missing {
			wants[i].ID = id
		}
		for b, err := range f.store.Fetch(ctx, wants) {
			if err != nil {
				if !b.ID.Defined() {
					return err // the store's
				}
				continue
			}
			// A manifest may link to more than its sizes add up to.
			if done += int64(len(b.Data)); done > limit {
				return fmt.Errorf("manifest %s: its chunks have more than the %d bytes that this machine takes (worker.tree_bytes)", f.root, limit)
			}
			progress(min(1, float64(done)/float64(size)))
		}
		return context.Cause(ctx)
	}
	for id, err := range diffupload.Walk(ctx, f.store, f.root) {
		if err != nil {
			return fmt.Errorf("manifest %s: %w", f.root, err)
		}
		if id.Type() != cid.Raw || seen[id] {
			continue
		}
		seen[id] = true
		if group = append(group, id); len(group) == p2p.MaxGather {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
