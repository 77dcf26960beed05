package verify

import (
	"fmt"
	"slices"

	"idlewild/job"
)

// judgeForm looks at what needs no statistics: size, pass, and whether there
// are numbers in it at all. ok means that it is worth looking closer.
func judgeForm(c job.CropCheck, claim Claim) (v job.Verdict, ok bool) {
	reject := func(format string, a ...any) (job.Verdict, bool) {
		return job.Verdict{Ruling: job.Rejected, Method: method, Reason: fmt.Sprintf(format, a...)}, false
	}
	area := frameOf(c, claim.Part)
	m := claim.Image
	if m.Width != area.Dx() || m.Height != area.Dy() {
		return reject("the result has %dx%d pixels, %dx%d were asked for", m.Width, m.Height, area.Dx(), area.Dy())
	}
	colour, err := newColour(m, c, job.Rect{X1: m.Width, Y1: m.Height})
	if err != nil {
		return reject("the result has %v", err)
	}
	for _, plane := range colour.chans {
		for _, x := range plane {
			if finite(x) {
				return job.Verdict{}, true
			}
		}
	}
	return reject("the result holds no numbers")
}

// evidence is what the rules look at.
type evidence struct {
	*measure
	z50, sz  float64 // worst of the crops and of all together
	z50all   float64 // of all together, however few
	slope, t float64

	touchedCrop float64 // the worst crop's share
}

func (e evidence) numbers(crops int) map[string]float64 {
	n := map[string]float64{
		"crops": float64(crops), "pixels": float64(e.pixels), "informative": float64(e.informative),
		"out": e.share(e.out), "z50": e.z50,
	}
	if e.slopes() {
		n["beta"], n["beta_t"] = e.slope, e.t
	}
	if e.informative > 0 {
		n["touched"], n["touched_crop"] = e.touchedShare(), e.touchedCrop
	}
	if e.squares.n > 0 {
		n["squares"], n["shifted"] = float64(e.squares.n), float64(e.squares.shifted)
	}
	if len(e.squares.z) > 0 {
		n["z50_square"] = float64(slices.Max(e.squares.z))
	}
	if e.broken > 0 {
		n["not_numbers"] = e.share(e.broken)
	}
	if e.byAge[0] != nil || e.byAge[2] != nil {
		n["sz"] = e.sz
	}
	if e.counts {
		n["zeq"], n["count_ratio"] = middle(e.zeq), e.ratio()
	}
	return n
}

func (e evidence) ratio() float64 {
	if e.counted == 0 {
		return 0
	}
	return e.claimed / e.counted
}

// ruling is a verdict without its numbers.
func ruling(r job.Ruling, format string, a ...any) job.Verdict {
	return job.Verdict{Ruling: r, Reason: fmt.Sprintf(format, a...)}
}

// judge applies the rules, the strongest proof first.
func (e evidence) judge(c job.CropCheck, th Thresholds) job.Verdict {
	out, flatOut := e.share(e.out), e.flatShare()
	switch sq := e.squares; {
	case e.pixels == 0:
		return ruling(job.Unsure, "the crops hold no numbers to compare with")
	case e.share(e.broken) > th.Out:
		return ruling(job.Rejected, "%.1f %% of the pixels are no numbers where the crops have some", 100*e.share(e.broken))
	case c.Denoised:
		if out <= th.Out {
			return ruling(job.Accepted, "equal to the crops within 1 %% on %.1f %% of the pixels", 100*(1-out))
		}
		return ruling(job.Unsure, "%.1f %% of the pixels differ from the crops, but denoised pixels are no proof", 100*out)
	case e.flat >= th.Informative && flatOut > th.FlatSure:
		return ruling(job.Rejected, "%.1f %% of the pixels show something else, where the crops have no noise", 100*flatOut)
	case e.informative < th.Informative:
		return e.judgeFlat(c, th)
	case sq.several(sq.shifted, th.Squares):
		return ruling(job.Rejected, "another picture: %d of %d squares of the crops are brighter, darker or more transparent as a whole", sq.shifted, sq.n)
	}
	v := e.judgeNoise(th)
	if c.Adaptive {
		v = e.judgeAdaptive(th)
	}
	if v.Ruling == job.Accepted && e.flat >= th.Informative/4 && flatOut > th.FlatShare {
		return ruling(job.Unsure, "%.1f %% of the pixels without noise differ from the crops", 100*flatOut)
	}
	if v.Ruling == job.Accepted && th.Calibrated {
		return e.judgeCalibrated(c, th, v)
	}
	return v
}

// judgeCalibrated looks at an accepted claim with what honest machines keep to
// in this very job.
func (e evidence) judgeCalibrated(c job.CropCheck, th Thresholds, v job.Verdict) job.Verdict {
	touched, square := e.touchedShare(), 0.0
	if len(e.squares.z) > 0 {
		square = float64(slices.Max(e.squares.z))
	}
	const more = "more than honest machines do in this job"
	switch {
	case touched > th.Touched || e.touchedCrop > th.TouchedCrop:
		return ruling(job.Unsure, "%.1f %% of the noisy pixels are not those of the crops, %.1f %% of one crop's, %s", 100*touched, 100*e.touchedCrop, more)
	case c.Adaptive && e.sz > th.SZAny:
		return ruling(job.Unsure, "pixels that stopped alike differ by %.2f of the noise, %s", e.sz, more)
	case square > th.SquareAny:
		return ruling(job.Unsure, "a square of the crops differs by %.2f of the noise, %s", square, more)
	}
	return v
}

func (e evidence) judgeNoise(th Thresholds) job.Verdict {
	sq, out := e.squares, e.share(e.out)
	off := sq.above(th.Square)
	hint := e.slope > th.BetaHint && e.t > th.BetaHintT
	switch {
	case e.slope > th.Beta && e.t > th.BetaT:
		return ruling(job.Rejected, "samples are missing: the difference follows the last tenth of the samples (slope %.2f, t %.0f)", e.slope, e.t)
	case e.z50 > th.Z50Sure:
		return ruling(job.Rejected, "another picture: it differs from the crops by %.2f of the noise", e.z50)
	case (e.z50 > th.Z50 || sq.several(off, th.Squares)) && hint:
		return ruling(job.Rejected, "samples are missing: it differs by %.2f of the noise, %d of %d squares do, in the direction of fewer samples (slope %.2f, t %.0f)", e.z50, off, sq.n, e.slope, e.t)
	case sq.several(sq.above(th.SquareSure), th.Squares):
		return ruling(job.Rejected, "%d of %d squares of the crops show something else", sq.above(th.SquareSure), sq.n)
	case sq.above(th.SquareAlone) > 0:
		return ruling(job.Rejected, "a place in the crops shows something else")
	case e.z50 > th.Z50:
		return ruling(job.Unsure, "it differs from the crops by %.2f of the noise, more than the same scene on other hardware does but for hair", e.z50)
	case sq.several(off, th.Squares):
		return ruling(job.Unsure, "%d of %d squares of the crops differ by more than %.2f of the noise", off, sq.n, th.Square)
	case e.z50 > th.Z50/3 && out > th.OutNoise:
		return ruling(job.Unsure, "%.0f %% of the pixels differ from the crops, if only by %.2f of the noise", 100*out, e.z50)
	}
	return ruling(job.Accepted, "agrees with %d pixels of crops within %.3f of the noise", e.informative, e.z50)
}

// judgeAdaptive knows that on other hardware a pixel may stop at another step,
// and that then its count says so.
func (e evidence) judgeAdaptive(th Thresholds) job.Verdict {
	worst := max(e.sz, e.z50)
	sq, eq := e.squares, e.equals
	if e.slopes() && e.slope > th.BetaAdaptive && e.t > th.BetaT {
		return ruling(job.Rejected, "sampling stopped too early: the difference follows a render with a looser threshold (slope %.2f, t %.0f)", e.slope, e.t)
	}
	if worst <= th.SZ && !sq.several(sq.above(th.Square), th.Squares) {
		return ruling(job.Accepted, "agrees with %d pixels of crops within %.3f of the noise", e.informative, worst)
	}
	if !e.counts {
		if e.z50 > th.Z50Sure || worst > 2*th.Z50Sure {
			return ruling(job.Rejected, "another picture: it differs from the crops by %.2f of the noise", worst)
		}
		return ruling(job.Unsure, "it differs from the crops by %.2f of the noise and does not say how many samples its pixels had", worst)
	}
	zeq, ratio := middle(e.zeq), e.ratio()
	few := len(e.zeq) < th.Informative/4
	switch {
	case few && e.z50 > th.Z50Sure:
		return ruling(job.Rejected, "another picture: it differs from the crops by %.2f of the noise, and hardly a pixel had as many samples", e.z50)
	case few:
		return ruling(job.Unsure, "hardly a pixel had as many samples as in the crops")
	case zeq > th.Zeq:
		return ruling(job.Rejected, "pixels that claim as many samples as the crops' differ by %.2f of the noise", zeq)
	case ratio < th.CountRatio:
		return ruling(job.Rejected, "sampling stopped too early: %.1f %% of the crops' samples, and the pixels differ by %.2f of the noise", 100*ratio, worst)
	case eq.several(eq.above(th.SquareSure), th.Squares):
		return ruling(job.Rejected, "%d of %d squares of the crops show something else", eq.above(th.SquareSure), eq.n)
	case eq.several(eq.above(th.Square), th.Squares):
		return ruling(job.Unsure, "%d of %d squares of the crops differ by more than %.2f of the noise", eq.above(th.Square), eq.n, th.Square)
	case float64(e.otherCount) > th.OtherCount*float64(e.timed) || ratio > 2-th.CountRatio:
		// Counts excuse a difference, and whoever cheats writes them too.
		return ruling(job.Unsure, "it differs from the crops by %.2f of the noise, and too many pixels say that they had another number of samples (%.1f %% in all)", worst, 100*ratio)
	}
	return ruling(job.Accepted, "agrees with the crops within %.3f of the noise where pixels had as many samples, and had %.1f %% of them", zeq, 100*ratio)
}

// flatShare is how many of the pixels without noise differ.
func (e evidence) flatShare() float64 {
	if e.flat == 0 {
		return 0
	}
	return float64(e.flatOut) / float64(e.flat)
}

// judgeFlat decides where there is too little noise for statistics. Without
// noise a render is determined up to rounding.
func (e evidence) judgeFlat(c job.CropCheck, th Thresholds) job.Verdict {
	out := e.share(e.out)
	switch {
	case e.informative >= th.Few && e.z50all > th.Z50Sure:
		return ruling(job.Rejected, "another picture: what noise there is differs from the crops' by %.2f", e.z50all)
	case e.informative >= th.Few && !c.Adaptive && e.z50all > th.Z50 && e.slope > th.Beta && e.t > th.BetaHintT:
		return ruling(job.Rejected, "samples are missing: what noise there is differs in the direction of fewer samples (slope %.2f, t %.0f)", e.slope, e.t)
	case e.flatShare() > th.Out || out > th.Out:
		return ruling(job.Unsure, "%.1f %% of the pixels differ from the crops, and too few are noisy to say why", 100*out)
	case e.informative >= th.Few/2 && e.z50all > th.Z50:
		return ruling(job.Unsure, "only %d pixels are noisy, and they differ by %.2f of the noise", e.informative, e.z50all)
	}
	return ruling(job.Accepted, "equal to the crops within 1 %% on %.1f %% of the pixels, nearly all without noise", 100*(1-out))
}
