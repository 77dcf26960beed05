package media

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
)

// decodePNG decodes a PNG of 8 or 16 bits into the channels R, G, B and, where
// the file has transparency, A. Samples are 0 to 1 through the file's own
// (sRGB) curve, colour not multiplied by alpha.
func decodePNG(r io.ReadSeeker, size int64, l Limits) (m *Image, err error) {
	defer rescue("png", &err)
	l = l.withDefaults()
	if size > l.FileBytes {
		return nil, fmt.Errorf("%w: file of %d bytes, at most %d", ErrTooLarge, size, l.FileBytes)
	}
	cfg, err := png.DecodeConfig(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	if err := l.allow(int64(cfg.Width), int64(cfg.Height), 4); err != nil {
		return nil, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	src, err := png.Decode(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	b := src.Bounds()
	m = New(b.Dx(), b.Dy())
	m.Encoding = SRGB
	deep := src.ColorModel() == color.RGBA64Model || src.ColorModel() == color.NRGBA64Model || src.ColorModel() == color.Gray16Model
	s := Uint8
	if deep {
		s = Uint16
	}
	names := []string{"R", "G", "B"}
	if o, ok := src.(interface{ Opaque() bool }); ok && !o.Opaque() {
		names = append(names, "A")
	}
	planes := make([][]float32, len(names))
	for i, n := range names {
		planes[i] = m.Add(n, s)
	}
	row := make([]uint16, 4*m.Width)
	most := float32(math.MaxUint8)
	if deep {
		most = math.MaxUint16
	}
	for y := range m.Height {
		samplesOf(src, b.Min.Y+y, row)
		for k, plane := range planes {
			line := plane[y*m.Width : (y+1)*m.Width]
			for x := range line {
				line[x] = float32(row[4*x+k]) / most
			}
		}
	}
	return m, nil
}

// samplesOf writes the samples of a row of a decoded PNG, red, green, blue and
// alpha of each pixel, colour not multiplied by alpha: what a file without
// alpha decodes to has none in it, so its samples are the file's own.
func samplesOf(src image.Image, y int, row []uint16) {
	b := src.Bounds()
	switch m := src.(type) {
	case *image.RGBA:
		for i, v := range m.Pix[m.PixOffset(b.Min.X, y):][:len(row)] {
			row[i] = uint16(v)
		}
		return
	case *image.NRGBA:
		for i, v := range m.Pix[m.PixOffset(b.Min.X, y):][:len(row)] {
			row[i] = uint16(v)
		}
		return
	case *image.RGBA64:
		wide(m.Pix[m.PixOffset(b.Min.X, y):], row)
		return
	case *image.NRGBA64:
		wide(m.Pix[m.PixOffset(b.Min.X, y):], row)
		return
	}
	for x := range len(row) / 4 { // grey and paletted
		at := src.At(b.Min.X+x, y)
		if src.ColorModel() == color.Gray16Model {
			c := color.NRGBA64Model.Convert(at).(color.NRGBA64)
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = c.R, c.G, c.B, c.A
			continue
		}
		c := color.NRGBAModel.Convert(at).(color.NRGBA)
		row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = uint16(c.R), uint16(c.G), uint16(c.B), uint16(c.A)
	}
}

// wide reads samples of 16 bits.
func wide(pix []byte, row []uint16) {
	for i := range row {
		row[i] = binary.BigEndian.Uint16(pix[2*i:])
	}
}

// View renders a pass for people: R, G, B (or its first channel as grey)
// through the sRGB curve, clipped to 0..1, alpha left out. A linear picture
// with transparency is shown over black.
func View(m *Image, layer, pass string) (*image.NRGBA, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	chans, ok := m.Pass(layer, pass)
	if !ok {
		return nil, fmt.Errorf("no pass %q in layer %q", pass, layer)
	}
	rgb := [3][]float32{chans[0].Data, chans[0].Data, chans[0].Data}
	if len(chans) >= 3 {
		rgb = [3][]float32{chans[0].Data, chans[1].Data, chans[2].Data}
	}
	out := image.NewNRGBA(image.Rect(0, 0, m.Width, m.Height))
	for i := range m.Width * m.Height {
		for k, d := range rgb {
			v := d[i]
			if m.Encoding == Linear {
				v = toSRGB(v)
			}
			out.Pix[4*i+k] = quantize(v)
		}
		out.Pix[4*i+3] = 255
	}
	return out, nil
}

// EncodePNG encodes a picture made for people.
func EncodePNG(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func toSRGB(v float32) float32 {
	switch {
	case !(v > 0): // negative, or not a number
		return 0
	case v >= 1:
		return 1
	case v <= 0.0031308:
		return 12.92 * v
	}
	return float32(1.055*math.Pow(float64(v), 1/2.4) - 0.055)
}

func quantize(v float32) uint8 {
	switch {
	case !(v > 0):
		return 0
	case v >= 1:
		return 255
	}
	return uint8(v*255 + 0.5)
}
