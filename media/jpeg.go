package media

import (
	"bufio"
	"fmt"
	"image"
	"image/jpeg"
	"io"
)

// decodeJPEG decodes a JPEG into the channels R, G and B, 0 to 1 through the
// file's own (sRGB) curve. What a camera says of its orientation is not looked
// at: the pixels are as they are stored.
func decodeJPEG(r io.ReadSeeker, size int64, l Limits) (m *Image, err error) {
	defer rescue("jpeg", &err)
	l = l.withDefaults()
	if size > l.FileBytes {
		return nil, fmt.Errorf("%w: file of %d bytes, at most %d", ErrTooLarge, size, l.FileBytes)
	}
	cfg, err := jpeg.DecodeConfig(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	if err := l.allow(int64(cfg.Width), int64(cfg.Height), 3); err != nil {
		return nil, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	src, err := jpeg.Decode(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	b := src.Bounds()
	m = New(b.Dx(), b.Dy())
	m.Encoding = SRGB
	planes := [3][]float32{m.Add("R", Uint8), m.Add("G", Uint8), m.Add("B", Uint8)}
	at := func(x, y int) (r, g, b uint8) {
		c, g2, b2, _ := src.At(x, y).RGBA()
		return uint8(c >> 8), uint8(g2 >> 8), uint8(b2 >> 8)
	}
	if ycc, ok := src.(*image.YCbCr); ok {
		at = func(x, y int) (r, g, b uint8) {
			c := ycc.YCbCrAt(x, y)
			r32, g32, b32, _ := c.RGBA()
			return uint8(r32 >> 8), uint8(g32 >> 8), uint8(b32 >> 8)
		}
	}
	for y := range m.Height {
		for x := range m.Width {
			r, g, bl := at(b.Min.X+x, b.Min.Y+y)
			i := y*m.Width + x
			planes[0][i], planes[1][i], planes[2][i] = float32(r)/255, float32(g)/255, float32(bl)/255
		}
	}
	return m, nil
}
