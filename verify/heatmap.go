package verify

import (
	"image"
	"image/color"
	"math"
	"slices"

	"idlewild/job"
)

// heatSide bounds a heatmap's width and height in pixels.
const heatSide = 640

// Heatmap draws for people where a claim was looked at and what was found: the
// claim in dim grey, the crops in colour, from blue (equal) over green (off by
// 1 %) to red (by 100 % or more), and frames of yellow around what a look at the
// whole found odd, if there was one. Where the denoised picture is not what the
// denoiser makes of the noisy one, its pixels are in colour too. Large frames are made smaller; a small pixel
// shows the worst of those that it stands for.
func Heatmap(c job.CropCheck, claim Claim, crops []Crop, odd []job.Rect) (image.Image, error) {
	m := claim.Image
	colour, err := newColour(m, c, job.Rect{X1: m.Width, Y1: m.Height})
	if err != nil {
		return nil, err
	}
	diff := make([]float32, m.Width*m.Height)
	for i := range diff {
		diff[i] = -1
	}
	area := frameOf(c, claim.Part)
	for _, crop := range crops {
		v, err := newView(c, claim, crop)
		if err != nil {
			return nil, err
		}
		top := area.Y1 - crop.Rect.Y1
		for y := v.keep.Y0; y < v.keep.Y1; y++ {
			for x := v.keep.X0; x < v.keep.X1; x++ {
				if d, ok := v.relative(y*v.w + x); ok {
					diff[(top+y)*m.Width+crop.Rect.X0-area.X0+x] = min(d, 1)
				}
			}
		}
	}
	if d, ok, err := compareDenoised(c, claim, DefaultThresholds()); err == nil && ok {
		for i, x := range d.diff {
			if x > 0 {
				diff[i] = max(diff[i], x)
			}
		}
		odd = append(slices.Clone(odd), d.odd...)
	}
	step := (max(m.Width, m.Height) + heatSide - 1) / heatSide
	w, h := (m.Width+step-1)/step, (m.Height+step-1)/step
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			worst, light := float32(-1), colour.lum[y*step*m.Width+x*step]
			for j := y * step; j < min((y+1)*step, m.Height); j++ {
				for i := x * step; i < min((x+1)*step, m.Width); i++ {
					worst = max(worst, diff[j*m.Width+i])
				}
			}
			out.SetNRGBA(x, y, heat(worst, light))
		}
	}
	yellow := color.NRGBA{R: 255, G: 220, A: 255}
	for _, r := range odd {
		x0, x1 := (r.X0-area.X0)/step, (r.X1-area.X0-1)/step
		y0, y1 := (area.Y1-r.Y1)/step, (area.Y1-r.Y0-1)/step
		for x := x0; x <= x1; x++ {
			out.SetNRGBA(x, y0, yellow)
			out.SetNRGBA(x, y1, yellow)
		}
		for y := y0; y <= y1; y++ {
			out.SetNRGBA(x0, y, yellow)
			out.SetNRGBA(x1, y, yellow)
		}
	}
	return out, nil
}

func heat(diff, light float32) color.NRGBA {
	grey := math.Sqrt(float64(max(0, min(light, 1))))
	if light != light {
		grey = 0
	}
	if diff < 0 {
		g := uint8(40 + 100*grey)
		return color.NRGBA{R: g, G: g, B: g, A: 255}
	}
	// 1e-4 and less, 1e-2, 1 are 0, 1/2, 1.
	t := math.Max(0, math.Min(1, 1+math.Log10(float64(diff)+1e-9)/4))
	level := func(at float64) uint8 { return uint8(255 * math.Max(0, 1-2*math.Abs(t-at))) }
	return color.NRGBA{R: level(1), G: level(0.5), B: level(0), A: 255}
}
