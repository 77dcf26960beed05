package media

import (
	"fmt"
	"io"
	"math"
	"os"

	"github.com/mrjoshuak/go-openexr/exr"
)

// WriteEXR writes m as a ZIP-compressed scanline file with the channels' names
// kept. With half set, the passes that hold light (see lightPass) are stored
// as 16-bit floats; depth, indices, positions and the like stay 32-bit, because
// they do not survive it.
//
// The file appears under its name only when it is complete.
func WriteEXR(path string, m *Image, half bool) error {
	tmp := path + ".part"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	err = encodeEXR(f, m, half)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write exr: %w", err)
	}
	return nil
}

// encodeEXR is WriteEXR to an open file.
func encodeEXR(w io.WriteSeeker, m *Image, half bool) (err error) {
	defer rescue("exr", &err)
	calm()
	if err := m.check(); err != nil {
		return err
	}
	if len(m.Channels) == 0 {
		return fmt.Errorf("image without channels")
	}
	h := exr.NewScanlineHeader(m.Width, m.Height)
	h.SetCompression(exr.CompressionZIP)
	h.SetDataWindow(box(m.Left, m.Top, m.Width, m.Height))
	h.SetDisplayWindow(box(0, 0, m.FrameWidth, m.FrameHeight))
	if m.PixelAspect > 0 {
		h.SetPixelAspectRatio(m.PixelAspect)
	}
	for k, v := range m.Attributes {
		if !h.Has(k) {
			h.Set(&exr.Attribute{Name: k, Type: exr.AttrTypeString, Value: v})
		}
	}
	cl := exr.NewChannelList()
	fb := exr.NewFrameBuffer()
	for _, c := range m.Channels {
		t := exr.PixelTypeFloat
		_, pass, _ := Split(c.Name)
		if half && lightPass(pass) {
			t = exr.PixelTypeHalf
		}
		cl.Add(exr.NewChannel(c.Name, t))
		s := exr.NewSliceFromFloat32(c.Data, m.Width, m.Height)
		if t == exr.PixelTypeHalf {
			// Values that a half cannot hold become the largest it can:
			// an infinity would survive every later average.
			s = exr.NewSliceFromFloat32(clampHalf(c.Data), m.Width, m.Height)
		}
		fb.Set(c.Name, s.WithOrigin(m.Left, m.Top))
	}
	cl.SortByName()
	h.SetChannels(cl)
	sw, err := exr.NewScanlineWriter(w, h)
	if err != nil {
		return err
	}
	sw.SetFrameBuffer(fb)
	if err := sw.WritePixels(m.Top, m.Top+m.Height-1); err != nil {
		return err
	}
	return sw.Close()
}

func box(left, top, width, height int) exr.Box2i {
	return exr.Box2i{
		Min: exr.V2i{X: int32(left), Y: int32(top)},
		Max: exr.V2i{X: int32(left + width - 1), Y: int32(top + height - 1)},
	}
}

const maxHalf = 65504

func clampHalf(in []float32) []float32 {
	out := in
	for i, v := range in {
		if float32(math.Abs(float64(v))) <= maxHalf || math.IsInf(float64(v), 0) || v != v {
			continue
		}
		if &out[0] == &in[0] {
			out = append([]float32(nil), in...)
		}
		out[i] = float32(math.Copysign(maxHalf, float64(v)))
	}
	return out
}
