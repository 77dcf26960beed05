package diffupload

import (
	"context"
	"io"
	"sort"

	"idlewild/diffupload/blendfile"
	"idlewild/diffupload/delta"
)

// datablockHints are hints that lead from datablocks in fresh leaves to the
// datablocks of the same name in the base bytes, wherever in their files either
// lies. A file that cannot be read as a .blend has none.
func (e *editor) datablockHints(b *baseBytes) []delta.Hint {
	var hints []delta.Hint
	at := 0 // in the fresh bytes
	for _, n := range e.news {
		if n.flat.pixels() {
			continue
		}
		fresh := n.freshSpans()
		if n.base >= 0 && n.flat.encoding == BlendCanonical && n.from.encoding == BlendCanonical && len(fresh) > 0 {
			is, err := blendfile.IDs(e.ctx, newLeafReader(e.ctx, e.store, n.flat.leaves), n.flat.size)
			was, werr := blendfile.IDs(e.ctx, newLeafReader(e.ctx, e.store, n.from.leaves), n.from.size)
			if err == nil && werr == nil {
				hints = append(hints, n.match(fresh, at, is, was, b)...)
			}
		}
		for _, f := range fresh {
			at += f.Len
		}
	}
	return hints
}

// freshSpans are where in the new file the fresh leaves lie.
func (n *newFile) freshSpans() []delta.Span {
	offs := offsets(n.flat.leaves)
	var out []delta.Span
	for _, op := range n.ops {
		if op.fresh() {
			for k := op.at; k < op.at+op.n; k++ {
				out = append(out, delta.Span{Off: int(offs[k]), Len: int(n.flat.leaves[k].size)})
			}
		}
	}
	return out
}

// offsets are where leaves begin in their file, and where it ends.
func offsets(leaves []leaf) []int64 {
	out := make([]int64, len(leaves)+1)
	for i, l := range leaves {
		out[i+1] = out[i] + l.size
	}
	return out
}

// leastCounterpart is how far into an old datablock a hint may always lead. It
// leads no farther than four times what it is for: all of what it names is
// indexed, for each fresh leaf of a datablock once more.
const leastCounterpart = 1 << 20

// counterpartLeaves is how many old leaves a hint may lead over.
const counterpartLeaves = 1 << 10

// match finds, for the datablocks is of the new file that lie in fresh spans,
// those of the old file in the base bytes.
func (n *newFile) match(fresh []delta.Span, at int, is, was []blendfile.ID, b *baseBytes) []delta.Hint {
	old := make(map[string]blendfile.ID, len(was))
	for _, id := range was {
		old[id.Key] = id
	}
	offs := offsets(n.from.leaves)
	var hints []delta.Hint
	i := 0
	for _, f := range fresh {
		for i > 0 && int(is[i-1].Offset+is[i-1].Length) > f.Off {
			i-- // a datablock may reach over several spans
		}
		for ; i < len(is) && int(is[i].Offset) < f.Off+f.Len; i++ {
			id := is[i]
			from, to := max(int(id.Offset), f.Off), min(int(id.Offset+id.Length), f.Off+f.Len)
			o, ok := old[id.Key]
			if !ok || from >= to {
				continue
			}
			skip := from - int(id.Offset) // of the datablock
			if skip >= int(o.Length) {
				continue
			}
			most := max(leastCounterpart, 4*(to-from))
			if base, ok := n.oldSpan(b, offs, int(o.Offset)+skip, min(int(o.Length)-skip, most)); ok {
				hints = append(hints, delta.Hint{New: delta.Span{Off: at + from - f.Off, Len: to - from}, Base: base})
			}
		}
		at += f.Len
	}
	return hints
}

// oldSpan is where bytes of the old file lie in the base bytes, as far as
// they do in one piece.
func (n *newFile) oldSpan(b *baseBytes, offs []int64, off, length int) (delta.Span, bool) {
	k := sort.Search(len(offs), func(i int) bool { return offs[i] > int64(off) }) - 1
	out := delta.Span{}
	end := min(len(n.from.leaves), k+counterpartLeaves)
	for ; k >= 0 && k < end && length > 0; k++ {
		s, ok := b.place(n.base, k)
		if !ok {
			break
		}
		skip := max(0, off-int(offs[k]))
		if out.Len == 0 {
			out.Off = s.Off + skip
		} else if out.Off+out.Len != s.Off {
			break
		}
		take := min(length, s.Len-skip)
		out.Len += take
		length -= take
	}
	return out, out.Len > 0
}

// leafReader reads a file by its leaves, of which it keeps the last.
type leafReader struct {
	ctx    context.Context
	store  Store
	leaves []leaf
	offs   []int64
	last   int
	data   []byte
	left   *int64 // bytes of leaves that may still be read; nil: any number
}

func newLeafReader(ctx context.Context, store Store, leaves []leaf) *leafReader {
	return &leafReader{ctx: ctx, store: store, leaves: leaves, offs: offsets(leaves), last: -1}
}

// ReadAt implements io.ReaderAt.
func (r *leafReader) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		i := sort.Search(len(r.offs), func(i int) bool { return r.offs[i] > off }) - 1
		if i < 0 || i >= len(r.leaves) {
			return n, io.EOF
		}
		if i != r.last {
			if r.left != nil {
				if *r.left -= r.leaves[i].size; *r.left < 0 {
					return n, editsf("too many bytes of old files for what they are to make")
				}
			}
			var err error
			if r.data, err = r.leaves[i].bytes(r.ctx, r.store); err != nil {
				return n, err
			}
			r.last = i
		}
		k := copy(p[n:], r.data[off-r.offs[i]:])
		n += k
		off += int64(k)
	}
	return n, nil
}
