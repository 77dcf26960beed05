package verify

import (
	"fmt"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/media"
)

// passes measures the claim's passes other than the judged one. Statistics of
// noise do not fit all of them (a depth, an object's number, a hash), so a pixel
// counts as odd where the claim lies outside of everything that the checker's
// own renders show there: sample ranges, or two seeds.
type passes struct {
	missing []string
	found   map[string]*passCount
}

type passCount struct{ pixels, odd int }

// passHull is by how much more than their spread the renders' values are
// widened, and passSlack by how much of their size.
const (
	passHull  = 0.5
	passSlack = 0.01
)

// ours says that a pass is the renderer's or checker's own business: it is not
// the artist's, or it is the judged one under one of its names.
func ours(c job.CropCheck, pass string) bool {
	if c.Guided && (pass == "Denoising Albedo" || pass == "Denoising Normal") {
		return false // the denoised picture is made of them
	}
	return pass == c.Pass || pass == "Combined" || pass == SampleCount || strings.HasPrefix(pass, "Denoising ") || pass == "Noisy Image"
}

func (p *passes) add(c job.CropCheck, claim Claim, crop Crop) error {
	var renders []*media.Image
	for _, r := range crop.Ranges {
		renders = append(renders, r.Image)
	}
	for _, m := range []*media.Image{crop.Image, crop.OtherSeed} {
		if m != nil {
			renders = append(renders, m)
		}
	}
	if len(renders) < 2 {
		return nil // one render has no spread to compare with
	}
	layer := c.Layer
	if !slices.Contains(renders[0].Layers(), layer) {
		return nil
	}
	area := frameOf(c, claim.Part)
	r := crop.Rect
	in := judged(r, solid(c, claim.Part))
	inside := func(m *media.Image, pass string, at job.Rect) ([][]float32, bool) {
		chans, ok := m.Pass(layer, pass)
		var out [][]float32
		for _, ch := range chans {
			out = append(out, cut(m, ch.Data, at))
		}
		return out, ok
	}
	for _, pass := range renders[0].Passes(layer) {
		if ours(c, pass) {
			continue
		}
		theirs, ok := inside(claim.Image, pass, shifted(in, -area.X0, -area.Y0))
		if !ok {
			if !slices.Contains(p.missing, pass) {
				p.missing = append(p.missing, pass)
			}
			continue
		}
		var mine [][][]float32
		for _, m := range renders {
			if m.Width != r.Dx() || m.Height != r.Dy() {
				return fmt.Errorf("crop %v came as %dx%d pixels", r, m.Width, m.Height)
			}
			one, ok := inside(m, pass, shifted(in, -r.X0, -r.Y0))
			if !ok || len(one) != len(theirs) {
				return fmt.Errorf("crops with different channels of pass %q", pass)
			}
			mine = append(mine, one)
		}
		if p.found == nil {
			p.found = map[string]*passCount{}
		}
		if p.found[pass] == nil {
			p.found[pass] = &passCount{}
		}
		p.found[pass].add(theirs, mine)
	}
	return nil
}

// add counts the pixels that show anything, and of them the odd ones.
func (n *passCount) add(theirs [][]float32, mine [][][]float32) {
	for i := range theirs[0] {
		shows, odd := false, false
		for k := range theirs {
			low, high := mine[0][k][i], mine[0][k][i]
			for _, m := range mine[1:] {
				low, high = min(low, m[k][i]), max(high, m[k][i])
			}
			a := theirs[k][i]
			if !finite(low) || !finite(high) {
				continue
			}
			size := max(abs(low), abs(high))
			slack := passHull*(high-low) + passSlack*size + 1e-4
			shows = shows || size > 1e-4 || !(abs(a) <= 1e-4)
			odd = odd || !(a >= low-slack && a <= high+slack)
		}
		if shows {
			n.pixels++
		}
		if odd {
			n.odd++
		}
	}
}

func shifted(r job.Rect, dx, dy int) job.Rect {
	return job.Rect{X0: r.X0 + dx, X1: r.X1 + dx, Y0: r.Y0 + dy, Y1: r.Y1 + dy}
}

// verdict adds what the passes show to the verdict on the picture.
func (p *passes) verdict(v job.Verdict, claim Claim, c job.CropCheck, th Thresholds) job.Verdict {
	worst, share := "", 0.0
	for name, n := range p.found {
		if n.pixels < th.Informative {
			continue
		}
		if s := float64(n.odd) / float64(n.pixels); s > share || s == share && name < worst {
			worst, share = name, s
		}
	}
	if len(p.found) > 0 && v.Numbers != nil {
		v.Numbers["passes"] = float64(len(p.found))
		v.Numbers["pass_odd"] = share
	}
	if v.Ruling == job.Rejected {
		return v
	}
	switch {
	case len(p.missing) > 0 && len(claim.Image.Passes(c.Layer)) > 1:
		v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("the result has no pass %q in layer %q, which was asked for", p.missing[0], c.Layer)
	case share > th.PassSure && th.Calibrated: // without canaries nobody knows what hair does to a pass of hashes
		v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("the pass %q shows something else at %.0f %% of the crops' pixels", worst, 100*share)
	case share > th.Pass && v.Ruling == job.Accepted:
		v.Ruling, v.Reason = job.Unsure, fmt.Sprintf("the pass %q differs from the crops at %.0f %% of their pixels", worst, 100*share)
	}
	return v
}
