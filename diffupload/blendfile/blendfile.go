// Package blendfile reads .blend files, makes their canonical form, and says in
// what two versions differ, and where a file is no .blend or is cut short.
//
// A .blend is a header and blocks, each with a head (BHead) that holds a code,
// a length, an address, an index into the file's own description of its
// structs (SDNA) and a count; the block with the code ENDB is the last. On disk
// it may lie in a container, gzip until Blender 2.9x and zstd since 3.0. A Kind
// of file is told by its first bytes, never by its name. Files come from
// strangers: every length is bounded and memory does not depend on the file.
package blendfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Errors that callers branch on.
var (
	// ErrNotBlend: the first bytes, container taken off, are not a .blend's.
	ErrNotBlend = errors.New("not a .blend file")
	// ErrTruncated: the file ends before its ENDB block.
	ErrTruncated = errors.New("truncated .blend")
	// ErrDamaged: a container or block head that cannot be.
	ErrDamaged = errors.New("damaged .blend")
	// ErrTooLarge: the content is larger than its bounds.
	ErrTooLarge = errors.New(".blend expands to more than is allowed")
)

// Bounds of what a container may expand to: MaxBytes, and MaxRatio times its
// own size but never less than minExpanded. Deflate cannot exceed 1032.
const (
	MaxBytes    = 1 << 38
	MaxRatio    = 1100
	minExpanded = 64 << 20
	// maxWindow bounds the decoder's memory; Blender itself writes 2 MiB.
	maxWindow = 32 << 20
)

// Container is the compression around a .blend.
type Container string

// Containers.
const (
	Raw  Container = "raw"
	Gzip Container = "gzip"
	Zstd Container = "zstd"
)

// Info is what the first bytes of a .blend say.
type Info struct {
	Version   int // of the Blender that wrote it: 304 for 3.4, 279 for 2.79
	Pointer   int // bytes of a pointer: 4 or 8
	Endian    Endian
	Container Container
	// Large says that block heads have 64-bit lengths (header of 17 bytes,
	// Blender 5 and later).
	Large bool
}

// Endian is the order of bytes in integers.
type Endian string

// Orders of bytes.
const (
	Little Endian = "little"
	Big    Endian = "big"
)

// Open opens the .blend at path and returns its content without container.
// See NewReader. Closing the reader closes the file.
func Open(path string) (io.ReadCloser, Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Info{}, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, Info{}, err
	}
	r, info, err := NewReader(f, st.Size())
	if err != nil {
		f.Close()
		return nil, Info{}, fmt.Errorf("%s: %w", path, err)
	}
	return &fileReader{r, f}, info, nil
}

type fileReader struct {
	io.ReadCloser
	f *os.File
}

func (r *fileReader) Close() error {
	return errors.Join(r.ReadCloser.Close(), r.f.Close())
}

// Check reads the .blend at path to its end and says what is wrong with it:
// ErrNotBlend, ErrTruncated, ErrDamaged, ErrTooLarge, or trouble with reading.
func Check(path string) (Info, error) {
	r, info, err := Open(path)
	if err != nil {
		return Info{}, err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return info, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

// NewReader returns the content of the .blend in r, whose container has size
// bytes. The content is checked as it is read: the reader ends with io.EOF only
// where it saw the ENDB block, and otherwise with ErrTruncated, ErrDamaged,
// ErrTooLarge or r's own error. NewReader itself fails with ErrNotBlend where
// the content does not begin like a .blend.
func NewReader(r io.Reader, size int64) (io.ReadCloser, Info, error) {
	src := &source{r: r}
	br := bufio.NewReaderSize(src, 128<<10)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, Info{}, err
	}
	var (
		in    io.Reader = br
		info            = Info{Container: Raw}
		limit           = int64(MaxBytes)
		done            = func() {}
	)
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, Info{}, containerError(err, src)
		}
		in, info.Container = z, Gzip
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, Info{}, containerError(err, src)
		}
		in, info.Container, done = z, Zstd, z.Close
	}
	if info.Container != Raw {
		limit = min(limit, max(size, 0)*MaxRatio)
		limit = max(limit, minExpanded)
	}
	rd := &reader{in: in, src: src, left: limit, done: done, container: info.Container}
	head, err := readHeader(in)
	if err != nil {
		done()
		return nil, Info{}, containerError(err, src)
	}
	walk, err := parseHeader(head, &info)
	if err != nil {
		done()
		return nil, Info{}, err
	}
	rd.walk = walk
	rd.head = head
	return rd, info, nil
}

// readHeader reads up to 17 bytes. Fewer than the shortest header and an error
// that is not a plain end is trouble with the container.
func readHeader(r io.Reader) ([]byte, error) {
	head := make([]byte, 0, largeHeader)
	for idle := 0; len(head) < largeHeader && idle < 100; idle++ {
		n, err := r.Read(head[len(head):largeHeader])
		head = head[:len(head)+n]
		switch {
		case err == io.EOF:
			return head, nil
		case err != nil && len(head) < smallHeader:
			return nil, err
		case err != nil:
			return head, nil // it will be met again
		}
	}
	return head, nil
}

// reader yields the content and walks its blocks.
type reader struct {
	in        io.Reader
	src       *source
	container Container
	head      []byte // read already, not yet given out
	left      int64
	walk      *walker
	done      func()
	err       error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	var n int
	var err error
	if len(r.head) > 0 {
		n = copy(p, r.head)
		r.head = r.head[n:]
	} else {
		n, err = r.in.Read(p)
	}
	if r.left -= int64(n); r.left < 0 {
		r.err = ErrTooLarge
		return 0, r.err
	}
	if werr := r.walk.feed(p[:n]); werr != nil {
		r.err = werr
		return 0, werr
	}
	switch {
	case err == nil:
	case err == io.EOF && r.walk.ended():
		r.err = io.EOF
	case err == io.EOF:
		r.err = ErrTruncated
	case r.container != Raw:
		r.err = containerError(err, r.src)
	default:
		r.err = err
	}
	return n, r.err
}

func (r *reader) Close() error {
	r.done()
	if r.err == nil {
		r.err = os.ErrClosed
	}
	return nil
}

// source remembers the error of the file itself, which a decoder may wrap or
// replace: a bad disk is not a damaged .blend.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func containerError(err error, src *source) error {
	switch {
	case src.err != nil:
		return src.err
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return ErrTruncated
	case errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
