package diffupload

import (
	"context"
	"sort"

	"github.com/ipfs/go-cid"
)

// bases finds, for chunks of a manifest that is being fetched, chunks of
// another one that are probably like them: those of the file of the same name
// at about the same place. Everything is read from what is here already; what
// cannot be read only means fewer bases. It belongs to one goroutine.
type bases struct {
	ctx   context.Context
	store Store
	files map[string]Entry
	name  string // of the file whose chunks are loaded
	size  int64
	at    []placed
}

// placed is a chunk and where it begins in its file.
type placed struct {
	off int64
	id  cid.Cid
}

// openBases lists the manifest at root; nil where there is none to use.
func openBases(ctx context.Context, store Store, root cid.Cid) *bases {
	if !root.Defined() {
		return nil
	}
	list, err := List(ctx, store, root, Limits{})
	if err != nil {
		return nil
	}
	b := &bases{ctx: ctx, store: store, files: make(map[string]Entry, len(list))}
	for _, f := range list {
		b.files[f.Name] = f
	}
	return b
}

// of returns up to three chunks that the chunk at off, of a file with size
// bytes, may be like: what lay there counted from the beginning of the old
// file, its neighbour, and what lay there counted from its end.
func (b *bases) of(name string, off, size int64) []cid.Cid {
	if b == nil {
		return nil
	}
	if name != b.name {
		b.load(name)
	}
	if len(b.at) == 0 {
		return nil
	}
	i := b.index(off)
	near := []int{i, i + 1, b.index(off + b.size - size)}
	var out []cid.Cid
	seen := map[int]bool{}
	for _, n := range near {
		if n >= 0 && n < len(b.at) && !seen[n] {
			seen[n] = true
			out = append(out, b.at[n].id)
		}
	}
	return out
}

// index is that of the chunk in which off lies.
func (b *bases) index(off int64) int {
	return sort.Search(len(b.at), func(i int) bool { return b.at[i].off > off }) - 1
}

func (b *bases) load(name string) {
	b.name, b.size, b.at = name, 0, nil
	f, ok := b.files[name]
	if !ok {
		return
	}
	switch f.Kind {
	case KindInline:
		return
	case KindChunk:
		b.size, b.at = f.Size, []placed{{0, f.CID.Cid}}
		return
	}
	nodes, err := fetchNodes(b.ctx, b.store, []cid.Cid{f.CID.Cid})
	if err != nil {
		return
	}
	n, ok := nodes[0].(*FileNode)
	if !ok {
		return
	}
	b.size = n.Size
	b.walk(0, n.Depth, n.Links)
}

func (b *bases) walk(off int64, depth int, links []Link) {
	for _, l := range links {
		if depth == 0 {
			b.at = append(b.at, placed{off, l.CID.Cid})
		} else if nodes, err := fetchNodes(b.ctx, b.store, []cid.Cid{l.CID.Cid}); err == nil {
			if n, ok := nodes[0].(*PartNode); ok && n.Depth == depth-1 {
				b.walk(off, n.Depth, n.Links)
			}
		}
		off += l.Size
	}
}
