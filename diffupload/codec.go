package diffupload

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"idlewild/diffupload/delta"
)

// Codec makes deltas of blocks for the wire. A delta is one byte that names
// the method, and what the method makes:
//
//	0  a zstd frame of the block
//	1  a zstd frame of the block with the base as raw dictionary
//	2  a patch of package delta
//	3  a zstd frame of the block's bytes less the base's at the same place,
//	   modulo 256; of the block's own where the base has ended
//
// The frame carries its content size. Other bytes are refused, so that methods
// can be added. The zero value is ready and safe for concurrent use.
type Codec struct{}

const (
	methodZstd  = 0
	methodDict  = 1
	methodPatch = 2
	methodLess  = 3
)

// patchable is the longest frame beside which a patch is tried: the time that
// a patch takes grows with what is new in the block, about 2 ms here.
const patchable = 2 << 10

// dictID is in the frame of method 1; it names the way, not the base.
const dictID = 1

// ErrDelta is returned for a delta that cannot be decoded within its bounds.
var ErrDelta = errors.New("bad delta")

// plainEnc and plainDec are stateless in use (EncodeAll, DecodeAll).
var plainEnc = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(2), zstd.WithSingleSegment(true),
		zstd.WithAllLitEntropyCompression(true)) // pixels have few repeats and skewed bytes
	if err != nil {
		panic(err) // options are constant
	}
	return e
})

var plainDec = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(MaxBlockBytes), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return d
})

// Encode returns a delta that makes block out of base, which may be empty, or
// false where it would not be smaller than the block, or the two have little in
// common: a delta takes much longer than a look.
func (Codec) Encode(base, block []byte) ([]byte, bool) {
	if len(block) > MaxBlockBytes || len(base) > MaxBlockBytes {
		return nil, false
	}
	var out []byte
	switch {
	case len(base) < 8:
		out = plainEnc().EncodeAll(block, []byte{methodZstd})
	case edges(base, block) >= len(block)-len(block)/16:
		// One edit in it: a patch is the smallest and the fastest.
		out = patch(base, block)
	case samePlaces(base, block):
		// Pixels, for one: what was painted over stays at its place.
		out = plainEnc().EncodeAll(less(block, base), []byte{methodLess})
		if d := withDict(base, block); d != nil && len(d) < len(out) {
			out = d
		}
	case anchorsOf(base).alike(block):
		out = withDict(base, block)
	default:
		return nil, false
	}
	if len(base) >= 8 && len(out) <= patchable {
		if p := patch(base, block); len(p) < len(out) || out == nil {
			out = p
		}
	}
	return out, out != nil && len(out) < len(block)
}

// withDict is method 1; nil where it cannot be. Each base needs an encoder of
// its own, and the fastest level makes one in half of the time.
func withDict(base, block []byte) []byte {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(2*MaxBlockBytes), zstd.WithSingleSegment(true), zstd.WithEncoderDictRaw(dictID, base),
		zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		return nil
	}
	defer e.Close()
	return e.EncodeAll(block, []byte{methodDict})
}

// samePlaces reports whether an eighth of two equally long blocks' bytes are
// the same at the same place, by a look at some: floats that moved a little
// have their high bytes in common.
func samePlaces(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	const step, run = 64, 8
	same, seen := 0, 0
	for at := 0; at+run <= len(a); at += step {
		for i := at; i < at+run; i++ {
			if a[i] == b[i] {
				same++
			}
		}
		seen += run
	}
	return same*8 >= seen
}

// less is a's bytes less b's at the same place.
func less(a, b []byte) []byte {
	out := bytes.Clone(a)
	for i, v := range b[:min(len(a), len(b))] {
		out[i] -= v
	}
	return out
}

// more makes a of less(a, b), in place.
func more(a, b []byte) {
	for i, v := range b[:min(len(a), len(b))] {
		a[i] += v
	}
}

func patch(base, block []byte) []byte {
	whole := delta.Hint{New: delta.Span{Len: len(block)}, Base: delta.Span{Len: len(base)}}
	return append([]byte{methodPatch}, delta.Encode(base, block, []delta.Hint{whole})...)
}

// edges is how many bytes two blocks have in common at their start and end.
func edges(a, b []byte) int {
	n := min(len(a), len(b))
	i, j := 0, 0
	for i < n && a[i] == b[i] {
		i++
	}
	for j < n-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	return i + j
}

// Decode applies a delta to base. The result has at most max bytes, and never
// more than MaxBlockBytes: a delta that claims more is refused before memory
// is taken for it.
func (Codec) Decode(base, d []byte, max int) ([]byte, error) {
	max = min(max, MaxBlockBytes)
	if len(d) < 2 || len(d) > 2*MaxBlockBytes || len(base) > MaxBlockBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrDelta, len(d))
	}
	method, frame := d[0], d[1:]
	if method == methodPatch {
		out, err := delta.Decode(base, frame, max)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDelta, err)
		}
		return out, nil
	}
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDelta, err)
	}
	if h.Skippable || !h.HasFCS || h.FrameContentSize > uint64(max) {
		return nil, fmt.Errorf("%w: content of %d bytes, at most %d are allowed", ErrDelta, h.FrameContentSize, max)
	}
	dec := plainDec()
	switch {
	case (method == methodZstd || method == methodLess) && h.DictionaryID == 0:
	case method == methodDict && h.DictionaryID == dictID && len(base) >= 8:
		var err error
		dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*MaxBlockBytes),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderDictRaw(dictID, base))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDelta, err)
		}
		defer dec.Close()
	default:
		return nil, fmt.Errorf("%w: method %d", ErrDelta, method)
	}
	// The capacity is the limit: a second frame behind the first has no room.
	out, err := dec.DecodeAll(frame, make([]byte, 0, h.FrameContentSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDelta, err)
	}
	if uint64(len(out)) != h.FrameContentSize {
		return nil, fmt.Errorf("%w: %d bytes where %d were promised", ErrDelta, len(out), h.FrameContentSize)
	}
	if method == methodLess {
		more(out, base)
	}
	return out, nil
}
