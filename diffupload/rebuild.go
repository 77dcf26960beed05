package diffupload

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload/delta"
)

// RebuildResult of Rebuild.
type RebuildResult struct {
	// Named are the leaves that the document only names, in its order, with
	// leaves of the old manifest that may be like them. Who applies
	// the same document to the same manifest gets the same list.
	Named []Want
	// NamedBytes is how many bytes those leaves have.
	NamedBytes int64
}

// Rebuild makes the nodes of the manifest at want, and the leaves that doc
// holds, out of the manifest at have, which lies whole in store, or is
// undefined where the document was made for that. Nothing is put into store
// unless doc leads to want. An error that matches ErrEdits means that it does
// not, or asks for more than limits allow; others are the store's.
func Rebuild(ctx context.Context, store Store, have, want cid.Cid, doc []byte, limits Limits) (RebuildResult, error) {
	if err := CheckID(want); err != nil {
		return RebuildResult{}, err
	}
	if limits.Only != nil {
		limits.Only, limits.Bytes = nil, 0 // manifests are made whole, and a document has bounds of its own
	}
	r := &rebuilder{ctx: ctx, store: store, limits: limits.filled(), hash: hashOf(want)}
	if have.Defined() {
		var err error
		if r.old, err = List(ctx, store, have, limits); err != nil {
			return RebuildResult{}, err
		}
	}
	if err := r.read(doc); err != nil {
		return RebuildResult{}, err
	}
	if err := r.patch(); err != nil {
		return RebuildResult{}, err
	}
	made := &Memory{}
	res, err := run(ctx, made, Options{Hash: r.hash}, false, r.build)
	if err != nil {
		return RebuildResult{}, err
	}
	if res.Root != want {
		return RebuildResult{}, editsf("they lead to %s", res.Root)
	}
	return RebuildResult{Named: r.named, NamedBytes: r.namedBytes}, r.keep(made)
}

func editsf(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrEdits}, a...)...)
}

// rebuilder applies one document.
type rebuilder struct {
	ctx    context.Context
	store  Store
	limits Limits
	hash   Hash
	old    []Entry

	in     []byte // what is left of the structure
	files  []madeFile
	leaves int   // of files that have some
	size   int64 // of all files
	fresh  int64 // bytes of fresh leaves
	less   int64 // of them, those in the differences
	named  []Want

	namedBytes int64

	bases      map[int]*flatBase
	baseLeaves int // of bases

	body   []byte // the patch
	pixels []byte // the differences
	flags  byte
}

// flatBase is an old file that is the base of a changed or new one.
type flatBase struct {
	flatFile
	offs []int64 // of its leaves, where they were asked for
}

// maxLessRead bounds the bytes of old leaves that are read to undo differences:
// many files can name one large leaf each for a byte.
const maxLessRead = 16 * maxFreshBytes

// madeFile is a file of the new manifest.
type madeFile struct {
	entry Entry // with its whole name; where flat is nil it is complete
	flat  *flatFile
	base  int
	from  *flatBase
	ops   []leafOp // without those that move the cursor
}

// base returns the leaves of an old file, of none for -1. They are listed once,
// however many files are made of them.
func (r *rebuilder) base(i int) (*flatBase, error) {
	if b := r.bases[i]; b != nil {
		return b, nil
	}
	b := &flatBase{}
	if i >= 0 {
		var err error
		if b.flatFile, err = flatten(r.ctx, r.store, r.old[i]); err != nil {
			return nil, err
		}
	}
	if r.baseLeaves += len(b.leaves); r.baseLeaves > maxEditLeaves {
		return nil, editsf("more than %d chunks in files that are bases", maxEditLeaves)
	}
	if r.bases == nil {
		r.bases = map[int]*flatBase{}
	}
	r.bases[i] = b
	return b, nil
}

// patch makes the fresh leaves.
func (r *rebuilder) patch() error {
	size := r.fresh - r.less
	if (size > 0) != (r.flags&flagPatch != 0) || (r.less > 0) != (r.flags&flagLess != 0) ||
		size == 0 && (len(r.body) > 0 || r.flags&flagCopied != 0) {
		return editsf("flags %#x with %d bytes by a patch and %d by differences", r.flags, size, r.less)
	}
	var fresh, pixels []byte
	if size > 0 {
		b := newBaseBytes(r.flags&flagCopied != 0)
		for _, f := range r.files {
			if f.flat != nil && !f.flat.pixels() {
				b.serve(f.base, f.from.leaves, f.ops)
			}
		}
		err := b.read(r.ctx, r.store)
		if err != nil {
			return err
		}
		if fresh, err = delta.Decode(b.data, r.body, int(size)); err != nil {
			return editsf("%w", err)
		}
		if int64(len(fresh)) != size {
			return editsf("a patch of %d bytes where %d are missing", len(fresh), size)
		}
	}
	if r.less > 0 {
		var err error
		if pixels, err = unpack(r.pixels, r.less); err != nil {
			return err
		}
	}
	toRead := int64(maxLessRead)
	for _, f := range r.files {
		if f.flat == nil {
			continue
		}
		var was *leafReader
		if f.flat.pixels() && slices.ContainsFunc(f.ops, leafOp.fresh) {
			if f.from.offs == nil {
				f.from.offs = offsets(f.from.leaves)
			}
			was = &leafReader{ctx: r.ctx, store: r.store, leaves: f.from.leaves, offs: f.from.offs, last: -1, left: &toRead}
		}
		offs := offsets(f.flat.leaves)
		for _, op := range f.ops {
			if !op.fresh() {
				continue
			}
			for k := op.at; k < op.at+op.n; k++ {
				l := &f.flat.leaves[k]
				if was == nil {
					l.data, fresh = string(fresh[:l.size]), fresh[l.size:]
					continue
				}
				data, old := pixels[:l.size:l.size], make([]byte, l.size)
				pixels = pixels[l.size:]
				n, err := was.ReadAt(old, offs[k])
				if err != nil && err != io.EOF {
					return err
				}
				more(data, old[:n])
				l.data = string(data)
			}
		}
	}
	return nil
}

// build makes the nodes.
func (r *rebuilder) build(s *snapshot) (cid.Cid, error) {
	entries := make([]Entry, len(r.files))
	for i, f := range r.files {
		entries[i] = f.entry
		if f.flat == nil {
			continue
		}
		e, err := s.entry(*f.flat)
		if err != nil {
			return cid.Undef, err
		}
		e.Name = f.entry.Name
		entries[i] = e
	}
	top, err := s.tree(entries, 0)
	return top.CID.Cid, err
}

// keep stores what was made and is not there.
func (r *rebuilder) keep(made *Memory) error {
	missing, err := r.store.Missing(r.ctx, made.ids())
	if err != nil {
		return err
	}
	blocks := make([]Block, len(missing))
	for i, id := range missing {
		b, err := Get(r.ctx, made, id)
		if err != nil {
			return err
		}
		blocks[i] = Block{ID: id, Data: b}
	}
	if len(blocks) == 0 {
		return nil
	}
	return PutMany(r.ctx, r.store, blocks)
}
