package diffupload

import (
	"context"
	"slices"
	"sort"

	"github.com/ipfs/go-cid"
)

// bases finds, for chunks of a manifest that is being fetched, chunks that are
// probably like them: those at about the same place in the file of an earlier
// manifest that baseFile finds, or in the frame before, of the same manifest,
// where that is nearer. Everything is read from what is here already; what
// cannot be read only means fewer bases. It belongs to one goroutine.
type bases struct {
	ctx   context.Context
	store Store
	old   *baseFiles
	fresh map[string]Entry // what is being fetched
	last  map[string]Entry // of that, by name without digits, what was asked for last

	name     string // of the file whose base is loaded
	size     int64
	at       []placed
	arriving bool // the base is being fetched itself
}

// placed is a chunk and where it begins in its file.
type placed struct {
	off int64
	id  cid.Cid
}

// openBases lists the earlier manifest, if there is one, for the files that are
// going to be asked for.
func openBases(ctx context.Context, earlier Earlier, files []Entry) *bases {
	b := &bases{ctx: ctx, store: earlier.Store, fresh: make(map[string]Entry, len(files)), last: map[string]Entry{}}
	var list []Entry
	if earlier.Root.Defined() {
		// A list that cannot be read is as good as none.
		list, _ = List(ctx, earlier.Store, earlier.Root, Limits{})
	}
	b.old = newBaseFiles(list)
	for _, f := range files {
		b.fresh[f.Name] = f
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
	b.load(name, size)
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
	if b.arriving {
		missing, err := b.store.Missing(b.ctx, out)
		if err != nil {
			return nil
		}
		out = slices.DeleteFunc(out, func(id cid.Cid) bool { return slices.Contains(missing, id) })
	}
	return out
}

// worthWaiting is the size from which a file waits for its base to come: it
// takes longer than the round trip that the wait costs.
const worthWaiting = 1 << 20

// coming reports whether the base of a file is on its way, and the file large
// enough that it should come first.
func (b *bases) coming(name string, size int64) bool {
	if b == nil || size < worthWaiting {
		return false
	}
	b.load(name, size)
	if !b.arriving {
		return false
	}
	ids := make([]cid.Cid, len(b.at))
	for i, p := range b.at {
		ids[i] = p.id
	}
	missing, err := b.store.Missing(b.ctx, ids)
	return err == nil && len(missing) > 0
}

// base is the file whose chunks are bases of those of the file with the given
// name, and whether it is being fetched itself.
func (b *bases) base(name string, size int64) (e Entry, arriving, ok bool) {
	key, numbers := splitNumbers(name)
	before, sequence := b.last[key]
	b.last[key] = b.fresh[name]
	if i, ok := b.old.names[name]; ok {
		return b.old.list[i], false, true
	}
	i, ok := b.old.frame(key, numbers)
	if sequence {
		_, then := splitNumbers(before.Name)
		if !ok || !nearer(numbers, b.old.numbers[i], then) {
			return before, true, true
		}
	}
	if !ok {
		i, ok = b.old.likely(name, size)
	}
	if !ok {
		return Entry{}, false, false
	}
	return b.old.list[i], false, true
}

// index is that of the chunk in which off lies.
func (b *bases) index(off int64) int {
	return sort.Search(len(b.at), func(i int) bool { return b.at[i].off > off }) - 1
}

// load finds the base of a file and its chunks, once per file.
func (b *bases) load(name string, size int64) {
	if name == b.name {
		return
	}
	b.name, b.size, b.at, b.arriving = name, 0, nil, false
	f, arriving, ok := b.base(name, size)
	if !ok {
		return
	}
	b.arriving = arriving
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
