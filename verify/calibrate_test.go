package verify

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

func TestCalibrate(t *testing.T) {
	th := DefaultThresholds()
	canary := func(z, touched float64) map[string]float64 {
		return map[string]float64{"informative": 300, "z50": z, "touched": touched, "z50_square": 2 * z, "sz": z}
	}
	if got := Calibrate(th, []map[string]float64{canary(0, 0), canary(0, 0)}); got != th {
		t.Errorf("two canaries change %+v", got)
	}
	few := canary(0, 0)
	few["informative"] = 3
	if got := Calibrate(th, []map[string]float64{few, few, few, few}); got != th {
		t.Errorf("canaries without noise change %+v", got)
	}
	exact := Calibrate(th, []map[string]float64{canary(1e-6, 0), canary(1e-5, 1e-3), canary(0, 0)})
	if !exact.Calibrated || exact.Z50 >= th.Z50 || exact.Touched > 0.05 {
		t.Errorf("exact scene: %+v", exact)
	}
	// What rejects is never tightened by a few canaries, and a hairy scene
	// loosens it.
	hair := Calibrate(th, []map[string]float64{canary(0.1, 0.2), canary(0.14, 0.2), canary(0.2, 0.1)})
	for _, c := range []Thresholds{exact, hair} {
		if c.Z50Sure < th.Z50Sure || c.SquareSure < th.SquareSure || c.Beta < th.Beta || c.BetaHint < th.BetaHint || c.PassSure < th.PassSure || c.FlatSure < th.FlatSure {
			t.Errorf("a rejection was tightened: %+v", c)
		}
	}
	if hair.Z50 <= th.Z50 || hair.Touched < 0.5 || hair.SquareSure <= th.SquareSure {
		t.Errorf("hair: %+v", hair)
	}
}

// A job's canaries tell a cheat that no constant would: a few pixels cheap, on a
// scene on which honest machines agree.
func TestCalibratedThresholdsFindWhatConstantsDoNot(t *testing.T) {
	c := fakeCheck()
	truth := fake{seed: 1, noise: 0.8}
	crops := answer(t, c, job.Part{}, truth.render)
	var canaries []map[string]float64
	for i := range crops {
		canaries = append(canaries, Compare(c, Claim{Image: perturb(truth.render(0, fakeN), 1e-3, 0.1)}, crops[i:i+1], DefaultThresholds()).Numbers)
	}
	th := Calibrate(DefaultThresholds(), canaries)
	cheap, claim := truth.render(0, fakeN/2), truth.render(0, fakeN)
	for i := range claim.Channels[0].Data {
		if i%11 == 0 {
			for k := range claim.Channels {
				claim.Channels[k].Data[i] = cheap.Channels[k].Data[i]
			}
		}
	}
	want(t, Compare(c, Claim{Image: claim}, crops, DefaultThresholds()), job.Accepted)
	want(t, Compare(c, Claim{Image: claim}, crops, th), job.Unsure)
	want(t, Compare(c, Claim{Image: truth.render(0, fakeN)}, crops, th), job.Accepted)
}

func TestSuspicion(t *testing.T) {
	run := func(rejected, unsure float64, n int, seed uint64) (suspect bool, results int) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var history []job.Ruling
		for i := range n {
			r, x := job.Accepted, rnd.Float64()
			if x < rejected {
				r = job.Rejected
			} else if x < rejected+unsure {
				r = job.Unsure
			}
			history = append(history, r)
			if suspicion(history) >= surely {
				return true, i + 1
			}
		}
		return false, n
	}
	caught, results := 0, 0
	for seed := range uint64(300) {
		if is, _ := run(honestRejected, honestUnsure, 100, seed); is {
			t.Errorf("an honest peer is surely a cheat with seed %d", seed)
		}
		is, n := run(cheatRejected, cheatUnsure, 60, seed)
		results += n
		if is {
			caught++
		}
	}
	if caught < 297 {
		t.Errorf("%d of 300 cheats seen", caught)
	}
	t.Logf("a cheat is seen after %.1f checks", float64(results)/300)

	repeat := func(n int, r job.Ruling) []job.Ruling { return slices.Repeat([]job.Ruling{r}, n) }
	open := func(e float64) bool { return e > hardly && e < surely }
	good := func(e float64) bool { return e == hardly }
	bad := func(e float64) bool { return e >= surely }
	for name, c := range map[string]struct {
		history []job.Ruling
		want    func(float64) bool
	}{
		"nobody":                 {nil, open},
		"a good start":           {repeat(10, job.Accepted), open},
		"long good":              {repeat(40, job.Accepted), good},
		"one rejection":          {[]job.Ruling{job.Rejected}, open},
		"two rejections":         {[]job.Ruling{job.Rejected, job.Rejected}, bad},
		"and good for ever":      {append(repeat(2, job.Rejected), repeat(5000, job.Accepted)...), bad},
		"unsure three times":     {repeat(3, job.Unsure), open},
		"bad after years":        {append(repeat(5000, job.Accepted), repeat(3, job.Rejected)...), bad},
		"words that are unknown": {repeat(40, "great"), open},
	} {
		if e := suspicion(c.history); !c.want(e) {
			t.Errorf("%s: %.1f", name, e)
		}
	}
}

func TestDoubted(t *testing.T) {
	good := slices.Repeat([]job.Ruling{job.Accepted}, Doubt)
	for name, c := range map[string]struct {
		history []job.Ruling
		want    float64
	}{
		"nobody":               {nil, .05},
		"good":                 {good, .05},
		"one unsure":           {append(good[:len(good):len(good)], job.Unsure), .05},
		"unsure twice":         {append(good[:len(good):len(good)], job.Unsure, job.Unsure), 1},
		"and good again":       {append(good[:len(good):len(good)], job.Unsure, job.Unsure, job.Accepted, job.Accepted, job.Accepted), .05},
		"every tenth unsure":   {slices.Repeat(append(good[:9:9], job.Unsure), 20), 1},
		"its first was unsure": {[]job.Ruling{job.Unsure}, 1},
	} {
		if rate, e := Doubted(.05, c.history); rate != c.want {
			t.Errorf("%s: %g with evidence %.1f, want %g", name, rate, e, c.want)
		}
	}
}

func TestPrecedence(t *testing.T) {
	for credit, want := range map[float64]float64{0: 1, -5: 1, math.NaN(): 1, 36000: 2, 3 * 36000: 3, 7 * 36000: 4, math.Inf(1): 4} {
		if got := Precedence(credit); got != want {
			t.Errorf("credit %g: %g, want %g", credit, got, want)
		}
	}
}

// A class whose honest devices make something else than the checker's is let
// pass once three of its machines were vouched for; another seed and another
// picture are not, nor what the samples' slope tells.
func TestWidenedForAnotherClass(t *testing.T) {
	c := fakeCheck()
	truth := fake{seed: 1, noise: 0.8}
	crops := answer(t, c, job.Part{}, truth.render)
	th := Calibrate(DefaultThresholds(), []map[string]float64{{"informative": 300}, {"informative": 300}, {"informative": 300}})
	honest := func(more float64) *media.Image { return hairElsewhere(truth, 0.4+more) }
	var between []map[string]float64
	for i := range 3 {
		v := Compare(c, Claim{Image: honest(float64(i) / 100)}, crops, th)
		if v.Ruling == job.Accepted {
			t.Fatalf("no difference between classes: %s %v", v.Reason, v.Numbers)
		}
		if got := Widen(th, between); got != th {
			t.Errorf("%d vouched for change the thresholds", i)
		}
		between = append(between, v.Numbers)
	}
	wide := Widen(th, between)
	if v := Compare(c, Claim{Image: honest(0.015)}, crops, wide); v.Ruling != job.Accepted {
		t.Errorf("honest work of the class: %s, %s", v.Ruling, v.Reason)
	}
	if v := Compare(c, Claim{Image: fake{seed: 7, noise: 0.8}.render(0, fakeN)}, crops, wide); v.Ruling != job.Rejected {
		t.Errorf("another seed: %s, %s", v.Ruling, v.Reason)
	}
	if v := Compare(c, Claim{Image: truth.render(0, fakeN/2)}, crops, wide); v.Ruling != job.Rejected {
		t.Errorf("half of the samples: %s, %s", v.Ruling, v.Reason)
	}
	// One cheat among three, whatever it measured, moves little.
	cheat := maps.Clone(between[0])
	for k := range cheat {
		cheat[k] = 100
	}
	if got := Widen(th, []map[string]float64{between[0], between[1], cheat}); got.Z50Sure > wide.Z50Sure*1.2 || got.SquareSure > wide.SquareSure*1.2 {
		t.Errorf("one of three widened %+v", got)
	}
	none := map[string]float64{"z50": math.NaN(), "sz": math.Inf(1)}
	if got := Widen(th, []map[string]float64{none, none, none}); got.Z50 != th.Z50 || got.SZ > 0.6 {
		t.Errorf("numbers that are none: %+v", got)
	}
}
