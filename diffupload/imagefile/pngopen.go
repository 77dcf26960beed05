package imagefile

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zlib"
)

// pngLayout is what a walk over a PNG's chunk heads finds.
type pngLayout struct {
	h      pngHeader
	chunks int   // in all
	data   int   // IDAT chunks
	packed int64 // bytes in them
}

// walkPNG reads chunk heads and IHDR, and no pixels.
func walkPNG(f io.ReaderAt, size int64) (pngLayout, error) {
	var l pngLayout
	var order pngOrder
	off := int64(len(pngMagic))
	for !order.done {
		var head [8]byte
		if size-off < 12 {
			return l, notOpened("PNG is cut short")
		}
		if _, err := f.ReadAt(head[:], off); err != nil {
			return l, err
		}
		length, kind := int64(binary.BigEndian.Uint32(head[:])), string(head[4:])
		if wrong := order.next(kind, length); wrong != "" {
			return l, notOpened("PNG: %s", wrong)
		}
		if size-off-12 < length {
			return l, notOpened("PNG is cut short")
		}
		switch kind {
		case "IHDR":
			var b [13]byte
			if _, err := f.ReadAt(b[:], off+8); err != nil {
				return l, err
			}
			var wrong string
			if order.h, wrong = parseIHDR(b[:]); wrong != "" {
				return l, notOpened("PNG: %s", wrong)
			}
		case "IDAT":
			l.data++
			l.packed += length
		}
		off += 12 + length
	}
	if off != size {
		return l, notOpened("bytes after the end of the PNG")
	}
	l.h, l.chunks = order.h, order.chunks
	if l.h.inflated()/maxDeflate > l.packed {
		return l, notOpened("PNG holds fewer pixels than it says")
	}
	return l, nil
}

func openPNG(f io.ReaderAt, size int64) (io.ReadCloser, error) {
	l, err := walkPNG(f, size)
	if err != nil {
		return nil, err
	}
	src := newSource(f, int64(len(pngMagic)), size)
	return pull(func(write func([]byte) error) error {
		return src.blame((&pngOpener{l: l, r: bufio.NewReaderSize(src, 64<<10), write: write}).run())
	}), nil
}

// pngOpener writes the opened form of a PNG whose layout is known. The file may
// have changed since, so nothing depends on the layout being right.
type pngOpener struct {
	l     pngLayout
	r     *bufio.Reader
	write func([]byte) error
	buf   [32 << 10]byte
}

func (o *pngOpener) run() error {
	if err := o.write([]byte(pngForm)); err != nil {
		return err
	}
	opened := false
	for left := o.l.chunks; left > 0; left-- {
		head, err := o.head()
		if err != nil {
			return err
		}
		if string(head[4:]) != "IDAT" {
			if err := o.copyChunk(head); err != nil {
				return err
			}
			continue
		}
		if opened {
			return notOpened("PNG changed while it was read")
		}
		opened = true
		if err := o.pixels(head); err != nil {
			return err
		}
		left -= o.l.data - 1
	}
	return nil
}

func (o *pngOpener) head() (h [8]byte, err error) {
	_, err = io.ReadFull(o.r, h[:])
	return h, err
}

// copyChunk writes a chunk as it is, without its checksum.
func (o *pngOpener) copyChunk(head [8]byte) error {
	if err := o.write(head[:]); err != nil {
		return err
	}
	crc := crc32.ChecksumIEEE(head[4:])
	for left := int64(binary.BigEndian.Uint32(head[:])); left > 0; {
		b := o.buf[:min(left, int64(len(o.buf)))]
		if _, err := io.ReadFull(o.r, b); err != nil {
			return err
		}
		left -= int64(len(b))
		crc = crc32.Update(crc, crc32.IEEETable, b)
		if err := o.write(b); err != nil {
			return err
		}
	}
	return checkCRC(o.r, crc)
}

func checkCRC(r io.Reader, crc uint32) error {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(b[:]) != crc {
		return notOpened("PNG chunk has a wrong checksum")
	}
	return nil
}

// pixels writes an empty IDAT head and then the pixels of all IDAT chunks, of
// which head is the first one's.
func (o *pngOpener) pixels(head [8]byte) error {
	if err := o.write([]byte("\x00\x00\x00\x00IDAT")); err != nil {
		return err
	}
	idat := &idatReader{r: o.r, more: o.l.data}
	idat.start(head)
	packed := bufio.NewReaderSize(idat, 16<<10)
	z, err := zlib.NewReader(packed)
	if err != nil {
		return err
	}
	defer z.Close()
	rows := bufio.NewReaderSize(z, 64<<10)
	for _, p := range o.l.h.passes() {
		n := int(o.l.h.rowBytes(p.width))
		c := newRowCoder(o.l.h, int(p.width))
		in := make([]byte, n)
		for range p.height {
			filter, err := rows.ReadByte()
			if err != nil {
				return noEOF(err)
			}
			if _, err := io.ReadFull(rows, in); err != nil {
				return noEOF(err)
			}
			if filter > 4 {
				return notOpened("PNG has an unknown filter")
			}
			if err := o.write(c.open(in, filter)); err != nil {
				return err
			}
		}
	}
	// The end of the stream carries its checksum; nothing may follow it.
	if _, err := rows.ReadByte(); err != io.EOF {
		if err == nil {
			return notOpened("PNG holds more pixels than it says")
		}
		return err
	}
	if _, err := packed.ReadByte(); err != io.EOF {
		if err == nil {
			return notOpened("bytes after the pixels of the PNG")
		}
		return err
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// idatReader reads the content of consecutive IDAT chunks and checks them.
type idatReader struct {
	r    *bufio.Reader
	more int // chunks not yet read to their end
	left int64
	crc  uint32
}

func (d *idatReader) start(head [8]byte) {
	d.left = int64(binary.BigEndian.Uint32(head[:]))
	d.crc = crc32.ChecksumIEEE(head[4:])
}

func (d *idatReader) Read(p []byte) (int, error) {
	for d.left == 0 {
		if d.more == 0 {
			return 0, io.EOF
		}
		if err := checkCRC(d.r, d.crc); err != nil {
			return 0, noEOF(err)
		}
		if d.more--; d.more == 0 {
			return 0, io.EOF
		}
		var head [8]byte
		if _, err := io.ReadFull(d.r, head[:]); err != nil {
			return 0, noEOF(err)
		}
		if string(head[4:]) != "IDAT" {
			return 0, notOpened("PNG changed while it was read")
		}
		d.start(head)
	}
	p = p[:min(int64(len(p)), d.left)]
	n, err := io.ReadFull(d.r, p)
	d.left -= int64(n)
	d.crc = crc32.Update(d.crc, crc32.IEEETable, p[:n])
	return n, noEOF(err)
}
