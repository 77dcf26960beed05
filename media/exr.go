package media

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/mrjoshuak/go-openexr/exr"
)

// calm makes the EXR library decode on the caller's goroutine. By default it
// starts workers of its own, where a panic over a broken file could not be
// recovered and would end the program.
var calm = sync.OnceFunc(func() {
	exr.SetParallelConfig(exr.ParallelConfig{NumWorkers: 1, GrainSize: 1})
})

// rescue turns a panic of a decoder over a broken file into an error.
func rescue(what string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: broken file: %v", what, r)
	}
}

// decodeEXR decodes the flat scanline parts of an OpenEXR file with any of the
// compressions that Blender writes. Tiled and deep images and subsampled
// channels, which no renderer of ours leaves, are refused. All parts must have
// the same size; channels of a named part that carry no group of their own get
// the part's name as one.
func decodeEXR(r io.ReaderAt, size int64, l Limits) (m *Image, err error) {
	defer rescue("exr", &err)
	calm()
	b, err := openBands(r, size, l)
	if err != nil {
		return nil, err
	}
	return b.read(0, b.frame.Height)
}

// exrHeader checks every part's header against l and returns the image without
// its channels.
func exrHeader(f *exr.File, l Limits) (*Image, error) {
	if f.IsDeep() {
		return nil, errors.New("deep images are not supported")
	}
	var m *Image
	var channels int64
	var text int
	for part := range f.NumParts() {
		h := f.Header(part)
		if err := h.Validate(); err != nil {
			return nil, err
		}
		if f.IsTiled() || h.IsTiled() {
			return nil, errors.New("tiled images are not supported")
		}
		cl := h.Channels()
		channels += int64(cl.Len())
		data, display := h.DataWindow(), h.DisplayWindow()
		// The corners are int32 and inclusive: their difference needs int64.
		w, ht := int64(data.Max.X)-int64(data.Min.X)+1, int64(data.Max.Y)-int64(data.Min.Y)+1
		if err := l.allow(w, ht, channels); err != nil {
			return nil, err
		}
		fw, fh := int64(display.Max.X)-int64(display.Min.X)+1, int64(display.Max.Y)-int64(display.Min.Y)+1
		if fw <= 0 || fh <= 0 || fw > int64(l.Side) || fh > int64(l.Side) {
			return nil, fmt.Errorf("display window of %dx%d", fw, fh)
		}
		left, top := int64(data.Min.X)-int64(display.Min.X), int64(data.Min.Y)-int64(display.Min.Y)
		if part > 0 {
			if w != int64(m.Width) || ht != int64(m.Height) || left != int64(m.Left) || top != int64(m.Top) {
				return nil, errors.New("parts of different sizes")
			}
		} else {
			m = &Image{
				Width: int(w), Height: int(ht), FrameWidth: int(fw), FrameHeight: int(fh),
				Left: int(left), Top: int(top), PixelAspect: h.PixelAspectRatio(),
				Attributes: map[string]string{},
			}
		}
		for i := range cl.Len() {
			c := cl.At(i)
			if c.XSampling != 1 || c.YSampling != 1 {
				return nil, fmt.Errorf("channel %q is subsampled", c.Name)
			}
			if c.Type.Size() == 0 || c.Name == "" {
				return nil, fmt.Errorf("channel %q has an unknown type", c.Name)
			}
		}
		for _, a := range h.Attributes() {
			s, ok := a.Value.(string)
			// What a part is called says nothing of the picture, and a reader
			// would look for layers by it in whatever is written of this one.
			if !ok || a.Name == "name" || a.Name == "type" || a.Name == "view" || a.Type != exr.AttrTypeString || text+len(a.Name)+len(s) > l.TextBytes {
				continue
			}
			text += len(a.Name) + len(s)
			m.Attributes[a.Name] = s
		}
	}
	return m, nil
}

// viewed is the name by which a channel of a view is known here: a file of
// several views has the view between pass and channel, and here it ends the
// layer's name, so that each view has its layers. "Layer.Combined.left.R" is the
// pass Combined of the layer "Layer.left".
func viewed(name string, views []string) string {
	group, view, channel := Split(name)
	i := strings.LastIndexByte(group, '.')
	if i <= 0 || !slices.Contains(views, view) {
		return name
	}
	return group[:i] + "." + view + "." + group[i+1:] + "." + channel
}

// partViews are the views of a file's parts, where it has several views and each has
// parts of its own, as Blender writes them since 5.0; else nil.
func partViews(f *exr.File) []string {
	out := make([]string, f.NumParts())
	several := false
	for part := range out {
		if a := f.Header(part).Get("view"); a != nil {
			out[part], _ = a.Value.(string)
		}
		several = several || out[part] != out[0]
	}
	if !several {
		return nil
	}
	return out
}

// exrPixels appends the channels of one part, which is of that view, to m: of the
// rows that m has, the first of which is top rows below the part's own.
func exrPixels(f *exr.File, part int, view string, m *Image, top int) error {
	h := f.Header(part)
	cl := h.Channels()
	min := h.DataWindow().Min
	min.Y += int32(top)
	group := ""
	if f.NumParts() > 1 {
		if a := h.Get("name"); a != nil {
			group, _ = a.Value.(string)
		}
	}
	var views []string
	if a := h.Get(exr.AttrNameMultiView); a != nil {
		views, _ = a.Value.([]string)
	}
	fb := exr.NewFrameBuffer()
	uints := map[string][]uint32{}
	names := map[string]bool{}
	for _, c := range m.Channels {
		names[c.Name] = true
	}
	for i := range cl.Len() {
		c := cl.At(i)
		name := c.Name
		if layer, _, _ := Split(name); group != "" && layer == "" {
			name = group + "." + name
		}
		if layer, pass, channel := Split(name); view != "" && layer != "" {
			name = layer + "." + view + "." + pass + "." + channel
		} else {
			name = viewed(name, views)
		}
		if names[name] {
			return fmt.Errorf("channel %q twice", name)
		}
		names[name] = true
		s := Float
		switch c.Type {
		case exr.PixelTypeHalf:
			s = Half
		case exr.PixelTypeUint:
			s = Uint
		}
		data := m.Add(name, s)
		if s == Uint {
			// Through the library's own uint rows: a float slice would be
			// filled with the integers' bits.
			u := make([]uint32, len(data))
			uints[name] = u
			fb.Set(c.Name, exr.NewSliceFromUint32(u, m.Width, m.Height).WithOrigin(int(min.X), int(min.Y)))
			continue
		}
		fb.Set(c.Name, exr.NewSliceFromFloat32(data, m.Width, m.Height).WithOrigin(int(min.X), int(min.Y)))
	}
	r, err := exr.NewScanlineReaderPart(f, part)
	if err != nil {
		return err
	}
	r.SetFrameBuffer(fb)
	if err := r.ReadPixels(int(min.Y), int(min.Y)+m.Height-1); err != nil {
		return err
	}
	for name, u := range uints {
		c, _ := m.Channel(name)
		for i, v := range u {
			c.Data[i] = float32(v)
		}
	}
	return nil
}
