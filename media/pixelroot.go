package media

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/mrjoshuak/go-openexr/exr"
)

// rootBytes is what decoded bands may take together; one band is always decoded.
const rootBytes = 512 << 20

// PixelRoot is the TileRoot of the image file at path. An EXR file is decoded a
// band of rows at a time, on several cores: its memory depends on the width and
// the number of channels and not on the height.
func PixelRoot(path string, l Limits) (root [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return root, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return root, err
	}
	if !st.Mode().IsRegular() {
		return root, fmt.Errorf("%s: not a regular file", st.Name())
	}
	var head [4]byte
	if _, err := f.ReadAt(head[:], 0); err == nil && string(head[:]) == string(magicEXR) {
		if root, err = exrRoot(f, st.Size(), l); err != nil {
			return root, fmt.Errorf("decode %s: %w", st.Name(), err)
		}
		return root, nil
	}
	m, err := DecodeFile(path, l)
	if err != nil {
		return root, err
	}
	root, _, err = TileRoot(m)
	return root, err
}

// exrRoot hashes the tiles of an EXR file.
func exrRoot(r io.ReaderAt, size int64, l Limits) (root [32]byte, err error) {
	defer rescue("exr", &err)
	calm()
	first, err := openBands(r, size, l)
	if err != nil {
		return root, err
	}
	// Readers decode whole chunks, and tiles are 64 rows.
	rows := TileSide
	channels := 0
	for part := range first.file.NumParts() {
		h := first.file.Header(part)
		rows = max(rows, h.Compression().ScanlinesPerChunk())
		channels += h.Channels().Len()
	}
	if rows%TileSide != 0 {
		return root, fmt.Errorf("chunks of %d rows", rows)
	}
	width, height := first.frame.Width, first.frame.Height
	bands := (height + rows - 1) / rows
	workers := int64(rootBytes) / (int64(width) * int64(rows) * int64(channels) * 4)
	workers = max(1, min(workers, int64(runtime.GOMAXPROCS(0)), int64(bands)))

	leaves := make([][][32]byte, bands)
	var mu sync.Mutex
	next := 0
	var wg sync.WaitGroup
	work := func(b *exrBands) (err error) {
		defer rescue("exr", &err)
		if b == nil {
			if b, err = openBands(r, size, l); err != nil {
				return err
			}
		}
		for {
			mu.Lock()
			i := next
			next++
			mu.Unlock()
			if i >= bands {
				return nil
			}
			m, err := b.read(i*rows, min(rows, height-i*rows))
			if err != nil {
				return err
			}
			leaves[i] = tileLeaves(m, i*rows)
		}
	}
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() {
			b := first
			if i > 0 {
				b = nil
			}
			if errs[i] = work(b); errs[i] != nil {
				mu.Lock()
				next = bands // the others need not go on
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return root, err
	}
	all := rootHead(width, height, channels)
	for _, band := range leaves {
		for _, leaf := range band {
			all = append(all, leaf[:]...)
		}
	}
	return sha256.Sum256(all), nil
}

// exrBands reads bands of an EXR file.
type exrBands struct {
	file  *exr.File
	frame *Image   // without channels
	views []string // of the parts; nil: they have none
}

func openBands(r io.ReaderAt, size int64, l Limits) (*exrBands, error) {
	l = l.withDefaults()
	if size > l.FileBytes {
		return nil, fmt.Errorf("%w: file of %d bytes, at most %d", ErrTooLarge, size, l.FileBytes)
	}
	// The reader is wrapped so that the library sees no more methods than
	// ReadAt: with others it would keep references into our bytes.
	f, err := exr.OpenReader(struct{ io.ReaderAt }{r}, size)
	if err != nil {
		return nil, err
	}
	m, err := exrHeader(f, l)
	if err != nil {
		return nil, err
	}
	return &exrBands{f, m, partViews(f)}, nil
}

// read returns rows from the one at y on, counted from the top.
func (b *exrBands) read(y, rows int) (*Image, error) {
	m := *b.frame
	m.Height, m.Channels = rows, nil
	for part := range b.file.NumParts() {
		view := ""
		if b.views != nil {
			view = b.views[part]
		}
		if err := exrPixels(b.file, part, view, &m, y); err != nil {
			return nil, err
		}
	}
	return &m, m.check()
}

// rootHead begins what the root is the hash of.
func rootHead(width, height, channels int) []byte {
	u32 := binary.LittleEndian.AppendUint32
	return u32(u32(u32([]byte("idlewild pixels 1\x00"), uint32(width)), uint32(height)), uint32(channels))
}
