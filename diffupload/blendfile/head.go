package blendfile

import (
	"encoding/binary"
	"fmt"
)

// format is how a file lays out its blocks. See walker for the heads.
type format struct {
	order     binary.ByteOrder
	pointer   int
	large     bool
	header    int // bytes
	headBytes int // of a block
}

func formatOf(c content) (format, error) {
	b, err := newWindow(c, largeHeader).peek(0, int(min(largeHeader, c.size)))
	if err != nil {
		return format{}, err
	}
	var info Info
	w, err := parseHeader(b, &info)
	if err != nil {
		return format{}, err
	}
	return format{w.order, info.Pointer, info.Large, int(w.skip), w.headBytes}, nil
}

// head is the head of a block.
type head struct {
	code  string // without trailing NULs
	size  int64  // of the data
	old   uint64 // address
	sdna  int    // index of the struct; 0 for raw data
	count int64
}

func (f *format) head(b []byte) head {
	code := b[:4]
	for len(code) > 0 && code[len(code)-1] == 0 {
		code = code[:len(code)-1]
	}
	h := head{code: codeText(code)}
	switch {
	case f.large:
		h.sdna, h.old = int(int32(f.order.Uint32(b[4:]))), f.order.Uint64(b[8:])
		h.size, h.count = int64(f.order.Uint64(b[16:])), int64(f.order.Uint64(b[24:]))
	case f.pointer == 8:
		h.size, h.old = int64(int32(f.order.Uint32(b[4:]))), f.order.Uint64(b[8:])
		h.sdna, h.count = int(int32(f.order.Uint32(b[16:]))), int64(int32(f.order.Uint32(b[20:])))
	default:
		h.size, h.old = int64(int32(f.order.Uint32(b[4:]))), uint64(f.order.Uint32(b[8:]))
		h.sdna, h.count = int(int32(f.order.Uint32(b[12:]))), int64(int32(f.order.Uint32(b[16:])))
	}
	return h
}

// codeText spares an allocation for the code that nearly all blocks have.
func codeText(b []byte) string {
	if string(b) == "DATA" {
		return "DATA"
	}
	return string(b)
}

// putOld writes a block's address into its head.
func (f *format) putOld(b []byte, old uint64) {
	if f.pointer == 8 {
		f.order.PutUint64(b[8:], old)
	} else {
		f.order.PutUint32(b[8:], uint32(old))
	}
}

func (f *format) word(b []byte) uint64 {
	if f.pointer == 8 {
		return f.order.Uint64(b)
	}
	return uint64(f.order.Uint32(b))
}

func (f *format) putWord(b []byte, v uint64) {
	if f.pointer == 8 {
		f.order.PutUint64(b, v)
	} else {
		f.order.PutUint32(b, uint32(v))
	}
}

// blocks calls do for each block up to and with ENDB: its number, head, the
// bytes of the head and where its data begins.
func (f *format) blocks(w *window, do func(i int, h head, raw []byte, at int64) error) error {
	off := int64(f.header)
	for i := 0; ; i++ {
		raw, err := w.peek(off, f.headBytes)
		if err != nil {
			return err
		}
		h := f.head(raw)
		off += int64(f.headBytes)
		if h.size < 0 || h.size > MaxBytes {
			return fmt.Errorf("%w: block %q of %d bytes", ErrDamaged, h.code, h.size)
		}
		if h.code != "ENDB" && h.size > w.c.size-off {
			return ErrTruncated
		}
		if err := do(i, h, raw, off); err != nil {
			return err
		}
		if h.code == "ENDB" {
			return nil
		}
		off += h.size
	}
}
