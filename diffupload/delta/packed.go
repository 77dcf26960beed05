package delta

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"idlewild/internal/encoders"
)

// maxPacked is the longest operation that is a zstd frame: both sides hold it
// twice.
const maxPacked = 8 << 20

var packer = encoders.New(zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithEncoderLevel(zstd.SpeedBestCompression))

var unpacker = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxPacked),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return d
})

// unpack makes the bytes of a packed operation at at.
func (s *stream) unpack(at int, o op, frame []byte) error {
	to := s.res[at : at+o.len]
	if !o.planes {
		return inflate(to, frame)
	}
	b := make([]byte, o.len)
	if err := inflate(b, frame); err != nil {
		return err
	}
	var old []byte
	if o.aligned {
		old = bytesAt(s.base, s.res, o.src, o.len)
	}
	unplane(to, b, old)
	return nil
}

// inflate decodes a frame of exactly len(to) bytes into to.
func inflate(to, frame []byte) error {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return fmt.Errorf("%w: %w", ErrPatch, err)
	}
	if len(to) > maxPacked || h.Skippable || !h.HasFCS || h.FrameContentSize != uint64(len(to)) {
		return fmt.Errorf("%w: a frame of %d bytes for %d", ErrPatch, h.FrameContentSize, len(to))
	}
	out, err := unpacker().DecodeAll(frame, to[:0:len(to)])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPatch, err)
	}
	if len(out) != len(to) {
		return fmt.Errorf("%w: %d bytes where %d were promised", ErrPatch, len(out), len(to))
	}
	return nil
}

// pack returns how to pack x, which is at most maxPacked long and has old as
// its counterpart or nil, or false where nothing makes it smaller.
func pack(x, old []byte, src int) (op, bool) {
	o := op{kind: opPacked, len: len(x)}
	b := x
	if old != nil {
		o.src, o.aligned, o.planes = src, true, true
		b = planes(x, old)
	} else if flat(x) {
		return op{}, false
	} else if sample := x[:min(len(x), 64<<10)&^3]; len(packer.EncodeAll(planes(sample, nil), nil)) < len(packer.EncodeAll(sample, nil)) {
		o.planes = true
		b = planes(x, nil)
	}
	o.frame = packer.EncodeAll(b, nil)
	return o, len(o.frame) < len(x)
}

// flat says whether all bytes are about equally frequent in x, as in what is
// compressed or encrypted: the sum of the squares of their numbers is near the
// least that it can be.
func flat(x []byte) bool {
	var n [256]uint64
	for _, b := range x {
		n[b]++
	}
	var sum uint64
	for _, k := range n {
		sum += k * k
	}
	return sum*256*32 < uint64(len(x))*uint64(len(x))*33
}

// planes puts the four bytes of all words of x, or of the differences of x to
// old, zigzag, into four planes. What is left behind the last word is kept.
func planes(x, old []byte) []byte {
	n := len(x) / 4
	out := make([]byte, len(x))
	for i := range n {
		v := wordAt(x, 4*i)
		if old != nil {
			d := v - wordAt(old, 4*i)
			v = d<<1 ^ uint32(int32(d)>>31)
		}
		out[i], out[n+i], out[2*n+i], out[3*n+i] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	copy(out[4*n:], x[4*n:])
	return out
}

// unplane is the way back; to and old may be parts of one array, old first.
func unplane(to, p, old []byte) {
	n := len(p) / 4
	for i := range n {
		v := uint32(p[i]) | uint32(p[n+i])<<8 | uint32(p[2*n+i])<<16 | uint32(p[3*n+i])<<24
		if old != nil {
			v = v>>1 ^ -(v & 1) + wordAt(old, 4*i)
		}
		to[4*i], to[4*i+1], to[4*i+2], to[4*i+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	copy(to[4*n:], p[4*n:])
}
