package node

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/p2p"
)

// editor is a store as p2p.Editor.
type editor struct{ store diffupload.Store }

var _ p2p.Editor = editor{}

// Edits implements p2p.Editor. The manifest of a job that ended may be gone,
// because nothing pins it: then there are no edits, and that is all.
func (e editor) Edits(ctx context.Context, have, want cid.Cid) ([]byte, error) {
	return diffupload.Edits(ctx, e.store, have, want)
}

// editsPeers is how many peers are asked for edits, the requester first:
// waiting for one more costs more than the blocks that it could save.
const editsPeers = 3

// fetching is a manifest that is being brought here.
type fetching struct {
	a         *assets
	requester peer.ID
	lease     job.Lease
	root      cid.Cid
	top       *diffupload.TreeNode
	store     diffupload.Store // what is here, then the peers
	far       *remote
}

// fetchTop gets the top of a manifest, which says how much is below it. What
// came of the requester before serves as bases: a folder of many files differs
// in few bytes from what it was.
func (f *fetching) fetchTop(ctx context.Context, known []earlierContent) error {
	w := diffupload.Want{ID: f.root}
	for _, c := range known[:min(len(known), topBases)] {
		w.Bases = append(w.Bases, c.Root.Cid)
	}
	var err error
	for b, e := range f.store.Fetch(ctx, []diffupload.Want{w}) {
		if e != nil || b.ID != f.root {
			err = errors.Join(err, e)
			continue
		}
		f.top, err = topOf(b.Data)
	}
	switch {
	case err == nil && f.top == nil:
		err = errors.Join(diffupload.ErrNotFound, context.Cause(ctx))
		fallthrough
	case err != nil:
		return fmt.Errorf("manifest %s: %w", f.root, err)
	}
	return nil
}

// sizeOf is how many bytes the files have that are wanted.
func (f *fetching) sizeOf(ctx context.Context, wanted func(name string) bool) (size int64, err error) {
	files, err := diffupload.List(ctx, f.store, f.root, diffupload.Limits{Only: wanted})
	if err != nil {
		return 0, fmt.Errorf("manifest %s: %w", f.root, err)
	}
	for _, e := range files {
		size += e.Size
	}
	return size, nil
}

// topBases is how many bases are named for the top of a manifest.
const topBases = 3

func topOf(b []byte) (*diffupload.TreeNode, error) {
	n, err := diffupload.DecodeNode(b)
	if err != nil {
		return nil, err
	}
	top, ok := n.(*diffupload.TreeNode)
	if !ok {
		return nil, errors.New("not a tree")
	}
	return top, nil
}

// base picks the content that this one most likely was before, of those whose
// manifest is still here.
func (f *fetching) base(ctx context.Context, known []earlierContent) (earlierContent, bool) {
	tops := make([]*diffupload.TreeNode, len(known))
	for i, c := range known {
		if b, err := diffupload.Get(ctx, f.a.store, c.Root.Cid); err == nil {
			tops[i], _ = topOf(b) // what cannot be read is no base
		}
	}
	i := nearest(f.top, tops)
	if i < 0 {
		return earlierContent{}, false
	}
	return known[i], true
}

// edit makes as much as it can of the manifest, where something is lacking, from
// the base and one document of edits, and remembers what the rest is like. It
// returns which of the rest is worth gathering; what else is lacking comes as
// blocks, few at a time.
func (f *fetching) edit(ctx context.Context, base earlierContent, lacking bool, limits diffupload.Limits) (lacked, error) {
	if len(base.Body) > 0 && lacking {
		if r, ok := f.rebuild(ctx, base, limits); ok {
			if limits.Only != nil {
				return f.whole(ctx, limits) // the document names what others read as well
			}
			return named(r), nil
		}
	}
	return f.rest(ctx, base.Root.Cid, onDisk{}, limits)
}

// rebuild has peers make the document of edits, and applies it.
func (f *fetching) rebuild(ctx context.Context, base earlierContent, limits diffupload.Limits) (diffupload.RebuildResult, bool) {
	to := pinning{f.a.store, input(f.requester, f.lease.Job)}
	asked := 0
	for i, p := range f.far.from {
		if i > 0 && p == f.requester { // it is near, too
			continue
		}
		if asked++; asked > editsPeers || ctx.Err() != nil {
			break
		}
		doc, moved, err := f.a.blocks.EditsFrom(ctx, p, p2p.EditsRequest{
			Requester: f.requester, Job: f.lease.Job, Grant: f.lease.Read,
			Want: f.root, Have: base.Root.Cid, Past: base.grant(),
		})
		f.far.moved.Add(moved)
		if err == nil {
			var r diffupload.RebuildResult
			if r, err = diffupload.Rebuild(ctx, to, base.Root.Cid, f.root, doc, limits); err == nil {
				f.store = withBases(f.store, r.Named)
				f.a.debug("content rebuilt from edits", "job", f.lease.Job, "peer", p, "have", base.Root, "want", f.root,
					"document_bytes", len(doc), "named_blocks", len(r.Named))
				return r, true
			}
		}
		f.a.debug("no edits", "job", f.lease.Job, "peer", p, "have", base.Root, "want", f.root, "err", err)
	}
	return diffupload.RebuildResult{}, false
}

// lacks reports whether something that the top links to is not here: where all
// of it is, the manifest was fetched before, in whole or for the most part.
func (f *fetching) lacks(ctx context.Context) bool {
	var ids []cid.Cid
	for _, e := range f.top.Entries {
		if e.CID.Defined() {
			ids = append(ids, e.CID.Cid)
		}
	}
	missing, err := f.a.store.Missing(ctx, ids)
	return err == nil && len(missing) > 0
}

// pinning is a store that pins what is put into it, before it is put, as Tiered
// does with what it fetches.
type pinning struct {
	blockStore
	owner string
}

var _ diffupload.PutManyer = pinning{}

// Put implements diffupload.Store.
func (p pinning) Put(ctx context.Context, id cid.Cid, data []byte) error {
	return p.PutMany(ctx, []diffupload.Block{{ID: id, Data: data}})
}

// PutMany implements diffupload.PutManyer.
func (p pinning) PutMany(ctx context.Context, blocks []diffupload.Block) error {
	ids := make([]cid.Cid, len(blocks))
	for i, b := range blocks {
		ids[i] = b.ID
	}
	if err := p.Pin(ctx, p.owner, ids); err != nil {
		return err
	}
	return diffupload.PutMany(ctx, p.blockStore, blocks)
}

// based is a store that is asked with the bases that are known to be right.
type based struct {
	diffupload.Store
	bases map[cid.Cid][]cid.Cid
}

func withBases(s diffupload.Store, known []diffupload.Want) diffupload.Store {
	b := based{s, make(map[cid.Cid][]cid.Cid, len(known))}
	for _, w := range known {
		if len(w.Bases) > 0 {
			b.bases[w.ID] = w.Bases
		}
	}
	return b
}

// Fetch implements diffupload.Store.
func (s based) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	asked := make([]diffupload.Want, len(wants))
	for i, w := range wants {
		if known := s.bases[w.ID]; known != nil {
			w.Bases = known
		}
		asked[i] = w
	}
	return s.Store.Fetch(ctx, asked)
}
