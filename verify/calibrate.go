package verify

import (
	"math"
	"slices"
)

// Canaries is how many comparisons of honest renders Calibrate wants before it
// believes them.
const Canaries = 3

// Calibrate returns the thresholds of one job and class of devices, given what
// Compare measured between renders of that job that are known to be honest: the
// Verdict.Numbers of each. What honest machines agree on is asked of all, and
// where they do not agree nobody is accused of it: limits are a few times the
// worst that was seen, within bounds. With fewer than Canaries of them the
// thresholds come back as they are.
//
// A limit that became tighter only sends a result to a third peer. What rejects
// is never tightened, because a job's canaries are few.
func Calibrate(th Thresholds, canaries []map[string]float64) Thresholds {
	canaries = slices.DeleteFunc(slices.Clone(canaries), func(c map[string]float64) bool {
		return !(c["informative"] >= float64(th.Few))
	})
	if len(canaries) < Canaries {
		return th
	}
	th.Calibrated = true
	worst := map[string]float64{}
	for _, c := range canaries {
		for k, v := range c {
			if v == v {
				worst[k] = math.Max(worst[k], v)
			}
		}
	}
	limit := func(name string, floor, ceiling float64) float64 {
		return math.Max(floor, math.Min(ceiling, calibrateMargin*worst[name]))
	}
	th.Z50 = limit("z50", 0.05, th.Z50Sure)
	th.SZ = limit("sz", 0.05, th.Z50Sure)
	th.SZAny = limit("sz", 0.05, 2*th.Z50Sure) // classes are small: they stray further than all pixels together
	th.Zeq = math.Max(th.Zeq, limit("zeq", 0, th.Z50Sure))
	th.Square = limit("z50_square", 0.15, th.SquareSure)
	th.Touched = limit("touched", 0.03, 1)
	th.TouchedCrop = limit("touched", 0.08, 1)
	th.SquareAny = limit("z50_square", 0.3, th.SquareAlone)
	th.Pass = limit("pass_odd", 0.05, th.PassSure)
	th.PassSure = math.Max(th.PassSure, limit("pass_odd", 0, 0.95))
	th.SquareSure = math.Max(th.SquareSure, limit("z50_square", 0, th.SquareAlone))
	th.OutNoise = limit("out", th.OutNoise, 1)
	th.Beta = math.Max(th.Beta, limit("beta", 0, 0.3))
	th.BetaHint = math.Max(th.BetaHint, limit("beta", 0, 0.1))
	return th
}

// Widen returns the thresholds for claims of one device class that are compared
// with renders of another, given what Compare measured of such claims that a
// third machine of the claim's class found right in the same places: the
// Verdict.Numbers of each, from different workers. Fewer than Canaries of them
// change nothing.
//
// Their median counts, because what sets two classes apart is in all of them and
// a cheat is not, and nothing is widened so far that another seed or another
// frame would pass. The slopes stay as they are: no hardware moves a picture in
// the direction of missing samples.
func Widen(th Thresholds, between []map[string]float64) Thresholds {
	if len(between) < Canaries {
		return th
	}
	widen := func(limit *float64, name string, times, most float64) {
		var seen []float32
		for _, n := range between {
			if v := n[name]; v >= 0 { // not NaN
				seen = append(seen, float32(v))
			}
		}
		if len(seen) > 0 {
			*limit = math.Max(*limit, math.Min(times*middle(seen), most))
		}
	}
	// Two seeds are .95 of the noise apart.
	for _, l := range []struct {
		limit *float64
		name  string
	}{{&th.Z50, "z50"}, {&th.SZ, "sz"}, {&th.SZAny, "sz"}, {&th.Zeq, "zeq"}} {
		widen(l.limit, l.name, widenMargin, 0.6)
	}
	widen(&th.Z50Sure, "z50", 2*widenMargin, 0.7)
	for _, limit := range []*float64{&th.Square, &th.SquareSure, &th.SquareAny} {
		widen(limit, "z50_square", widenMargin, th.SquareAlone)
	}
	widen(&th.Touched, "touched", widenMargin, 1)
	widen(&th.TouchedCrop, "touched_crop", widenMargin, 1)
	widen(&th.OutNoise, "out", widenMargin, 1)
	widen(&th.Pass, "pass_odd", widenMargin, 0.95)
	widen(&th.PassSure, "pass_odd", widenMargin, 0.95)
	return th
}

// widenMargin is how many times the middle of what was seen is accepted: some
// crops are worse than others.
const widenMargin = 1.5

// calibrateMargin is how many times the worst canary a limit is: few canaries
// have not seen the worst.
const calibrateMargin = 3
