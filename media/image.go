// Package media decodes images and records from strangers with bounds, hashes
// pixels by tile, commits to tokens, writes images, and does the arithmetic of
// putting parts of a frame together.
//
// An Image is a stack of float32 channels of one size. Its channels are grouped
// by name into layers and passes, as multilayer EXR files name them: the
// channel "ViewLayer.Combined.R" is the channel R of the pass Combined of the
// layer ViewLayer. Every decoder looks at the header first and refuses what
// exceeds its Limits before it takes memory for pixels.
package media

import (
	"fmt"
	"slices"
	"strings"
)

// Image is a decoded picture, or a rectangle of one. Rows run from the top
// down, as in files; Rows and Crop convert to the rectangles of jobs, whose
// origin is the bottom left.
type Image struct {
	Width, Height int // of the samples held here, pixels

	// FrameWidth and FrameHeight are the size of the whole frame that these
	// samples are part of (EXR's display window). Left and Top say where in
	// it the first sample lies, counted from its top left (EXR's data window).
	FrameWidth, FrameHeight int
	Left, Top               int

	// PixelAspect is the width of a pixel over its height; 0 means 1.
	PixelAspect float32
	Encoding    Encoding
	Channels    []Channel
	// Attributes are the text attributes of the file (an EXR's cryptomatte
	// manifests, camera, frame), kept so that a merged frame has them too.
	Attributes map[string]string
}

// Encoding says what a sample means.
type Encoding uint8

const (
	Linear Encoding = iota // proportional to light (EXR)
	SRGB                   // 0 to 1 through the sRGB curve (PNG)
)

// Sample is the type in which a file holds a channel's samples.
type Sample uint8

const (
	Float  Sample = iota // 32-bit float
	Half                 // 16-bit float
	Uint                 // 32-bit unsigned; above 2^24 it is rounded here
	Uint8                // 0 to 255, held here as 0 to 1
	Uint16               // 0 to 65535, held here as 0 to 1
)

// Channel is one plane of an image.
type Channel struct {
	Name   string // the whole name: "ViewLayer.Combined.R", or "R"
	Sample Sample // how the file held it
	// Data has Width*Height samples, row by row from the top.
	Data []float32
}

// Split takes a channel name apart. The last dot separates the channel, the
// one before it the pass, the rest is the layer (whose own name may have dots).
// Names without a group are read as what Blender means by them in single-layer
// files: R, G, B, A are the pass Combined, Z is Depth.
func Split(name string) (layer, pass, channel string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		if name == "Z" {
			return "", "Depth", name
		}
		return "", "Combined", name
	}
	group, channel := name[:i], name[i+1:]
	j := strings.LastIndexByte(group, '.')
	if j < 0 {
		return "", group, channel
	}
	return group[:j], group[j+1:], channel
}

// Layers returns the names of the layers, in the order of the channels. A file
// without groups has the one layer "".
func (m *Image) Layers() []string {
	var out []string
	for _, c := range m.Channels {
		if l, _, _ := Split(c.Name); !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// Passes returns the names of the passes of a layer, in the order of channels.
func (m *Image) Passes(layer string) []string {
	var out []string
	for _, c := range m.Channels {
		if l, p, _ := Split(c.Name); l == layer && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// Pass returns the channels of a pass in the order people expect (R G B A,
// X Y Z W, then by name). An empty layer means the first layer that has the
// pass. The samples are the image's own, not a copy.
func (m *Image) Pass(layer, pass string) ([]Channel, bool) {
	var out []Channel
	found := layer
	for _, c := range m.Channels {
		l, p, _ := Split(c.Name)
		if p != pass || (layer != "" && l != layer) || (len(out) > 0 && l != found) {
			continue
		}
		found = l
		out = append(out, c)
	}
	const order = "RGBAXYZWrgbaxyzwUVuv"
	rank := func(c Channel) (int, string) {
		_, _, n := Split(c.Name)
		if i := strings.Index(order, n); len(n) == 1 && i >= 0 {
			return i, n
		}
		return len(order), n
	}
	slices.SortStableFunc(out, func(a, b Channel) int {
		ra, na := rank(a)
		rb, nb := rank(b)
		if ra != rb {
			return ra - rb
		}
		return strings.Compare(na, nb)
	})
	return out, len(out) > 0
}

// Channel returns a channel by its whole name.
func (m *Image) Channel(name string) (Channel, bool) {
	for _, c := range m.Channels {
		if c.Name == name {
			return c, true
		}
	}
	return Channel{}, false
}

// Add appends a zeroed channel and returns its samples.
func (m *Image) Add(name string, s Sample) []float32 {
	data := make([]float32, m.Width*m.Height)
	m.Channels = append(m.Channels, Channel{Name: name, Sample: s, Data: data})
	return data
}

// New returns an image without channels that is a whole frame.
func New(width, height int) *Image {
	return &Image{Width: width, Height: height, FrameWidth: width, FrameHeight: height}
}

// like returns an image without channels with m's metadata and another size.
func (m *Image) like(width, height int) *Image {
	return &Image{
		Width: width, Height: height, FrameWidth: width, FrameHeight: height,
		PixelAspect: m.PixelAspect, Encoding: m.Encoding, Attributes: m.Attributes,
	}
}

// Rows converts a half-open range of rows counted from the bottom (a job's
// rectangle: y0 <= y < y1) to one counted from the top.
func (m *Image) Rows(y0, y1 int) (top, bottom int) { return m.Height - y1, m.Height - y0 }

// Crop copies the half-open rectangle x0 <= x < x1, y0 <= y < y1 with origin at
// the bottom left of the image.
func (m *Image) Crop(x0, y0, x1, y1 int) (*Image, error) {
	if x0 < 0 || y0 < 0 || x1 <= x0 || y1 <= y0 || x1 > m.Width || y1 > m.Height {
		return nil, fmt.Errorf("crop %d,%d-%d,%d of an image of %dx%d", x0, y0, x1, y1, m.Width, m.Height)
	}
	out := m.like(x1-x0, y1-y0)
	top, _ := m.Rows(y0, y1)
	for _, c := range m.Channels {
		dst := out.Add(c.Name, c.Sample)
		for y := range out.Height {
			copy(dst[y*out.Width:(y+1)*out.Width], c.Data[(top+y)*m.Width+x0:])
		}
	}
	return out, nil
}

// check reports an image whose channels do not fit its size, which only a
// caller's mistake can make.
func (m *Image) check() error {
	if m.Width <= 0 || m.Height <= 0 {
		return fmt.Errorf("image of %dx%d", m.Width, m.Height)
	}
	for i, c := range m.Channels {
		if len(c.Data) != m.Width*m.Height {
			return fmt.Errorf("channel %q has %d samples, the image %dx%d", c.Name, len(c.Data), m.Width, m.Height)
		}
		for _, d := range m.Channels[:i] {
			if c.Name == d.Name {
				return fmt.Errorf("channel %q twice", c.Name)
			}
		}
	}
	return nil
}
