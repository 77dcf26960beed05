package verify

import (
	"fmt"
	"math"

	"idlewild/job"
	"idlewild/media"
)

// passDenoised is the pass that a denoiser writes.
const passDenoised = "Combined"

// denoised is what the claim's denoised pictures show beside those that the
// same denoiser made again of the claim's own noisy picture and guides. Nothing
// in that is random, so every pixel of the frame is compared, and every one has
// to be there. What is noisy and what guides are not judged here: crops do that.
type denoised struct {
	pixels, off, far int
	worst            float64    // the largest difference, relative
	layer            string     // of the first pixel that is off
	odd              []job.Rect // blocks with pixels that are off, in the frame
	missing          string     // a layer that the denoiser made and the claim has not
	diff             []float32  // of the pixels that are off, in the file's order: the largest of all layers'; others are 0
}

// compareDenoised compares the layers of c; ok is false where the denoiser was
// not run again.
func compareDenoised(c job.CropCheck, claim Claim, th Thresholds) (d denoised, ok bool, err error) {
	again := claim.Again
	if again == nil {
		return d, false, nil
	}
	m := claim.Image
	if again.Width != m.Width || again.Height != m.Height {
		return d, false, fmt.Errorf("the denoiser left %dx%d pixels of %dx%d", again.Width, again.Height, m.Width, m.Height)
	}
	d.diff = make([]float32, m.Width*m.Height)
	for _, layer := range append([]string{c.Layer}, c.Others...) {
		mine, there := again.Pass(layer, passDenoised)
		if !there {
			return d, false, fmt.Errorf("the denoiser left no layer %q", layer)
		}
		theirs, there := m.Pass(layer, passDenoised)
		if !there || len(theirs) != len(mine) {
			d.missing = layer
			return d, true, nil
		}
		d.add(layer, theirs, mine, th)
	}
	d.mark(frameOf(c, claim.Part), m.Width, m.Height)
	return d, true, nil
}

// add compares the channels of one layer.
func (d *denoised) add(layer string, theirs, mine []media.Channel, th Thresholds) {
	limit := float32(th.Denoised)
	for _, ch := range theirs {
		if ch.Sample == media.Half {
			limit = float32(th.DenoisedHalf)
		}
	}
	for i := range d.diff {
		x := unlike(theirs, mine, i)
		d.pixels++
		d.worst = math.Max(d.worst, float64(x))
		if x > limit {
			if d.off == 0 {
				d.layer = layer
			}
			d.off++
			d.diff[i] = max(d.diff[i], x)
		}
		if x > denoisedFar*limit {
			d.far++
		}
	}
}

// unlike is by how much pixel i of two pictures differs: the worst channel over
// the brightest.
func unlike(a, b []media.Channel, i int) float32 {
	var worst, size float32
	for k := range a {
		x, y := a[k].Data[i], b[k].Data[i]
		switch {
		case x == y || x != x && y != y:
		case !finite(x) || !finite(y):
			return 1
		default:
			worst = max(worst, abs(x-y))
		}
		if finite(y) {
			size = max(size, abs(x), abs(y))
		}
	}
	return min(worst/(size+eps), 1)
}

// mark finds the blocks with pixels that are off.
func (d *denoised) mark(area job.Rect, w, h int) {
	for y0 := 0; y0 < h && d.off > 0; y0 += lookSide {
		for x0 := 0; x0 < w; x0 += lookSide {
			x1, y1 := min(x0+lookSide, w), min(y0+lookSide, h)
			if d.offIn(x0, y0, x1, y1, w) {
				d.odd = append(d.odd, job.Rect{X0: area.X0 + x0, X1: area.X0 + x1, Y0: area.Y1 - y1, Y1: area.Y1 - y0})
			}
		}
	}
}

func (d *denoised) offIn(x0, y0, x1, y1, w int) bool {
	for y := y0; y < y1; y++ {
		for x := x0; x < x1; x++ {
			if d.diff[y*w+x] > 0 {
				return true
			}
		}
	}
	return false
}

// Bounds of what is certainly another picture: so many pixels, off by so many
// times the limit, or such a share of them off at all. A few that are off may be
// another processor's rounding.
const (
	denoisedFar   = 10
	denoisedFew   = 8
	denoisedSure  = 64
	denoisedShare = 0.01
)

// verdict adds what was found to the verdict on the noisy picture.
func (d denoised) verdict(v job.Verdict, claim Claim) job.Verdict {
	if v.Numbers == nil {
		v.Numbers = map[string]float64{}
	}
	if d.pixels > 0 {
		v.Numbers["denoised_off"] = float64(d.off) / float64(d.pixels)
		v.Numbers["denoised_worst"] = d.worst
	}
	switch {
	case v.Ruling == job.Rejected:
		return v
	case d.missing != "":
		v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("the result has no denoised pass %q in layer %q, which was asked for", passDenoised, d.missing)
		return v
	case d.off <= denoisedFew:
		return v
	}
	r := d.odd[0]
	v.Reason = fmt.Sprintf("the denoised pass %q of layer %.100q is not what the denoiser makes of the noisy picture beside it: %d of %d pixels differ, by up to %.0f %%, the first in the block at %d,%d",
		passDenoised, d.layer, d.off, d.pixels, 100*d.worst, r.X0, r.Y0)
	v.Ruling = job.Unsure
	if !claim.Elsewhere && (d.far >= denoisedSure || float64(d.off) > denoisedShare*float64(d.pixels)) {
		v.Ruling = job.Rejected
	}
	return v
}
