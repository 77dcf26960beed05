package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/render/blender"
	"idlewild/verify"
)

// cropper is a kind whose results can be checked by rendering crops again.
type cropper interface {
	Challenge(t job.Task, crops []job.Rect, samples []job.Range) ([]job.Task, error)
}

// sampler is a kind of which some items, or crops of its pictures, can be run
// again.
type sampler interface {
	Sample(t job.Task, items func(n, k int) []int, crops func(width, height int) []job.Rect) ([]job.Task, error)
}

// judge is dispatch.Judge: it draws challenges and compares what came of them.
type judge struct {
	croppers map[job.Kind]cropper
	samplers map[job.Kind]sampler
	limits   verify.Thresholds
}

var _ dispatch.Judge = (*judge)(nil)

// Challenge implements dispatch.Judge.
func (j *judge) Challenge(t job.Task, leaf job.Leaf, secret []byte, rate float64) ([]job.Task, error) {
	root := leaf.Root()
	if t.Check.Method == job.CheckNone || !verify.Selected(secret, root, rate) {
		return nil, nil
	}
	switch t.Check.Method {
	case job.CheckExact:
		again := t
		again.Place, again.Check = job.AtRequester, job.Check{}
		again.Outputs = nil
		for _, o := range t.Outputs {
			o.Final = ""
			again.Outputs = append(again.Outputs, o)
		}
		return []job.Task{again}, nil
	case job.CheckCrop:
		k, ok := j.croppers[t.Kind]
		if !ok {
			return nil, fmt.Errorf("no crops of kind %s can be rendered here", t.Kind)
		}
		c, err := cropCheck(t)
		if err != nil {
			return nil, err
		}
		crops := verify.Crops(c, t.Part, secret, root, verify.DrawOptions{})
		samples := t.Part.Samples
		if samples == (job.Range{}) {
			samples.To = c.Samples
		}
		return k.Challenge(t, crops, verify.Ranges(samples))
	case job.CheckRerun:
		k, ok := j.samplers[t.Kind]
		if !ok {
			return nil, fmt.Errorf("nothing of kind %s can be run again here", t.Kind)
		}
		items := func(n, k int) []int { return verify.Items(n, k, secret, root) }
		crops := func(width, height int) []job.Rect {
			c := job.CropCheck{Width: width, Height: height}
			return verify.Crops(c, t.Part, secret, root, verify.DrawOptions{})
		}
		return k.Sample(t, items, crops)
	}
	return nil, fmt.Errorf("check method %q is not known here", t.Check.Method)
}

// Judge implements dispatch.Judge.
func (j *judge) Judge(ctx context.Context, t job.Task, leaf job.Leaf, dir string, evidence []dispatch.Evidence) job.Verdict {
	var cost float64
	for _, e := range evidence {
		cost += e.Leaf.Meter.Wall.Seconds()
	}
	var v job.Verdict
	switch t.Check.Method {
	case job.CheckExact:
		v = judgeExact(t, leaf, evidence)
	case job.CheckCrop:
		v = j.judgeCrops(t, leaf, dir, evidence)
	case job.CheckRerun:
		v = judgeRerun(t, leaf, dir, evidence)
	default:
		v = job.Verdict{Ruling: job.Unsure, Method: "none", Reason: fmt.Sprintf("check method %q is not known here", t.Check.Method)}
	}
	v.CostSeconds = cost
	return v
}

func judgeExact(t job.Task, leaf job.Leaf, evidence []dispatch.Evidence) job.Verdict {
	v := job.Verdict{Method: "replication"}
	if len(evidence) != 1 || evidence[0].Leaf.Outcome != job.Succeeded {
		v.Ruling, v.Reason = job.Unsure, "could not be checked: running it again did not succeed"
		return v
	}
	files := map[string]job.Ref{}
	for _, o := range evidence[0].Leaf.Outputs {
		files[o.Name] = o.File
	}
	for _, o := range leaf.Outputs {
		if files[o.Name] != o.File {
			v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("%s differs from what running the task again gave", o.Name)
			return v
		}
	}
	v.Ruling, v.Reason = job.Accepted, "running the task again gave the same bytes"
	return v
}

func (j *judge) judgeCrops(t job.Task, leaf job.Leaf, dir string, evidence []dispatch.Evidence) job.Verdict {
	c, err := cropCheck(t)
	if err != nil {
		return verify.Unverified(err)
	}
	img, err := decode(filepath.Join(dir, filepath.FromSlash(t.Check.Output)))
	if err != nil {
		return verify.Undecodable(err)
	}
	// The receipt names the pixels, so that a stranger can check the verdict
	// by tiles; a root that does not fit its own file is a lie.
	root, _, err := media.TileRoot(img)
	if err != nil {
		return verify.Undecodable(err)
	}
	for _, o := range leaf.Outputs {
		if o.Name == t.Check.Output && string(o.Pixels) != string(root[:]) {
			return verify.Undecodable(fmt.Errorf("its pixels are not those of the receipt"))
		}
	}
	var crops []verify.Crop
	for _, e := range evidence {
		if e.Leaf.Outcome != job.Succeeded {
			return verify.Unverified(fmt.Errorf("rendering the crops ended %s: %s", e.Leaf.Outcome, e.Leaf.Reason))
		}
		some, err := readCrops(c, e.Task, t.Check, e.Dir)
		if err != nil {
			return verify.Unverified(err)
		}
		crops = append(crops, some...)
	}
	return verify.Compare(c, verify.Claim{Image: img, Part: t.Part}, crops, j.limits)
}

// readCrops decodes what a challenge task left into what the comparer wants.
func readCrops(c job.CropCheck, challenge job.Task, check job.Check, dir string) ([]verify.Crop, error) {
	files, err := blender.ReadEvidence(challenge, check)
	if err != nil {
		return nil, err
	}
	var crops []verify.Crop
	at := map[job.Rect]int{}
	for _, f := range files {
		img, err := decode(filepath.Join(dir, filepath.FromSlash(f.File)))
		if err != nil {
			return nil, fmt.Errorf("crop %s: %w", f.File, err)
		}
		// Crops are never denoised, so their picture is what a denoised claim
		// keeps under another name.
		for i, ch := range img.Channels {
			if layer, pass, name := media.Split(ch.Name); layer != "" && pass == blender.PassCombined {
				img.Channels[i].Name = layer + "." + c.Pass + "." + name
			}
		}
		if f.Covers != f.Rect {
			if img, err = img.Crop(f.Rect.X0-f.Covers.X0, f.Rect.Y0-f.Covers.Y0, f.Rect.X1-f.Covers.X0, f.Rect.Y1-f.Covers.Y0); err != nil {
				return nil, fmt.Errorf("crop %s: %w", f.File, err)
			}
		}
		i, ok := at[f.Rect]
		if !ok {
			i = len(crops)
			at[f.Rect] = i
			crops = append(crops, verify.Crop{Rect: f.Rect})
		}
		switch {
		case f.SeedDelta != 0:
			crops[i].OtherSeed = img
		case f.Counts:
			crops[i].Image = img
		default:
			crops[i].Ranges = append(crops[i].Ranges, verify.SampleRange{From: f.Samples.From, To: f.Samples.To, Image: img})
		}
	}
	return crops, nil
}

func cropCheck(t job.Task) (job.CropCheck, error) {
	var c job.CropCheck
	if err := job.Decode(t.Check.Params, job.MaxTaskBytes, &c); err != nil {
		return c, fmt.Errorf("check of task %s: %w", t.Label, err)
	}
	return c, c.Validate()
}

// decode reads an image within the limits for strangers' files.
func decode(path string) (*media.Image, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return media.DecodeFile(path, media.Limits{})
}
