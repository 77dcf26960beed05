package verify

import (
	"idlewild/job"
	"idlewild/media"
)

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// challenge has crops of a claimed part rendered as a checker would and gives
// them to the comparer: as ranges of samples, or whole where the range is zero.
func challenge(t tester, c job.CropCheck, claimed job.Part, secret []byte, root [32]byte, o DrawOptions, render func(job.Part) (*media.Image, error)) []Crop {
	t.Helper()
	samples := claimed.Samples
	if samples == (job.Range{}) {
		samples = job.Range{To: c.Samples}
	}
	var out []Crop
	for _, r := range Crops(c, claimed, secret, root, o) {
		p, crop := claimed, Crop{Rect: r}
		p.Tile = r
		get := func() *media.Image {
			img, err := render(p)
			if err != nil {
				t.Fatalf("crop %v: %v", r, err)
			}
			return img
		}
		if c.Adaptive || c.Denoised || c.Whole {
			crop.Image = get()
			out = append(out, crop)
			continue
		}
		for _, s := range Ranges(samples, nil, [32]byte{}) {
			p.Samples = s
			crop.Ranges = append(crop.Ranges, SampleRange{From: s.From, To: s.To, Image: get()})
		}
		out = append(out, crop)
	}
	return out
}
