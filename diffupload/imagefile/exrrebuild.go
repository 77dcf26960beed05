package imagefile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"
)

// rebuildEXR writes an OpenEXR file out of its opened form.
func rebuildEXR(w io.Writer, opened io.Reader, limit int64) error {
	s, ok := w.(io.WriteSeeker)
	if !ok {
		return errors.New("rebuild OpenEXR: the output cannot seek, as a file can")
	}
	out := &limited{s, limit}
	b := &exrRebuilder{r: bufio.NewReaderSize(opened, 64<<10), w: bufio.NewWriterSize(out, 64<<10)}
	start, err := s.Seek(0, io.SeekCurrent)
	if err == nil {
		err = b.run()
	}
	if err == nil {
		err = b.w.Flush()
	}
	if err == nil {
		err = b.fillTable(s, start)
	}
	if err != nil {
		return fmt.Errorf("rebuild OpenEXR: %w", err)
	}
	return nil
}

type exrRebuilder struct {
	r     *bufio.Reader
	w     *bufio.Writer
	h     exrHeader
	head  int64    // bytes of the headers
	off   int64    // where the next chunk begins
	table []uint64 // offsets of chunks; 0: not yet seen

	z      *zlib.Writer
	form   []byte
	packed capped
}

func (b *exrRebuilder) run() error {
	magic := make([]byte, len(exrForm)+4)
	if _, err := io.ReadFull(b.r, magic); err != nil {
		return formErr(err)
	}
	if string(magic[:len(exrForm)]) != exrForm {
		return badForm("wrong magic or version")
	}
	n := binary.LittleEndian.Uint32(magic[len(exrForm):])
	if n > maxEXRHeader {
		return badForm("headers of %d bytes", n)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(b.r, raw); err != nil {
		return formErr(err)
	}
	h, used, wrong := parseEXR(raw)
	if wrong != "" || used != len(raw) || string(raw[:4]) != exrMagic {
		return badForm("headers that are not OpenEXR's %s", wrong)
	}
	b.h, b.head = h, int64(n)
	b.table = make([]uint64, h.chunks)
	if _, err := b.w.Write(raw); err != nil {
		return err
	}
	if _, err := b.w.Write(make([]byte, 8*h.chunks)); err != nil {
		return err
	}
	b.off = b.head + 8*int64(h.chunks)
	for range h.chunks {
		if err := b.chunk(); err != nil {
			return err
		}
	}
	if _, err := b.r.ReadByte(); err != io.EOF {
		if err == nil {
			return badForm("bytes after the end")
		}
		return err
	}
	return nil
}

func (b *exrRebuilder) chunk() error {
	var index [4]byte
	if _, err := io.ReadFull(b.r, index[:]); err != nil {
		return formErr(err)
	}
	i := binary.LittleEndian.Uint32(index[:])
	c, err := b.h.readPlace(b.r)
	if err != nil {
		return formErr(err)
	}
	if uint64(i) >= uint64(len(b.table)) || b.table[i] != 0 || c.raw == 0 {
		return badForm("impossible chunk")
	}
	b.table[i] = uint64(b.off)
	if int64(len(b.form)) < c.raw {
		b.form = make([]byte, c.raw)
	}
	data := b.form[:c.raw]
	if _, err := io.ReadFull(b.r, data); err != nil {
		return formErr(err)
	}
	if b.h.parts[c.part].zip {
		if data, err = b.deflate(data); err != nil {
			return err
		}
	}
	head := binary.LittleEndian.AppendUint32(c.place, uint32(len(data)))
	if _, err := b.w.Write(head); err != nil {
		return err
	}
	if _, err := b.w.Write(data); err != nil {
		return err
	}
	b.off += int64(len(head) + len(data))
	return nil
}

// deflate returns what stands in the file for a chunk: its deflate stream, or
// the pixels where that is not shorter.
func (b *exrRebuilder) deflate(form []byte) ([]byte, error) {
	if cap(b.packed.b) < len(form) {
		b.packed.b = make([]byte, 0, len(form))
	}
	b.packed.b, b.packed.max = b.packed.b[:0], len(form)-1
	if b.z == nil {
		var err error
		if b.z, err = zlib.NewWriterLevel(&b.packed, zlib.BestSpeed); err != nil {
			return nil, err
		}
	} else {
		b.z.Reset(&b.packed)
	}
	_, err := b.z.Write(form)
	if err == nil {
		err = b.z.Close()
	}
	if err == errFull {
		raw := b.packed.b[:len(form)]
		exrRestore(raw, form)
		return raw, nil
	}
	return b.packed.b, err
}

// capped holds up to max bytes.
type capped struct {
	b   []byte
	max int
}

var errFull = errors.New("longer than allowed")

func (c *capped) Write(p []byte) (int, error) {
	if len(p) > c.max-len(c.b) {
		return 0, errFull
	}
	c.b = append(c.b, p...)
	return len(p), nil
}

// fillTable writes the offsets into the place that was left for them and leaves
// the output at its end.
func (b *exrRebuilder) fillTable(s io.WriteSeeker, start int64) error {
	if _, err := s.Seek(start+b.head, io.SeekStart); err != nil {
		return err
	}
	out := make([]byte, 0, 8*len(b.table))
	for _, off := range b.table {
		out = binary.LittleEndian.AppendUint64(out, off)
	}
	if _, err := s.Write(out); err != nil {
		return err
	}
	_, err := s.Seek(start+b.off, io.SeekStart)
	return err
}
