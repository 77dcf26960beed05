package blendfile

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// spoolMemory is how much of a compressed file's content is kept in memory.
// More goes to a temporary file.
const spoolMemory = 8 << 20

// content is a .blend without container.
type content struct {
	io.ReaderAt
	size  int64
	close func() error
}

// openContent takes the container off. Closing the content removes what it
// needed for that; it does not close f.
func openContent(f io.ReaderAt, size int64, tempDir string) (content, Info, error) {
	r, info, err := NewReader(io.NewSectionReader(f, 0, size), size)
	if err != nil {
		return content{}, info, err
	}
	defer r.Close()
	if info.Container == Raw {
		return content{f, size, func() error { return nil }}, info, nil
	}
	c, err := spool(r, tempDir)
	return c, info, err
}

func spool(r io.Reader, tempDir string) (content, error) {
	var head bytes.Buffer
	n, err := io.CopyN(&head, r, spoolMemory)
	if err == io.EOF {
		return content{bytes.NewReader(head.Bytes()), n, func() error { return nil }}, nil
	}
	if err != nil {
		return content{}, err
	}
	f, err := os.CreateTemp(tempDir, "idlewild-blend-")
	if err != nil {
		return content{}, err
	}
	remove := func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }
	if n, err = io.CopyBuffer(struct{ io.Writer }{f}, io.MultiReader(&head, r), make([]byte, 256<<10)); err != nil {
		return content{}, errors.Join(err, remove())
	}
	return content{f, n, remove}, nil
}

// window reads a content through a buffer.
type window struct {
	c   content
	buf []byte
	at  int64 // of buf[0]
	n   int
}

func newWindow(c content, size int) *window { return &window{c: c, buf: make([]byte, size)} }

// peek returns n bytes at off, which must not be more than the window has.
// They are valid until the next call.
func (w *window) peek(off int64, n int) ([]byte, error) {
	if off < 0 || off > w.c.size || int64(n) > w.c.size-off {
		return nil, ErrTruncated
	}
	if off >= w.at && off-w.at+int64(n) <= int64(w.n) {
		return w.buf[off-w.at:][:n], nil
	}
	w.at, w.n = off, 0
	for w.n < n {
		m, err := w.c.ReadAt(w.buf[w.n:min(int64(len(w.buf)), w.c.size-off)], off+int64(w.n))
		w.n += m
		if w.n >= n {
			break
		}
		if err == io.EOF || err == nil && m == 0 {
			return nil, ErrTruncated
		}
		if err != nil {
			return nil, err
		}
	}
	return w.buf[:n], nil
}
