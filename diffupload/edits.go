package diffupload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"

	"idlewild/diffupload/delta"
	"idlewild/internal/digest"
)

// A document of edits makes one manifest, a tree, out of another one that the
// receiver holds. It lists what became of the files and of their leaves, and
// holds what is new in them as one patch; the receiver builds the nodes itself,
// as a snapshot would, and checks that it arrives at the wanted root. Numbers
// are uvarints (encoding/binary), those marked ± zigzag-coded first.
//
//	document
//	  flags      1 byte: bit 0, structure is a zstd frame; bit 1, there is a patch;
//	             bit 2, the base bytes have copied leaves in them; bit 3, there are
//	             differences
//	  length     of the structure as it stands here
//	  structure
//	  length     of the differences, where there are any
//	  differences  a zstd frame: see below
//	  patch      the rest; package delta. It makes the fresh bytes out of the base bytes.
//	structure: operations on the old files, sorted by name, until its end. Then
//	the files that are left are kept.
//	  n<<2|0     keep n files
//	  n<<2|1     drop n files
//	  n<<2|2     the next file has new content, n says of what form. Its base is
//	             what it was.
//	  n<<2|3     a new file of the form n. Its name follows: length of what it
//	             has in common with the name before it in the new list, length
//	             of the rest, the rest. Then, unless n is 1, its base: 0 for none,
//	             or 1 + the index of an old file.
//	  n          0: mode and encoding are the base's, and leaves follow
//	             1: the whole entry is that of the old file whose index follows
//	             2 + mode + 2 * the place of the encoding in encodings: leaves follow
//	leaves: a file as a list of leaves, made with a cursor into the leaves of
//	the base
//	  0          all leaves from the cursor on, and the end
//	  1          the end
//	  n<<3|0     copy n leaves
//	  n<<3|1     move the cursor by ±n
//	  n<<3|2     n fresh leaves, as long as those at the cursor
//	  n<<3|3     n fresh leaves; for each ± its length less that of the leaf at
//	             the cursor, or of the fresh leaf before it where there is none
//	  n<<3|4     n named leaves: for each its length and its hash, of the kind of
//	             the wanted root's. They are fetched as blocks.
//	             copied, fresh and named leaves move the cursor by their number
//
// A leaf is a chunk, or the bytes of a file that stands in its folder.
//
// Pixels of an image that was painted on stay at their places, and what changed
// has no structure that a patch would know: the fresh leaves of files that are
// images without deflate are in the differences, as their bytes less those at
// the same place of their base, modulo 256; where the base has ended, as they
// are.
//
// The fresh bytes are those of the other fresh leaves in the order of the
// structure. The base
// bytes are leaves of the files that are base of one with fresh leaves, each
// once, in the order of the old files: first those at which fresh leaves stand,
// then the others that were not copied, then, with bit 2, the copied ones, up
// to the first with which they would be more than maxBaseBytes.
const (
	flagPacked = 1 << 0
	flagPatch  = 1 << 1
	flagCopied = 1 << 2
	flagLess   = 1 << 3

	fileKeep   = 0
	fileDrop   = 1
	fileChange = 2
	fileAdd    = 3

	leafCopy  = 0
	leafMove  = 1
	leafSame  = 2
	leafSized = 3
	leafNamed = 4

	formSame  = 0
	formOther = 1
	formFirst = 2
)

// Bounds of a document.
const (
	MaxEdits      = 1 << 20  // of the document
	maxStructure  = 4 << 20  // opened
	maxFreshBytes = 64 << 20 // what the patch makes
	maxBaseBytes  = 64 << 20 // what it is made of
	maxEditLeaves = 1 << 20  // of all changed and new files together, and of all their bases
)

// encodings numbers them for documents. Its order is part of the format.
var encodings = []Encoding{Plain, BlendOpen, BlendCanonical, PNGOpen, EXROpen}

// ErrEdits is returned for a document that does not lead to the wanted root, or
// cannot be read.
var ErrEdits = errors.New("unusable edits")

// ErrNoEdits is returned where there is no document: it would be too large, or
// the manifest has a shape that Snapshot would not give it.
var ErrNoEdits = errors.New("no edits")

// Edits returns the document that makes the manifest at want out of the one at
// have, which may be undefined: then out of nothing. Both must be in store
// whole. The same roots give the same document. It has at most MaxEdits bytes:
// leaves that have no room in it are only named.
func Edits(ctx context.Context, store Store, have, want cid.Cid) ([]byte, error) {
	e := &editor{ctx: ctx, store: store}
	if err := e.compare(have, want); err != nil {
		return nil, err
	}
	if err := e.check(want); err != nil {
		return nil, err
	}
	if err := e.exclude(have); err != nil {
		return nil, err
	}
	// Most edits fit at the first try. What does not is tried again with less
	// in the patch; named leaves then travel as blocks do.
	for budget := int64(maxFreshBytes); ; budget /= 8 {
		if err := e.choose(budget); err != nil {
			return nil, err
		}
		doc, err := e.document()
		if err != nil {
			return nil, err
		}
		if len(doc) <= MaxEdits {
			return doc, nil
		}
		if budget < 1024 {
			return nil, fmt.Errorf("%w: the document has %d bytes, at most %d are possible", ErrNoEdits, len(doc), MaxEdits)
		}
	}
}

// editor makes one document.
type editor struct {
	ctx   context.Context
	store Store
	old   []Entry
	fresh []Entry
	news  []*newFile

	leaves     int64 // of news
	bases      map[int]flatFile
	baseLeaves int // of bases

	oldModels, freshModels *models
}

// newFile is a file of the new manifest whose content is not that of the old
// file of the same name.
type newFile struct {
	at   int // in fresh
	base int // in old; -1: none
	same int // in old: the file with this very entry; -1: none
	flat flatFile
	from flatFile // of base
	ops  []leafOp
}

// leafOp is one operation on leaves.
type leafOp struct {
	kind byte
	n    int // leaves, or the way of the cursor
	at   int // the first leaf in the new file
	old  int // the cursor before it
}

func (op leafOp) fresh() bool { return op.kind == leafSame || op.kind == leafSized }

// compare lists both manifests and finds the operations.
func (e *editor) compare(have, want cid.Cid) (err error) {
	if have.Defined() {
		if e.old, err = List(e.ctx, e.store, have, Limits{}); err != nil {
			return err
		}
	}
	if e.fresh, err = List(e.ctx, e.store, want, Limits{}); err != nil {
		return err
	}
	byContent := make(map[contentKey]int, len(e.old))
	for i := len(e.old) - 1; i >= 0; i-- {
		byContent[contentOf(e.old[i])] = i
	}
	e.oldModels, e.freshModels = modelsIn(e.ctx, e.store, e.old), modelsIn(e.ctx, e.store, e.fresh)
	bases := newBaseFiles(e.old)
	for at, f := range e.fresh {
		if i, ok := bases.names[f.Name]; ok && e.old[i].Same(f) {
			continue
		}
		n := &newFile{at: at, base: -1, same: -1}
		if j, ok := byContent[contentOf(f)]; ok {
			n.same = j
		} else if j, ok := bases.baseFile(f.Name, f.Size); ok {
			n.base = j // of the same name, or like it
		}
		e.news = append(e.news, n)
	}
	for _, n := range e.news {
		if n.same >= 0 {
			continue
		}
		if n.flat, err = flatten(e.ctx, e.store, e.fresh[n.at]); err != nil {
			return err
		}
		if n.base >= 0 {
			if n.from, err = e.flat(n.base); err != nil {
				return err
			}
		}
		if e.leaves += int64(len(n.flat.leaves)); e.leaves > maxEditLeaves {
			return fmt.Errorf("%w: more than %d chunks in files that changed", ErrNoEdits, maxEditLeaves)
		}
		like, err := e.counterparts(n)
		if err != nil {
			return err
		}
		n.align(like)
	}
	return nil
}

// flat lists the leaves of an old file, once.
func (e *editor) flat(i int) (flatFile, error) {
	if f, ok := e.bases[i]; ok {
		return f, nil
	}
	f, err := flatten(e.ctx, e.store, e.old[i])
	if err != nil {
		return flatFile{}, err
	}
	if e.baseLeaves += len(f.leaves); e.baseLeaves > maxEditLeaves {
		return flatFile{}, fmt.Errorf("%w: more than %d chunks in files that are bases", ErrNoEdits, maxEditLeaves)
	}
	if e.bases == nil {
		e.bases = map[int]flatFile{}
	}
	e.bases[i] = f
	return f, nil
}

// contentKey is an entry without its name.
type contentKey struct {
	id   cid.Cid
	kind EntryKind
	mode int
	data string
}

func contentOf(e Entry) contentKey { return contentKey{e.CID.Cid, e.Kind, e.Mode, string(e.Data)} }

// align finds the operations that make the leaves of n out of those of its
// base: a run that is there is copied, whatever is between is fresh. like,
// where it is not nil, has for each leaf the old one that the cursor is to be at
// if it is fresh, or -1 where it does not matter.
func (n *newFile) align(like []int) {
	places := make(map[leafKey][]int, len(n.from.leaves))
	for i, l := range n.from.leaves {
		places[l.key()] = append(places[l.key()], i)
	}
	// next returns the place at or behind the cursor, else the last before it.
	next := func(k leafKey, cursor int) int {
		at := places[k]
		if len(at) == 0 {
			return -1
		}
		i, _ := slices.BinarySearch(at, cursor)
		return at[min(i, len(at)-1)]
	}
	var sizes map[int64][]int // places of the leaves of a size
	sized := func(size int64, at int) int {
		if sizes == nil {
			sizes = map[int64][]int{}
			for i, l := range n.from.leaves {
				sizes[l.size] = append(sizes[l.size], i)
			}
		}
		p := sizes[size]
		if i, _ := slices.BinarySearch(p, at); i < len(p) {
			return p[i]
		}
		return len(n.from.leaves)
	}
	cursor := 0
	leaves, from := n.flat.leaves, n.from.leaves
	add := func(kind byte, count, at int) {
		n.ops = append(n.ops, leafOp{kind: kind, n: count, at: at, old: cursor})
	}
	move := func(to int) {
		if to != cursor {
			add(leafMove, to-cursor, 0)
			cursor = to
		}
	}
	for i := 0; i < len(leaves); {
		if p := next(leaves[i].key(), cursor); p >= 0 {
			move(p)
			run := 0
			for i+run < len(leaves) && p+run < len(from) && leaves[i+run].key() == from[p+run].key() {
				run++
			}
			add(leafCopy, run, i)
			i, cursor = i+run, cursor+run
			continue
		}
		run, q := 0, -1
		for i+run < len(leaves) {
			if q = next(leaves[i+run].key(), cursor); q >= 0 {
				break
			}
			run++
		}
		// Where more old leaves went than new ones came, those of the same
		// length are taken for the same.
		gap := len(from) - cursor
		if q >= cursor {
			gap = q - cursor
		}
		for run > 0 {
			most := run
			if like != nil {
				if like[i] >= 0 {
					move(like[i])
				}
				for most = 1; most < run && (like[i+most] < 0 || like[i+most] == cursor+most); {
					most++
				}
			} else if gap > run && i < len(leaves) && cursor < len(from) && from[cursor].size != leaves[i].size {
				if k := sized(leaves[i].size, cursor+1) - cursor; k <= gap-run {
					move(cursor + k)
					gap -= k
				}
			}
			same := 0
			for same < most && cursor+same < len(from) && leaves[i+same].size == from[cursor+same].size {
				same++
			}
			kind, count := byte(leafSame), same
			if same == 0 {
				kind, count = leafSized, 1
				for count < most && (cursor+count >= len(from) || leaves[i+count].size != from[cursor+count].size) {
					count++
				}
			}
			add(kind, count, i)
			i, cursor, run, gap = i+count, cursor+count, run-count, gap-count
		}
	}
}

// check rebuilds the root from what a receiver would have: another writer may
// cut long lists of links elsewhere.
func (e *editor) check(want cid.Cid) error {
	entries := slices.Clone(e.fresh)
	r, err := run(e.ctx, &Memory{}, Options{Hash: hashOf(want)}, false, func(s *snapshot) (cid.Cid, error) {
		for _, n := range e.news {
			if n.same >= 0 {
				continue
			}
			x, err := s.entry(n.flat)
			if err != nil {
				return cid.Undef, err
			}
			x.Name = e.fresh[n.at].Name
			entries[n.at] = x
		}
		top, err := s.tree(entries, 0)
		return top.CID.Cid, err
	})
	if err != nil {
		return err
	}
	if r.Root != want {
		return fmt.Errorf("%w: manifest %s is cut in another way than here", ErrNoEdits, want)
	}
	return nil
}

// elsewhere is from how many new bytes on they are looked for in all of the
// old manifest, which costs a look at all of it.
const elsewhere = 1 << 20

// exclude names fresh leaves that the receiver has in a file that did not serve
// as base: it will find that it has them.
func (e *editor) exclude(have cid.Cid) error {
	var size int64
	fresh := map[cid.Cid]bool{}
	for _, n := range e.news {
		for _, l := range n.freshLeaves() {
			size += l.size
			if l.id.Defined() {
				fresh[l.id] = false
			}
		}
	}
	if size < elsewhere || !have.Defined() {
		return nil
	}
	for id, err := range Blocks(e.ctx, e.store, have) {
		if err != nil {
			return err
		}
		if _, ok := fresh[id]; ok {
			fresh[id] = true
		}
	}
	for _, n := range e.news {
		n.name(func(l leaf) bool { return fresh[l.id] })
	}
	return nil
}

// pixels reports whether the fresh leaves of a file are differences.
func (f flatFile) pixels() bool { return f.encoding == PNGOpen || f.encoding == EXROpen }

// freshLeaves are the leaves that are to be in the document.
func (n *newFile) freshLeaves() []leaf {
	var out []leaf
	for _, op := range n.ops {
		if op.fresh() {
			out = append(out, n.flat.leaves[op.at:op.at+op.n]...)
		}
	}
	return out
}

// name makes named leaves of those fresh ones that which chooses.
func (n *newFile) name(which func(leaf) bool) {
	var out []leafOp
	for _, op := range n.ops {
		if !op.fresh() {
			out = append(out, op)
			continue
		}
		for i := 0; i < op.n; {
			named := which(n.flat.leaves[op.at+i])
			k := i + 1
			for k < op.n && which(n.flat.leaves[op.at+k]) == named {
				k++
			}
			part := leafOp{kind: op.kind, n: k - i, at: op.at + i, old: op.old + i}
			if named {
				part.kind = leafNamed
			}
			out = append(out, part)
			i = k
		}
	}
	n.ops = out
}

// choose names leaves until those in the patch have at most budget bytes: first
// those that have little in common with the base, then the last ones.
func (e *editor) choose(budget int64) error {
	var size int64
	for _, n := range e.news {
		for _, l := range n.freshLeaves() {
			size += l.size
		}
	}
	if size <= min(budget, alikeFrom) {
		return nil
	}
	base, err := e.base(true)
	if err != nil {
		return err
	}
	seen := anchorsOf(base.data)
	named := map[cid.Cid]bool{}
	for _, n := range e.news {
		for _, l := range n.freshLeaves() {
			if !l.id.Defined() {
				budget -= l.size
				continue
			}
			// Of pixels that were there before most are still there.
			alike := n.flat.pixels() && n.flat.size == n.from.size
			if !n.flat.pixels() {
				b, err := Get(e.ctx, e.store, l.id)
				if err != nil {
					return err
				}
				alike = seen.alike(b)
			}
			if budget -= l.size; budget < 0 || !alike {
				named[l.id] = true
				budget += l.size
			}
		}
	}
	for _, n := range e.news {
		n.name(func(l leaf) bool { return named[l.id] })
	}
	return nil
}

// alikeFrom is how many fresh bytes go into a patch unseen. Of more, those that
// are new altogether are better sent as blocks: several peers can give them.
const alikeFrom = 4 << 20

// anchors are hashes of 8-byte windows at places that the content chooses.
type anchors map[uint32]struct{}

func eachAnchor(b []byte, f func(uint32)) {
	for i := 0; i+8 <= len(b); i++ {
		h := binary.LittleEndian.Uint64(b[i:]) * 0x9e3779b97f4a7c15
		if h>>58 == 0x2a {
			f(uint32(h >> 16))
		}
	}
}

func anchorsOf(b []byte) anchors {
	a := make(anchors, len(b)/64)
	eachAnchor(b, func(h uint32) { a[h] = struct{}{} })
	return a
}

// alike reports whether an eighth of b's windows are among a.
func (a anchors) alike(b []byte) bool {
	all, known := 0, 0
	eachAnchor(b, func(h uint32) {
		all++
		if _, ok := a[h]; ok {
			known++
		}
	})
	return known*8 >= all && known > 0
}

// document writes it all down.
func (e *editor) document() ([]byte, error) {
	structure := e.structure()
	var flags byte
	if z := packedEnc().EncodeAll(structure, nil); len(z) < len(structure) {
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
		packed = packedEnc().EncodeAll(pixels, nil)
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

func zigzag(n int) uint64 { return uint64(n)<<1 ^ uint64(n>>63) }

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
var packedEnc = onceEncoder(zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithEncoderLevel(zstd.SpeedBestCompression),
	zstd.WithAllLitEntropyCompression(true))
