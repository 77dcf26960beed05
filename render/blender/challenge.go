package blender

import (
	"fmt"
	"strings"

	"idlewild/job"
)

// Evidence is one EXR that a challenge task leaves, and what it shows.
type Evidence struct {
	File   string   // the OutputRule's name
	Rect   job.Rect // the rectangle that was asked for
	Covers job.Rect // the rectangle that the file's pixels are, which holds Rect
	// Samples is the range that was rendered, half-open.
	Samples   job.Range
	SeedDelta int  // 0: the claim's own seed
	Counts    bool // has the pass "Debug Sample Count"
}

// PassCombined names the channels of every evidence file that are compared
// with the claim's CropCheck.Pass, in the layer that CropCheck names.
const PassCombined = passCombined

// margin is what a crop of an adaptively sampled frame is rendered larger on
// each side: its outermost ring differs from the whole frame's.
const margin = 2

// seedDelta of the independent estimate.
const seedDelta = 7919

// Challenge returns the tasks that render crops of t again, for a checker to
// compare with what t's worker claims; t must have a CheckCrop. Without
// adaptive sampling each crop is rendered as the ranges of samples, which must
// add up to the whole; with it, once as the claim was, counting samples, and
// once with another seed.
func (k *Kind) Challenge(t job.Task, crops []job.Rect, samples []job.Range) ([]job.Task, error) {
	if t.Check.Method != job.CheckCrop {
		return nil, fmt.Errorf("challenge: task %s is not checked by crops", t.Label)
	}
	p, err := DecodeParams(t.Params)
	if err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	var c job.CropCheck
	if err := job.Decode(t.Check.Params, job.MaxTaskBytes, &c); err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	frame := job.Rect{X1: c.Width, Y1: c.Height}
	runs, err := challengeRuns(c, t.Part.Samples, samples)
	if err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	perTask := job.MaxOutputs / len(runs)
	var tasks []job.Task
	for len(crops) > 0 {
		n := min(perTask, len(crops))
		q := p
		q.Op, q.Denoise, q.ViewLayer, q.Depth, q.Codec = opCrop, denoiseOff, c.Layer, "", ""
		for _, asked := range crops[:n] {
			if asked.X0 < 0 || asked.Y0 < 0 || asked.Dx() <= 0 || asked.Dy() <= 0 || asked.X1 > frame.X1 || asked.Y1 > frame.Y1 {
				return nil, fmt.Errorf("challenge: crop %v of a frame of %dx%d", asked, c.Width, c.Height)
			}
			rect := asked
			if c.Adaptive {
				rect = grown(asked, frame.X1, frame.Y1)
			}
			q.Crops = append(q.Crops, Crop{Rect: rect, Asked: asked, Runs: runs})
		}
		crops = crops[n:]
		tasks = append(tasks, job.Task{
			Kind:    t.Kind,
			Params:  q.encode(),
			Input:   t.Input,
			Outputs: q.cropOutputs(),
			Label:   strings.TrimSuffix(t.Label, " render") + " check",
			Needs:   job.Needs{Require: t.Needs.Require, MemoryBytes: t.Needs.MemoryBytes},
			Place:   job.AtRequester,
			Timeout: t.Timeout,
			Rank:    t.Rank,
		})
	}
	return tasks, nil
}

// challengeRuns is how each crop is rendered.
func challengeRuns(c job.CropCheck, part job.Range, samples []job.Range) ([]Run, error) {
	if part == (job.Range{}) {
		part.To = c.Samples
	}
	if c.Adaptive {
		return []Run{{Count: true}, {SeedDelta: seedDelta}}, nil
	}
	var runs []Run
	at := part.From
	for _, s := range samples {
		if s.From != at || s.To <= s.From {
			break
		}
		runs = append(runs, Run{From: s.From, To: s.To})
		at = s.To
	}
	if at != part.To || len(runs) != len(samples) || len(runs) > job.MaxOutputs {
		return nil, fmt.Errorf("ranges %v of the samples %v", samples, part)
	}
	return runs, nil
}

// cropOutputs are the files that a crop task leaves.
func (p Params) cropOutputs() []job.OutputRule {
	var out []job.OutputRule
	for i, c := range p.Crops {
		for j := range c.Runs {
			out = append(out, job.OutputRule{Name: cropFile(i, j), Media: job.MediaEXR})
		}
	}
	return out
}

func cropFile(crop, run int) string { return fmt.Sprintf("crop-%d-%d.exr", crop, run) }

// ReadEvidence lists what a task that Challenge made leaves, given the
// challenged task's check.
func ReadEvidence(challenge job.Task, check job.Check) ([]Evidence, error) {
	p, err := DecodeParams(challenge.Params)
	if err != nil {
		return nil, err
	}
	var c job.CropCheck
	if err := job.Decode(check.Params, job.MaxTaskBytes, &c); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	var out []Evidence
	for i, crop := range p.Crops {
		for j, r := range crop.Runs {
			e := Evidence{
				File: cropFile(i, j), Rect: crop.Asked, Covers: crop.Rect,
				Samples: job.Range{From: r.From, To: r.To}, SeedDelta: r.SeedDelta, Counts: r.Count,
			}
			if r.To == 0 {
				e.Samples.To = c.Samples
			}
			if p.Framed {
				e.Covers = job.Rect{X1: c.Width, Y1: c.Height}
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// Cheat returns t with half of its samples: what a saboteur runs instead, in
// tests and demonstrations. The result is delivered as if it were t's.
func (k *Kind) Cheat(t job.Task) job.Task {
	p, err := DecodeParams(t.Params)
	var c job.CropCheck
	if err != nil || p.Op != opRender || job.Decode(t.Check.Params, job.MaxTaskBytes, &c) != nil {
		return t
	}
	if r := t.Part.Samples; r != (job.Range{}) {
		t.Part.Samples.To = r.From + max((r.To-r.From)/2, 1)
		return t
	}
	p.Samples = max(c.Samples/2, 1)
	t.Params = p.encode()
	return t
}
