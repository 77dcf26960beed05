package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/render/blender"
	"idlewild/verify"
)

// cropper is a kind whose results can be checked by rendering crops again.
type cropper interface {
	Challenge(t job.Task, crops []job.Rect, samples []job.Range) ([]job.Task, error)
	Look(t job.Task, few job.Range, canaries []job.Rect) (job.Task, error)
	// Denoise returns tasks that denoise again what t's worker claims to have
	// denoised, in order; they have t and each other in After.
	Denoise(t job.Task) ([]job.Task, error)
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
	canaries *canaries   // of replication
	measured jobCanaries // of crops
}

var _ dispatch.Judge = (*judge)(nil)

// Challenge implements dispatch.Judge.
func (j *judge) Challenge(t job.Task, leaf job.Leaf, secret []byte, rate float64) ([]job.Task, error) {
	root := leaf.Root()
	if t.Check.Method == job.CheckNone || !verify.Selected(secret, root, rate) {
		return nil, nil
	}
	switch t.Check.Method {
	case job.CheckExact, job.CheckReplica:
		again := t
		again.Place, again.Check = job.AtRequester, job.Check{}
		again.Outputs = nil
		for _, o := range t.Outputs {
			o.Final = ""
			again.Outputs = append(again.Outputs, o)
		}
		tasks := []job.Task{again}
		if t.Check.Method == job.CheckReplica && j.canaries.tolerance(canaryOf(t, leaf)).Replicas() > 1 {
			tasks = append(tasks, again)
		}
		return tasks, nil
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
		ranges := verify.Ranges(samples, secret, root)
		tasks, err := k.Challenge(t, crops, ranges)
		if err != nil {
			return nil, err
		}
		if i := verify.Pick(secret, root, len(c.Others)); i >= 0 {
			other, err := ofLayer(t, c, c.Others[i])
			if err != nil {
				return nil, err
			}
			// Elsewhere than the first layer's, and a quarter of it.
			crops := verify.Crops(c, t.Part, append([]byte(c.Others[i]), secret...), root, otherLayer)
			more, err := k.Challenge(other, crops, ranges)
			if err != nil {
				return nil, err
			}
			tasks = append(tasks, more...)
		}
		if c.Guided {
			again, err := k.Denoise(t)
			if err != nil {
				return nil, err
			}
			tasks = append(tasks, again...)
		}
		few := verify.LookSamples(samples.To - samples.From)
		if few == 0 {
			return tasks, nil
		}
		wanted := min(len(crops), j.measured.wanted(canaryKey(t)))
		look, err := k.Look(t, job.Range{From: samples.From, To: samples.From + few}, crops[:wanted])
		return append(tasks, look), err
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

// otherLayer is how much of another layer than the first is rendered again.
var otherLayer = verify.DrawOptions{Share: 0.0025, Pixels: 600, Crops: 2}

// ofLayer is t, judged by another of its layers.
func ofLayer(t job.Task, c job.CropCheck, layer string) (job.Task, error) {
	c.Layer, c.Others = layer, nil
	b, err := job.Encode(c)
	t.Check.Params = b
	return t, err
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
		v = judgeExact(leaf, evidence)
	case job.CheckReplica:
		v = j.judgeReplicas(t, leaf, dir, evidence)
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

func judgeExact(leaf job.Leaf, evidence []dispatch.Evidence) job.Verdict {
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

// judgeReplicas compares a claim with what other machines made of the whole task.
func (j *judge) judgeReplicas(t job.Task, leaf job.Leaf, dir string, evidence []dispatch.Evidence) job.Verdict {
	claim, err := readReplica(t, leaf, dir)
	if err != nil {
		v := claimError(err)
		v.Method = verify.ByReplication
		return v
	}
	var others []replica
	var apart []verify.Distance
	for _, e := range evidence {
		if e.Leaf.Outcome != job.Succeeded {
			continue
		}
		r, err := readReplica(t, e.Leaf, e.Dir)
		if err != nil {
			continue // of that machine nothing can be said, and nothing of the claim
		}
		others = append(others, r)
		apart = append(apart, claim.apart(r))
	}
	name := canaryOf(t, leaf)
	tolerance, pair := j.canaries.tolerance(name), verify.Distance{}
	if len(others) > 1 {
		pair = others[0].apart(others[1])
		tolerance = j.canaries.learn(name, pair)
	}
	return verify.Replicated(apart, pair, tolerance)
}

// replica is the judged output of one run of a task.
type replica struct {
	img  *media.Image // nil where it is no image
	file job.Ref
}

func (r replica) apart(o replica) verify.Distance {
	switch {
	case r.file.Defined() && r.file == o.file:
		return verify.Distance{}
	case r.img == nil || o.img == nil:
		return verify.Distance{Mean: 1, Far: 1}
	}
	return verify.Apart(r.img, o.img)
}

func readReplica(t job.Task, leaf job.Leaf, dir string) (replica, error) {
	for _, o := range leaf.Outputs {
		if o.Name != t.Check.Output {
			continue
		}
		r := replica{file: o.File}
		if o.Media == job.MediaFile {
			return r, nil
		}
		var err error
		if r.img, err = decode(filepath.Join(dir, filepath.FromSlash(o.Name))); err != nil {
			return r, err
		}
		root, _, err := media.TileRoot(r.img)
		if err == nil && string(o.Pixels) != string(root[:]) {
			err = fmt.Errorf("its pixels are not those of the receipt")
		}
		return r, err
	}
	return replica{}, fmt.Errorf("%s is missing", t.Check.Output)
}

// claimError is the verdict on a claim that cannot be read: the worker's fault
// unless this machine's own disk is.
func claimError(err error) job.Verdict {
	var disk *fs.PathError
	if errors.As(err, &disk) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EMFILE) {
		return verify.Unverified(err)
	}
	return verify.Undecodable(err)
}

func (j *judge) judgeCrops(t job.Task, leaf job.Leaf, dir string, evidence []dispatch.Evidence) job.Verdict {
	c, err := cropCheck(t)
	if err != nil {
		return verify.Unverified(err)
	}
	img, err := decode(filepath.Join(dir, filepath.FromSlash(t.Check.Output)))
	if disk := (*fs.PathError)(nil); errors.As(err, &disk) {
		return verify.Unverified(err) // this machine's trouble, not the worker's
	}
	if err != nil {
		return claimError(err)
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
	seen := seen{}
	claim := verify.Claim{Image: img, Part: t.Part}
	if err := seen.all(c, t.Check, leaf, &claim, evidence); err != nil {
		return verify.Unverified(err)
	}
	first := seen.of(c.Layer)
	j.measured.add(canaryKey(t), first.compareCanaries(c, t.Part, j.limits))
	limits := verify.Calibrate(j.limits, j.measured.of(canaryKey(t)))
	limits = verify.Widen(limits, j.measured.between(canaryKey(t), leaf.DeviceClass, dispatch.ClassOf(evidence)))
	v := verify.Compare(c, claim, first.crops, limits)
	for _, layer := range c.Others {
		if seen[layer] == nil || v.Ruling != job.Accepted {
			continue
		}
		d := c
		d.Layer, d.Others = layer, nil
		if other := verify.Compare(d, claim, seen[layer].crops, limits); other.Ruling != job.Accepted {
			other.Reason = fmt.Sprintf("view layer %.100q: %s", layer, other.Reason)
			v = other
		}
	}
	if first.look == nil || v.Ruling == job.Rejected {
		return v
	}
	look, err := verify.LookAt(c, claim, first.look, limits)
	if err != nil {
		return verify.Unverified(err)
	}
	return look.Verdict(v, "look at the frame", limits)
}

// Learn implements dispatch.Judge.
func (j *judge) Learn(t job.Task, v dispatch.Vouched) { j.measured.vouch(canaryKey(t), v) }

// elsewhere reports whether a worker's denoiser may be another one than that of
// this machine, which ran it again, although both Blenders have the same name: a
// distribution updates the library alone, and for two sorts of processors nobody
// has compared them. Where there is a GPU, the processor is an amd64.
func elsewhere(claim, again job.Leaf) bool {
	arch, cpu := strings.CutPrefix(claim.DeviceClass, "cpu/")
	if !cpu {
		arch = "amd64"
	}
	origin := again.Build[strings.LastIndexByte(again.Build, ' ')+1:]
	return !slices.Contains([]string{"blender.org", "bpy", "steam"}, origin) || arch != runtime.GOARCH
}

// seen is what challenge tasks left of each view layer.
type seen map[string]*layerSeen

// layerSeen is that of one layer, as the comparer wants it.
type layerSeen struct {
	crops    []verify.Crop
	at       map[job.Rect]int
	look     *media.Image
	canaries []verify.Crop // Image: the rectangle as other hardware might render it
}

func (s seen) of(layer string) *layerSeen {
	if s[layer] == nil {
		s[layer] = &layerSeen{at: map[job.Rect]int{}}
	}
	return s[layer]
}

// all adds what the challenge tasks left, and to the claim what a denoiser made
// of it again.
func (s seen) all(c job.CropCheck, check job.Check, leaf job.Leaf, claim *verify.Claim, evidence []dispatch.Evidence) error {
	for _, e := range evidence {
		if e.Leaf.Outcome != job.Succeeded {
			return fmt.Errorf("%s ended %s: %s", e.Task.Label, e.Leaf.Outcome, e.Leaf.Reason)
		}
		file, denoised := blender.Denoised(e.Task)
		if !denoised {
			if err := s.read(c, e.Task, check, e.Dir); err != nil {
				return err
			}
			continue
		}
		if file == "" {
			continue // the denoiser's input, which is the claim's own
		}
		m, err := decode(filepath.Join(e.Dir, file))
		if err != nil {
			return fmt.Errorf("denoised again: %w", err)
		}
		m.Flip() // rows come from the bottom, as they were given
		claim.Again, claim.Elsewhere = m, elsewhere(leaf, e.Leaf)
	}
	return nil
}

// read adds what a challenge task left.
func (s seen) read(c job.CropCheck, challenge job.Task, check job.Check, dir string) error {
	files, err := blender.ReadEvidence(challenge, check)
	if err != nil {
		return err
	}
	for _, f := range files {
		img, err := decode(filepath.Join(dir, filepath.FromSlash(f.File)))
		if err != nil {
			return fmt.Errorf("crop %s: %w", f.File, err)
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
				return fmt.Errorf("crop %s: %w", f.File, err)
			}
		}
		s.of(f.Layer).put(f, img)
	}
	return nil
}

func (s *layerSeen) put(f blender.Evidence, img *media.Image) {
	switch {
	case f.Look:
		s.look = img
		return
	case f.Other:
		s.canaries = append(s.canaries, verify.Crop{Rect: f.Rect, Image: img})
		return
	}
	i, ok := s.at[f.Rect]
	if !ok {
		i = len(s.crops)
		s.at[f.Rect] = i
		s.crops = append(s.crops, verify.Crop{Rect: f.Rect})
	}
	switch {
	case f.SeedDelta != 0:
		s.crops[i].OtherSeed = img
	case f.Counts:
		s.crops[i].Image = img
	default:
		s.crops[i].Ranges = append(s.crops[i].Ranges, verify.SampleRange{From: f.Samples.From, To: f.Samples.To, Image: img})
	}
}

// compareCanaries measures what honest machines may differ by: each canary as a
// claim of its own rectangle, beside the crop of the same place.
func (s *layerSeen) compareCanaries(c job.CropCheck, claimed job.Part, th verify.Thresholds) []map[string]float64 {
	var out []map[string]float64
	for _, canary := range s.canaries {
		i, ok := s.at[canary.Rect]
		if !ok {
			continue
		}
		part := job.Part{Tile: canary.Rect, Samples: claimed.Samples}
		v := verify.Compare(c, verify.Claim{Image: canary.Image, Part: part}, s.crops[i:i+1], th)
		if v.Numbers["informative"] > 0 {
			out = append(out, v.Numbers)
		}
	}
	return out
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
	return media.DecodeFile(path, resultLimits)
}
