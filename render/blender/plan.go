package blender

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ipfs/go-cid"

	"idlewild/job"
)

// claimFile is the EXR that a render task leaves and a finish task reads.
const claimFile = "frame.exr"

// Plan implements dispatch.Kind: two tasks for every frame, one where the
// artist wants the EXR itself; more where frames are cut into parts, before them
// one that bakes what has to be, and at the end a film where one is wanted.
func (k *Kind) Plan(s job.Spec, in job.Inspection, input cid.Cid) ([]job.Task, error) {
	spec, err := DecodeSpec(s.Params)
	if err != nil {
		return nil, err
	}
	var f Facts
	if err := json.Unmarshal(in.Facts, &f); err != nil {
		return nil, fmt.Errorf("plan: what the inspection found: %w", err)
	}
	if f.Scene == "" || f.Main == "" || len(f.ViewLayers) == 0 {
		return nil, fmt.Errorf("plan: the inspection found nothing to render")
	}
	if spec.Name == "" && job.SafeName(frameName(f.Name, 0)) == nil {
		spec.Name = f.Name
	}
	frames, err := f.frames(spec.Frames)
	if err != nil {
		return nil, err
	}
	if err := f.allowsHalf(spec); err != nil {
		return nil, err
	}
	base := f.params(spec)
	if f.at, err = job.ParseFinish(s.Policy.Finish); err != nil {
		return nil, err
	}
	pieces, err := f.pieces(s.Policy.Parts, spec, len(frames))
	if err != nil {
		return nil, err
	}
	guided := f.guided(s.Policy, spec, len(pieces) > 1)
	var check job.Check
	if f.Sequencer == "" {
		if check, err = f.check(spec, len(pieces) > 1, guided); err != nil {
			return nil, err
		}
	}
	if guided {
		base.Denoise = denoiseGuided
	}
	ranks := previewOrder(len(frames))
	tasks := make([]job.Task, 0, 2*len(frames))
	names := map[string]int{}
	filmed := f.filmed(len(frames))
	if !filmed {
		f.Film = FilmFacts{}
	}
	if len(f.Views) > 0 && spec.Upscale != "" {
		return nil, job.Refuse("upscale", "the scene renders several views, which are not made larger", "leave --upscale out, or switch off Output > Stereoscopy")
	}
	larger, first, err := k.enlarge(spec, &f, job.RefOf(input))
	if err != nil {
		return nil, err
	}
	tasks = append(tasks, first...)
	reads := f.reads(len(frames) * (len(pieces) + 1))
	var baked []job.TaskKey
	if len(f.Bakes) > 0 {
		t := f.bake(frames, job.RefOf(input))
		base.Baked, baked = true, []job.TaskKey{t.Key()}
		tasks = append(tasks, t)
		reads.bake(f, frames)
	}
	var finished []job.Task
	for i, frame := range frames {
		final := frameName(spec.Name, frame) + f.extension()
		if other, taken := names[final]; taken {
			return nil, fmt.Errorf("plan: frames %d and %d would both be named %q", other, frame, final)
		}
		names[final] = frame
		for _, r := range f.rules(frame) {
			if r.Final == final {
				return nil, job.Refuse("File Output nodes", "one of them would write over the frame "+final, "give it another folder or file name")
			}
		}
		p := base
		p.Frame = frame
		render := job.Task{
			Kind:    Name,
			Params:  p.encode(),
			Input:   job.RefOf(input),
			Outputs: []job.OutputRule{{Name: claimFile, Media: job.MediaEXR}},
			After:   baked,
			Label:   strconv.Itoa(frame),
			Needs:   f.needs(spec),
			Check:   check,
			Rank:    ranks[i],
			Reads:   reads.at(frame),
		}
		apart := f.Multilayer && len(f.Views) > 0 && f.ViewsFormat != viewsMulti
		if f.Multilayer && !apart {
			render.Outputs[0].Final = final
		} else {
			render.Label += " render"
		}
		made := []job.Task{render}
		if len(pieces) > 1 {
			made = f.inParts(render, p, spec, pieces)
		}
		last := &made[len(made)-1]
		if f.Sequencer != "" {
			made = []job.Task{f.strips(render, p, final)}
		} else if apart {
			made = append(made, f.apart(render, p, frameName(spec.Name, frame)))
		} else if !f.Multilayer {
			made = append(made, f.finish(*last, render, p, final))
		} else {
			last.Label = strconv.Itoa(frame)
			if len(f.Files) > 0 || filmed || larger != nil {
				made = append(made, f.finish(*last, render, p, ""))
			}
		}
		if larger != nil {
			t, err := larger.frame(made[len(made)-1], strconv.Itoa(frame), final)
			if err != nil {
				return nil, fmt.Errorf("plan: %w", err)
			}
			made = append(made, t)
		}
		tasks = append(tasks, made...)
		finished = append(finished, made[len(made)-1])
	}
	if !filmed {
		return tasks, nil
	}
	film, err := f.film(spec, frames, finished, job.RefOf(input))
	if err != nil {
		return nil, err
	}
	return append(tasks, film...), nil
}

// finish is the task that turns the EXR of last into the artist's file, and
// into those of the compositor's File Output nodes. Where final is empty there
// are only these; where p is of strips they make it instead. render is what one task would do that renders the whole frame.
func (f Facts) finish(last, render job.Task, p Params, final string) job.Task {
	ext := f.extension()
	var outputs []job.OutputRule
	if final != "" {
		for _, s := range f.suffixes() {
			outputs = append(outputs, job.OutputRule{Name: "frame" + s + ext, Media: mediaOf(ext), Final: strings.TrimSuffix(final, ext) + s + ext})
		}
	}
	rules := f.rules(p.Frame)
	extra := (f.Film.Extension != "" || f.scale > 0) && f.frameFile() == filmFrame
	if extra {
		outputs = append(outputs, job.OutputRule{Name: filmFrame, Media: job.MediaPNG})
	}
	op, label := opFinish, strconv.Itoa(p.Frame)
	if p.Op == opStrips {
		op = opStrips
	}
	if final == "" {
		label += " files"
	}
	return job.Task{
		Kind: Name,
		// Only what the compositor and the writer of files depend on.
		Params: Params{
			Op: op, Main: p.Main, Frame: p.Frame, Build: p.Build, Scene: p.Scene, Camera: p.Camera, ViewLayer: p.ViewLayer,
			Width: p.Width, Height: p.Height, Percent: p.Percent, Extension: ext, Suffixes: named(f.suffixes()), Files: ruleNames(rules), OCIO: f.OCIO, FilmFrame: extra,
		}.encode(),
		Input:   render.Input,
		Outputs: append(outputs, rules...),
		After:   []job.TaskKey{last.Key()},
		Label:   label,
		Needs:   f.afterwards(map[string]string{FactVersion: f.Version, FactBuild: f.Build}),
		Place:   f.at,
		Rank:    render.Rank,
		Reads:   render.Reads,
	}
}

// named are suffixes, or nothing where there is only an empty one.
func named(suffixes []string) []string {
	if len(suffixes) < 2 {
		return nil
	}
	return suffixes
}

// afterwards is what a machine needs for a task that makes something of what
// was rendered. It is never work for a GPU; only the requester's own slot says
// nothing of its sort.
func (f Facts) afterwards(require map[string]string) job.Needs {
	n := job.Needs{Require: require}
	if f.at != job.AtRequester {
		n.Device = "cpu"
	}
	return n
}

// again is how a task is checked whose result depends on nothing but its
// predecessors, bit for bit: not at all at the requester.
func (f Facts) again(output string) job.Check {
	if f.at == job.AtRequester {
		return job.Check{}
	}
	return job.Check{Method: job.CheckExact, Output: output}
}

// extension of delivered files. Blender has none where the artist switched
// extensions off; a delivered file always has one.
func (f Facts) extension() string {
	if f.Multilayer {
		return ".exr"
	}
	if safeExtension(f.Extension) {
		return f.Extension
	}
	return ".png"
}

func mediaOf(ext string) job.Media {
	switch ext {
	case ".png":
		return job.MediaPNG
	case ".exr":
		return job.MediaEXR
	}
	return job.MediaFile
}

// frames that are asked for, or the file's own range.
func (f Facts) frames(asked string) ([]int, error) {
	if asked != "" {
		return parseFrames(asked)
	}
	step := max(f.FrameStep, 1)
	if f.FrameEnd < f.FrameStart {
		return nil, fmt.Errorf("frames: the file's range %d-%d is empty; name the frames to render", f.FrameStart, f.FrameEnd)
	}
	return parseFrames(fmt.Sprintf("%d-%dx%d", f.FrameStart, f.FrameEnd, step))
}

// params that all render tasks of the job share. Samples are spelled out
// where that changes nothing, so that a task says how much work it is.
func (f Facts) params(spec SpecParams) Params {
	p := Params{
		Op:         opRender,
		Main:       f.Main,
		Build:      f.Build,
		Scene:      f.Scene,
		Camera:     spec.Camera,
		ViewLayer:  spec.ViewLayer,
		Samples:    spec.Samples,
		Width:      spec.Width,
		Height:     spec.Height,
		Percent:    spec.Percent,
		Persistent: len(f.ViewLayers) == 1 && len(f.Views) == 0,
		Views:      f.viewNames(),
		Framed:     f.Framed,
		OCIO:       f.OCIO,
	}
	if spec.Engine != "" {
		p.Engine = f.Engine
	}
	if f.Engine == cycles {
		if p.Samples == 0 && !f.LayerSamples && !slices.Contains(f.Keyed, "cycles.samples") {
			p.Samples = f.Samples
		}
		if f.Denoise && !f.denoises(spec) {
			p.Denoise = denoiseOff
		}
	}
	switch {
	case f.Multilayer:
		p.Depth, p.Codec = f.Depth, f.Codec
	case spec.Precision == precisionHalf:
		p.Depth = "16"
	}
	return p
}

// allowsHalf refuses halves on the way to files that would show it.
func (f Facts) allowsHalf(spec SpecParams) error {
	if spec.Precision != precisionHalf || f.Multilayer {
		return nil
	}
	why := ""
	switch depth, _ := strconv.Atoi(f.Depth); {
	case len(f.Files) > 0:
		why = "the compositor's File Output nodes may write more than halves hold"
	case f.Format == "OPEN_EXR" && depth == 16, depth <= 10:
		return nil
	default:
		why = fmt.Sprintf("the file's output has %d bits a channel, and a half holds 11", depth)
	}
	return job.Refuse("precision half", why, "leave --precision out")
}

// denoises reports whether frames are denoised: where the file says so, this
// machine's Blender can, and nobody switched it off.
func (f Facts) denoises(spec SpecParams) bool {
	return f.Engine == cycles && f.Denoise && spec.Denoise != "off" && len(f.Denoisers) > 0
}

// guided reports whether workers keep beside a frame what its denoiser was
// guided by, so that whoever checks can denoise it again. It costs half of the
// bytes once more, so not where nothing is checked, nor in an artist's own file
// where the artist has not asked for it. Within a border Cycles denoises less
// than the file shows.
func (f Facts) guided(p job.Policy, spec SpecParams, parts bool) bool {
	kept := !slices.ContainsFunc(f.DenoiseLayers, func(l string) bool { return !slices.Contains(f.GuideLayers, l) })
	checked := p.Recheck == nil || *p.Recheck > 0
	return f.denoises(spec) && f.DenoisedAlike && len(f.Views) == 0 && !f.Framed && !parts && len(f.Uncheckable) == 0 && (kept || checked && !f.Multilayer)
}

func (f Facts) needs(spec SpecParams) job.Needs {
	n := job.Needs{Require: map[string]string{FactVersion: f.Version, FactBuild: f.Build, FactEngine: fact(f.Build, f.Engine)}}
	if len(f.Bakes) > 0 {
		n.Require[FactBake] = bakeTree
	}
	if f.denoises(spec) {
		n.Require[FactDenoiser] = fact(f.Build, f.Denoisers[0])
	}
	if f.CPUOnly {
		n.Device = "cpu"
	}
	return n
}

// Channels that a checker compares.
const (
	passCombined = "Combined"
	// passNoisy is what Cycles keeps of the picture before it denoises. The
	// denoised pass itself cannot be told from sampling.
	passNoisy = "Noisy Image"
)

// check is how frames are verified, or parts of them.
func (f Facts) check(spec SpecParams, parts, guided bool) (job.Check, error) {
	if len(f.Uncheckable) > 0 || f.Engine != cycles {
		// What a machine makes of it another of its class makes as well, unless
		// the clock decides.
		if parts || slices.Contains(f.Uncheckable, "time limit") {
			return job.Check{}, nil
		}
		return job.Check{Method: job.CheckReplica, Output: claimFile, Params: []byte(f.Engine)}, nil
	}
	c := job.CropCheck{
		Pass:     passCombined,
		Width:    f.Width,
		Height:   f.Height,
		Samples:  f.Samples,
		Adaptive: f.Adaptive,
		Whole:    f.Dithered,
		Seed:     f.Seed,
	}
	layers := f.ViewLayers
	if f.denoises(spec) && !parts { // parts are denoised together
		c.Pass, c.Guided = passNoisy, guided
		// The others have no noisy picture beside the one that is judged.
		layers = slices.DeleteFunc(slices.Clone(layers), func(l string) bool { return !slices.Contains(f.DenoiseLayers, l) })
		if len(layers) == 0 {
			return job.Check{}, fmt.Errorf("plan: none of the view layers %q is denoised", f.ViewLayers)
		}
	}
	layers = f.layersOfViews(layers)
	c.Layer = layers[0]
	for _, l := range layers[1:] {
		if !f.LayerSamples && len(c.Others) < job.MaxCheckLayers {
			c.Others = append(c.Others, l)
		}
	}
	if err := c.Validate(); err != nil {
		return job.Check{}, fmt.Errorf("plan: %w", err)
	}
	b, err := job.Encode(c)
	if err != nil {
		return job.Check{}, fmt.Errorf("plan: %w", err)
	}
	return job.Check{Method: job.CheckCrop, Output: claimFile, Params: b}, nil
}
