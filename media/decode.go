package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrFormat is returned for a file that is none of those that are read.
var ErrFormat = errors.New("neither an EXR nor a PNG nor a JPEG file")

var (
	magicEXR = []byte{0x76, 0x2f, 0x31, 0x01}
	magicPNG = []byte("\x89PNG\r\n\x1a\n")
	magicJPG = []byte{0xff, 0xd8, 0xff}
)

// DecodeFile decodes an EXR, PNG or JPEG file, told apart by its first bytes.
func DecodeFile(path string, l Limits) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", st.Name())
	}
	m, err := decode(f, st.Size(), l)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", st.Name(), err)
	}
	return m, nil
}

// Decode decodes the bytes of an EXR, PNG or JPEG file.
func Decode(b []byte, l Limits) (*Image, error) {
	return decode(bytes.NewReader(b), int64(len(b)), l)
}

func decode(r io.ReaderAt, size int64, l Limits) (*Image, error) {
	var head [8]byte
	if n, err := r.ReadAt(head[:], 0); n < len(head) {
		if err == io.EOF {
			return nil, ErrFormat
		}
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head[:], magicEXR):
		return decodeEXR(r, size, l)
	case bytes.HasPrefix(head[:], magicPNG):
		return decodePNG(io.NewSectionReader(r, 0, size), size, l)
	case bytes.HasPrefix(head[:], magicJPG):
		return decodeJPEG(io.NewSectionReader(r, 0, size), size, l)
	}
	return nil, ErrFormat
}
