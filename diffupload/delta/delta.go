// Package delta makes the smallest patch it can from bytes that a receiver has
// to bytes that it wants, and applies such patches. It is made for canonical
// .blend datablocks: records of 32-bit words (floats, indices, addresses) of
// which an edit changes few, and many of those by the same amount.
//
// A patch is a list of copies out of the base, as in bsdiff (Colin Percival,
// 2003: matches that tolerate differences), where the words that differ are
// not stored as differences but coded one bit at a time under a mix of
// predictions, as in the PAQ family (Matt Mahoney, 2002 and later): the word
// of the base, the base plus the last difference in the same column of a
// record, neighbouring records, earlier replacements of the same word. All
// arithmetic is on integers, so that both sides agree on every machine.
// docs/formats.md describes the format.
//
// The package does no I/O. A patch has no checksum: whoever applies one
// compares the hash of what came out with the hash that was wanted.
package delta

import (
	"errors"
	"fmt"
)

// Span is a range of bytes.
type Span struct{ Off, Len int }

// Hint says that New of the fresh bytes is probably a later version of Base of
// the base. A wrong hint costs bytes, never correctness.
type Hint struct{ New, Base Span }

// ErrPatch is returned for a patch that does not fit its base or its bounds.
var ErrPatch = errors.New("bad patch")

const (
	// MaxSize is the longest result and the longest base.
	MaxSize = 1 << 30

	// maxWork bounds what one patch may cost to decode beyond copying: words
	// that are coded bit by bit and operations, each counted as one. It is
	// about three seconds.
	maxWork = 1 << 20
)

// Encode returns a patch that makes fresh out of base, at most 16 bytes longer
// than fresh. It panics where either is longer than MaxSize.
func Encode(base, fresh []byte, hints []Hint) []byte {
	if len(base) > MaxSize || len(fresh) > MaxSize {
		panic(fmt.Sprintf("delta: %d bytes out of %d, at most %d are possible", len(fresh), len(base), MaxSize))
	}
	ops := plan(base, fresh, hints)
	out, err := encodeOps(base, fresh, ops)
	if err != nil || len(out) > len(fresh)+16 {
		ops = nil
		if len(fresh) > 0 {
			ops = []op{{kind: opStored, len: len(fresh)}}
		}
		if out, err = encodeOps(base, fresh, ops); err != nil {
			panic(err) // bytes as they are need nothing
		}
	}
	return out
}

// declaredSize returns how long the result of a patch says it is.
func declaredSize(patch []byte) (int, error) {
	s := newStream(newDecoder(patch), nil, nil)
	n := s.num(numSize, 0)
	if n > MaxSize {
		return 0, fmt.Errorf("%w: a result of %d bytes, at most %d are possible", ErrPatch, n, MaxSize)
	}
	return int(n), nil
}

// Decode applies a patch to the base that it was made for. The result has the
// size that the patch declares, at most max bytes; with any other base, or a
// patch that was altered, the result is other bytes or ErrPatch.
func Decode(base, patch []byte, max int) ([]byte, error) {
	n, err := declaredSize(patch)
	if err != nil {
		return nil, err
	}
	if n > max {
		return nil, fmt.Errorf("%w: a result of %d bytes, at most %d are allowed", ErrPatch, n, max)
	}
	return decodeOps(base, patch, n)
}
