package blendfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

const (
	smallHeader = 12
	largeHeader = 17
)

// parseHeader reads the first bytes of the content, 17 where it has so many.
//
//	BLENDER-v304        12 bytes: pointer size '_' 4 or '-' 8, order 'v' little
//	                    or 'V' big, version in three digits
//	BLENDER17-01v0502   17 bytes: header size, '-', format version 01, 'v',
//	                    version in four digits; 8-byte pointers, little-endian
func parseHeader(b []byte, info *Info) (*walker, error) {
	if len(b) < smallHeader || !bytes.HasPrefix(b, []byte("BLENDER")) {
		return nil, ErrNotBlend
	}
	w := &walker{skip: smallHeader, order: binary.LittleEndian}
	info.Endian, info.Pointer = Little, 8
	digits := b[9:12]
	switch b[7] {
	case '_':
		info.Pointer = 4
		w.headBytes = 20
	case '-':
		w.headBytes = 24
	default:
		if len(b) < largeHeader && string(b[7:12]) == "17-01" {
			return nil, ErrTruncated
		}
		if len(b) < largeHeader || string(b[7:13]) != "17-01v" {
			return nil, fmt.Errorf("%w: header %q", ErrNotBlend, b)
		}
		info.Large = true
		w.skip, w.headBytes, w.large = largeHeader, 32, true
		digits = b[13:17]
	}
	if !info.Large {
		switch b[8] {
		case 'v':
		case 'V':
			info.Endian, w.order = Big, binary.BigEndian
		default:
			return nil, fmt.Errorf("%w: header %q", ErrNotBlend, b)
		}
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return nil, fmt.Errorf("%w: header %q", ErrNotBlend, b)
		}
		info.Version = info.Version*10 + int(d-'0')
	}
	return w, nil
}

// walker follows the block heads of a stream, whatever pieces it comes in.
//
//	BHead4      20 bytes: code[4] len:i32 old:u32 sdna:i32 count:i32
//	BHead8      24 bytes: code[4] len:i32 old:u64 sdna:i32 count:i32
//	LargeBHead8 32 bytes: code[4] sdna:i32 old:u64 len:i64 count:i64
type walker struct {
	order     binary.ByteOrder
	headBytes int
	large     bool

	skip int64 // bytes until the next head
	head [32]byte
	have int
	end  bool // ENDB was seen; what follows it is nobody's business
}

func (w *walker) ended() bool { return w.end }

func (w *walker) feed(p []byte) error {
	for len(p) > 0 && !w.end {
		if w.skip > 0 {
			n := min(w.skip, int64(len(p)))
			w.skip -= n
			p = p[n:]
			continue
		}
		n := copy(w.head[w.have:w.headBytes], p)
		w.have += n
		p = p[n:]
		if w.have < w.headBytes {
			return nil
		}
		w.have = 0
		code := w.head[:4]
		if string(code) == "ENDB" {
			w.end = true
			return nil
		}
		size := int64(int32(w.order.Uint32(w.head[4:])))
		if w.large {
			size = int64(w.order.Uint64(w.head[16:]))
		}
		if size < 0 || size > MaxBytes {
			return fmt.Errorf("%w: block %q of %d bytes", ErrDamaged, code, size)
		}
		w.skip = size
	}
	return nil
}
