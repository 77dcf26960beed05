package verify

import (
	"context"
	"encoding/binary"
	"fmt"

	"idlewild/job"
	"idlewild/media"
	"idlewild/verify"
)

// trial is one claim judged by one draw of crops.
type trial struct {
	Scene   string
	Claim   string
	Goal    string
	Ruling  job.Ruling
	Reason  string
	Numbers map[string]float64
}

func (s scene) check() job.CropCheck {
	return job.CropCheck{Layer: "ViewLayer", Pass: "Combined", Width: s.width, Height: s.height, Samples: s.samples(), Adaptive: s.adaptive}
}

// crops answers draw n of a challenge from the checker's whole frames, which
// the crops of a real one are cut out of but for their outermost pixels (a test
// of idlewild/verify asserts it).
func (s *studioScene) crops(n int) ([]verify.Crop, error) {
	secret := binary.LittleEndian.AppendUint64(nil, uint64(n))
	root := [32]byte{1}
	c := s.check()
	var out []verify.Crop
	slice := func(m *media.Image, r job.Rect) *media.Image {
		if m == nil {
			return nil
		}
		part, err := m.Crop(r.X0, r.Y0, r.X1, r.Y1)
		if err != nil && s.err == nil {
			s.err = err
		}
		return part
	}
	ranges := snapped(verify.Ranges(job.Range{To: s.samples()}, secret, root), fixedSamples/checkerRanges)
	for _, r := range verify.Crops(c, job.Part{}, secret, root, verify.DrawOptions{}) {
		crop := verify.Crop{Rect: r}
		if s.adaptive {
			crop.Image, crop.OtherSeed = slice(s.get("checker"), r), slice(s.get("checker-seed"), r)
		} else {
			for _, q := range ranges {
				var parts []part
				step := fixedSamples / checkerRanges
				for at := q.From; at < q.To; at += step {
					parts = append(parts, part{slice(s.get(rangeName("checker", at, at+step)), r), step})
				}
				crop.Ranges = append(crop.Ranges, verify.SampleRange{From: q.From, To: q.To, Image: mean(parts...)})
			}
		}
		out = append(out, crop)
	}
	if s.err != nil {
		return nil, s.err
	}
	for _, c := range out {
		if c.Image == nil && (len(c.Ranges) == 0 || c.Ranges[0].Image == nil) {
			return nil, fmt.Errorf("%s: the checker has not rendered", s.name)
		}
	}
	return out, nil
}

// snapped moves the cuts of ranges to where the checker's files have theirs.
func snapped(ranges []job.Range, step int) []job.Range {
	end := ranges[len(ranges)-1].To
	for i := 0; i+1 < len(ranges); i++ {
		from := ranges[i].From
		to := max(from+step, (ranges[i].To+step/2)/step*step)
		to = min(to, end-step*(len(ranges)-1-i))
		ranges[i].To, ranges[i+1].From = to, to
	}
	return ranges
}

// look is the file in which the checker sees the whole frame.
func (s scene) look() string {
	if s.adaptive {
		return "checker-look"
	}
	return rangeName("checker", 0, fixedSamples/checkerRanges)
}

// calibrate does what a checker does in a job's first checks: renders crops of
// its own as other hardware might, and learns from them.
func (s *studioScene) calibrate(th verify.Thresholds) (verify.Thresholds, error) {
	var canaries []map[string]float64
	m := s.get("bvh2")
	if m == nil {
		return th, fmt.Errorf("%s: no canary was rendered", s.name)
	}
	for n := range canaryDraws {
		crops, err := s.crops(firstCanary + n)
		if err != nil {
			return th, err
		}
		for i := range min(len(crops), canaryCrops) {
			canaries = append(canaries, verify.Compare(s.check(), verify.Claim{Image: m}, crops[i:i+1], th).Numbers)
		}
	}
	return verify.Calibrate(th, canaries), nil
}

const (
	canaryDraws, canaryCrops = 3, 3
	firstCanary              = 1 << 40 // draws apart from those that are judged
)

// judge compares every claim with every draw.
func (s *studioScene) judge(ctx context.Context, draws, honestDraws int, th verify.Thresholds) ([]trial, error) {
	claims := s.claims()
	if s.err != nil {
		return nil, s.err
	}
	if len(claims) == 0 {
		return nil, fmt.Errorf("%s: not all that it needs was rendered", s.name)
	}
	th, err := s.calibrate(th)
	if err != nil {
		return nil, err
	}
	looks := make([]verify.Look, len(claims))
	for i, c := range claims {
		var err error
		if looks[i], err = verify.LookAt(s.check(), verify.Claim{Image: c.image}, s.get(s.look()), th); err != nil {
			return nil, fmt.Errorf("%s, %s: %w", s.name, c.name, err)
		}
	}
	var out []trial
	for n := range max(draws, honestDraws) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		crops, err := s.crops(n)
		if err != nil {
			return nil, err
		}
		for i, c := range claims {
			// A bound of 99.9 % takes thousands of checks: whole-frame cheats have
			// them by their number, honest frames and tiles by that of their draws.
			if often := c.goal == goalHonest || c.goal == goalTiles; often && n >= honestDraws || !often && n >= draws {
				continue
			}
			v := verify.Compare(s.check(), verify.Claim{Image: c.image}, crops, th)
			if len(v.Numbers) == 0 && v.Ruling == job.Unsure {
				return nil, fmt.Errorf("%s, %s: %s", s.name, c.name, v.Reason)
			}
			v = looks[i].Verdict(v, "look", th)
			v.Numbers["look_largest"] = float64(looks[i].Largest)
			out = append(out, trial{Scene: s.name, Claim: c.name, Goal: c.goal, Ruling: v.Ruling, Reason: v.Reason, Numbers: v.Numbers})
		}
	}
	return out, nil
}
