package node

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/p2p"
)

// gatherPart is which part of a content's progress its blocks are; the rest is
// the writing of its files.
const gatherPart = 0.9

// gatherFile is from which size on a new file is looked into for what to
// gather, where no document of edits says what is new: smaller ones are found
// faster by the unpacking, which asks for many at once.
const gatherFile = 1 << 20

// lacked are chunks of a content that are to be gathered.
type lacked struct {
	chunks iter.Seq2[cid.Cid, error] // other blocks are passed over
	size   int64                     // about, for the progress
}

// whole is all of a content that is new here, as far as limits want it.
func (f *fetching) whole(ctx context.Context, limits diffupload.Limits) (lacked, error) {
	if limits.Only == nil {
		return lacked{diffupload.Walk(ctx, f.store, f.root), f.top.Size}, nil
	}
	files, err := diffupload.List(ctx, f.store, f.root, limits)
	if err != nil {
		return lacked{}, fmt.Errorf("manifest %s: %w", f.root, err)
	}
	return f.files(ctx, files), nil
}

// files are the chunks of some files.
func (f *fetching) files(ctx context.Context, files []diffupload.Entry) (l lacked) {
	for _, e := range files {
		l.size += e.Size
	}
	l.chunks = func(yield func(cid.Cid, error) bool) {
		for _, e := range files {
			switch e.Kind {
			case diffupload.KindChunk:
				if !yield(e.CID.Cid, nil) {
					return
				}
			case diffupload.KindFile:
				for id, err := range diffupload.Walk(ctx, f.store, e.CID.Cid) {
					if !yield(id, err) {
						return
					}
				}
			}
		}
	}
	return l
}

// named is what a document of edits left to be fetched.
func named(r diffupload.RebuildResult) lacked {
	return lacked{func(yield func(cid.Cid, error) bool) {
		for _, w := range r.Named {
			if !yield(w.ID, nil) {
				return
			}
		}
	}, r.NamedBytes}
}

// rest is what large files hold that neither the base, where there is one, knows
// by name nor a disk has. Of others parts may be here, or be like what is here,
// and the unpacking asks for them.
func (f *fetching) rest(ctx context.Context, base cid.Cid, disk onDisk, limits diffupload.Limits) (lacked, error) {
	files, err := diffupload.List(ctx, f.store, f.root, limits)
	if err != nil {
		return lacked{}, fmt.Errorf("manifest %s: %w", f.root, err)
	}
	known := map[string]bool{}
	if base.Defined() {
		// A list that cannot be read is as good as none.
		before, _ := diffupload.List(ctx, f.a.store, base, limits)
		for _, e := range before {
			known[e.Name] = true
		}
	}
	files = slices.DeleteFunc(files, func(e diffupload.Entry) bool {
		return e.Kind != diffupload.KindFile || e.Size < gatherFile || known[e.Name] || disk.has(e.Name)
	})
	return f.files(ctx, files), nil
}

// gather brings chunks into the store, many at a time: only then do those who
// fetch the same content have something to swap. What does not come is left to
// the unpacking, which says what it lacks.
func (f *fetching) gather(ctx context.Context, l lacked, limit int64, progress func(part float64)) error {
	if len(f.far.from) == 0 || l.chunks == nil {
		return nil
	}
	var group []cid.Cid
	seen := map[cid.Cid]bool{}
	done, size := int64(0), max(1, l.size)
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
	for id, err := range l.chunks {
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
