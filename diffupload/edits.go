package diffupload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
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
