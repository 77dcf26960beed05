package diffupload

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Codec makes deltas of blocks for the wire. A delta is one byte that names
// the method, and what the method makes:
//
//	0  a zstd frame of the block
//	1  a zstd frame of the block with the base as raw dictionary
//
// The frame carries its content size. Other bytes are refused, so that methods
// can be added. The zero value is ready and safe for concurrent use.
type Codec struct{}

const (
	methodZstd = 0
	methodDict = 1
)

// dictID is in the frame of method 1; it names the way, not the base.
const dictID = 1

// ErrDelta is returned for a delta that cannot be decoded within its bounds.
var ErrDelta = errors.New("bad delta")

// plainEnc and plainDec are stateless in use (EncodeAll, DecodeAll).
var plainEnc = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(2), zstd.WithSingleSegment(true))
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
// false where it would not be smaller than the block.
func (Codec) Encode(base, block []byte) ([]byte, bool) {
	if len(block) > MaxBlockBytes || len(base) > MaxBlockBytes {
		return nil, false
	}
	var out []byte
	if len(base) < 8 {
		out = plainEnc().EncodeAll(block, []byte{methodZstd})
	} else {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(2*MaxBlockBytes), zstd.WithSingleSegment(true), zstd.WithEncoderDictRaw(dictID, base))
		if err != nil {
			return nil, false
		}
		out = e.EncodeAll(block, []byte{methodDict})
		e.Close()
	}
	return out, len(out) < len(block)
}

// Decode applies a delta to base. The result has at most max bytes, and never
// more than MaxBlockBytes: a delta that claims more is refused before memory
// is taken for it.
func (Codec) Decode(base, delta []byte, max int) ([]byte, error) {
	max = min(max, MaxBlockBytes)
	if len(delta) < 2 || len(delta) > 2*MaxBlockBytes || len(base) > MaxBlockBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrDelta, len(delta))
	}
	method, frame := delta[0], delta[1:]
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDelta, err)
	}
	if h.Skippable || !h.HasFCS || h.FrameContentSize > uint64(max) {
		return nil, fmt.Errorf("%w: content of %d bytes, at most %d are allowed", ErrDelta, h.FrameContentSize, max)
	}
	d := plainDec()
	switch {
	case method == methodZstd && h.DictionaryID == 0:
	case method == methodDict && h.DictionaryID == dictID && len(base) >= 8:
		var err error
		d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*MaxBlockBytes),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderDictRaw(dictID, base))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDelta, err)
		}
		defer d.Close()
	default:
		return nil, fmt.Errorf("%w: method %d", ErrDelta, method)
	}
	// The capacity is the limit: a second frame behind the first has no room.
	out, err := d.DecodeAll(frame, make([]byte, 0, h.FrameContentSize))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDelta, err)
	}
	if uint64(len(out)) != h.FrameContentSize {
		return nil, fmt.Errorf("%w: %d bytes where %d were promised", ErrDelta, len(out), h.FrameContentSize)
	}
	return out, nil
}
