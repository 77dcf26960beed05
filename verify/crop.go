package verify

import (
	"fmt"
	"slices"

	"idlewild/job"
	"idlewild/media"
)

// Claim is what somebody says they rendered.
type Claim struct {
	Image *media.Image
	Part  job.Part // of the frame; zero: all of it
	// Again holds what a denoiser made again of the noisy picture and the guides
	// in Image, as the pass Combined of the same layers; nil where that was not done.
	Again *media.Image
	// Elsewhere says that the claim's denoiser may be another build, or for another
	// sort of processor, than the one that made Again, so that a difference proves nothing.
	Elsewhere bool
}

// SampleRange is a crop rendered with some of its samples.
type SampleRange struct {
	From, To int
	Image    *media.Image
}

// Crop is a rectangle of the frame as the checker rendered it, with the claim's
// settings and seed.
type Crop struct {
	// Rect is the rectangle as rendered, as Draw returned it, in the frame.
	Rect job.Rect
	// Ranges are the crop's sample ranges as Ranges cuts them, in order. They
	// are merged to what the claim should show. Without adaptive sampling only.
	Ranges []SampleRange
	// Image is the crop rendered at once, where there are no Ranges.
	Image *media.Image
	// OtherSeed is the same crop with another seed, if somebody rendered it:
	// a better measure of noise than the crop's neighbouring pixels.
	OtherSeed *media.Image
	// Loose is the same crop at twice the adaptive threshold, if somebody
	// rendered it: the direction in which stopping early moves the picture.
	Loose *media.Image
}

// SampleCount is the name of the pass in which Cycles reports each pixel's
// number of samples.
const SampleCount = "Debug Sample Count"

// eps keeps black from having infinite relative differences.
const eps = 1e-3

// view is one crop of everything that is compared, aligned: planes of
// w*h samples, rows from the top.
type view struct {
	w, h         int
	keep         job.Rect // the judged pixels within it: origin at the top left
	claim, crop  colour
	sigma        []float32   // spread of a pixel's noise, relative to its brightness
	noisy        float32     // above this sigma a pixel is informative
	slopes       [][]float32 // directions in which missing samples move a picture, in units of sigma; nil: unknown
	count        []float32   // samples of the crop's pixels, nil: unknown
	claimedCount []float32
}

// colour is a pass as light: its channels but alpha, their luminance, and alpha
// where there is one.
type colour struct {
	chans [][]float32
	lum   []float32
	alpha []float32
	half  bool // the file held 16-bit floats
}

// claimError is trouble with the claim that only its worker can have made.
type claimError struct{ error }

// newColour reads a pass of an image, cut to the half-open rectangle r with
// origin at the bottom left of the image.
func newColour(m *media.Image, c job.CropCheck, r job.Rect) (colour, error) {
	chans, ok := m.Pass(c.Layer, c.Pass)
	if !ok && c.Layer != "" && len(m.Layers()) == 1 {
		// A crop that went through another writer may have lost the group.
		chans, ok = m.Pass("", c.Pass)
	}
	if !ok {
		return colour{}, fmt.Errorf("no pass %q in layer %q", c.Pass, c.Layer)
	}
	var out colour
	for _, ch := range chans {
		if _, _, n := media.Split(ch.Name); n == "A" || n == "a" {
			out.alpha = cut(m, ch.Data, r)
			continue
		}
		out.chans = append(out.chans, cut(m, ch.Data, r))
		out.half = out.half || ch.Sample == media.Half
	}
	if len(out.chans) == 0 {
		return colour{}, fmt.Errorf("pass %q has no colour", c.Pass)
	}
	out.lum = out.chans[0]
	if len(out.chans) == 3 {
		out.lum = make([]float32, len(out.chans[0]))
		for i := range out.lum {
			out.lum[i] = 0.2126*out.chans[0][i] + 0.7152*out.chans[1][i] + 0.0722*out.chans[2][i]
		}
	}
	return out, nil
}

// cut copies a rectangle (origin bottom left) out of a plane of m.
func cut(m *media.Image, data []float32, r job.Rect) []float32 {
	out := make([]float32, 0, r.Dx()*r.Dy())
	top, bottom := m.Rows(r.Y0, r.Y1)
	for y := top; y < bottom; y++ {
		out = append(out, data[y*m.Width+r.X0:y*m.Width+r.X1]...)
	}
	return out
}

// newView aligns a crop with the claim. Its errors are the checker's trouble
// unless they are claimErrors.
func newView(c job.CropCheck, claim Claim, crop Crop) (*view, error) {
	area := frameOf(c, claim.Part)
	r := crop.Rect
	if r.X0 < area.X0 || r.Y0 < area.Y0 || r.X1 > area.X1 || r.Y1 > area.Y1 || r.Dx() <= 0 || r.Dy() <= 0 {
		return nil, fmt.Errorf("crop %v lies outside of the claim %v", r, area)
	}
	v := &view{w: r.Dx(), h: r.Dy()}
	in := judged(r, solid(c, claim.Part))
	v.keep = job.Rect{X0: in.X0 - r.X0, X1: in.X1 - r.X0, Y0: r.Y1 - in.Y1, Y1: r.Y1 - in.Y0}
	if v.keep.Dx() <= 0 || v.keep.Dy() <= 0 {
		return nil, fmt.Errorf("crop %v is all padding", r)
	}
	read := func(m *media.Image) (colour, error) {
		if m == nil {
			return colour{}, fmt.Errorf("crop %v is missing", r)
		}
		if m.Width != v.w || m.Height != v.h {
			return colour{}, fmt.Errorf("crop %v came as %dx%d pixels", r, m.Width, m.Height)
		}
		return newColour(m, c, job.Rect{X1: v.w, Y1: v.h})
	}
	var err error
	within := job.Rect{X0: r.X0 - area.X0, Y0: r.Y0 - area.Y0, X1: r.X1 - area.X0, Y1: r.Y1 - area.Y0}
	if v.claim, err = newColour(claim.Image, c, within); err != nil {
		return nil, err
	}
	if len(crop.Ranges) > 1 {
		err = v.fromRanges(c, crop.Ranges, read)
	} else {
		if len(crop.Ranges) == 1 && crop.Image == nil {
			crop.Image = crop.Ranges[0].Image
		}
		err = v.fromRender(c, claim, crop, within, read)
	}
	if err != nil {
		return nil, err
	}
	if len(v.claim.chans) != len(v.crop.chans) {
		return nil, claimError{fmt.Errorf("%d channels of colour, the crops have %d", len(v.claim.chans), len(v.crop.chans))}
	}
	if v.claim.half || v.crop.half {
		// Rounding to 16 bits is half a thousandth: less noise than six
		// times that would measure the rounding.
		v.noisy = max(v.noisy, 3e-3)
	}
	if v.claim.alpha == nil && v.crop.alpha != nil {
		return nil, claimError{fmt.Errorf("no alpha, the crops have it")}
	}
	return v, nil
}

// fromRanges fills in what sample ranges give: the crop, its noise and the
// direction of missing samples, all at the price of one render.
func (v *view) fromRanges(c job.CropCheck, ranges []SampleRange, read func(*media.Image) (colour, error)) error {
	parts := make([]colour, len(ranges))
	total := 0
	for i, s := range ranges {
		if s.To <= s.From || (i > 0 && s.From != ranges[i-1].To) {
			return fmt.Errorf("sample ranges do not follow each other")
		}
		total += s.To - s.From
		var err error
		if parts[i], err = read(s.Image); err != nil {
			return err
		}
		v.crop.half = v.crop.half || parts[i].half
	}
	if len(ranges) != 3 {
		return fmt.Errorf("%d sample ranges where 3 are expected", len(ranges))
	}
	n := func(i int) float32 { return float32(ranges[i].To-ranges[i].From) / float32(total) }
	v.crop.chans = make([][]float32, len(parts[0].chans))
	for k := range v.crop.chans {
		v.crop.chans[k] = make([]float32, v.w*v.h)
		for i, p := range parts {
			if len(p.chans) != len(parts[0].chans) {
				return fmt.Errorf("sample ranges with different channels")
			}
			for j, x := range p.chans[k] {
				v.crop.chans[k][j] += n(i) * x
			}
		}
	}
	v.crop.lum = make([]float32, v.w*v.h)
	if parts[0].alpha != nil {
		v.crop.alpha = make([]float32, v.w*v.h)
	}
	for i, p := range parts {
		if (p.alpha == nil) != (v.crop.alpha == nil) {
			return fmt.Errorf("sample ranges with different channels")
		}
		for j, x := range p.alpha {
			v.crop.alpha[j] += n(i) * x
		}
		for j, x := range p.lum {
			v.crop.lum[j] += n(i) * x
		}
	}
	// With sigma the noise of all samples, the mean of a share f of them
	// deviates from the mean of all by sigma*sqrt(1/f-1).
	noise := make([]float32, v.w*v.h)
	scale := 1 / sqrt(1/n(0)-1)
	for j, x := range parts[0].lum {
		noise[j] = abs(x-v.crop.lum[j]) / v.scale(j) * scale
	}
	v.setSigma(noise, 2)
	v.noisy = 3e-3

	// Without range i a picture is the mean of the others, and moves towards
	// them from what range i alone shows.
	for i, p := range parts {
		spread := sqrt(1/(1-n(i)) + 1/n(i)) // of the difference of the two means
		slope := make([]float32, v.w*v.h)
		for j := range slope {
			others := (v.crop.lum[j] - n(i)*p.lum[j]) / (1 - n(i))
			slope[j] = (others - p.lum[j]) / v.scale(j) / v.sigma[j] / spread
		}
		v.slopes = append(v.slopes, slope)
	}
	return nil
}

// fromRender fills in what one render and its optional companions give.
func (v *view) fromRender(c job.CropCheck, claim Claim, crop Crop, within job.Rect, read func(*media.Image) (colour, error)) error {
	var err error
	if v.crop, err = read(crop.Image); err != nil {
		return err
	}
	noise := make([]float32, v.w*v.h)
	if crop.OtherSeed != nil {
		other, err := read(crop.OtherSeed)
		if err != nil {
			return err
		}
		for j, x := range other.lum {
			noise[j] = abs(x-v.crop.lum[j]) / v.scale(j) / sqrt(2)
		}
		v.setSigma(noise, 2)
	} else {
		smooth := median(v.crop.lum, v.w, v.h, 1)
		for j, x := range v.crop.lum {
			noise[j] = abs(x-smooth[j]) / v.scale(j)
		}
		v.setSigma(noise, 3)
	}
	v.noisy = 1e-3
	if crop.Loose != nil {
		loose, err := read(crop.Loose)
		if err != nil {
			return err
		}
		slope := make([]float32, v.w*v.h)
		for j, x := range loose.lum {
			slope[j] = (x - v.crop.lum[j]) / v.scale(j) / v.sigma[j]
		}
		v.slopes = [][]float32{slope}
	}
	if !c.Adaptive {
		return nil
	}
	chans, ok := crop.Image.Pass(c.Layer, SampleCount)
	if !ok {
		return nil
	}
	us := units(chans[0].Data, c.Samples)
	if !counted(chans[0].Data) {
		return nil
	}
	if theirs, ok := claim.Image.Pass(c.Layer, SampleCount); ok && counted(theirs[0].Data) {
		// The claim's unit is found on all of it: a crop may not show its own.
		// Where a crop leaves a choice, the one that agrees best counts.
		all := units(theirs[0].Data, c.Samples)
		v.claimedCount = cut(claim.Image, scaled(theirs[0].Data, all[0]), within)
		best := -1
		for _, u := range us {
			mine := scaled(chans[0].Data, u)
			same := 0
			for i := range mine {
				if abs(mine[i]-v.claimedCount[i]) < 0.5 {
					same++
				}
			}
			if same > best {
				best, v.count = same, mine
			}
		}
		return nil
	}
	v.count = scaled(chans[0].Data, us[0])
	return nil
}

// scale is the brightness that differences of pixel i are relative to.
func (v *view) scale(i int) float32 { return abs(v.crop.lum[i]) + eps }

// setSigma estimates each pixel's noise from a window of single deviations: the
// median of |N(0, sigma)| is sigma/1.4826.
func (v *view) setSigma(noise []float32, radius int) {
	v.sigma = median(noise, v.w, v.h, radius)
	for i := range v.sigma {
		v.sigma[i] = v.sigma[i]*1.4826 + 1e-4
	}
}

// median filters a plane with a square window, cut off at the borders. Values
// that are no numbers are left out.
func median(in []float32, w, h, radius int) []float32 {
	out := make([]float32, len(in))
	window := make([]float32, 0, (2*radius+1)*(2*radius+1))
	for y := range h {
		for x := range w {
			window = window[:0]
			for j := max(0, y-radius); j <= min(h-1, y+radius); j++ {
				for i := max(0, x-radius); i <= min(w-1, x+radius); i++ {
					if f := in[j*w+i]; finite(f) {
						window = append(window, f)
					}
				}
			}
			if len(window) > 0 {
				slices.Sort(window)
				out[y*w+x] = window[len(window)/2]
			}
		}
	}
	return out
}

// counted reports whether a pass can be one of counts: finite, not negative.
func counted(pass []float32) bool {
	for _, v := range pass {
		if !(v >= 0 && v <= 1<<24) {
			return false
		}
	}
	return true
}

// units returns what a sample-count pass can have been divided by, likeliest
// first. Cycles divides it by the number of samples that the render reached,
// which is less than the maximum if every pixel stopped before; but pixels stop
// at multiples of 16 only, so the unit is one in which all counts are such: the
// smallest, or the maximum where all pixels are alike and nothing shows it.
func units(pass []float32, most int) []float32 {
	var top, low float32
	for i, v := range pass {
		top = max(top, v)
		if i == 0 || v < low {
			low = v
		}
	}
	if top < 1.0/(1<<24) || top > 1.5 {
		return []float32{1} // nothing that can be a share of samples, or not divided
	}
	var out []float32
	for m := 16; m < most && len(out) < 64; m += 16 {
		if whole(pass, float32(m)/top, m) {
			out = append(out, float32(m)/top)
		}
	}
	out = append(out, float32(most)/top)
	if low == top {
		out[0], out[len(out)-1] = out[len(out)-1], out[0]
	}
	return out
}

func scaled(pass []float32, unit float32) []float32 {
	out := make([]float32, len(pass))
	for i, v := range pass {
		out[i] = v * unit
	}
	return out
}

// whole reports whether all counts are multiples of 16, or m, in that unit.
func whole(pass []float32, unit float32, m int) bool {
	for _, v := range pass {
		c := v * unit
		r := float32(int(c + 0.5))
		if abs(c-r) > 2e-3*max(1, c/64) || (int(r)%16 != 0 && int(r) != m) || r < 1 {
			return false
		}
	}
	return true
}
