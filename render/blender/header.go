package blender

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

var (
	// errNotBlend says that a file is something else than a .blend.
	errNotBlend = errors.New("this is no .blend file")
	// errCut says that a file ends before its head does.
	errCut = errors.New("it is incomplete")
	// errNoFile says that a name is that of a folder, say.
	errNoFile = errors.New("it is no file")
)

// fileVersion reads the version of Blender that saved a file, as 304 for 3.4,
// from the first bytes of the file, whatever its container.
func fileVersion(name string) (int, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, errNoFile
	}
	head, err := openHead(bufio.NewReader(f))
	if err != nil {
		return 0, err
	}
	return headVersion(head)
}

const headBytes = 17

// openHead returns the first bytes of the .blend inside a container.
func openHead(r *bufio.Reader) ([]byte, error) {
	magic, err := r.Peek(4)
	switch {
	case len(magic) == 0 && errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it is empty", errCut)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case err != nil:
		return nil, errNotBlend
	}
	var in io.Reader = r
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errCut
		}
		if err != nil {
			return nil, errNotBlend
		}
		defer z.Close()
		in = z
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderMaxWindow(64<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, errNotBlend
		}
		defer z.Close()
		in = z
	}
	head := make([]byte, headBytes)
	n, err := io.ReadFull(in, head)
	if err != nil && n < 12 {
		if ended := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF); ended && startsAsBlend(head[:n]) {
			return nil, errCut
		}
		return nil, errNotBlend
	}
	return head[:n], nil
}

// startsAsBlend reports whether head is the beginning of what every .blend
// begins with, as far as it goes.
func startsAsBlend(head []byte) bool {
	const mark = "BLENDER"
	n := min(len(head), len(mark))
	return string(head[:n]) == mark[:n]
}

// headVersion reads "BLENDER-v304" and, since 5.0, "BLENDER17-01v0502".
func headVersion(head []byte) (int, error) {
	rest, ok := bytes.CutPrefix(head, []byte("BLENDER"))
	if !ok {
		return 0, errNotBlend
	}
	var digits []byte
	switch {
	case len(rest) >= 5 && (rest[0] == '_' || rest[0] == '-') && (rest[1] == 'v' || rest[1] == 'V'):
		digits = rest[2:5]
	case len(rest) >= 10 && (rest[5] == 'v' || rest[5] == 'V'):
		digits = rest[6:10]
	default:
		return 0, errNotBlend
	}
	v := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, errNotBlend
		}
		v = v*10 + int(d-'0')
	}
	return v, nil
}

// versionText is 304 as people write it.
func versionText(v int) string { return fmt.Sprintf("%d.%d", v/100, v%100) }
