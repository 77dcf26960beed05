package blendfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"

	"idlewild/chunker"
)

// ErrNotVouched says that a .blend has something of which the canonical form is
// not known to be the same file; the text names it. Its exact bytes are to be
// sent instead.
var ErrNotVouched = errors.New("no canonical form of this .blend")

// errChanged: the second look at a file found another file.
var errChanged = errors.New("the .blend was changed while it was read")

// Options say how a canonical file is cut. The zero value is fine.
type Options struct {
	// Chunk says how large blocks of data are cut.
	Chunk chunker.Params
	// TempDir is where the content of a compressed file of more than 8 MiB is
	// kept while it is read; empty is the system's folder for that.
	TempDir string
}

// Piece is a run of a canonical .blend's bytes. The pieces in order are the
// file.
type Piece struct {
	// Data is valid until the next piece is asked for: 1 byte to 1 MiB.
	Data []byte
}

// Canonical yields the canonical form of the .blend in f, which has size bytes:
// without container, with addresses that depend on the names of datablocks
// instead of memory, and without what docs/formats.md lists as dropped. It is
// itself a .blend that Blender opens, and its own canonical form. The same file
// saved twice has one canonical form.
//
// The whole file is read before Canonical returns, so that an error of the file
// (ErrNotBlend, ErrTruncated, ErrDamaged, ErrTooLarge, ErrNotVouched) comes
// before the first piece; errors after it are of reading. The pieces can be
// asked for once. Memory is under 64 MiB beyond size.
func Canonical(ctx context.Context, f io.ReaderAt, size int64, o Options) (iter.Seq2[Piece, error], Info, error) {
	if err := o.Chunk.Validate(); err != nil {
		return nil, Info{}, err
	}
	c, info, err := openContent(f, size, o.TempDir)
	if err != nil {
		return nil, info, err
	}
	p, err := planOf(ctx, c, size)
	if err != nil {
		return nil, info, errors.Join(err, c.close())
	}
	return func(yield func(Piece, error) bool) {
		w := writer{plan: p, c: c, w: newWindow(c, windowBytes), chunk: o.Chunk, yield: yield}
		err := w.write(ctx)
		err = errors.Join(err, c.close())
		if err != nil && !errors.Is(err, errStopped) {
			yield(Piece{}, err)
		}
	}, info, nil
}

func planOf(ctx context.Context, c content, fileSize int64) (*plan, error) {
	f, err := formatOf(c)
	if err != nil {
		return nil, err
	}
	return newPlan(ctx, c, f, fileSize)
}

// errStopped: nobody asks for more pieces.
var errStopped = errors.New("stopped")

// writer writes a canonical file in pieces.
type writer struct {
	*plan
	c     content
	w     *window
	chunk chunker.Params
	yield func(Piece, error) bool
	piece []byte // gathered
	last  uint64 // key of the datablock that was written last
	near  uint32 // guess of the block that the next pointer leads to
}

func (w *writer) write(ctx context.Context) error {
	b, err := w.w.peek(0, w.header)
	if err != nil {
		return err
	}
	w.piece = append(make([]byte, 0, 256<<10), b...)
	s := -1
	return w.blocks(w.w, func(i int, h head, raw []byte, at int64) error {
		if i%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i >= len(w.olds) || w.olds[i] != h.old {
			return errChanged
		}
		begins := s+1 < len(w.scopes) && int(w.scopes[s+1].first) == i
		if begins {
			s++
		}
		sc := &w.scopes[s]
		if sc.dropped || w.isDropped(uint32(i)) {
			return nil
		}
		own := h.code == "DNA1" || h.code == "ENDB"
		if own || begins && w.endsAtScope() || !begins && w.endsInScope() {
			if err := w.flush(); err != nil {
				return err
			}
		}
		w.last = sc.key
		w.piece = append(w.piece, raw...)
		if h.old != 0 {
			w.putOld(w.piece[len(w.piece)-w.headBytes:], w.address(uint32(i), uint32(s)))
		}
		return w.data(uint32(s), uint32(i), h, at)
	})
}

// data writes a block's data, which belongs to the last head in the piece.
func (w *writer) data(s, i uint32, h head, at int64) error {
	if h.code == "ENDB" {
		return w.flush()
	}
	l, err := w.blockLayout(h)
	if err != nil {
		return err
	}
	r := &blockReader{writer: w, scope: s, layout: l, array: l == nil && w.arrays.has(i), tail: int(w.tails[i]), at: at, left: h.size}
	if h.size <= largeBlock || h.code == "DNA1" {
		if h.code == "DNA1" {
			r.layout, r.array = nil, false
		}
		for r.left > 0 {
			b, err := r.next()
			if err != nil {
				return err
			}
			w.piece = append(w.piece, b...)
		}
		if h.code == "DNA1" {
			return w.flush()
		}
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	for c, err := range chunker.Chunks(r, w.chunk) {
		if err != nil {
			return err
		}
		if !w.yield(Piece{c.Data}, nil) {
			return errStopped
		}
	}
	return nil
}

// blockReader reads the canonical form of one block's data.
type blockReader struct {
	*writer
	scope  uint32
	layout *layout // nil for raw data
	array  bool    // raw data that is pointers
	tail   int     // bytes at its end that mean nothing
	at     int64
	left   int64
	rest   []byte       // written, not yet read
	see    func([]byte) // if not nil, gets each struct or pointer before that is made canonical
}

// next returns the next bytes of whole structs, valid until the next call.
func (r *blockReader) next() ([]byte, error) {
	n := int(min(r.left, windowBytes/2))
	switch {
	case r.layout != nil:
		n -= n % r.layout.size
	case r.array && n > r.pointer:
		n -= n % r.pointer
	}
	b, err := r.w.peek(r.at, n)
	if err != nil {
		return nil, err
	}
	r.at += int64(n)
	r.left -= int64(n)
	switch {
	case r.layout != nil && (r.see != nil || !r.layout.empty()):
		for e := b; len(e) > 0; e = e[r.layout.size:] {
			if r.see != nil {
				r.see(e[:r.layout.size])
			}
			r.element(e[:r.layout.size])
		}
	case r.array:
		for e := b; len(e) >= r.pointer; e = e[r.pointer:] {
			if r.see != nil {
				r.see(e[:r.pointer])
			}
			r.pointerAt(e)
		}
	case r.left == 0:
		clear(b[max(0, n-r.tail):])
	}
	return b, nil
}

func (r *blockReader) element(e []byte) {
	l := r.layout
	for _, p := range l.pointers {
		r.pointerAt(e[p:])
	}
	for _, z := range l.zeros {
		clear(e[z.at:][:z.size])
	}
	for _, c := range l.chars {
		text := e[c.at:][:c.size]
		if end := bytes.IndexByte(text, 0); end >= 0 {
			clear(text[end:])
		}
	}
	for _, f := range l.flags {
		r.order.PutUint32(e[f.at:], r.order.Uint32(e[f.at:])&f.keep)
	}
}

func (r *blockReader) pointerAt(b []byte) {
	if v := r.word(b); v != 0 {
		r.putWord(b, r.canonical(r.scope, v, &r.near))
	}
}

func (r *blockReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		var err error
		if r.rest, err = r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
