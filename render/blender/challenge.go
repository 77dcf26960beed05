package blender

import (
	"fmt"
	"strings"

	"idlewild/job"
	"idlewild/render/assemble"
)

// Evidence is one EXR that a challenge task leaves, and what it shows.
type Evidence struct {
	File   string   // the OutputRule's name
	Layer  string   // the view layer that was rendered
	Rect   job.Rect // the rectangle that was asked for
	Covers job.Rect // the rectangle that the file's pixels are, which holds Rect
	// Samples is the range that was rendered, half-open.
	Samples   job.Range
	SeedDelta int  // 0: the claim's own seed
	Counts    bool // has the pass "Debug Sample Count"
	Look      bool // all of the claim, with few samples
	Other     bool // as other hardware might render it
}

// PassCombined names the channels of every evidence file that are compared
// with the claim's CropCheck.Pass, in the layer that Evidence names.
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
// once with another seed; where ranges do not add up for another reason, so too,
// without counting.
func (k *Kind) Challenge(t job.Task, crops []job.Rect, samples []job.Range) ([]job.Task, error) {
	p, c, err := challenged(t)
	if err != nil {
		return nil, err
	}
	runs, err := challengeRuns(c.CropCheck, t.Part.Samples, samples)
	if err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	perTask := job.MaxOutputs / len(runs)
	var tasks []job.Task
	for len(crops) > 0 {
		n := min(perTask, len(crops))
		q := p
		for _, asked := range crops[:n] {
			crop, err := c.crop(asked, runs)
			if err != nil {
				return nil, err
			}
			q.Crops = append(q.Crops, crop)
		}
		crops = crops[n:]
		tasks = append(tasks, c.task(t, q))
	}
	return tasks, nil
}

// Look returns the task that renders all of what t shows with the samples of
// few, which is a small part of t's own, and canaries: rectangles as other hardware might
// render them, which show how much honest machines differ in this job.
func (k *Kind) Look(t job.Task, few job.Range, canaries []job.Rect) (job.Task, error) {
	p, c, err := challenged(t)
	if err != nil {
		return job.Task{}, err
	}
	all := t.Part.Tile
	if all == (job.Rect{}) {
		all = job.Rect{X1: c.Width, Y1: c.Height}
	}
	if few.From < 0 || few.To <= few.From {
		return job.Task{}, fmt.Errorf("look: samples %v", few)
	}
	p.Crops = []Crop{{Rect: all, Asked: all, Look: true, Runs: []Run{{From: few.From, To: few.To}}}}
	for _, asked := range canaries {
		run := Run{Other: true, Count: c.Adaptive}
		if r := t.Part.Samples; r != (job.Range{}) {
			run.From, run.To = r.From, r.To
		}
		crop, err := c.crop(asked, []Run{run})
		if err != nil {
			return job.Task{}, err
		}
		p.Crops = append(p.Crops, crop)
	}
	return c.task(t, p), nil
}

// Denoise returns the tasks that denoise again what t's worker claims to have
// denoised. The first reads the claim, the second what the first leaves.
func (k *Kind) Denoise(t job.Task) ([]job.Task, error) {
	_, c, err := challenged(t)
	if err != nil {
		return nil, err
	}
	p, err := DecodeParams(t.Params)
	if err != nil {
		return nil, err
	}
	guides := job.Task{
		Kind: assemble.Name,
		Params: assemble.Params{
			Op: assemble.OpGuides, Width: c.Width, Height: c.Height, Denoise: append([]string{c.Layer}, c.Others...),
		}.Encode(),
		Outputs: []job.OutputRule{{Name: assemble.GuidesFile, Media: job.MediaEXR}},
		After:   []job.TaskKey{t.Key()},
		Label:   strings.TrimSuffix(t.Label, " render") + " guides",
		Needs:   job.Needs{Require: map[string]string{string(assemble.Name): assemble.Version}},
		Place:   job.AtRequester,
		Rank:    t.Rank,
	}
	again := denoising(t, p, guides.Key())
	again.Label = strings.TrimSuffix(t.Label, " render") + " denoise check"
	again.Needs, again.Place = job.Needs{Require: t.Needs.Require}, job.AtRequester
	return []job.Task{guides, again}, nil
}

// Denoised is the name of the file that t leaves, where t is the second task
// that Denoise makes, and ok whether it is one of the two.
func Denoised(t job.Task) (file string, ok bool) {
	if len(t.Outputs) != 1 {
		return "", false
	}
	switch o := t.Outputs[0].Name; {
	case t.Kind == assemble.Name && o == assemble.GuidesFile:
		return "", true
	case t.Kind == Name && o == assemble.DenoisedFile:
		return o, true
	}
	return "", false
}

// challenge is the CropCheck of a challenged task.
type challenge struct{ job.CropCheck }

// challenged reads a task that a challenge is made of, and gives its parameters
// the form of one.
func challenged(t job.Task) (Params, challenge, error) {
	var c challenge
	fail := func(err error) (Params, challenge, error) { return Params{}, c, fmt.Errorf("challenge: %w", err) }
	if t.Check.Method != job.CheckCrop {
		return fail(fmt.Errorf("task %s is not checked by crops", t.Label))
	}
	p, err := DecodeParams(t.Params)
	if err != nil {
		return fail(err)
	}
	if err := job.Decode(t.Check.Params, job.MaxTaskBytes, &c.CropCheck); err != nil {
		return fail(err)
	}
	if err := c.Validate(); err != nil {
		return fail(err)
	}
	p.Op, p.Denoise, p.Depth, p.Codec = opCrop, denoiseOff, "", ""
	p.ViewLayer, p.Views = withoutView(c.Layer, p.Views)
	if c.Guided {
		p.Denoise = denoiseLater // what guides a denoiser is compared as well
	}
	p.Persistent = (p.Persistent || c.Layer != "") && len(p.Views) == 0 // one view layer is drawn, and one frame
	return p, c, nil
}

// crop is one rectangle to render.
func (c challenge) crop(asked job.Rect, runs []Run) (Crop, error) {
	if asked.X0 < 0 || asked.Y0 < 0 || asked.Dx() <= 0 || asked.Dy() <= 0 || asked.X1 > c.Width || asked.Y1 > c.Height {
		return Crop{}, fmt.Errorf("challenge: crop %v of a frame of %dx%d", asked, c.Width, c.Height)
	}
	rect := asked
	if c.Adaptive {
		rect = grown(asked, c.Width, c.Height)
	}
	return Crop{Rect: rect, Asked: asked, Runs: runs}, nil
}

// task renders the crops of p.
func (c challenge) task(t job.Task, p Params) job.Task {
	var after []job.TaskKey
	if p.Baked {
		after = t.After // what is checked shows it
	}
	return job.Task{
		After:   after,
		Kind:    t.Kind,
		Params:  p.encode(),
		Input:   t.Input,
		Outputs: p.cropOutputs(),
		Label:   strings.TrimSuffix(t.Label, " render") + " check",
		Needs:   job.Needs{Require: t.Needs.Require, MemoryBytes: t.Needs.MemoryBytes},
		Place:   job.AtRequester,
		Timeout: t.Timeout,
		Rank:    t.Rank,
		Reads:   t.Reads,
	}
}

// challengeRuns is how each crop is rendered.
func challengeRuns(c job.CropCheck, part job.Range, samples []job.Range) ([]Run, error) {
	if part == (job.Range{}) {
		part.To = c.Samples
	}
	switch {
	case c.Adaptive:
		return []Run{{Count: true}, {SeedDelta: seedDelta}}, nil
	case c.Whole:
		return []Run{{}, {SeedDelta: seedDelta}}, nil
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
				File: cropFile(i, j), Layer: p.ViewLayer, Rect: crop.Asked, Covers: crop.Rect,
				Samples: job.Range{From: r.From, To: r.To}, SeedDelta: r.SeedDelta, Counts: r.Count, Look: crop.Look, Other: r.Other,
			}
			if len(p.Views) == 1 {
				e.Layer += "." + p.Views[0]
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
