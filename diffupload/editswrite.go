package diffupload

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"

	"idlewild/diffupload/delta"
	"idlewild/internal/digest"
	"idlewild/internal/encoders"
)

// document writes it all down.
func (e *editor) document() ([]byte, error) {
	structure := e.structure()
	var flags byte
	if z := packedEnc.EncodeAll(structure, nil); len(z) < len(structure) {
		structure, flags = z, flagPacked
	}
	var fresh, pixels []byte
	for _, n := range e.news {
		var was *leafReader
		if n.flat.pixels() {
			was = newLeafReader(e.ctx, e.store, n.from.leaves)
		}
		spans := n.freshSpans()
		for i, l := range n.freshLeaves() {
			b, err := l.bytes(e.ctx, e.store)
			if err != nil {
				return nil, err
			}
			if was == nil {
				fresh = append(fresh, b...)
				continue
			}
			old := make([]byte, len(b))
			k, err := was.ReadAt(old, int64(spans[i].Off))
			if err != nil && err != io.EOF {
				return nil, err
			}
			pixels = append(pixels, less(b, old[:k])...)
		}
	}
	var packed []byte
	if len(pixels) > 0 {
		flags |= flagLess
		packed = packedEnc.EncodeAll(pixels, nil)
	}
	var patch []byte
	if len(fresh) > 0 {
		var err error
		var copied bool
		if patch, copied, err = e.patch(fresh); err != nil {
			return nil, err
		}
		flags |= flagPatch
		if copied {
			flags |= flagCopied
		}
	}
	doc := binary.AppendUvarint([]byte{flags}, uint64(len(structure)))
	doc = append(doc, structure...)
	if len(packed) > 0 {
		doc = append(binary.AppendUvarint(doc, uint64(len(packed))), packed...)
	}
	return append(doc, patch...), nil
}

// patch makes the fresh bytes out of base bytes, and says whether copied leaves
// are among these. A small edit takes little of anything; a larger one is
// worth looking for what it is like, for what was added is often like what
// stayed.
func (e *editor) patch(fresh []byte) (patch []byte, copied bool, err error) {
	if len(fresh) <= smallFresh {
		b, err := e.base(false)
		if err != nil {
			return nil, false, err
		}
		if patch = delta.Encode(b.data, fresh, e.hints(b)); len(patch) <= smallPatch {
			return patch, false, nil
		}
	}
	b, err := e.base(true)
	if err != nil {
		return nil, false, err
	}
	hints := e.datablockHints(b)
	if len(hints) == 0 {
		hints = e.hints(b)
	}
	if p := delta.Encode(b.data, fresh, hints); patch == nil || len(p) < len(patch) {
		return p, true, nil
	}
	return patch, false, nil
}

// Bounds of what is taken for a small edit.
const (
	smallFresh = 256 << 10
	smallPatch = 200
)

func (e *editor) structure() []byte {
	var b []byte
	put := func(n int, kind byte) { b = binary.AppendUvarint(b, uint64(n)<<2|uint64(kind)) }
	var kept, dropped int
	flush := func() {
		if kept > 0 {
			put(kept, fileKeep)
		}
		if dropped > 0 {
			put(dropped, fileDrop)
		}
		kept, dropped = 0, 0
	}
	keep := func() {
		if dropped > 0 {
			flush()
		}
		kept++
	}
	drop := func() {
		if kept > 0 {
			flush()
		}
		dropped++
	}
	i, last := 0, ""
	news := e.news
	for at, f := range e.fresh {
		for i < len(e.old) && e.old[i].Name < f.Name {
			drop()
			i++
		}
		old := i < len(e.old) && e.old[i].Name == f.Name
		if len(news) == 0 || news[0].at != at {
			keep()
			i++
			last = f.Name
			continue
		}
		n := news[0]
		news = news[1:]
		flush()
		form := formFirst + n.flat.form()
		switch {
		case n.same >= 0:
			form = formOther
		case n.base >= 0 && n.flat.form() == n.from.form():
			form = formSame
		}
		if old {
			put(form, fileChange)
			i++
		} else {
			put(form, fileAdd)
			common := commonPrefix(last, f.Name)
			b = binary.AppendUvarint(b, uint64(common))
			b = binary.AppendUvarint(b, uint64(len(f.Name)-common))
			b = append(b, f.Name[common:]...)
		}
		if n.same >= 0 {
			b = binary.AppendUvarint(b, uint64(n.same))
		} else if !old {
			b = binary.AppendUvarint(b, uint64(n.base+1))
		}
		last = f.Name
		if n.same < 0 {
			b = n.appendLeaves(b)
		}
	}
	for ; i < len(e.old); i++ {
		drop()
	}
	if dropped > 0 {
		flush()
	}
	return b
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func (n *newFile) appendLeaves(b []byte) []byte {
	put := func(n int, kind byte) { b = binary.AppendUvarint(b, uint64(n)<<3|uint64(kind)) }
	for i, op := range n.ops {
		switch op.kind {
		case leafCopy:
			if i == len(n.ops)-1 && op.old+op.n == len(n.from.leaves) {
				return append(b, 0)
			}
			put(op.n, leafCopy)
		case leafMove:
			put(int(zigzag(op.n)), leafMove)
		case leafSame:
			put(op.n, leafSame)
		case leafSized:
			put(op.n, leafSized)
			var like int64
			for k := range op.n {
				if op.old+k < len(n.from.leaves) {
					like = n.from.leaves[op.old+k].size
				}
				size := n.flat.leaves[op.at+k].size
				b = binary.AppendUvarint(b, zigzag(int(size-like)))
				like = size
			}
		case leafNamed:
			put(op.n, leafNamed)
			for _, l := range n.flat.leaves[op.at : op.at+op.n] {
				b = binary.AppendUvarint(b, uint64(l.size))
				sum := l.id.Bytes()
				b = append(b, sum[len(sum)-digestBytes:]...)
			}
		}
	}
	return append(b, 1)
}

// digestBytes of a hash.
const digestBytes = digest.Size

func zigzag(n int) uint64   { return uint64(n)<<1 ^ uint64(n>>63) }
func unzigzag(n uint64) int { return int(n>>1) ^ -int(n&1) }

// base returns the base bytes, with the copied leaves among them or without.
func (e *editor) base(copied bool) (*baseBytes, error) {
	b := newBaseBytes(copied)
	for _, n := range e.news {
		if !n.flat.pixels() {
			b.serve(n.base, n.from.leaves, n.ops)
		}
	}
	return b, b.read(e.ctx, e.store)
}

// hints say where in the base bytes the old states of fresh leaves lie.
func (e *editor) hints(b *baseBytes) []delta.Hint {
	var hints []delta.Hint
	at := 0
	for _, n := range e.news {
		for _, op := range n.ops {
			if !op.fresh() || n.flat.pixels() {
				continue
			}
			for k := range op.n {
				length := int(n.flat.leaves[op.at+k].size)
				if old, ok := b.place(n.base, op.old+k); ok {
					hints = append(hints, delta.Hint{New: delta.Span{Off: at, Len: length}, Base: old})
				}
				at += length
			}
		}
	}
	return hints
}

// packedEnc compresses structures and differences.
var packedEnc = encoders.New(zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithEncoderLevel(zstd.SpeedBestCompression),
	zstd.WithAllLitEntropyCompression(true))
