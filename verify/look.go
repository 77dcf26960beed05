package verify

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/media"
)

// lookSide is the side of the blocks of a look, in pixels: large enough for a
// few samples a pixel to have a mean worth the name.
const lookSide = 16

// Look is what the whole of a claim shows beside another picture of the same
// frame: one with few samples, or the claim's own before it was denoised. Crops
// see a hundredth of the frame exactly; a look sees all of it vaguely, and so
// finds what is elsewhere, missing, painted over or black.
type Look struct {
	Blocks int // blocks of 16x16 pixels that were compared
	// Odd are the blocks that differ by more than the picture's noise and by
	// more than others of this frame do, in clusters of at least
	// Thresholds.LookCluster. Rectangles of the frame, origin bottom left.
	Odd []job.Rect
	// Largest is the size of the largest cluster, in blocks.
	Largest int
	// Broken is how many blocks hold something that is no number where the
	// other picture has some.
	Broken int
}

// LookAt compares the claim with a render of the same rectangle with few
// samples, whose noise need not be the claim's.
func LookAt(c job.CropCheck, claim Claim, few *media.Image, th Thresholds) (Look, error) {
	area := frameOf(c, claim.Part)
	if claim.Image == nil || few == nil {
		return Look{}, fmt.Errorf("look: no image")
	}
	if few.Width != area.Dx() || few.Height != area.Dy() {
		return Look{}, fmt.Errorf("look: came as %dx%d pixels", few.Width, few.Height)
	}
	if claim.Image.Width != few.Width || claim.Image.Height != few.Height {
		return Look{}, claimError{fmt.Errorf("%dx%d pixels, %dx%d were asked for", claim.Image.Width, claim.Image.Height, few.Width, few.Height)}
	}
	all := job.Rect{X1: few.Width, Y1: few.Height}
	mine, err := newColour(few, c, all)
	if err != nil {
		return Look{}, fmt.Errorf("look: %w", err)
	}
	theirs, err := newColour(claim.Image, c, all)
	if err != nil {
		return Look{}, claimError{err}
	}
	return lookAt(theirs, mine, area, few.Width, few.Height, th), nil
}

// lookAtDenoised compares the denoised picture of a claim with the noisy one
// that is checked by crops, both its own: a denoiser smooths, it moves nothing.
// ok is false where the claim has no two such pictures.
func lookAtDenoised(c job.CropCheck, claim Claim, th Thresholds) (Look, bool) {
	d := c
	d.Pass = "Combined"
	if c.Pass == d.Pass || c.Denoised {
		return Look{}, false
	}
	m := claim.Image
	all := job.Rect{X1: m.Width, Y1: m.Height}
	noisy, err := newColour(m, c, all)
	if err != nil {
		return Look{}, false
	}
	clean, err := newColour(m, d, all)
	if err != nil {
		return Look{}, false
	}
	return lookAt(clean, noisy, frameOf(c, claim.Part), m.Width, m.Height, th), true
}

// block is a block's difference, relative, and its standard error.
type block struct {
	d, err float64
	broken bool
	ok     bool
}

func lookAt(theirs, mine colour, area job.Rect, w, h int, th Thresholds) Look {
	wide, high := (w+lookSide-1)/lookSide, (h+lookSide-1)/lookSide
	blocks := make([]block, wide*high)
	var ds, ts []float64
	for i := range blocks {
		b := lookBlock(theirs.lum, mine.lum, w, h, i%wide*lookSide, i/wide*lookSide)
		blocks[i] = b
		if b.ok {
			ds = append(ds, b.d)
			ts = append(ts, b.d/b.err)
		}
	}
	out := Look{Blocks: len(ds)}
	// What the whole frame does, for the better or the worse, is no matter of
	// places: rare bright paths that few samples miss make a whole scene darker.
	dMid, dSpread := robust(ds)
	tMid, tSpread := robust(ts)
	dLimit := math.Max(th.LookShift, th.LookSpread*dSpread)
	tLimit := th.LookSpread * math.Max(1, tSpread)
	odd := make([]bool, len(blocks))
	for i, b := range blocks {
		if b.broken {
			out.Broken++
			odd[i] = true
			continue
		}
		odd[i] = b.ok && math.Abs(b.d-dMid) > dLimit && math.Abs(b.d/b.err-tMid) > tLimit
	}
	for _, cluster := range clusters(odd, wide, high) {
		out.Largest = max(out.Largest, len(cluster))
		if len(cluster) < th.LookCluster {
			continue
		}
		for _, i := range cluster {
			x, y := i%wide*lookSide, i/wide*lookSide
			out.Odd = append(out.Odd, job.Rect{
				X0: area.X0 + x, X1: area.X0 + min(x+lookSide, w),
				Y0: area.Y1 - min(y+lookSide, h), Y1: area.Y1 - y,
			})
		}
	}
	return out
}

// lookBlock compares one block; not ok where there is too little of it.
func lookBlock(theirs, mine []float32, w, h, x0, y0 int) block {
	var n int
	var sumA, sumB, sq float64
	var bad int
	for y := y0; y < min(y0+lookSide, h); y++ {
		for x := x0; x < min(x0+lookSide, w); x++ {
			a, b := theirs[y*w+x], mine[y*w+x]
			if !finite(b) {
				continue
			}
			n++
			if !finite(a) {
				bad++
				continue
			}
			sumA += float64(a)
			sumB += float64(b)
			sq += float64(a-b) * float64(a-b)
		}
	}
	if n < lookSide*lookSide/4 {
		return block{}
	}
	if bad > n/8 {
		return block{broken: true}
	}
	n -= bad
	mean := (sumA - sumB) / float64(n)
	variance := math.Max(0, sq/float64(n)-mean*mean)
	bright := (math.Abs(sumA)+math.Abs(sumB))/2/float64(n) + eps
	return block{d: mean / bright, err: math.Sqrt(variance/float64(n))/bright + 1e-3, ok: true}
}

// robust is the median and the spread of values, as a standard deviation.
func robust(v []float64) (mid, spread float64) {
	if len(v) == 0 {
		return 0, 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	mid = v[len(v)/2]
	for i, x := range v {
		v[i] = math.Abs(x - mid)
	}
	slices.Sort(v)
	return mid, 1.4826 * v[len(v)/2]
}

// clusters are the groups of marked blocks that touch, corners included.
func clusters(marked []bool, wide, high int) [][]int {
	var out [][]int
	seen := make([]bool, len(marked))
	for start := range marked {
		if !marked[start] || seen[start] {
			continue
		}
		seen[start] = true
		group := []int{start}
		for at := 0; at < len(group); at++ {
			x, y := group[at]%wide, group[at]/wide
			for j := max(0, y-1); j <= min(high-1, y+1); j++ {
				for i := max(0, x-1); i <= min(wide-1, x+1); i++ {
					if k := j*wide + i; marked[k] && !seen[k] {
						seen[k] = true
						group = append(group, k)
					}
				}
			}
		}
		out = append(out, group)
	}
	return out
}

// Verdict adds what a look found to the verdict on the crops: an accepted claim
// with an odd place is unsure, and somebody else renders the frame. A look is
// too vague to reject anything but numbers that are none.
func (l Look) Verdict(v job.Verdict, what string, th Thresholds) job.Verdict {
	if v.Numbers == nil {
		v.Numbers = map[string]float64{}
	}
	key := strings.ReplaceAll(what, " ", "_")
	v.Numbers[key+"_odd_blocks"] = float64(len(l.Odd))
	v.Numbers[key+"_blocks"] = float64(l.Blocks)
	if v.Ruling != job.Accepted {
		return v
	}
	switch {
	case l.Broken > 0 && float64(l.Broken) > th.Out*float64(l.Blocks+l.Broken):
		v.Ruling = job.Rejected
		v.Reason = fmt.Sprintf("%d of %d blocks hold no numbers where the %s has some", l.Broken, l.Blocks+l.Broken, what)
	case len(l.Odd) > 0:
		r := l.Odd[0]
		v.Ruling = job.Unsure
		v.Reason = fmt.Sprintf("the crops agree, but %d of %d blocks differ from the %s, the first at %d,%d", len(l.Odd), l.Blocks, what, r.X0, r.Y0)
	}
	return v
}
