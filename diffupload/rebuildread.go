package diffupload

import (
	"encoding/binary"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"
	mh "github.com/multiformats/go-multihash"
)

// read reads the structure.
func (r *rebuilder) read(doc []byte) error {
	if len(doc) < 2 || len(doc) > MaxEdits {
		return editsf("document of %d bytes", len(doc))
	}
	r.flags = doc[0]
	if r.flags&^(flagPacked|flagPatch|flagCopied|flagLess) != 0 {
		return editsf("flags %#x", r.flags)
	}
	r.in = doc[1:]
	n, err := r.number(uint64(len(doc)))
	if err != nil {
		return err
	}
	if n > len(r.in) {
		return editsf("structure of %d bytes in a document of %d", n, len(doc))
	}
	r.in, r.body = r.in[:n], r.in[n:]
	if r.flags&flagLess != 0 {
		n, k := binary.Uvarint(r.body)
		if k <= 0 || n > uint64(len(r.body)-k) {
			return editsf("differences of %d bytes in a document of %d", n, len(doc))
		}
		r.pixels, r.body = r.body[k:k+int(n)], r.body[k+int(n):]
	}
	if r.flags&flagPacked != 0 {
		if r.in, err = unpackStructure(r.in); err != nil {
			return err
		}
	}
	return r.readFiles()
}

var frameDec = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFreshBytes), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // options are constant
	}
	return d
})

func unpackStructure(z []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(z); err != nil || h.FrameContentSize > maxStructure {
		return nil, editsf("structure: bad frame")
	}
	return unpack(z, int64(h.FrameContentSize))
}

// unpack opens a frame of size bytes.
func unpack(z []byte, size int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(z); err != nil || h.Skippable || !h.HasFCS || h.FrameContentSize != uint64(size) {
		return nil, editsf("a frame that is not of %d bytes", size)
	}
	out, err := frameDec().DecodeAll(z, make([]byte, 0, size))
	if err != nil {
		return nil, editsf("%w", err)
	}
	if int64(len(out)) != size {
		return nil, editsf("a frame of %d bytes where %d were promised", len(out), size)
	}
	return out, nil
}

// number reads a number that is at most most.
func (r *rebuilder) number(most uint64) (int, error) {
	v, n := binary.Uvarint(r.in)
	if n <= 0 {
		return 0, editsf("cut short")
	}
	r.in = r.in[n:]
	if v > most || v > 1<<62 {
		return 0, editsf("%d where at most %d are possible", v, most)
	}
	return int(v), nil
}

func (r *rebuilder) readFiles() error {
	at := 0 // in old
	for len(r.in) > 0 {
		v, err := r.number(1 << 40)
		if err != nil {
			return err
		}
		n, kind := v>>2, v&3
		switch kind {
		case fileKeep, fileDrop:
			if n > len(r.old)-at {
				return editsf("%d files of the %d that are left", n, len(r.old)-at)
			}
			for _, f := range r.old[at : at+n] {
				if kind == fileKeep {
					if err := r.add(madeFile{entry: f}); err != nil {
						return err
					}
				}
			}
			at += n
		case fileChange:
			if at == len(r.old) {
				return editsf("more files than there are")
			}
			if err := r.readFile(madeFile{entry: Entry{Name: r.old[at].Name}, base: at}, n); err != nil {
				return err
			}
			at++
		case fileAdd:
			name, err := r.name()
			if err != nil {
				return err
			}
			f := madeFile{entry: Entry{Name: name}, base: -1}
			if n != formOther {
				base, err := r.number(uint64(len(r.old)))
				if err != nil {
					return err
				}
				f.base = base - 1
			}
			if err := r.readFile(f, n); err != nil {
				return err
			}
		}
	}
	for _, f := range r.old[at:] {
		if err := r.add(madeFile{entry: f}); err != nil {
			return err
		}
	}
	return nil
}

func (r *rebuilder) name() (string, error) {
	last := ""
	if len(r.files) > 0 {
		last = r.files[len(r.files)-1].entry.Name
	}
	common, err := r.number(uint64(len(last)))
	if err != nil {
		return "", err
	}
	n, err := r.number(uint64(min(MaxNameBytes, len(r.in))))
	if err != nil {
		return "", err
	}
	if n > len(r.in) {
		return "", editsf("cut short")
	}
	name := last[:common] + string(r.in[:n])
	r.in = r.in[n:]
	if err := safeName(name); err != nil {
		return "", editsf("%w", err)
	}
	return name, nil
}

// add takes a file behind the others.
func (r *rebuilder) add(f madeFile) error {
	if len(r.files) == r.limits.Files {
		return editsf("more than %d files", r.limits.Files)
	}
	if n := len(r.files); n > 0 && r.files[n-1].entry.Name >= f.entry.Name {
		return editsf("%q after %q", f.entry.Name, r.files[n-1].entry.Name)
	}
	size := f.entry.Size
	if f.flat != nil {
		size = f.flat.size
	}
	if r.size += size; r.size > r.limits.Bytes {
		return editsf("more than %d bytes", r.limits.Bytes)
	}
	r.files = append(r.files, f)
	return nil
}

// readFile reads the content of a file.
func (r *rebuilder) readFile(f madeFile, form int) error {
	if form == formOther {
		i, err := r.number(uint64(len(r.old)))
		if err != nil {
			return err
		}
		if i == len(r.old) {
			return editsf("file %d of %d", i, len(r.old))
		}
		name := f.entry.Name
		f.entry = r.old[i]
		f.entry.Name = name
		return r.add(f)
	}
	f.flat = &flatFile{}
	var err error
	if f.from, err = r.base(f.base); err != nil {
		return err
	}
	if f.base >= 0 {
		f.flat.mode, f.flat.encoding = f.from.mode, f.from.encoding
	}
	if form != formSame {
		form -= formFirst
		if form>>1 >= len(encodings) {
			return editsf("encoding %d", form>>1)
		}
		f.flat.mode, f.flat.encoding = form&1, encodings[form>>1]
	} else if f.base < 0 {
		return editsf("a new file of the form of none")
	}
	if err := r.readLeaves(&f); err != nil {
		return err
	}
	return r.add(f)
}

func (r *rebuilder) readLeaves(f *madeFile) error {
	cursor, from := 0, f.from.leaves
	for {
		v, err := r.number(1 << 40)
		if err != nil {
			return err
		}
		n, kind := v>>3, byte(v&7)
		switch {
		case v == 0:
			n, kind = len(from)-cursor, leafCopy
			if n < 0 {
				return editsf("leaf %d of %d", cursor, len(from))
			}
		case v == 1:
			return nil
		}
		if kind == leafMove {
			to := cursor + unzigzag(uint64(n))
			if to < 0 || to > len(from) {
				return editsf("leaf %d of %d", to, len(from))
			}
			cursor = to
			continue
		}
		if n == 0 && v != 0 {
			return editsf("no leaves")
		}
		if r.leaves += n; n > maxEditLeaves || r.leaves > maxEditLeaves {
			return editsf("more than %d chunks", maxEditLeaves)
		}
		if kind > leafNamed {
			return editsf("leaves of kind %d", kind)
		}
		f.ops = append(f.ops, leafOp{kind: kind, n: n, at: len(f.flat.leaves), old: cursor})
		if (kind == leafCopy || kind == leafSame) && n > len(from)-cursor {
			return editsf("leaves %d to %d of %d", cursor, cursor+n, len(from))
		}
		var like int64
		for k := range n {
			var l leaf
			if i := cursor + k; i < len(from) {
				like = from[i].size
			}
			switch kind {
			case leafCopy:
				l = from[cursor+k]
			case leafSame:
				l.size = like
			case leafSized:
				d, err := r.number(1 << 30)
				if err != nil {
					return err
				}
				l.size = like + int64(unzigzag(uint64(d)))
				like = l.size
			case leafNamed:
				if l, err = r.namedLeaf(); err != nil {
					return err
				}
				r.want(l.id, from, cursor+k)
				r.namedBytes += l.size
			}
			if l.size < 1 || l.size > MaxBlockBytes {
				return editsf("chunk of %d bytes", l.size)
			}
			if f.flat.size += l.size; f.flat.size > min(MaxFileBytes, r.limits.Bytes) {
				return editsf("file of more than %d bytes", min(MaxFileBytes, r.limits.Bytes))
			}
			if kind == leafSame || kind == leafSized {
				if r.fresh += l.size; r.fresh > maxFreshBytes {
					return editsf("more than %d new bytes", maxFreshBytes)
				}
				if f.flat.pixels() {
					r.less += l.size
				}
			}
			f.flat.leaves = append(f.flat.leaves, l)
		}
		cursor += n
		if v == 0 {
			return nil
		}
	}
}

func (r *rebuilder) namedLeaf() (leaf, error) {
	size, err := r.number(MaxBlockBytes)
	if err != nil {
		return leaf{}, err
	}
	if len(r.in) < digestBytes {
		return leaf{}, editsf("cut short")
	}
	h, err := mh.Encode(r.in[:digestBytes], uint64(r.hash))
	r.in = r.in[digestBytes:]
	return leaf{id: cid.NewCidV1(cid.Raw, h), size: int64(size)}, err
}

// want notes a named leaf, with what stood at the cursor and beside it.
func (r *rebuilder) want(id cid.Cid, from []leaf, at int) {
	w := Want{ID: id}
	for _, i := range []int{at, at + 1, at - 1} {
		if i >= 0 && i < len(from) && from[i].id.Defined() {
			w.Bases = append(w.Bases, from[i].id)
		}
	}
	r.named = append(r.named, w)
}
