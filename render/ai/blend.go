package ai

import "idlewild/job"

// blended paints the whole picture of a model of which nobody knows how far it
// reaches: tiles overlap, and across an overlap one fades into the other, so
// that what differs leaves no edge. Rows of tiles are put when nothing more
// falls into them, so that a few of them are all that is kept.
func (a *painter) blended(put func(job.Rect, [][]float32) error, progress func(float64)) error {
	fade, s := a.blend, a.params.Scale
	side := tileSide
	if a.fixed[0] > 0 {
		side = min(a.fixed[0], a.fixed[1]) - 2*a.halo
		side = max(side, 1)
	}
	width := a.w * s
	strip := newStrip(len(a.planes), width, (side+2*fade)*s)
	bands := (a.h + side - 1) / side
	for b := range bands {
		y0, y1 := b*side, min((b+1)*side, a.h)
		for x0 := 0; x0 < a.w; x0 += side {
			x1 := min(x0+side, a.w)
			grown := job.Rect{X0: max(x0-fade, 0), Y0: max(y0-fade, 0), X1: min(x1+fade, a.w), Y1: min(y1+fade, a.h)}
			planes, err := a.tile(grown)
			if err != nil {
				return err
			}
			across := ramp(grown.X0, grown.X1, x0, x1, a.w, fade, s)
			down := ramp(grown.Y0, grown.Y1, y0, y1, a.h, fade, s)
			strip.add(grown.X0*s, grown.Y0*s, planes, across, down)
		}
		// Below this line the next band adds to it.
		ready := y1
		if b < bands-1 {
			ready = y1 - fade
		}
		from := strip.top / s
		if ready > from {
			if err := put(job.Rect{Y0: from, X1: a.w, Y1: ready}, strip.take(ready*s)); err != nil {
				return err
			}
		}
		progress(float64(b+1) / float64(bands))
	}
	return nil
}

// ramp is the weight of each sample of a tile along one side: rising over the
// pixels that it shares with a neighbour, so that both add up to one.
func ramp(from, to, keepFrom, keepTo, length, fade, scale int) []float32 {
	out := make([]float32, (to-from)*scale)
	wide := float32(2 * fade * scale)
	for i := range out {
		at := float32(from*scale+i) + 0.5
		w := float32(1)
		if keepFrom > 0 {
			w = min(w, (at-float32((keepFrom-fade)*scale))/wide)
		}
		if keepTo < length {
			w = min(w, (float32((keepTo+fade)*scale)-at)/wide)
		}
		out[i] = max(w, 1e-6)
	}
	return out
}

// strip is a band of the result in which weighted tiles add up.
type strip struct {
	width, top int // top is the row of the result that the first row here is
	sums       [][]float32
	weights    []float32
}

func newStrip(planes, width, height int) *strip {
	s := &strip{width: width, weights: make([]float32, width*height)}
	for range planes {
		s.sums = append(s.sums, make([]float32, width*height))
	}
	return s
}

func (t *strip) add(x, y int, planes [][]float32, across, down []float32) {
	if need := (y - t.top + len(down)) * t.width; need > len(t.weights) {
		t.weights = append(t.weights, make([]float32, need-len(t.weights))...)
		for k := range t.sums {
			t.sums[k] = append(t.sums[k], make([]float32, need-len(t.sums[k]))...)
		}
	}
	for j, v := range down {
		row := (y - t.top + j) * t.width
		for i, u := range across {
			w := u * v
			t.weights[row+x+i] += w
			for k := range planes {
				t.sums[k][row+x+i] += w * planes[k][j*len(across)+i]
			}
		}
	}
}

// take returns the rows above end and moves the rest up.
func (t *strip) take(end int) [][]float32 {
	n := (end - t.top) * t.width
	out := make([][]float32, len(t.sums))
	for k, sum := range t.sums {
		out[k] = make([]float32, n)
		for i := range n {
			out[k][i] = sum[i] / t.weights[i]
		}
		copy(sum, sum[n:])
		clear(sum[len(sum)-n:])
	}
	copy(t.weights, t.weights[n:])
	clear(t.weights[len(t.weights)-n:])
	t.top = end
	return out
}
