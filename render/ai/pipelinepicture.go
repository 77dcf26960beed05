package ai

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/torch"
)

// picture makes a picture of words, or the depth of one, or crops for a check.
func (run *pipelineRun) picture(progress func(string, float64)) error {
	r, p := run.r, run.r.Params
	var x thing
	var err error
	output := "depth"
	if p.Pipeline == torch.Draw {
		output = "image"
		x, err = r.chosen()
	} else {
		x, err = r.pictured()
	}
	if err != nil {
		return err
	}
	results, err := run.do([]thing{x}, func(share float64) { progress("rendering", 0.95*share) })
	if err != nil {
		return settle(err)
	}
	if results[0].err != nil {
		return results[0].err
	}
	planes, err := planesMade(results[0].outputs[output], p.Width, p.Height)
	if err != nil {
		return err
	}
	progress("saving", 0.95)
	if len(p.Crops) == 0 {
		out := newCanvas(p.Width, p.Height, p.Deep, false)
		out.put(0, 0, p.Width, planes)
		return out.write(filepath.Join(r.Out, pictureFile))
	}
	for i, c := range p.Crops {
		if err := media.WriteEXR(filepath.Join(r.Out, cropFile(i)), cropOf(planes, p.Width, p.Height, c), false); err != nil {
			return trouble{job.Broken, err}
		}
	}
	return nil
}

// chosen is the item that the task's picture is made of.
func (r request) chosen() (thing, error) {
	p := r.Params
	next, shut, err := r.things()
	if err != nil {
		return thing{}, err
	}
	defer shut()
	for n := p.First; ; n++ {
		x, err := next()
		if err == io.EOF {
			return x, fmt.Errorf("there is no item %d", p.Only[0])
		}
		if err != nil || n == p.Only[0] {
			x.number = n
			p.finish(&x)
			return x, errors.Join(err, x.err)
		}
	}
}

// pictured is the picture that the task makes another of: bytes of red, green
// and blue.
func (r request) pictured() (thing, error) {
	p := r.Params
	src, err := media.DecodeFile(r.source(), media.Limits{})
	if err != nil {
		return thing{}, absent(p.Input, err, job.Failed)
	}
	if src.Width != p.Width || src.Height != p.Height {
		return thing{}, fmt.Errorf("%s has %dx%d pixels, which is not what was planned with", p.Input, src.Width, src.Height)
	}
	planes, err := planesOf(src)
	if err != nil {
		return thing{}, err
	}
	b := make([]byte, 3*src.Width*src.Height)
	for c := range 3 {
		for i, v := range planes[c] {
			b[3*i+c] = byte(min(max(v, 0), 1)*255 + 0.5)
		}
	}
	return thing{id: p.Input, item: map[string]any{"image": 0, "width": src.Width, "height": src.Height}, blobs: [][]byte{b}}, nil
}

// planesMade are red, green and blue of an output: [rows columns 3], or [rows
// columns] of grey.
func planesMade(t media.Tensor, width, height int) ([][]float32, error) {
	n := width * height
	if len(t.Shape) < 2 || t.Shape[0] != height || t.Shape[1] != width || len(t.Data) != n && len(t.Data) != 3*n {
		return nil, fmt.Errorf("the model makes %v, where a picture of %dx%d was planned", t.Shape, width, height)
	}
	step := len(t.Data) / n
	planes := make([][]float32, 3)
	for c := range planes {
		planes[c] = make([]float32, n)
		for i := range n {
			planes[c][i] = float32(t.Data[i*step+c%step])
		}
	}
	return planes, nil
}

// cropOf is a rectangle of planes whose rows run from the top; its own origin is
// the bottom left.
func cropOf(planes [][]float32, width, height int, c job.Rect) *media.Image {
	m := media.New(c.Dx(), c.Dy())
	for k, name := range []string{"R", "G", "B"} {
		to := m.Add(name, media.Float)
		for y := range c.Dy() {
			from := (height-c.Y1+y)*width + c.X0
			copy(to[y*c.Dx():(y+1)*c.Dx()], planes[k][from:from+c.Dx()])
		}
	}
	return m
}
