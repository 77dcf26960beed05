package imagefile

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"slices"

	"github.com/klauspost/compress/zlib"
)

// exrChunkAt is where a chunk begins, and its place in the offset tables.
type exrChunkAt struct {
	off   int64
	index uint32
}

// exrOpener writes the opened form of an OpenEXR file.
type exrOpener struct {
	h      exrHeader
	raw    []byte       // the headers as they are
	chunks []exrChunkAt // in file order
	size   int64        // of the file
	r      *bufio.Reader
	write  func([]byte) error

	limit  io.LimitedReader // of a chunk's deflate stream
	packed *bufio.Reader    // on limit
	z      io.ReadCloser    // on packed
	buf    [32 << 10]byte
	stored []byte // pixels of a chunk that was not deflated
	form   []byte
}

func openEXR(f io.ReaderAt, size int64) (io.ReadCloser, error) {
	h, raw, err := exrReadHeader(f, size)
	if err != nil {
		return nil, err
	}
	if h.pixels/maxDeflate > size {
		return nil, notOpened("OpenEXR file holds fewer pixels than it says")
	}
	o := &exrOpener{h: h, raw: raw, size: size}
	if err := o.walk(f); err != nil {
		return nil, err
	}
	src := newSource(f, o.chunks[0].off, size)
	return pull(func(write func([]byte) error) error {
		o.r, o.write = bufio.NewReaderSize(src, 64<<10), write
		return src.blame(o.run())
	}), nil
}

// walk reads the offset tables and the heads of chunks: they must follow each
// other without gaps, so that nothing is in the file but what is rebuilt.
func (o *exrOpener) walk(f io.ReaderAt) error {
	begin := int64(len(o.raw)) + 8*int64(o.h.chunks)
	if begin >= o.size {
		return notOpened("OpenEXR file is cut short")
	}
	table := make([]byte, 8*o.h.chunks)
	if _, err := f.ReadAt(table, int64(len(o.raw))); err != nil {
		return err
	}
	o.chunks = make([]exrChunkAt, o.h.chunks)
	for i := range o.chunks {
		off := binary.LittleEndian.Uint64(table[8*i:])
		if off < uint64(begin) || off >= uint64(o.size) {
			return notOpened("OpenEXR file is not complete")
		}
		o.chunks[i] = exrChunkAt{int64(off), uint32(i)}
	}
	slices.SortFunc(o.chunks, func(a, b exrChunkAt) int { return cmp.Compare(a.off, b.off) })
	var pixels int64
	for _, c := range o.chunks {
		if c.off != begin {
			return notOpened("OpenEXR file has gaps")
		}
		head, err := o.head(io.NewSectionReader(f, begin, o.size-begin))
		if err != nil {
			return err
		}
		if pixels += head.raw; pixels > o.h.pixels {
			return notOpened("OpenEXR file has chunks twice")
		}
		begin += int64(len(head.place)) + 4 + head.size
		if begin > o.size {
			return notOpened("OpenEXR file is cut short")
		}
	}
	if begin != o.size {
		return notOpened("bytes after the end of the OpenEXR file")
	}
	return nil
}

// exrChunkHead is what stands before a chunk's bytes.
type exrChunkHead struct {
	part  int
	place []byte // part and coordinates, as they are
	raw   int64  // bytes of pixels
	size  int64  // bytes in the file
}

// head reads the head of a chunk.
func (o *exrOpener) head(r io.Reader) (c exrChunkHead, err error) {
	if c, err = o.h.readPlace(r); err != nil {
		return c, noEOF(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return c, noEOF(err)
	}
	c.size = int64(binary.LittleEndian.Uint32(size[:]))
	if c.raw == 0 || c.size == 0 || c.size > c.raw || !o.h.parts[c.part].zip && c.size != c.raw {
		return c, notOpened("OpenEXR file has an impossible chunk")
	}
	return c, nil
}

// readPlace reads part and coordinates of a chunk. A place that is none has no
// raw bytes.
func (h *exrHeader) readPlace(r io.Reader) (c exrChunkHead, err error) {
	var b [20]byte
	if _, err := io.ReadFull(r, b[:4]); err != nil {
		return c, err
	}
	var ok bool
	if c.part, ok = h.partOf(b[:]); !ok {
		return exrChunkHead{}, nil
	}
	n := h.headBytes(c.part)
	if _, err := io.ReadFull(r, b[4:n]); err != nil {
		return c, noEOF(err)
	}
	c.place = bytes.Clone(b[:n])
	at := c.place
	if h.multipart {
		at = at[4:]
	}
	c.raw = h.parts[c.part].chunkBytes(at)
	return c, nil
}

func (o *exrOpener) run() error {
	if err := o.write(binary.LittleEndian.AppendUint32([]byte(exrForm), uint32(len(o.raw)))); err != nil {
		return err
	}
	if err := o.write(o.raw); err != nil {
		return err
	}
	for _, at := range o.chunks {
		head, err := o.head(o.r)
		if err != nil {
			return err
		}
		if err := o.write(append(binary.LittleEndian.AppendUint32(nil, at.index), head.place...)); err != nil {
			return err
		}
		switch {
		case !o.h.parts[head.part].zip:
			err = o.copy(o.r, head.raw)
		case head.size == head.raw:
			err = o.predict(head.raw)
		default:
			err = o.inflate(head)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copy writes the next n bytes of r.
func (o *exrOpener) copy(r io.Reader, n int64) error {
	for n > 0 {
		b := o.buf[:min(n, int64(len(o.buf)))]
		if _, err := io.ReadFull(r, b); err != nil {
			return noEOF(err)
		}
		n -= int64(len(b))
		if err := o.write(b); err != nil {
			return err
		}
	}
	return nil
}

// predict writes a chunk that deflate could not make smaller, and which stands
// in the file as pixels, as if it had been deflated.
func (o *exrOpener) predict(n int64) error {
	if int64(len(o.form)) < n {
		o.stored, o.form = make([]byte, n), make([]byte, n)
	}
	if _, err := io.ReadFull(o.r, o.stored[:n]); err != nil {
		return noEOF(err)
	}
	exrPredict(o.form[:n], o.stored[:n])
	return o.write(o.form[:n])
}

// inflate writes what a chunk's deflate stream holds.
func (o *exrOpener) inflate(head exrChunkHead) error {
	o.limit = io.LimitedReader{R: o.r, N: head.size}
	if o.packed == nil {
		o.packed = bufio.NewReaderSize(&o.limit, 16<<10)
	} else {
		o.packed.Reset(&o.limit)
	}
	var err error
	if o.z == nil {
		o.z, err = zlib.NewReader(o.packed)
	} else {
		err = o.z.(zlib.Resetter).Reset(o.packed, nil)
	}
	if err != nil {
		return noEOF(err)
	}
	if err := o.copy(o.z, head.raw); err != nil {
		return err
	}
	if _, err := io.ReadFull(o.z, o.buf[:1]); err != io.EOF {
		if err == nil {
			return notOpened("OpenEXR chunk is longer than it says")
		}
		return err
	}
	if _, err := o.packed.ReadByte(); err != io.EOF {
		if err == nil {
			return notOpened("bytes after an OpenEXR chunk")
		}
		return err
	}
	return nil
}
