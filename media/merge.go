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

// MergeTiles puts tiles together to a frame. They must cover it exactly once
// and have the same channels.
func MergeTiles(width, height int, tiles []Tile) (*Image, error) {
	if len(tiles) == 0 || len(tiles) > maxTiles {
		return nil, fmt.Errorf("merge of %d tiles", len(tiles))
	}
	if err := (Limits{}).withDefaults().allow(int64(width), int64(height), int64(max(1, len(tiles[0].Image.Channels)))); err != nil {
		return nil, fmt.Errorf("merge tiles: %w", err)
	}
	area := 0
	for i, t := range tiles {
		w, h := t.X1-t.X0, t.Y1-t.Y0
		if t.X0 < 0 || t.Y0 < 0 || w <= 0 || h <= 0 || t.X1 > width || t.Y1 > height {
			return nil, fmt.Errorf("tile %d,%d-%d,%d of a frame of %dx%d", t.X0, t.Y0, t.X1, t.Y1, width, height)
		}
		if err := t.Image.check(); err != nil {
			return nil, fmt.Errorf("merge tiles: %w", err)
		}
		if t.Image.Width != w || t.Image.Height != h {
			return nil, fmt.Errorf("tile %d,%d-%d,%d has an image of %dx%d", t.X0, t.Y0, t.X1, t.Y1, t.Image.Width, t.Image.Height)
		}
		if err := sameChannels(tiles[0].Image, t.Image); err != nil {
			return nil, fmt.Errorf("merge tiles: %w", err)
		}
		for _, o := range tiles[:i] {
			if t.X0 < o.X1 && o.X0 < t.X1 && t.Y0 < o.Y1 && o.Y0 < t.Y1 {
				return nil, fmt.Errorf("tiles overlap at %d,%d-%d,%d", t.X0, t.Y0, t.X1, t.Y1)
			}
		}
		area += w * h
	}
	if area != width*height {
		return nil, fmt.Errorf("tiles cover %d of %d pixels", area, width*height)
	}
	out := tiles[0].Image.like(width, height)
	for _, c := range tiles[0].Image.Channels {
		dst := out.Add(c.Name, c.Sample)
		for _, t := range tiles {
			src, _ := t.Image.Channel(c.Name)
			w := t.Image.Width
			for y := range t.Image.Height {
				row := height - t.Y1 + y
				copy(dst[row*width+t.X0:row*width+t.X1], src.Data[y*w:(y+1)*w])
			}
		}
	}
	return out, nil
}

// SamplePart is a frame, or a tile, rendered with a range of its samples.
type SamplePart struct {
	Samples int // how many: the part's weight
	Image   *Image
}

// MergeSamples averages renders of disjoint sample ranges, weighted by how many
// samples each has. Cycles' ranges merge to the whole render within 1e-5 when
// the parts are 32-bit; half-float parts miss by about 1e-4. Only light can be
// averaged: an image with another pass (depth, index, cryptomatte, position, a
// pass of unknown name) is an error that names it.
func MergeSamples(parts []SamplePart) (*Image, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("merge of no sample ranges")
	}
	first := parts[0].Image
	total := 0
	for _, p := range parts {
		if p.Samples <= 0 {
			return nil, fmt.Errorf("merge samples: a range of %d samples", p.Samples)
		}
		total += p.Samples
		if err := p.Image.check(); err != nil {
			return nil, fmt.Errorf("merge samples: %w", err)
		}
		if p.Image.Width != first.Width || p.Image.Height != first.Height {
			return nil, fmt.Errorf("merge samples: images of %dx%d and %dx%d", first.Width, first.Height, p.Image.Width, p.Image.Height)
		}
		if err := sameChannels(first, p.Image); err != nil {
			return nil, fmt.Errorf("merge samples: %w", err)
		}
	}
	for _, c := range first.Channels {
		if _, pass, _ := Split(c.Name); !LightPass(pass) {
			return nil, fmt.Errorf("merge samples: pass %q cannot be averaged", pass)
		}
	}
	out := first.like(first.Width, first.Height)
	out.FrameWidth, out.FrameHeight, out.Left, out.Top = first.FrameWidth, first.FrameHeight, first.Left, first.Top
	sum := make([]float64, first.Width*first.Height)
	for _, c := range first.Channels {
		clear(sum)
		for _, p := range parts {
			src, _ := p.Image.Channel(c.Name)
			w := float64(p.Samples) / float64(total)
			for i, v := range src.Data {
				sum[i] += w * float64(v)
			}
		}
		dst := out.Add(c.Name, Float)
		for i, v := range sum {
			dst[i] = float32(v)
		}
	}
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

// LightPass reports whether a pass of that name holds light: averages over
// samples, which may be averaged again and survive a half float. Light groups
// ("Combined_key") count; passes of unknown names do not.
func LightPass(pass string) bool {
	return slices.Contains(lightPasses, pass) || strings.HasPrefix(pass, "Combined_")
}
