package imagefile

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zlib"
)

// rebuildPNG writes a PNG out of its opened form.
func rebuildPNG(w io.Writer, opened io.Reader, limit int64) error {
	b := &pngRebuilder{r: bufio.NewReaderSize(opened, 64<<10)}
	out := bufio.NewWriterSize(&limited{w, limit}, 64<<10)
	b.w = out
	if err := b.run(); err != nil {
		return fmt.Errorf("rebuild PNG: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("rebuild PNG: %w", err)
	}
	return nil
}

type pngRebuilder struct {
	r     *bufio.Reader
	w     io.Writer
	order pngOrder
	buf   [32 << 10]byte
}

func (b *pngRebuilder) run() error {
	magic := make([]byte, len(pngForm))
	if _, err := io.ReadFull(b.r, magic); err != nil {
		return formErr(err)
	}
	if string(magic) != pngForm {
		return badForm("wrong magic or version")
	}
	if _, err := io.WriteString(b.w, pngMagic); err != nil {
		return err
	}
	for !b.order.done {
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

func (b *pngRebuilder) chunk() error {
	var head [8]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		return formErr(err)
	}
	length, kind := int64(binary.BigEndian.Uint32(head[:])), string(head[4:])
	twice := kind == "IDAT" && b.order.data
	if wrong := b.order.next(kind, length); wrong != "" {
		return badForm("%s", wrong)
	}
	if kind == "IDAT" {
		if length != 0 || twice {
			return badForm("IDAT is not opened")
		}
		return b.pixels()
	}
	c := &chunkWriter{w: b.w}
	if err := c.begin(head); err != nil {
		return err
	}
	for left := length; left > 0; {
		p := b.buf[:min(left, int64(len(b.buf)))]
		if _, err := io.ReadFull(b.r, p); err != nil {
			return formErr(err)
		}
		left -= int64(len(p))
		if kind == "IHDR" {
			var wrong string
			if b.order.h, wrong = parseIHDR(p); wrong != "" {
				return badForm("%s", wrong)
			}
		}
		if _, err := c.Write(p); err != nil {
			return err
		}
	}
	return c.end()
}

// pixels writes the rows as IDAT chunks.
func (b *pngRebuilder) pixels() error {
	idat := bufio.NewWriterSize(idatWriter{b.w}, 64<<10)
	z, err := zlib.NewWriterLevel(idat, zlib.BestSpeed)
	if err != nil {
		return err
	}
	h := b.order.h
	for _, p := range h.passes() {
		n := int(h.rowBytes(p.width))
		c := newRowCoder(h, int(p.width))
		in, out := make([]byte, n), make([]byte, n+1)
		for range p.height {
			if _, err := io.ReadFull(b.r, in); err != nil {
				return formErr(err)
			}
			row := c.close(in)
			if h.predicted() {
				out[0] = filterPaeth
				filterRow(out[1:], row, c.prev, c.step)
			} else {
				out[0] = filterNone
				copy(out[1:], row)
			}
			if _, err := z.Write(out); err != nil {
				return err
			}
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return idat.Flush()
}

// chunkWriter writes one chunk and sums it.
type chunkWriter struct {
	w   io.Writer
	crc uint32
}

func (c *chunkWriter) begin(head [8]byte) error {
	c.crc = crc32.ChecksumIEEE(head[4:])
	_, err := c.w.Write(head[:])
	return err
}

func (c *chunkWriter) Write(p []byte) (int, error) {
	c.crc = crc32.Update(c.crc, crc32.IEEETable, p)
	return c.w.Write(p)
}

func (c *chunkWriter) end() error {
	_, err := c.w.Write(binary.BigEndian.AppendUint32(nil, c.crc))
	return err
}

// idatWriter makes each write an IDAT chunk.
type idatWriter struct{ w io.Writer }

func (i idatWriter) Write(p []byte) (int, error) {
	c := &chunkWriter{w: i.w}
	head := [8]byte{4: 'I', 5: 'D', 6: 'A', 7: 'T'}
	binary.BigEndian.PutUint32(head[:], uint32(len(p)))
	if err := c.begin(head); err != nil {
		return 0, err
	}
	if _, err := c.Write(p); err != nil {
		return 0, err
	}
	return len(p), c.end()
}
