package verify

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"idlewild/job"
	"idlewild/media"
)

// TestCompareSurvivesAnyNumbers feeds claims and crops of arbitrary floats: no
// panic, always one of the three words with a reason, and garbage in the claim
// is never accepted.
func TestCompareSurvivesAnyNumbers(t *testing.T) {
	special := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1e-30, 1e30, math.MaxFloat32, -math.MaxFloat32,
		float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}
	float := rapid.Custom(func(t *rapid.T) float32 {
		if rapid.Bool().Draw(t, "special") {
			return rapid.SampledFrom(special).Draw(t, "value")
		}
		return rapid.Float32().Draw(t, "value")
	})
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 24).Draw(t, "w"), rapid.IntRange(1, 24).Draw(t, "h")
		c := job.CropCheck{
			Layer: rapid.SampledFrom([]string{"", "L"}).Draw(t, "layer"), Pass: "Combined", Width: w, Height: h,
			Samples: rapid.IntRange(1, 200).Draw(t, "samples"), Adaptive: rapid.Bool().Draw(t, "adaptive"),
		}
		palette := rapid.SliceOfN(float, 1, 8).Draw(t, "palette")
		image := func(label string, w, h int) *media.Image {
			m := media.New(w, h)
			stride := rapid.IntRange(1, 7).Draw(t, label)
			for _, n := range []string{"L.Combined.R", "L.Combined.G", "L.Combined.B", "L." + SampleCount + ".X"} {
				d := m.Add(n, media.Float)
				for i := range d {
					d[i] = palette[(i*stride+i/5)%len(palette)]
				}
			}
			return m
		}
		crops := challenge(t, c, job.Part{}, []byte("s"), [32]byte{}, DrawOptions{Pixels: 50}, func(p job.Part) (*media.Image, error) {
			return image("crop", p.Tile.Dx(), p.Tile.Dy()), nil
		})
		if rapid.Bool().Draw(t, "seeds") {
			for i := range crops {
				crops[i].OtherSeed = image("other", crops[i].Rect.Dx(), crops[i].Rect.Dy())
				crops[i].Loose = image("loose", crops[i].Rect.Dx(), crops[i].Rect.Dy())
			}
		}
		claim := Claim{Image: image("claim", w, h)}
		v := Compare(c, claim, crops, DefaultThresholds())
		switch v.Ruling {
		case job.Accepted, job.Rejected, job.Unsure:
		default:
			t.Fatalf("ruling %q", v.Ruling)
		}
		if v.Reason == "" || len(v.Reason) > job.MaxReasonBytes {
			t.Fatalf("reason %q", v.Reason)
		}
		if _, err := job.Encode(v); err != nil {
			t.Fatal(err)
		}
		for k, x := range v.Numbers {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				t.Fatalf("%s is %g: such a verdict has no JSON", k, x)
			}
		}
		if _, err := Heatmap(c, claim, crops, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// A claim's counts are its own word: the smallest numbers that there are make no
// ratio that is none.
func TestCountsOfNextToNothing(t *testing.T) {
	c := job.CropCheck{Pass: "Combined", Width: 1, Height: 1, Samples: 4, Adaptive: true}
	tiny := media.New(1, 1)
	for _, n := range []string{"Combined.R", "Combined.G", "Combined.B", SampleCount + ".X"} {
		tiny.Add(n, media.Float)[0] = math.SmallestNonzeroFloat32
	}
	v := Compare(c, Claim{Image: tiny}, []Crop{{Rect: job.Rect{X1: 1, Y1: 1}, Image: tiny}}, DefaultThresholds())
	if n, ok := v.Numbers["count_ratio"]; !ok || n != 1 {
		t.Errorf("count_ratio is %g, %v", n, ok)
	}
}
