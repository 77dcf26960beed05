package verify

import (
	"fmt"

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
}

func (e evidence) numbers(crops int) map[string]float64 {
	n := map[string]float64{
		"crops": float64(crops), "pixels": float64(e.pixels), "informative": float64(e.informative),
		"out": e.share(e.out), "z50": e.z50,
	}
	if e.slopes > 0 {
		n["beta"], n["beta_t"] = e.slope, e.t
	}
	if e.blocks > 0 {
		n["shifted"] = float64(e.shifted) / float64(e.blocks)
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

// calm says that the noise agrees with the crop's beyond what any other
// computation of the same scene explains: hair on other hardware is not calm.
func (e evidence) calm(th Thresholds) bool { return e.z50 <= th.Calm && e.sz <= th.Calm }

// judge applies the rules, the strongest proof first.
func (e evidence) judge(c job.CropCheck, th Thresholds) job.Verdict {
	say := func(r job.Ruling, format string, a ...any) job.Verdict {
		return job.Verdict{Ruling: r, Reason: fmt.Sprintf(format, a...)}
	}
	out := e.share(e.out)
	switch {
	case e.pixels == 0:
		return say(job.Unsure, "the crops hold no numbers to compare with")
	case e.share(e.broken) > th.Out:
		return say(job.Rejected, "%.1f %% of the pixels are no numbers where the crops have some", 100*e.share(e.broken))
	case c.Denoised:
		if out <= th.Out {
			return say(job.Accepted, "equal to the crops within 1 %% on %.1f %% of the pixels", 100*(1-out))
		}
		return say(job.Unsure, "%.1f %% of the pixels differ from the crops, but denoised pixels are no proof", 100*out)
	case e.informative < th.Informative:
		return e.judgeFlat(th)
	case e.shifted >= 2 && float64(e.shifted) > th.Shifted*float64(e.blocks):
		return say(job.Rejected, "another picture: %d of %d squares of the crops are brighter or darker as a whole", e.shifted, e.blocks)
	case c.Adaptive:
		return e.judgeAdaptive(th)
	}
	switch {
	case e.slope > th.Beta && e.t > th.BetaT:
		return say(job.Rejected, "samples are missing: the difference follows the last tenth of the samples (slope %.2f, t %.0f)", e.slope, e.t)
	case e.z50 > th.Z50Sure:
		return say(job.Rejected, "another picture: it differs from the crops by %.2f of the noise", e.z50)
	case e.z50 > th.Z50 && e.slope > th.BetaHint && e.t > th.BetaHintT:
		return say(job.Rejected, "samples are missing: it differs by %.2f of the noise, in the direction of fewer samples (slope %.2f, t %.0f)", e.z50, e.slope, e.t)
	case e.z50 > th.Z50:
		return say(job.Unsure, "it differs from the crops by %.2f of the noise, more than the same scene on other hardware does but for hair", e.z50)
	case out > th.OutSure:
		return say(job.Rejected, "%.1f %% of the pixels show something else", 100*out)
	case out > th.Out && e.calm(th):
		return say(job.Rejected, "%.1f %% of the pixels show something else, while the rest agrees with the crops", 100*out)
	case out > th.Out:
		return say(job.Unsure, "%.1f %% of the pixels differ from the crops by more than 1 %%", 100*out)
	}
	return say(job.Accepted, "agrees with %d pixels of crops within %.3f of the noise", e.informative, e.z50)
}

// judgeAdaptive knows that on other hardware a pixel may stop at another step,
// and that then its count says so.
func (e evidence) judgeAdaptive(th Thresholds) job.Verdict {
	say := func(r job.Ruling, format string, a ...any) job.Verdict {
		return job.Verdict{Ruling: r, Reason: fmt.Sprintf(format, a...)}
	}
	out := e.share(e.out)
	worst := max(e.sz, e.z50)
	if e.slopes > 0 && e.slope > th.BetaAdaptive && e.t > th.BetaT {
		return say(job.Rejected, "sampling stopped too early: the difference follows a render with a looser threshold (slope %.2f, t %.0f)", e.slope, e.t)
	}
	if worst <= th.SZ && out <= th.Out {
		return say(job.Accepted, "agrees with %d pixels of crops within %.3f of the noise", e.informative, worst)
	}
	if !e.counts {
		switch {
		case e.z50 > th.Z50Sure || worst > 2*th.Z50Sure:
			return say(job.Rejected, "another picture: it differs from the crops by %.2f of the noise", worst)
		case out > th.OutSure:
			return say(job.Rejected, "%.1f %% of the pixels show something else", 100*out)
		}
		return say(job.Unsure, "it differs from the crops by %.2f of the noise and does not say how many samples its pixels had", worst)
	}
	zeq, ratio, outEq := middle(e.zeq), e.ratio(), 0.0
	if len(e.zeq) > 0 {
		outEq = float64(e.outEq) / float64(len(e.zeq))
	}
	switch {
	case len(e.zeq) < th.Informative/4 && e.z50 > th.Z50Sure:
		return say(job.Rejected, "another picture: it differs from the crops by %.2f of the noise, and hardly a pixel had as many samples", e.z50)
	case len(e.zeq) < th.Informative/4:
		return say(job.Unsure, "hardly a pixel had as many samples as in the crops")
	case zeq > th.Z50Sure:
		return say(job.Rejected, "another picture: pixels with as many samples differ by %.2f of the noise", zeq)
	case zeq > th.Zeq:
		return say(job.Rejected, "pixels that claim as many samples as the crops' differ by %.2f of the noise", zeq)
	case ratio < th.CountRatio:
		return say(job.Rejected, "sampling stopped too early: %.1f %% of the crops' samples, and the pixels differ by %.2f of the noise", 100*ratio, worst)
	case e.timed > 0 && float64(e.otherCount) > th.OtherCount*float64(e.timed) || ratio > 2-th.CountRatio:
		// Counts excuse a difference, and whoever cheats writes them too.
		return say(job.Unsure, "it differs from the crops by %.2f of the noise, and too many pixels say that they had another number of samples (%.1f %% in all)", worst, 100*ratio)
	case outEq > th.OutSure:
		return say(job.Rejected, "%.1f %% of the pixels with as many samples show something else", 100*outEq)
	case outEq > th.Out && e.calm(th):
		return say(job.Rejected, "%.1f %% of the pixels show something else, while the rest agrees with the crops", 100*out)
	case outEq > th.Out:
		return say(job.Unsure, "%.1f %% of the pixels with as many samples differ from the crops by more than 1 %%", 100*outEq)
	}
	return say(job.Accepted, "agrees with the crops within %.3f of the noise where pixels had as many samples, and had %.1f %% of them", zeq, 100*ratio)
}

// judgeFlat decides where there is too little noise for statistics. Without
// noise a render is determined up to rounding.
func (e evidence) judgeFlat(th Thresholds) job.Verdict {
	say := func(r job.Ruling, format string, a ...any) job.Verdict {
		return job.Verdict{Ruling: r, Reason: fmt.Sprintf(format, a...)}
	}
	out := e.share(e.out)
	flatOut := 0.0
	if e.flat > 0 {
		flatOut = float64(e.flatOut) / float64(e.flat)
	}
	switch {
	case e.flat >= e.pixels/2 && flatOut > th.OutSure && e.pixels >= th.Informative:
		return say(job.Rejected, "%.1f %% of the pixels show something else, where the crops have no noise", 100*flatOut)
	case flatOut > 1-th.FlatShare || out > th.Out:
		return say(job.Unsure, "%.1f %% of the pixels differ from the crops, and too few are noisy to say why", 100*out)
	case e.informative >= 30 && e.z50all > th.Z50:
		return say(job.Unsure, "only %d pixels are noisy, and they differ by %.2f of the noise", e.informative, e.z50all)
	}
	return say(job.Accepted, "equal to the crops within 1 %% on %.1f %% of the pixels, nearly all without noise", 100*(1-out))
}
