package verify

import (
	"math"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

// paint changes a rectangle of a picture; origin at the top left.
func paint(m *media.Image, r job.Rect, f func(float32) float32) *media.Image {
	for _, c := range m.Channels {
		for y := r.Y0; y < r.Y1; y++ {
			for x := r.X0; x < r.X1; x++ {
				c.Data[y*m.Width+x] = f(c.Data[y*m.Width+x])
			}
		}
	}
	return m
}

func TestLookFindsWhatIsElsewhere(t *testing.T) {
	c, th := fakeCheck(), DefaultThresholds()
	truth := fake{seed: 1, noise: 0.8}
	few := fake{seed: 5, noise: 0.8}.render(0, 2) // noise of its own
	mark := job.Rect{X0: 40, Y0: 20, X1: 80, Y1: 50}
	for name, s := range map[string]struct {
		claim *media.Image
		odd   bool
	}{
		"honest":       {truth.render(0, fakeN), false},
		"half samples": {truth.render(0, fakeN/2), false}, // crops are for that
		"watermark":    {paint(truth.render(0, fakeN), mark, func(v float32) float32 { return 0.8*v + 0.3 }), true},
		"a black hole": {paint(truth.render(0, fakeN), mark, func(float32) float32 { return 0 }), true},
	} {
		l, err := LookAt(c, Claim{Image: s.claim}, few, th)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(l.Odd) > 0; got != s.odd {
			t.Errorf("%s: %d of %d blocks are odd", name, len(l.Odd), l.Blocks)
		}
		for _, r := range l.Odd {
			// Origin bottom left, and the painted place with a block's margin.
			if r.X0 < mark.X0-lookSide || r.X1 > mark.X1+lookSide || fakeH-r.Y1 < mark.Y0-lookSide || fakeH-r.Y0 > mark.Y1+lookSide {
				t.Errorf("%s: %v is odd", name, r)
			}
		}
		v := l.Verdict(job.Verdict{Ruling: job.Accepted, Reason: "agrees"}, "look", th)
		if (v.Ruling == job.Unsure) != s.odd || v.Numbers["look_blocks"] == 0 {
			t.Errorf("%s: %v %v", name, v, v.Numbers)
		}
		// A look never saves what crops have rejected.
		if v := l.Verdict(job.Verdict{Ruling: job.Rejected}, "look", th); v.Ruling != job.Rejected {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestLookOfBrokenPictures(t *testing.T) {
	c, th := fakeCheck(), DefaultThresholds()
	truth := fake{seed: 1, noise: 0.8}
	few := truth.render(0, 2)
	holes := paint(truth.render(0, fakeN), job.Rect{X1: fakeW, Y1: 30}, func(float32) float32 { return float32(math.NaN()) })
	l, err := LookAt(c, Claim{Image: holes}, few, th)
	if err != nil {
		t.Fatal(err)
	}
	if v := l.Verdict(job.Verdict{Ruling: job.Accepted}, "look", th); v.Ruling != job.Rejected {
		t.Errorf("%v: %+v", v, l)
	}
	// Numbers that the checker has none of prove nothing.
	l, err = LookAt(c, Claim{Image: truth.render(0, fakeN)}, holes, th)
	if err != nil || len(l.Odd) > 0 || l.Broken > 0 {
		t.Errorf("%+v, %v", l, err)
	}
	small, _ := few.Crop(0, 0, 20, 20)
	for name, s := range map[string][2]*media.Image{"none": {nil, few}, "no look": {few, nil}, "small look": {few, small}, "small claim": {small, few}} {
		if _, err := LookAt(c, Claim{Image: s[0]}, s[1], th); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDenoisedPictureMustBeThatOfTheNoisyOne(t *testing.T) {
	c := fakeCheck()
	c.Pass = "Noisy Image"
	truth := fake{seed: 1, noise: 0.8}
	// both is a picture as a denoised claim holds it: noisy and clean.
	both := func(noisy, clean *media.Image) *media.Image {
		out := media.New(fakeW, fakeH)
		for k, n := range []string{"R", "G", "B"} {
			copy(out.Add("ViewLayer.Noisy Image."+n, media.Float), noisy.Channels[k].Data)
			copy(out.Add("ViewLayer.Combined."+n, media.Float), clean.Channels[k].Data)
		}
		return out
	}
	crops := answer(t, c, job.Part{}, func(from, to int) *media.Image {
		m := truth.render(from, to)
		return both(m, m)
	})
	noisy, clean := truth.render(0, fakeN), fake{seed: 1}.render(0, 1)
	// The noise of this fake raises the mean, which a denoiser keeps.
	for k := range clean.Channels {
		copy(clean.Channels[k].Data, median(noisy.Channels[k].Data, fakeW, fakeH, 2))
	}
	want(t, Compare(c, Claim{Image: both(noisy, clean)}, crops, DefaultThresholds()), job.Accepted)
	forged := paint(clean, job.Rect{X0: 30, Y0: 10, X1: 90, Y1: 70}, func(v float32) float32 { return 0.7*v + 0.4 })
	want(t, Compare(c, Claim{Image: both(noisy, forged)}, crops, DefaultThresholds()), job.Unsure)
}

func TestOtherPassesAreCompared(t *testing.T) {
	truth := fake{seed: 1, noise: 0.8}
	depth := func(m *media.Image, off float32) *media.Image {
		for i, d := 0, m.Add("ViewLayer.Depth.Z", media.Float); i < len(d); i++ {
			d[i] = 5 + float32(i%fakeW)/10 + off
		}
		return m
	}
	crops := answer(t, fakeCheck(), job.Part{}, func(from, to int) *media.Image { return depth(truth.render(from, to), 0) })
	th := DefaultThresholds()
	want(t, Compare(fakeCheck(), Claim{Image: depth(truth.render(0, fakeN), 0)}, crops, th), job.Accepted)
	want(t, Compare(fakeCheck(), Claim{Image: depth(truth.render(0, fakeN), 9)}, crops, th), job.Unsure)
	calibrated := th
	calibrated.Calibrated, calibrated.Touched, calibrated.TouchedCrop, calibrated.SquareAny = true, 1, 1, 9
	want(t, Compare(fakeCheck(), Claim{Image: depth(truth.render(0, fakeN), 9)}, crops, calibrated), job.Rejected)
	// A picture alone is judged as one; a file of passes must have them all.
	want(t, Compare(fakeCheck(), Claim{Image: truth.render(0, fakeN)}, crops, th), job.Accepted)
	other := truth.render(0, fakeN)
	other.Add("ViewLayer.Mist.Z", media.Float)
	want(t, Compare(fakeCheck(), Claim{Image: other}, crops, th), job.Rejected)
}
