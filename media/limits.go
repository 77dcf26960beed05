package media

import (
	"errors"
	"fmt"
)

// ErrTooLarge is matched by the errors for images that exceed their Limits.
var ErrTooLarge = errors.New("image exceeds its limits")

// ResultSamples bounds the image of a result where it is hashed and where it is
// checked, so that no worker signs what its requester cannot read: a 4K frame of
// 64 channels is within it.
const ResultSamples = 1 << 29

// Limits bound what an image from elsewhere can make us allocate. A zero field
// means the default.
type Limits struct {
	Samples   int64 // width * height * channels; default 2^28 (1 GiB of float32)
	Channels  int   // default 1024
	Side      int   // pixels of width or height; default 2^16
	FileBytes int64 // of the encoded file; default 4 GiB
	TextBytes int   // of all text attributes together, the rest is dropped; default 4 MiB
}

func (l Limits) withDefaults() Limits {
	if l.Samples <= 0 {
		l.Samples = 1 << 28
	}
	if l.Channels <= 0 {
		l.Channels = 1024
	}
	if l.Side <= 0 {
		l.Side = 1 << 16
	}
	if l.FileBytes <= 0 {
		l.FileBytes = 4 << 30
	}
	if l.TextBytes <= 0 {
		l.TextBytes = 4 << 20
	}
	return l
}

// allow checks the size that a header claims. l has its defaults.
func (l Limits) allow(width, height, channels int64) error {
	switch {
	case width <= 0 || height <= 0 || channels <= 0:
		return fmt.Errorf("image of %dx%d with %d channels", width, height, channels)
	case width > int64(l.Side) || height > int64(l.Side):
		return fmt.Errorf("%w: %dx%d pixels, at most %d a side", ErrTooLarge, width, height, l.Side)
	case channels > int64(l.Channels):
		return fmt.Errorf("%w: %d channels, at most %d", ErrTooLarge, channels, l.Channels)
	case width*height*channels > l.Samples: // < 2^16 * 2^16 * channels: no overflow with sane limits
		return fmt.Errorf("%w: %dx%d pixels with %d channels, at most %d samples", ErrTooLarge, width, height, channels, l.Samples)
	}
	return nil
}
