package diffupload

import (
	"context"
	"slices"

	"idlewild/diffupload/delta"
)

// baseBytes are the bytes that a patch of a document of edits is made against:
// leaves of old files, in an order that follows from the document's structure
// alone (see edits.go).
type baseBytes struct {
	copied bool // copied leaves are among them
	files  map[int]*baseFileUse
	at     map[leafPlace]delta.Span

	data []byte
}

// baseFileUse is an old file and what its leaves serve for.
type baseFileUse struct {
	leaves []leaf
	use    []byte // of useStood, useCopied; 0: the leaf went
}

const (
	useStood  = 1 << 0 // a fresh leaf stands where it stood
	useCopied = 1 << 1
)

type leafPlace struct{ file, leaf int }

func newBaseBytes(copied bool) *baseBytes {
	return &baseBytes{copied: copied, files: map[int]*baseFileUse{}, at: map[leafPlace]delta.Span{}}
}

// serve takes the operations on a file with the given base, -1 for none.
func (b *baseBytes) serve(file int, leaves []leaf, ops []leafOp) {
	if file < 0 || !slices.ContainsFunc(ops, leafOp.fresh) {
		return
	}
	f := b.files[file]
	if f == nil {
		f = &baseFileUse{leaves: leaves, use: make([]byte, len(leaves))}
		b.files[file] = f
	}
	for _, op := range ops {
		use := byte(0)
		switch {
		case op.fresh():
			use = useStood
		case op.kind == leafCopy:
			use = useCopied
		}
		if use == 0 {
			continue
		}
		for i := op.old; i < min(op.old+op.n, len(leaves)); i++ {
			f.use[i] |= use
		}
	}
}

// read gets the bytes.
func (b *baseBytes) read(ctx context.Context, store Store) error {
	order := make([]int, 0, len(b.files))
	for i := range b.files {
		order = append(order, i)
	}
	slices.Sort(order)
	var places []leafPlace
	size := int64(0)
	collect := func(which func(use byte) bool) {
		for _, i := range order {
			for k, l := range b.files[i].leaves {
				if !which(b.files[i].use[k]) || size > maxBaseBytes {
					continue
				}
				if size += l.size; size <= maxBaseBytes {
					places = append(places, leafPlace{i, k})
				}
			}
		}
	}
	collect(func(use byte) bool { return use&useStood != 0 })
	collect(func(use byte) bool { return use == 0 })
	if b.copied {
		collect(func(use byte) bool { return use == useCopied })
	}
	var leaves []leaf
	for _, p := range places {
		leaves = append(leaves, b.files[p.file].leaves[p.leaf])
	}
	var err error
	var ends []int
	if b.data, ends, err = readLeaves(ctx, store, leaves); err != nil {
		return err
	}
	off := 0
	for i, p := range places {
		b.at[p] = delta.Span{Off: off, Len: ends[i] - off}
		off = ends[i]
	}
	return nil
}

// place says where in the bytes a leaf of an old file lies.
func (b *baseBytes) place(file, leaf int) (delta.Span, bool) {
	s, ok := b.at[leafPlace{file, leaf}]
	return s, ok
}
