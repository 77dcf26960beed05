// Package imagefile opens images: it takes the deflate streams off a PNG or an
// OpenEXR file, so that an edit of a few pixels changes a few bytes, and writes
// a valid image out of the opened form again.
//
// The opened form depends on the pixels and on what stands beside them (header,
// text, colour profile, attributes), not on how an encoder packed them. What
// Rebuild writes therefore has the same pixels, bit for bit, and the same
// metadata, but is not the same file: filters, deflate streams and the cutting
// into IDAT chunks are our own. Who needs the bytes sends the file as it is.
//
// Files come from strangers: sizes are bounded before anything is allocated,
// pixels go through row by row, and neither way needs more than 64 MiB.
package imagefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Format of an opened image.
type Format string

// Formats. The values are those of diffupload's encodings.
const (
	PNG Format = "png-open"
	EXR Format = "exr-open"
)

// Errors that callers branch on.
var (
	// ErrNotOpened: the image is sent as it is. It is none of ours, a variant
	// that could not be rebuilt, damaged, or not worth the work.
	ErrNotOpened = errors.New("image not opened")
	// ErrTooLarge: Rebuild would write more than its limit.
	ErrTooLarge = errors.New("rebuilt image is larger than allowed")
	// ErrForm: what Rebuild was given is no opened image.
	ErrForm = errors.New("not an opened image")
)

const (
	// minBytes is less than any PNG or OpenEXR file has.
	minBytes = 64
	// maxInflated bounds the pixel bytes of an image.
	maxInflated = 2 << 30
	// maxDeflate is what one deflated byte can become at most.
	maxDeflate = 1032
)

// Open returns the opened form of the image of size bytes in f, or
// ErrNotOpened. Damage that only shows while reading (a checksum, a deflate
// stream) makes Read return ErrNotOpened: then what was read is void, and the
// file is sent as it is. Errors of f itself come back as they are.
//
// The form is read from f as the caller goes on; Close ends it between two
// reads, with no work left running, and must be called.
func Open(f io.ReaderAt, size int64) (io.ReadCloser, Format, error) {
	if size < minBytes {
		return nil, "", notOpened("%d bytes are no image", size)
	}
	var magic [8]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil {
		return nil, "", err
	}
	switch {
	case string(magic[:]) == pngMagic:
		r, err := openPNG(f, size)
		return r, PNG, err
	case bytes.HasPrefix(magic[:], []byte(exrMagic)):
		r, err := openEXR(f, size)
		return r, EXR, err
	}
	return nil, "", notOpened("neither PNG nor OpenEXR")
}

// Rebuild reads an opened form to its end and writes an image with the same
// pixels and metadata, of at most limit bytes. Input that Open did not write is
// ErrForm. What Open wrote becomes at most 9/4 of itself and 64 KiB: a row of
// one byte gets a filter of one byte. The offsets of an OpenEXR file stand before what they lead to: for
// it w must also be an io.Seeker, as an *os.File is.
func Rebuild(w io.Writer, opened io.Reader, format Format, limit int64) error {
	switch format {
	case PNG:
		return rebuildPNG(w, opened, limit)
	case EXR:
		return rebuildEXR(w, opened, limit)
	}
	return fmt.Errorf("rebuild image: unknown format %q", format)
}

func notOpened(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrNotOpened, fmt.Sprintf(format, a...))
}

func badForm(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrForm, fmt.Sprintf(format, a...))
}

// formErr is for reading an opened form: one that ends early is none.
func formErr(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return badForm("cut short")
	}
	return err
}

// limited writes at most left bytes.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, ErrTooLarge
	}
	l.left -= int64(len(p))
	return l.w.Write(p)
}
