package ai

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/onnx"
	"idlewild/render/assemble"
)

// pictures are items that are pictures.
type pictures struct {
	dir    string // of the content
	params Params
	n      int // that were given
	input  onnx.Value
}

func (p *pictures) next() (item, error) {
	if p.n == len(p.params.Files) {
		return item{}, io.EOF
	}
	name := p.params.Files[p.n]
	at := p.params.inputFile(name, p.params.First+p.n)
	p.n++
	x := item{id: name}
	m, err := media.DecodeFile(filepath.Join(p.dir, filepath.FromSlash(at)), media.Limits{})
	if err != nil {
		x.err = err
		return x, nil
	}
	planes, err := planesOf(m)
	if err != nil {
		x.err = err
		return x, nil
	}
	h, w := p.input.Dims[2].N, p.input.Dims[3].N
	if (h > 0 && h != int64(m.Height)) || (w > 0 && w != int64(m.Width)) {
		planes, m.Width, m.Height = resized(planes, m.Width, m.Height, max(int(w), 1), max(int(h), 1))
	}
	t := onnx.Tensor{Shape: []int64{p.input.Dims[1].N, int64(m.Height), int64(m.Width)}}
	if p.input.Dims[1].N == 1 {
		planes = [][]float32{grey(planes)}
	}
	for c, plane := range planes[:p.input.Dims[1].N] {
		mean, std := p.params.Picture.channel(c)
		for _, v := range plane {
			t.F32 = append(t.F32, (v-mean)/std)
		}
	}
	x.inputs = map[string]onnx.Tensor{p.input.Name: t}
	return x, nil
}

// planesOf are red, green, blue and, where there is one, alpha.
func planesOf(m *media.Image) ([][]float32, error) {
	chans, ok := m.Pass("", "Combined")
	if !ok {
		return nil, errors.New("it has no colours")
	}
	var out [][]float32
	for _, name := range []string{"R", "G", "B"} {
		c, ok := m.Channel(name)
		if !ok {
			c = chans[0]
		}
		out = append(out, c.Data)
	}
	if a, ok := m.Channel("A"); ok {
		out = append(out, a.Data)
	}
	return out, nil
}

func grey(p [][]float32) []float32 {
	out := make([]float32, len(p[0]))
	for i := range out {
		out[i] = 0.2126*p[0][i] + 0.7152*p[1][i] + 0.0722*p[2][i]
	}
	return out
}

// resized makes each pixel the mean of those that it covers, or what lies
// between its neighbours where it covers less than one.
func resized(planes [][]float32, w, h, toW, toH int) ([][]float32, int, int) {
	out := make([][]float32, len(planes))
	for k, src := range planes {
		rows := make([]float32, toW*h)
		for y := range h {
			shrink(rows[y*toW:(y+1)*toW], src[y*w:(y+1)*w], 1, 1)
		}
		dst := make([]float32, toW*toH)
		for x := range toW {
			shrink(dst[x:], rows[x:], toW, toW, toH, h)
		}
		out[k] = dst
	}
	return out, toW, toH
}

// shrink resamples a line by triangles as wide as the step.
func shrink(dst, src []float32, dstStep, srcStep int, lengths ...int) {
	n, m := len(dst), len(src)
	if len(lengths) == 2 {
		n, m = lengths[0], lengths[1]
	}
	ratio := float64(m) / float64(n)
	wide := math.Max(ratio, 1)
	for i := range n {
		centre := (float64(i)+0.5)*ratio - 0.5
		var sum, weight float64
		for j := int(math.Ceil(centre - wide)); float64(j) <= centre+wide; j++ {
			f := 1 - math.Abs(float64(j)-centre)/wide
			if f <= 0 {
				continue
			}
			sum += f * float64(src[min(max(j, 0), m-1)*srcStep])
			weight += f
		}
		dst[i*dstStep] = float32(sum / weight)
	}
}

// tileSide is the side of the tiles that a model is given, in pixels of the
// input and without what it looks at around them: so large that the overlap
// costs little, so small that a few channels of it are little memory.
const tileSide = 256

// painter makes a picture out of a picture, tile by tile.
type painter struct {
	session *onnx.Session
	params  Params
	planes  [][]float32 // of the source
	w, h    int         // of the source
	halo    int         // pixels that a tile is given around itself
	align   int
	blend   int // pixels of the source over which neighbours are blended; 0: none
	fixed   [2]int
	in      string
}

func newPainter(s *onnx.Session, p Params, src *media.Image) (*painter, error) {
	planes, err := planesOf(src)
	if err != nil {
		return nil, err
	}
	if src.Width*p.Scale != p.Width || src.Height*p.Scale != p.Height {
		return nil, fmt.Errorf("%s has %dx%d pixels, which is not what was planned with", cmp.Or(p.Input, p.Prior), src.Width, src.Height)
	}
	v, err := pictureInput(s.Model)
	if err != nil {
		return nil, err
	}
	a := &painter{session: s, params: p, planes: planes, w: src.Width, h: src.Height, align: 1, in: v.Name}
	reach := s.Model.Reach
	switch {
	case reach.Known:
		a.halo, a.align = reach.Radius, max(reach.Align, 1)
		a.halo = (a.halo + a.align - 1) / a.align * a.align
	case p.Overlap > 0:
		a.halo, a.blend = p.Overlap, max(p.Overlap/2, 1)
	default:
		a.halo = -1 // only whole
	}
	if fixedSize(v) {
		a.fixed = [2]int{int(v.Dims[3].N), int(v.Dims[2].N)}
	}
	return a, nil
}

// paint gives keep, rectangles of the source that cover area, one after the
// other to put, as channels of the result.
func (a *painter) paint(area job.Rect, put func(keep job.Rect, planes [][]float32) error, progress func(float64)) error {
	side := tileSide
	if a.halo < 0 {
		side = max(a.w, a.h)
		if area != (job.Rect{X1: a.w, Y1: a.h}) {
			return errors.New("a model of which nobody knows how far it reaches is given whole pictures only")
		}
	}
	if a.fixed[0] > 0 && a.halo >= 0 {
		if side = min(a.fixed[0], a.fixed[1]) - 2*a.halo; side < a.align {
			return fmt.Errorf("the model takes %dx%d pixels, which an overlap of %d leaves nothing of", a.fixed[0], a.fixed[1], a.halo)
		}
	}
	side = max(side/a.align*a.align, a.align)
	var tiles []job.Rect
	for y := area.Y0; y < area.Y1; y += side {
		for x := area.X0; x < area.X1; x += side {
			tiles = append(tiles, job.Rect{X0: x, Y0: y, X1: min(x+side, area.X1), Y1: min(y+side, area.Y1)})
		}
	}
	for i, keep := range tiles {
		planes, err := a.tile(keep)
		if err != nil {
			return err
		}
		if err := put(keep, planes); err != nil {
			return err
		}
		progress(float64(i+1) / float64(len(tiles)))
	}
	return nil
}

// tile runs the model on what keep looks at, and returns keep's part of the
// result.
func (a *painter) tile(keep job.Rect) ([][]float32, error) {
	halo := max(a.halo, 0)
	see := job.Rect{
		X0: max(keep.X0-halo, 0) / a.align * a.align, Y0: max(keep.Y0-halo, 0) / a.align * a.align,
		X1: min(keep.X1+halo, a.w), Y1: min(keep.Y1+halo, a.h),
	}
	if a.fixed[0] > 0 {
		see.X1, see.Y1 = see.X0+a.fixed[0], see.Y0+a.fixed[1]
	}
	n := see.Dx() * see.Dy()
	// A model of one channel is given each by itself, alpha as grey.
	grey := false
	for _, v := range a.session.Model.Inputs {
		grey = grey || (v.Name == a.in && v.Dims[1].N == 1)
	}
	crop := func(plane []float32, c int) []float32 {
		mean, std := a.params.Picture.channel(c)
		out := make([]float32, 0, n)
		for y := see.Y0; y < see.Y1; y++ {
			row := plane[min(y, a.h-1)*a.w:][:a.w]
			for x := see.X0; x < see.X1; x++ {
				out = append(out, (row[min(x, a.w-1)]-mean)/std)
			}
		}
		return out
	}
	var runs [][][]float32
	if grey {
		for c, p := range a.planes {
			runs = append(runs, [][]float32{crop(p, c)})
		}
	} else {
		runs = append(runs, [][]float32{crop(a.planes[0], 0), crop(a.planes[1], 1), crop(a.planes[2], 2)})
		if len(a.planes) > 3 {
			runs = append(runs, [][]float32{crop(a.planes[3], 0), crop(a.planes[3], 1), crop(a.planes[3], 2)})
		}
	}
	var out [][]float32
	s := a.params.Scale
	for i, channels := range runs {
		t := onnx.Tensor{Shape: []int64{1, int64(len(channels)), int64(see.Dy()), int64(see.Dx())}}
		for _, c := range channels {
			t.F32 = append(t.F32, c...)
		}
		inputs := map[string]onnx.Tensor{a.in: t}
		for _, v := range a.session.Model.Inputs {
			if v.Name == seedInput {
				inputs[v.Name] = seeds(v, a.params, []item{{}}, []int{0})
			}
		}
		results, err := a.session.Run(inputs, nil)
		if err != nil {
			return nil, err
		}
		r := results[0]
		want := []int64{1, int64(len(channels)), int64(see.Dy() * s), int64(see.Dx() * s)}
		for d := range want {
			if len(r.Shape) != 4 || r.Shape[d] != want[d] || r.F32 == nil {
				return nil, fmt.Errorf("the model makes %v of %v, where a picture %d times as large is %v", r.Shape, t.Shape, s, want)
			}
		}
		size := see.Dx() * s * see.Dy() * s
		made := len(channels)
		if !grey && i == 1 {
			made = 1 // alpha was given three times
		}
		for c := range made {
			mean, std := a.params.Picture.channel(c)
			if grey {
				mean, std = a.params.Picture.channel(i)
			}
			plane, err := a.cut(r.F32[c*size:(c+1)*size], see, keep, mean, std)
			if err != nil {
				return nil, err
			}
			out = append(out, plane)
		}
	}
	return out, nil
}

// cut is keep's part of the result for see, as the file's numbers.
func (a *painter) cut(r []float32, see, keep job.Rect, mean, std float32) ([]float32, error) {
	s := a.params.Scale
	w := see.Dx() * s
	out := make([]float32, 0, keep.Dx()*s*keep.Dy()*s)
	for y := (keep.Y0 - see.Y0) * s; y < (keep.Y1-see.Y0)*s; y++ {
		for _, v := range r[y*w+(keep.X0-see.X0)*s : y*w+(keep.X1-see.X0)*s] {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, errors.New("the model's output holds what is no number")
			}
			out = append(out, v*std+mean)
		}
	}
	return out, nil
}

// picture makes a picture, a tile of one, or crops for a check.
func (r request) picture(s *onnx.Session, progress func(string, float64)) error {
	p := r.Params
	src, err := media.DecodeFile(r.source(), media.Limits{})
	if err != nil {
		return absent(cmp.Or(p.Input, p.Prior), err, job.Failed)
	}
	if p.Prior != "" {
		p.Deep = src.Channels[0].Sample == media.Uint16 // which only the file says
	}
	a, err := newPainter(s, p, src)
	if err != nil {
		return err
	}
	src = nil
	if len(p.Crops) > 0 {
		for i, c := range p.Crops {
			m, err := a.region(c, func(f float64) { progress("rendering", (float64(i)+f)/float64(len(p.Crops))) })
			if err != nil {
				return err
			}
			if err := media.WriteEXR(filepath.Join(r.Out, cropFile(i)), m, false); err != nil {
				return trouble{job.Broken, err}
			}
		}
		return nil
	}
	if !r.Part.Whole() {
		m, err := a.region(r.Part.Tile, func(f float64) { progress("rendering", f) })
		if err != nil {
			return err
		}
		if err := media.WriteEXR(filepath.Join(r.Out, tileFile), m, false); err != nil {
			return trouble{job.Broken, err}
		}
		return nil
	}
	out := newCanvas(p.Width, p.Height, p.Deep, len(a.planes) > 3)
	if err := a.whole(out, func(f float64) { progress("rendering", 0.9*f) }); err != nil {
		return err
	}
	progress("saving", 0.9)
	return out.write(filepath.Join(r.Out, pictureFile))
}

// region makes a rectangle of the result, whose origin is the bottom left.
func (a *painter) region(c job.Rect, progress func(float64)) (*media.Image, error) {
	s, height := a.params.Scale, a.params.Height
	// Counted from the top, and grown to whole pixels of the source.
	top := job.Rect{X0: c.X0, X1: c.X1, Y0: height - c.Y1, Y1: height - c.Y0}
	area := job.Rect{X0: top.X0 / s, Y0: top.Y0 / s, X1: (top.X1 + s - 1) / s, Y1: (top.Y1 + s - 1) / s}
	if a.halo < 0 || a.blend > 0 {
		area = job.Rect{X1: a.w, Y1: a.h} // its pixels depend on where tiles lie
	}
	m := media.New(c.Dx(), c.Dy())
	var planes [][]float32
	for _, n := range []string{"R", "G", "B", "A"}[:len(a.planes)] {
		planes = append(planes, m.Add(n, media.Float))
	}
	err := a.all(area, func(keep job.Rect, tile [][]float32) error {
		w := keep.Dx() * s
		for k := range planes {
			for y := max(keep.Y0*s, top.Y0); y < min(keep.Y1*s, top.Y1); y++ {
				from, to := max(keep.X0*s, top.X0), min(keep.X1*s, top.X1)
				if from < to {
					copy(planes[k][(y-top.Y0)*m.Width+from-top.X0:], tile[k][(y-keep.Y0*s)*w+from-keep.X0*s:(y-keep.Y0*s)*w+to-keep.X0*s])
				}
			}
		}
		return nil
	}, progress)
	return m, err
}

func (a *painter) whole(out *canvas, progress func(float64)) error {
	s := a.params.Scale
	return a.all(job.Rect{X1: a.w, Y1: a.h}, func(keep job.Rect, tile [][]float32) error {
		out.put(keep.X0*s, keep.Y0*s, keep.Dx()*s, tile)
		return nil
	}, progress)
}

// all is paint, with neighbours blended where that is needed.
func (a *painter) all(area job.Rect, put func(job.Rect, [][]float32) error, progress func(float64)) error {
	if a.blend == 0 {
		return a.paint(area, put, progress)
	}
	return a.blended(put, progress)
}

// canvas is a picture's file in the making: the samples as it will hold them.
type canvas struct {
	img  image.Image
	pix  []byte
	w    int
	deep bool
	n    int // bytes of a pixel
}

func newCanvas(w, h int, deep, alpha bool) *canvas {
	c := &canvas{w: w, deep: deep}
	if deep {
		m := image.NewNRGBA64(image.Rect(0, 0, w, h))
		c.img, c.pix, c.n = m, m.Pix, 8
	} else {
		m := image.NewNRGBA(image.Rect(0, 0, w, h))
		c.img, c.pix, c.n = m, m.Pix, 4
	}
	if !alpha {
		for i := 3 * c.n / 4; i < len(c.pix); i += c.n {
			c.pix[i] = 255
			if deep {
				c.pix[i+1] = 255
			}
		}
	}
	return c
}

// put puts planes, rows of w samples, at x and y from the top left.
func (c *canvas) put(x, y, w int, planes [][]float32) {
	for k, plane := range planes {
		for i, v := range plane {
			at := ((y+i/w)*c.w + x + i%w) * c.n
			v = min(max(v, 0), 1)
			if c.deep {
				q := uint16(v*65535 + 0.5)
				c.pix[at+2*k], c.pix[at+2*k+1] = byte(q>>8), byte(q)
			} else {
				c.pix[at+k] = byte(v*255 + 0.5)
			}
		}
	}
}

func (c *canvas) write(file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return trouble{job.Broken, err}
	}
	w := bufio.NewWriterSize(f, 1<<20)
	e := png.Encoder{CompressionLevel: png.BestSpeed}
	err = e.Encode(w, c.img)
	for _, also := range []error{w.Flush(), f.Close()} {
		if err == nil {
			err = also
		}
	}
	if err != nil {
		return trouble{job.Broken, err}
	}
	return nil
}

// finish writes the tiles that were joined as the picture's file.
func (r request) finish(progress func(string, float64)) error {
	if len(r.Prior) != 1 {
		return errors.New("no joined picture to finish")
	}
	m, err := media.DecodeFile(filepath.Join(r.Prior[0], assemble.FrameFile), media.Limits{})
	if err != nil {
		return err
	}
	if m.Width != r.Params.Width || m.Height != r.Params.Height {
		return fmt.Errorf("a picture of %dx%d where one of %dx%d was planned", m.Width, m.Height, r.Params.Width, r.Params.Height)
	}
	planes, err := planesOf(m)
	if err != nil {
		return err
	}
	progress("saving", 0.5)
	c := newCanvas(m.Width, m.Height, r.Params.Deep, len(planes) > 3)
	c.put(0, 0, m.Width, planes)
	return c.write(filepath.Join(r.Out, pictureFile))
}
