package verify

import (
	"image/color"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

// denoisedClaim is a claim of a layer that keeps the noisy picture beside the
// denoised one, and what a denoiser makes of it again.
func denoisedClaim(change func(i int, v float32) float32, sample media.Sample) Claim {
	truth := fake{seed: 1, noise: 0.8}
	noisy := truth.render(0, fakeN)
	m, again := media.New(fakeW, fakeH), media.New(fakeW, fakeH)
	for k, n := range []string{"R", "G", "B"} {
		copy(m.Add("ViewLayer.Noisy Image."+n, media.Float), noisy.Channels[k].Data)
		clean := again.Add("ViewLayer.Combined."+n, media.Float)
		copy(clean, median(noisy.Channels[k].Data, fakeW, fakeH, 2))
		d := m.Add("ViewLayer.Combined."+n, sample)
		for i, v := range clean {
			d[i] = change(i, v)
		}
	}
	return Claim{Image: m, Again: again}
}

// inside is a rectangle of pixels, rows from the top.
func inside(i int, x0, y0, x1, y1 int) bool {
	x, y := i%fakeW, i/fakeW
	return x >= x0 && x < x1 && y >= y0 && y < y1
}

func TestDenoisedPictureIsComparedEverywhere(t *testing.T) {
	c := fakeCheck()
	c.Pass = "Noisy Image"
	truth := fake{seed: 1, noise: 0.8}
	crops := answer(t, c, job.Part{}, func(from, to int) *media.Image {
		m, noisy := truth.render(from, to), media.New(fakeW, fakeH)
		for k, n := range []string{"R", "G", "B"} {
			copy(noisy.Add("ViewLayer.Noisy Image."+n, media.Float), m.Channels[k].Data)
		}
		return noisy
	})
	nan := float32(0)
	nan /= nan
	for name, x := range map[string]struct {
		sample media.Sample
		change func(i int, v float32) float32
		want   job.Ruling
	}{
		"the same bits":       {media.Float, func(_ int, v float32) float32 { return v }, job.Accepted},
		"older instructions":  {media.Float, func(i int, v float32) float32 { return v * (1 + 1.3e-5*float32(i%3-1)) }, job.Accepted},
		"halves":              {media.Half, func(i int, v float32) float32 { return v * (1 + 8e-3*float32(i%3-1)) }, job.Accepted},
		"halves of elsewhere": {media.Float, func(i int, v float32) float32 { return v * (1 + 8e-3*float32(i%3-1)) }, job.Rejected},
		"a watermark": {media.Float, func(i int, v float32) float32 {
			return map[bool]float32{true: v*.9 + .1, false: v}[inside(i, 50, 30, 60, 38)]
		}, job.Rejected},
		"faint all over": {media.Float, func(_ int, v float32) float32 { return v * 1.002 }, job.Rejected},
		"numbers that are none": {media.Float, func(i int, v float32) float32 {
			return map[bool]float32{true: nan, false: v}[inside(i, 50, 30, 60, 38)]
		}, job.Rejected},
		"a few pixels": {media.Float, func(i int, v float32) float32 { return map[bool]float32{true: 9, false: v}[inside(i, 50, 30, 54, 35)] }, job.Unsure},
	} {
		v := Compare(c, denoisedClaim(x.change, x.sample), crops, DefaultThresholds())
		if v.Ruling != x.want || v.Ruling != job.Accepted && !strings.Contains(v.Reason, `the denoised pass "Combined" of layer "ViewLayer"`) {
			t.Errorf("%s: %s, want %s: %s %v", name, v.Ruling, x.want, v.Reason, v.Numbers)
		}
	}
	painted := denoisedClaim(func(i int, v float32) float32 { return map[bool]float32{true: 3, false: v}[inside(i, 50, 30, 60, 40)] }, media.Float)
	// Another build of the denoiser may make another picture, and nobody is blamed for it.
	elsewhere := painted
	elsewhere.Elsewhere = true
	want(t, Compare(c, elsewhere, crops, DefaultThresholds()), job.Unsure)
	// What is wrong with the noisy picture goes first.
	other := painted
	other.Image = media.New(fakeW, fakeH)
	for _, ch := range painted.Image.Channels {
		for i, d := 0, other.Image.Add(ch.Name, ch.Sample); i < len(d); i++ {
			d[i] = 1 - ch.Data[i]/2
		}
	}
	if v := Compare(c, other, crops, DefaultThresholds()); v.Ruling != job.Rejected || strings.Contains(v.Reason, "denoised pass") {
		t.Errorf("another noisy picture: %s", v.Reason)
	}
	// A denoiser that left something else is the checker's trouble, a layer that is missing the worker's.
	trouble := painted
	trouble.Again = media.New(fakeW/2, fakeH)
	want(t, Compare(c, trouble, crops, DefaultThresholds()), job.Unsure)
	none := painted
	none.Image = media.New(fakeW, fakeH)
	none.Image.Channels = painted.Image.Channels[:0:0]
	for _, ch := range painted.Image.Channels {
		if strings.Contains(ch.Name, "Noisy") {
			none.Image.Channels = append(none.Image.Channels, ch)
		}
	}
	want(t, Compare(c, none, crops, DefaultThresholds()), job.Rejected)

	for _, sample := range []media.Sample{media.Float, media.Half} {
		painted := denoisedClaim(func(i int, v float32) float32 { return map[bool]float32{true: 3, false: v}[inside(i, 50, 30, 60, 40)] }, sample)
		drawn, err := Heatmap(c, painted, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := drawn.At(55, 35).(color.NRGBA); !ok || at.R < 100 || at.B > 0 {
			t.Errorf("the heat map shows %v where the picture is painted", at)
		}
		if at, ok := drawn.At(20, 60).(color.NRGBA); !ok || at.R != at.G || at.G != at.B {
			t.Errorf("the heat map shows %v where it is not", at)
		}
	}
}

// TestGuidesAreComparedWhereTheyCount: whoever paints a guide has the denoiser
// paint the picture.
func TestGuidesAreComparedWhereTheyCount(t *testing.T) {
	truth := fake{seed: 1, noise: 0.8}
	guided := func(m *media.Image, off float32) *media.Image {
		for i, d := 0, m.Add("ViewLayer.Denoising Albedo.R", media.Float); i < len(d); i++ {
			d[i] = .5 + float32(i%fakeW)/400 + off
		}
		return m
	}
	c := fakeCheck()
	crops := answer(t, c, job.Part{}, func(from, to int) *media.Image { return guided(truth.render(from, to), 0) })
	th := DefaultThresholds()
	for name, x := range map[string]struct {
		off    float32
		guided bool
		want   job.Ruling
	}{"painted": {.3, true, job.Unsure}, "honest": {0, true, job.Accepted}, "painted for nobody": {.3, false, job.Accepted}} {
		c.Guided = x.guided
		if v := Compare(c, Claim{Image: guided(truth.render(0, fakeN), x.off)}, crops, th); v.Ruling != x.want {
			t.Errorf("%s: %s: %s", name, v.Ruling, v.Reason)
		}
	}
	c.Guided = true
	bare := truth.render(0, fakeN)
	bare.Add("ViewLayer.Mist.Z", media.Float)
	want(t, Compare(c, Claim{Image: bare}, crops, th), job.Rejected)
}
