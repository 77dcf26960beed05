package verify

import (
	"errors"
	"fmt"
	"math"

	"idlewild/job"
)

// method is the Verdict.Method of everything here.
const method = job.MethodSampling

// Undecodable is the verdict on a claim whose file does not decode as the image
// that it should be. The worker committed to that file, so this is certain.
func Undecodable(err error) job.Verdict {
	return job.Verdict{Ruling: job.Rejected, Method: method, Reason: fmt.Sprintf("the result cannot be decoded: %v", err)}
}

// Unverified is the verdict where the checker's side failed.
func Unverified(err error) job.Verdict {
	return job.Verdict{Ruling: job.Unsure, Method: method, Reason: fmt.Sprintf("could not be checked: %v", err)}
}

// Compare judges a claim by crops. See Thresholds for the numbers in the
// verdict.
func Compare(c job.CropCheck, claim Claim, crops []Crop, th Thresholds) job.Verdict {
	if err := c.Validate(); err != nil {
		return Unverified(err)
	}
	if claim.Image == nil {
		return Undecodable(fmt.Errorf("no image"))
	}
	if v, ok := judgeForm(c, claim); !ok {
		return v
	}
	if len(crops) == 0 {
		return Unverified(fmt.Errorf("no crops"))
	}
	var all measure
	var others passes
	var worstZ, worstSZ, worstTouched float64
	for _, crop := range crops {
		v, err := newView(c, claim, crop)
		if bad := (claimError{}); errors.As(err, &bad) {
			return job.Verdict{Ruling: job.Rejected, Method: method, Reason: fmt.Sprintf("the result has %v", bad)}
		}
		if err != nil {
			return Unverified(err)
		}
		if err := others.add(c, claim, crop); err != nil {
			return Unverified(err)
		}
		var one measure
		one.add(v, th)
		all.add(v, th)
		if one.informative >= th.Informative {
			worstZ = math.Max(worstZ, one.z50())
			worstSZ = math.Max(worstSZ, one.sz())
			worstTouched = math.Max(worstTouched, one.touchedShare())
		}
	}
	if all.informative >= th.Informative {
		worstZ = math.Max(worstZ, all.z50())
		worstSZ = math.Max(worstSZ, all.sz())
	}
	e := evidence{measure: &all, z50: worstZ, sz: worstSZ, z50all: all.z50(), touchedCrop: worstTouched}
	e.slope, e.t = all.beta(th)
	v := e.judge(c, th)
	v.Method = method
	v.Numbers = e.numbers(len(crops))
	v = others.verdict(v, claim, c, th)
	d, again, err := compareDenoised(c, claim, th)
	switch {
	case err != nil:
		return Unverified(err)
	case again:
		return d.verdict(v, claim)
	}
	if l, ok := lookAtDenoised(c, claim, th); ok {
		v = l.Verdict(v, "noisy picture", th)
	}
	return v
}
