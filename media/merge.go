package media

import (
	"fmt"
	"slices"
	"strings"
)

// Tile is a rendered rectangle of a frame: X0 <= x < X1, Y0 <= y < Y1 with
// origin at the bottom left of the frame.
type Tile struct {
	X0, Y0, X1, Y1 int
	Image          *Image // of exactly that size
}

// maxTiles bounds the quadratic search for overlaps.
const maxTiles = 1 << 12

// Mosaic puts tiles together to a frame, one after the other, so that no more
// than one of them is in memory beside the frame. The tiles must cover it
// exactly once and have the same channels.
type Mosaic struct {
	width, height int
	out           *Image // nil before the first tile
	tiles         []Tile // without their images
	area          int
}

// NewMosaic begins a frame of that many pixels.
func NewMosaic(width, height int) *Mosaic { return &Mosaic{width: width, height: height} }

// Add copies a tile to its place. Its attributes are the frame's if it is the
// first.
func (m *Mosaic) Add(t Tile) error {
	w, h := t.X1-t.X0, t.Y1-t.Y0
	switch {
	case len(m.tiles) == maxTiles:
		return fmt.Errorf("merge of more than %d tiles", maxTiles)
	case t.X0 < 0 || t.Y0 < 0 || w <= 0 || h <= 0 || t.X1 > m.width || t.Y1 > m.height:
		return fmt.Errorf("tile %d,%d-%d,%d of a frame of %dx%d", t.X0, t.Y0, t.X1, t.Y1, m.width, m.height)
	}
	if err := t.Image.check(); err != nil {
		return fmt.Errorf("merge tiles: %w", err)
	}
	if t.Image.Width != w || t.Image.Height != h {
		return fmt.Errorf("tile %d,%d-%d,%d has an image of %dx%d", t.X0, t.Y0, t.X1, t.Y1, t.Image.Width, t.Image.Height)
	}
	for _, o := range m.tiles {
		if t.X0 < o.X1 && o.X0 < t.X1 && t.Y0 < o.Y1 && o.Y0 < t.Y1 {
			return fmt.Errorf("tiles overlap at %d,%d-%d,%d", t.X0, t.Y0, t.X1, t.Y1)
		}
	}
	if m.out == nil {
		if err := (Limits{}).withDefaults().allow(int64(m.width), int64(m.height), int64(max(1, len(t.Image.Channels)))); err != nil {
			return fmt.Errorf("merge tiles: %w", err)
		}
		m.out = t.Image.like(m.width, m.height)
		for _, c := range t.Image.Channels {
			m.out.Add(c.Name, c.Sample)
		}
	} else if err := sameChannels(m.out, t.Image); err != nil {
		return fmt.Errorf("merge tiles: %w", err)
	}
	for _, c := range m.out.Channels {
		src, _ := t.Image.Channel(c.Name)
		for y := range h {
			row := m.height - t.Y1 + y
			copy(c.Data[row*m.width+t.X0:row*m.width+t.X1], src.Data[y*w:(y+1)*w])
		}
	}
	m.area += w * h
	t.Image = nil
	m.tiles = append(m.tiles, t)
	return nil
}

// Image is the frame, once every pixel of it is there.
func (m *Mosaic) Image() (*Image, error) {
	if m.out == nil || m.area != m.width*m.height {
		return nil, fmt.Errorf("tiles cover %d of %d pixels", m.area, m.width*m.height)
	}
	return m.out, nil
}

// Average averages renders of disjoint sample ranges of a frame, or of a tile,
// weighted by how many samples each has. Cycles' ranges merge to the whole
// render within 1e-5 when the parts are 32-bit; half-float parts miss by about
// 1e-4. Only what is an average itself can be averaged: an image with another
// pass (depth, index, cryptomatte, position, a pass of unknown name) is an
// error that names it.
type Average struct {
	first   *Image // without samples
	sums    [][]float64
	samples int
}

// Add adds the render of a range of that many samples.
func (a *Average) Add(m *Image, samples int) error {
	if samples <= 0 {
		return fmt.Errorf("merge samples: a range of %d samples", samples)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("merge samples: %w", err)
	}
	if a.first == nil {
		for _, c := range m.Channels {
			if _, pass, _ := Split(c.Name); !averageable(pass) {
				return fmt.Errorf("merge samples: pass %q cannot be averaged", pass)
			}
		}
		first := *m
		first.Channels = nil
		for _, c := range m.Channels {
			first.Channels = append(first.Channels, Channel{Name: c.Name, Sample: Float})
			a.sums = append(a.sums, make([]float64, m.Width*m.Height))
		}
		a.first = &first
	}
	if m.Width != a.first.Width || m.Height != a.first.Height {
		return fmt.Errorf("merge samples: images of %dx%d and %dx%d", a.first.Width, a.first.Height, m.Width, m.Height)
	}
	if err := sameChannels(a.first, m); err != nil {
		return fmt.Errorf("merge samples: %w", err)
	}
	for i, c := range a.first.Channels {
		src, _ := m.Channel(c.Name)
		sum, w := a.sums[i], float64(samples)
		for j, v := range src.Data {
			sum[j] += w * float64(v)
		}
	}
	a.samples += samples
	return nil
}

// Image is the average of what was added. It ends a.
func (a *Average) Image() (*Image, error) {
	if a.first == nil {
		return nil, fmt.Errorf("merge of no sample ranges")
	}
	out := a.first
	for i := range out.Channels {
		data := make([]float32, len(a.sums[i]))
		for j, v := range a.sums[i] {
			data[j] = float32(v / float64(a.samples))
		}
		out.Channels[i].Data, a.sums[i] = data, nil
	}
	a.first, a.sums = nil, nil
	return out, nil
}

func sameChannels(a, b *Image) error {
	if len(a.Channels) != len(b.Channels) {
		return fmt.Errorf("images of %d and %d channels", len(a.Channels), len(b.Channels))
	}
	for _, c := range a.Channels {
		if _, ok := b.Channel(c.Name); !ok {
			return fmt.Errorf("channel %q is missing in one image", c.Name)
		}
	}
	return nil
}

// lightPasses are the passes that hold an average over samples of light, by
// the names that Blender 3 and 4 give them in files.
var lightPasses = []string{
	"Combined", "Noisy Image",
	"DiffDir", "DiffInd", "DiffCol",
	"GlossDir", "GlossInd", "GlossCol",
	"TransDir", "TransInd", "TransCol",
	"SubsurfaceDir", "SubsurfaceInd", "SubsurfaceCol",
	"VolumeDir", "VolumeInd",
	"Emit", "Env", "AO", "Shadow", "Shadow Catcher",
	"Diffuse Direct", "Diffuse Indirect", "Diffuse Color",
	"Glossy Direct", "Glossy Indirect", "Glossy Color",
	"Transmission Direct", "Transmission Indirect", "Transmission Color",
	"Volume Direct", "Volume Indirect",
	"Emission", "Environment", "Ambient Occlusion",
}

// lightPass reports whether a pass of that name holds light: averages over
// samples, which may be averaged again and survive a half float. Light groups
// ("Combined_key") count; passes of unknown names do not.
func lightPass(pass string) bool {
	return slices.Contains(lightPasses, pass) || strings.HasPrefix(pass, "Combined_")
}

// averageable reports whether samples of a pass of that name are averages over
// samples, so that those of disjoint ranges may be averaged: light, and what a
// denoiser is guided by.
func averageable(pass string) bool {
	return lightPass(pass) || slices.Contains(guidePasses, pass)
}

// guidePasses are what Cycles keeps for a denoiser.
var guidePasses = []string{"Denoising Albedo", "Denoising Normal", "Denoising Depth"}

// Flip turns the picture upside down: the first row becomes the last.
func (m *Image) Flip() {
	row := make([]float32, m.Width)
	for _, c := range m.Channels {
		for top, bottom := 0, m.Height-1; top < bottom; top, bottom = top+1, bottom-1 {
			a, b := c.Data[top*m.Width:(top+1)*m.Width], c.Data[bottom*m.Width:(bottom+1)*m.Width]
			copy(row, a)
			copy(a, b)
			copy(b, row)
		}
	}
}
