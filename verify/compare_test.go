package verify

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

// fake renders a made-up picture sample by sample, with noise as uneven as a
// path tracer's: the same seed and sample give the same light everywhere.
type fake struct {
	seed  uint64
	noise float64 // of one sample, relative; 0: a deterministic picture
	shift int     // pixels by which the picture is moved
}

const fakeW, fakeH, fakeN = 160, 90, 32

func (f fake) render(from, to int) *media.Image {
	m := media.New(fakeW, fakeH)
	planes := [3][]float32{}
	for k, n := range []string{"R", "G", "B"} {
		planes[k] = m.Add("ViewLayer.Combined."+n, media.Float)
	}
	for i := range fakeW * fakeH {
		x, y := float64(i%fakeW+f.shift), float64(i/fakeW)
		base := 0.3 + 0.25*math.Sin(x/9)*math.Cos(y/7)
		if int(x/20)%2 == 0 {
			base *= 2
		}
		local := f.noise * (0.3 + math.Abs(math.Sin(x/23+y/31)))
		var sum float64
		for s := from; s < to; s++ {
			rnd := rand.New(rand.NewPCG(f.seed, uint64(s)<<32|uint64(i)))
			sum += base * math.Exp(local*rnd.NormFloat64())
		}
		v := sum / float64(to-from)
		for k := range planes {
			planes[k][i] = float32(v * (0.6 + 0.2*float64(k)))
		}
	}
	return m
}

func fakeCheck() job.CropCheck {
	return job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: fakeW, Height: fakeH, Samples: fakeN}
}

// answer renders a challenge on the checker's side.
func answer(t *testing.T, c job.CropCheck, claimed job.Part, render func(from, to int) *media.Image) []Crop {
	t.Helper()
	frames := map[job.Range]*media.Image{}
	return challenge(t, c, claimed, []byte("secret"), [32]byte{7}, DrawOptions{}, func(p job.Part) (*media.Image, error) {
		s := p.Samples
		if s == (job.Range{}) {
			s = job.Range{To: c.Samples}
		}
		if frames[s] == nil {
			frames[s] = render(s.From, s.To)
		}
		return frames[s].Crop(p.Tile.X0, p.Tile.Y0, p.Tile.X1, p.Tile.Y1)
	})
}

// perturb adds independent differences of so many sigmas, as other hardware
// does where paths part (hair).
func perturb(m *media.Image, sigmas, sigma float64) *media.Image {
	rnd := rand.New(rand.NewPCG(9, 9))
	for i := range m.Width * m.Height {
		f := 1 + sigmas*sigma*rnd.NormFloat64()
		for _, c := range m.Channels {
			c.Data[i] *= float32(f)
		}
	}
	return m
}

// hairElsewhere renders f as hardware does on which a good part of the paths
// part: independent differences of so many of the pixel's own sigmas.
func hairElsewhere(f fake, sigmas float64) *media.Image {
	m, other := f.render(0, fakeN), fake{seed: f.seed + 99, noise: f.noise}.render(0, fakeN)
	for k, c := range m.Channels {
		for i := range c.Data {
			c.Data[i] += float32(sigmas) * (other.Channels[k].Data[i] - c.Data[i])
		}
	}
	return m
}

func want(t *testing.T, v job.Verdict, ruling job.Ruling) {
	t.Helper()
	if v.Ruling != ruling || v.Reason == "" || v.Method != "sampling" {
		t.Errorf("%v, want %s; %v", v, ruling, v.Numbers)
	}
}

func TestCompareNoise(t *testing.T) {
	truth := fake{seed: 1, noise: 0.8}
	crops := answer(t, fakeCheck(), job.Part{}, truth.render)
	for name, c := range map[string]struct {
		claim *media.Image
		want  job.Ruling
	}{
		"the same":       {truth.render(0, fakeN), job.Accepted},
		"rounding":       {perturb(truth.render(0, fakeN), 1e-3, 0.1), job.Accepted},
		"90 %":           {truth.render(0, 29), job.Rejected},
		"75 %":           {truth.render(0, 24), job.Rejected},
		"50 %":           {truth.render(0, 16), job.Rejected},
		"25 %":           {truth.render(0, 8), job.Rejected},
		"other seed":     {fake{seed: 2, noise: 0.8}.render(0, fakeN), job.Rejected},
		"other frame":    {fake{seed: 1, noise: 0.8, shift: 4}.render(0, fakeN), job.Rejected},
		"no noise":       {fake{seed: 1}.render(0, 1), job.Rejected},
		"hair elsewhere": {hairElsewhere(truth, 0.25), job.Unsure},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, Compare(fakeCheck(), Claim{Image: c.claim}, crops, DefaultThresholds()), c.want)
		})
	}
}

func TestCompareFindsChangesToPartOfThePicture(t *testing.T) {
	truth := fake{seed: 1, noise: 0.8}
	crops := answer(t, fakeCheck(), job.Part{}, truth.render)
	r := judged(crops[0].Rect, job.Rect{X1: fakeW, Y1: fakeH})

	mark := truth.render(0, fakeN)
	top, _ := mark.Rows(r.Y0, r.Y1)
	for y := top; y < top+12; y++ {
		for x := r.X0; x < r.X0+12; x++ {
			for _, c := range mark.Channels {
				c.Data[y*fakeW+x] = 0.85*c.Data[y*fakeW+x] + 0.15
			}
		}
	}
	want(t, Compare(fakeCheck(), Claim{Image: mark}, crops, DefaultThresholds()), job.Rejected)

	holes := truth.render(0, fakeN)
	for y := top; y < top+12; y++ {
		for x := r.X0; x < r.X0+12; x++ {
			holes.Channels[1].Data[y*fakeW+x] = float32(math.NaN())
		}
	}
	want(t, Compare(fakeCheck(), Claim{Image: holes}, crops, DefaultThresholds()), job.Rejected)

	// One crop honest, the other cheap.
	half := truth.render(0, fakeN)
	cheap := truth.render(0, 16)
	for y := top - 2; y < top+r.Dy()+2; y++ {
		for x := r.X0 - 2; x < r.X1+2; x++ {
			if y < 0 || y >= fakeH || x < 0 || x >= fakeW {
				continue
			}
			for k := range half.Channels {
				half.Channels[k].Data[y*fakeW+x] = cheap.Channels[k].Data[y*fakeW+x]
			}
		}
	}
	want(t, Compare(fakeCheck(), Claim{Image: half}, crops, DefaultThresholds()), job.Rejected)
}

func TestCompareLooksAtAlpha(t *testing.T) {
	truth := fake{seed: 1, noise: 0.8}
	withAlpha := func(from, to int) *media.Image {
		m := truth.render(from, to)
		for i, d := 0, m.Add("ViewLayer.Combined.A", media.Float); i < len(d); i++ {
			d[i] = 1
		}
		return m
	}
	crops := answer(t, fakeCheck(), job.Part{}, withAlpha)
	good := withAlpha(0, fakeN)
	want(t, Compare(fakeCheck(), Claim{Image: good}, crops, DefaultThresholds()), job.Accepted)
	clear(good.Channels[3].Data)
	want(t, Compare(fakeCheck(), Claim{Image: good}, crops, DefaultThresholds()), job.Rejected)
	want(t, Compare(fakeCheck(), Claim{Image: truth.render(0, fakeN)}, crops, DefaultThresholds()), job.Rejected)
}

func TestCompareOfTilesAndSampleRanges(t *testing.T) {
	c := fakeCheck()
	truth := fake{seed: 1, noise: 0.8}
	claimed := job.Part{Tile: job.Rect{X0: 30, Y0: 10, X1: 150, Y1: 80}, Samples: job.Range{From: 8, To: 28}}
	crops := answer(t, c, claimed, truth.render)
	for name, s := range map[string]struct {
		from, to int
		want     job.Ruling
	}{"honest": {8, 28, job.Accepted}, "short": {8, 26, job.Rejected}, "other samples": {0, 20, job.Rejected}} {
		t.Run(name, func(t *testing.T) {
			img, err := truth.render(s.from, s.to).Crop(30, 10, 150, 80)
			if err != nil {
				t.Fatal(err)
			}
			want(t, Compare(c, Claim{Image: img, Part: claimed}, crops, DefaultThresholds()), s.want)
		})
	}
}

func TestCompareWithoutNoise(t *testing.T) {
	truth := fake{seed: 1}
	crops := answer(t, fakeCheck(), job.Part{}, truth.render)
	for name, c := range map[string]struct {
		claim *media.Image
		want  job.Ruling
	}{
		"equal":     {truth.render(0, 1), job.Accepted},
		"rounding":  {perturb(truth.render(0, 1), 1, 1e-4), job.Accepted},
		"2 % off":   {perturb(truth.render(0, 1), 1, 0.008), job.Unsure},
		"something": {fake{seed: 1, shift: 11}.render(0, 1), job.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			v := Compare(fakeCheck(), Claim{Image: c.claim}, crops, DefaultThresholds())
			want(t, v, c.want)
			if v.Numbers["informative"] != 0 {
				t.Errorf("noise found: %v", v.Numbers)
			}
		})
	}
}

func TestFormOfTheClaim(t *testing.T) {
	truth := fake{seed: 1, noise: 0.8}
	crops := answer(t, fakeCheck(), job.Part{}, truth.render)
	good := truth.render(0, fakeN)
	small, err := good.Crop(0, 0, 100, 90)
	if err != nil {
		t.Fatal(err)
	}
	other := truth.render(0, fakeN)
	for i := range other.Channels {
		other.Channels[i].Name = strings.Replace(other.Channels[i].Name, "Combined", "Emit", 1)
	}
	nan := truth.render(0, fakeN)
	for _, c := range nan.Channels {
		for i := range c.Data {
			c.Data[i] = float32(math.Inf(1))
		}
	}
	grey := truth.render(0, fakeN)
	grey.Channels = grey.Channels[:1]
	for name, m := range map[string]*media.Image{"size": small, "pass": other, "numbers": nan, "nothing": nil, "grey": grey} {
		t.Run(name, func(t *testing.T) {
			want(t, Compare(fakeCheck(), Claim{Image: m}, crops, DefaultThresholds()), job.Rejected)
		})
	}
	want(t, Undecodable(fmt.Errorf("broken")), job.Rejected)

	// What goes wrong on the checker's side never speaks against the claim.
	th := DefaultThresholds()
	bad := func(change func(*Crop)) []Crop {
		out := answer(t, fakeCheck(), job.Part{}, truth.render)
		change(&out[1])
		return out
	}
	for name, cs := range map[string][]Crop{
		"no crops":    nil,
		"no image":    bad(func(c *Crop) { c.Ranges = nil }),
		"a hole":      bad(func(c *Crop) { c.Ranges[1].Image = nil }),
		"a gap":       bad(func(c *Crop) { c.Ranges = c.Ranges[1:] }),
		"wrong size":  bad(func(c *Crop) { c.Ranges[2].Image = good }),
		"elsewhere":   bad(func(c *Crop) { c.Rect.X1, c.Rect.X0 = c.Rect.X1+fakeW, c.Rect.X0+fakeW }),
		"wrong pass":  bad(func(c *Crop) { c.Ranges[0].Image, _ = other.Crop(c.Rect.X0, c.Rect.Y0, c.Rect.X1, c.Rect.Y1) }),
		"not numbers": {allNaN(crops[0])},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, Compare(fakeCheck(), Claim{Image: good}, cs, th), job.Unsure)
		})
	}
	broken := fakeCheck()
	broken.Samples = 0
	want(t, Compare(broken, Claim{Image: good}, crops, th), job.Unsure)
}

func allNaN(c Crop) Crop {
	out := Crop{Rect: c.Rect}
	for _, s := range c.Ranges {
		img, _ := s.Image.Crop(0, 0, s.Image.Width, s.Image.Height)
		for _, ch := range img.Channels {
			for i := range ch.Data {
				ch.Data[i] = float32(math.NaN())
			}
		}
		out.Ranges = append(out.Ranges, SampleRange{s.From, s.To, img})
	}
	return out
}

// adaptiveRender stops each pixel where its noise is small enough, as Cycles
// does, and reports the counts over the largest one.
func adaptiveRender(f fake, most int, strict float64) *media.Image {
	m := media.New(fakeW, fakeH)
	steps := []*media.Image{}
	for n := 0; n < most; n += 16 {
		next := f.render(n, n+16)
		for k := range next.Channels {
			for i := range next.Channels[k].Data {
				if n > 0 { // the mean of all samples so far
					before := steps[n/16-1].Channels[k].Data[i]
					next.Channels[k].Data[i] = (before*float32(n) + next.Channels[k].Data[i]*16) / float32(n+16)
				}
			}
		}
		steps = append(steps, next)
	}
	var planes [3][]float32
	for k, n := range []string{"R", "G", "B"} {
		planes[k] = m.Add("ViewLayer.Combined."+n, media.Float)
	}
	count := m.Add("ViewLayer."+SampleCount+".X", media.Float)
	var top float32
	for i := range count {
		x, y := float64(i%fakeW), float64(i/fakeW)
		local := 0.3 + math.Abs(math.Sin(x/23+y/31))
		need := strict * local * local * (1 + 0.3*math.Sin(float64(i*7)))
		step := clampInt(int(math.Ceil(need))-1, 0, len(steps)-1)
		for k := range planes {
			planes[k][i] = steps[step].Channels[k].Data[i]
		}
		count[i] = float32(16 * (step + 1))
		top = max(top, count[i])
	}
	for i := range count {
		count[i] /= top
	}
	return m
}

// lie writes another sample count where pixels had less than the most.
func lie(m *media.Image, count float64) *media.Image {
	for i, v := range m.Channels[3].Data {
		if v < 1 {
			m.Channels[3].Data[i] = float32(count)
		}
	}
	return m
}

func TestCompareAdaptive(t *testing.T) {
	c := fakeCheck()
	c.Adaptive, c.Samples = true, 96
	f := fake{seed: 1, noise: 0.8}
	crops := answer(t, c, job.Part{}, func(int, int) *media.Image { return adaptiveRender(f, 96, 4) })
	without := func(m *media.Image) *media.Image { m.Channels = m.Channels[:3]; return m }
	for name, s := range map[string]struct {
		claim *media.Image
		want  job.Ruling
	}{
		"honest":         {adaptiveRender(f, 96, 4), job.Accepted},
		"no counts":      {without(adaptiveRender(f, 96, 4)), job.Accepted},
		"half the most":  {adaptiveRender(f, 48, 4), job.Rejected},
		"five sixths":    {adaptiveRender(f, 80, 4), job.Rejected},
		"looser":         {adaptiveRender(f, 96, 2.5), job.Rejected},
		"looser, lying":  {lie(adaptiveRender(f, 96, 2.5), 1), job.Rejected},
		"looser, NaN":    {lie(adaptiveRender(f, 96, 2.5), math.NaN()), job.Unsure}, // nothing to hold against its counts
		"other seed":     {adaptiveRender(fake{seed: 2, noise: 0.8}, 96, 4), job.Rejected},
		"seed, no count": {without(adaptiveRender(fake{seed: 2, noise: 0.8}, 96, 4)), job.Rejected},
		"other frame":    {adaptiveRender(fake{seed: 1, noise: 0.8, shift: 4}, 96, 4), job.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			want(t, Compare(c, Claim{Image: s.claim}, crops, DefaultThresholds()), s.want)
		})
	}
}

func TestCountsFindTheirUnit(t *testing.T) {
	for _, c := range []struct {
		in   []float32
		most int
		want float32 // samples of the first
	}{
		{[]float32{16. / 80, 48. / 80, 1}, 128, 16}, // stopped at 80 of 128
		{[]float32{16. / 100, 96. / 100, 1}, 100, 16},
		{[]float32{1, 1, 1}, 128, 128},
		{[]float32{32, 64, 128}, 128, 32},
		{[]float32{0, 0}, 128, 0},
		{[]float32{0.5, 1}, 64, 16},
	} {
		if got := c.in[0] * units(c.in, c.most)[0]; math.Abs(float64(got-c.want)) > 1e-3 {
			t.Errorf("units(%v, %d): first has %g samples, want %g", c.in, c.most, got, c.want)
		}
	}
}

func TestHeatmap(t *testing.T) {
	truth := fake{seed: 1, noise: 0.8}
	crops := answer(t, fakeCheck(), job.Part{}, truth.render)
	img, err := Heatmap(fakeCheck(), Claim{Image: truth.render(0, 16)}, crops, nil)
	if err != nil {
		t.Fatal(err)
	}
	coloured := 0
	for y := range fakeH {
		for x := range fakeW {
			r, g, b, _ := img.At(x, y).RGBA()
			if r == g && g == b {
				continue
			}
			coloured++
			in := false
			for _, c := range crops {
				in = in || (x >= c.Rect.X0 && x < c.Rect.X1 && fakeH-1-y >= c.Rect.Y0 && fakeH-1-y < c.Rect.Y1)
			}
			if !in {
				t.Fatalf("pixel %d,%d is coloured and in no crop", x, y)
			}
		}
	}
	if coloured < 1900 {
		t.Errorf("%d coloured pixels", coloured)
	}
	if b, err := media.EncodePNG(img); err != nil || len(b) > 100<<10 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
