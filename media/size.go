package media

import (
	"bufio"
	"bytes"
	"fmt"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
)

// Size is what the head of a picture's file says.
type Size struct {
	Width, Height int
	Deep          bool // 16 bits a sample
}

// SizeOf reads the head of a PNG or JPEG file.
func SizeOf(path string, l Limits) (s Size, err error) {
	defer rescue("picture", &err)
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	head, err := r.Peek(8)
	if err != nil && err != io.EOF {
		return s, err
	}
	config := png.DecodeConfig
	switch {
	case bytes.HasPrefix(head, magicJPG):
		config = jpeg.DecodeConfig
	case !bytes.HasPrefix(head, magicPNG):
		return s, fmt.Errorf("%w", ErrFormat)
	}
	c, err := config(r)
	if err != nil {
		return s, err
	}
	s = Size{Width: c.Width, Height: c.Height}
	s.Deep = c.ColorModel == color.RGBA64Model || c.ColorModel == color.NRGBA64Model || c.ColorModel == color.Gray16Model
	return s, l.withDefaults().allow(int64(s.Width), int64(s.Height), 4)
}
