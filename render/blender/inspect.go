package blender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"idlewild/job"
)

// Facts are what a look at the file found, with the person's overrides: what
// Plan works from.
type Facts struct {
	Version string `json:"version"` // of the Blender that looked: tasks ask for the same
	Build   string `json:"build"`
	Main    string `json:"main"` // the .blend, in the input tree

	Scene      string   `json:"scene"`
	ViewLayers []string `json:"view_layers"` // that are rendered
	FrameStart int      `json:"frame_start"`
	FrameEnd   int      `json:"frame_end"`
	FrameStep  int      `json:"frame_step"`
	FPS        float64  `json:"fps"`
	Width      int      `json:"width"` // of the picture, pixels
	Height     int      `json:"height"`
	Framed     bool     `json:"framed"` // a border that does not crop

	Engine       string   `json:"engine"` // Blender's name
	Samples      int      `json:"samples"`
	LayerSamples bool     `json:"layer_samples"` // the view layer has its own number
	Keyed        []string `json:"keyed"`         // animated settings of sampling
	TimeLimit    float64  `json:"time_limit"`    // seconds; 0: none
	Adaptive     bool     `json:"adaptive"`
	Dithered     bool     `json:"dithered"` // the pattern of each sample depends on how many there are
	Seed         int      `json:"seed"`
	Denoise      bool     `json:"denoise"`      // as the file has it
	VRAMBytes    int64    `json:"vram_bytes"`   // of a GPU that renders it, by estimate
	MemoryBytes  int64    `json:"memory_bytes"` // of the machine, likewise
	CPUOnly      bool     `json:"cpu_only"`
	// DenoiseLayers are the view layers that are denoised where Denoise says
	// so, GuideLayers those that keep a denoiser's guides for the artist.
	DenoiseLayers []string `json:"denoise_layers"`
	GuideLayers   []string `json:"guide_layers"`
	// DenoisedAlike says that every machine with this build denoises a frame
	// alike, and alike afterwards from a file.
	DenoisedAlike bool `json:"denoised_alike"`
	// Untiled says why a frame comes out differently in tiles, Unsampled why
	// ranges of samples do not add up to it; empty where nothing does.
	Untiled   []string `json:"untiled"`
	Unsampled []string `json:"unsampled"`

	Name       string     `json:"name"` // of the artist's own files, # for the frame; empty: the number alone
	Format     string     `json:"format"`
	Extension  string     `json:"extension"`
	Depth      string     `json:"depth"`
	Codec      string     `json:"codec"`
	Multilayer bool       `json:"multilayer"`
	Compositor bool       `json:"compositor"`
	OCIO       string     `json:"ocio"`                // colour configuration, in the input tree or Blender's built in; empty: Blender's default
	Sequences  []Sequence `json:"sequences,omitempty"` // of which each frame reads some files
	Reach      float64    `json:"reach"`               // how far from a frame its picture looks, in frames
	Film       FilmFacts  `json:"film"`                // what all frames end in
	Files      []string   `json:"files"`               // of File Output nodes, under their delivered names, # for the frame
	Denoisers  []string   `json:"denoisers"`           // of the Blender that looked
	Engines    []string   `json:"engines"`
	// Views are rendered of each frame, where the scene is stereoscopic or has
	// several; ViewsFormat says what becomes of them in the artist's files.
	Views       []View `json:"views,omitempty"`
	ViewsFormat string `json:"views_format,omitempty"`

	// Sequencer is "strips" where frames are the sequencer's picture, "scenes"
	// where some of its strips render scenes, by StripEngines.
	Sequencer    string   `json:"sequencer,omitempty"`
	StripEngines []string `json:"strip_engines,omitempty"`

	Bakes []string `json:"bakes,omitempty"` // simulations that a task bakes before all frames
	// BakesByFrame says that a frame looks at no other time than its own, but for
	// Reach: of a bake's files it reads those of its number.
	BakesByFrame bool `json:"bakes_by_frame,omitempty"`
	// Uncheckable says why frames cannot be verified by sampling; empty
	// where they can.
	Uncheckable []string `json:"uncheckable"`

	Model json.RawMessage `json:"model,omitempty"` // what Enlarger found of the one that makes frames larger

	// at is where files are made of what was rendered; see place.
	at job.Place
	// scale is how many times as large frames are made; 0: they are not.
	scale int
}

// Weigh returns samples of a frame, and says of what size and quality it is.
// Where the engine does not count samples, it is pixels.
func (k *Kind) Weigh(facts []byte) (float64, string) {
	var f Facts
	if json.Unmarshal(facts, &f) != nil || f.Width < 1 || f.Height < 1 {
		return 0, ""
	}
	pixels, text := float64(f.Width)*float64(f.Height), fmt.Sprintf("%dx%d", f.Width, f.Height)
	if f.Engine != cycles || f.Samples < 1 {
		return pixels, text
	}
	return pixels * float64(f.Samples), fmt.Sprintf("%s with %d samples", text, f.Samples)
}

// survey is what runner/survey.py writes.
type survey struct {
	Opened   bool            `json:"opened"`
	Version  string          `json:"version"`
	Build    string          `json:"build"`
	Main     string          `json:"main"`
	Facts    json.RawMessage `json:"facts"`
	Files    []surveyFile    `json:"files"`
	Folders  []string        `json:"folders"` // whose names decided something, there or not
	Problems []job.Problem   `json:"problems"`
}

// surveyFile is one file that a render reads.
type surveyFile struct {
	Path string `json:"path"`
	Name string `json:"name"`
	What string `json:"what"` // it belongs to; empty for the .blend itself, and for caches beside it
}

// inspectTimeout bounds one look at a file.
const inspectTimeout = 10 * time.Minute

// Inspect implements dispatch.Kind: it opens the file in a Blender on this
// machine and lists what a farm would trip over.
func (k *Kind) Inspect(ctx context.Context, s job.Spec) (job.Inspection, error) {
	if p := k.refuseEarly(s); p != nil {
		return job.Inspection{Problems: []job.Problem{*p}}, nil
	}
	here, _, err := k.ables(ctx)
	if err != nil {
		if errors.Is(err, ErrNoBlender) {
			return job.Inspection{Problems: []job.Problem{problem("Blender", err.Error(), "")}}, nil
		}
		return job.Inspection{}, err
	}
	p, note := choose(s, here)
	if note != nil && note.Severity == job.SeverityError {
		return job.Inspection{Problems: []job.Problem{*note}}, nil
	}
	began, before := time.Now(), stampOf(s.Input)
	key, keyed := k.lookKey(ctx, p, s)
	found, load, known := k.looks.recall(key, s.Input)
	if !known {
		load = new(loadLog)
		var log []byte
		if found, log, err = k.survey(ctx, p.program, s, load); err != nil {
			return job.Inspection{}, err
		}
		if !found.Opened {
			return job.Inspection{Problems: []job.Problem{unreadable(s.Input, p.Version, log)}}, nil
		}
	}
	in, err := k.inspection(ctx, s, note, found, load)
	if !known && keyed && err == nil && len(in.Refused()) == 0 && before.same(stampOf(s.Input)) {
		k.looks.remember(key, s.Input, began, found, load)
	}
	return in, err
}

// inspection is what was found, in the words of the farm.
func (k *Kind) inspection(ctx context.Context, s job.Spec, note *job.Problem, found survey, load *loadLog) (job.Inspection, error) {
	in := job.Inspection{Problems: slices.Clone(found.Problems)}
	if note != nil {
		in.Problems = slices.Insert(in.Problems, 0, *note)
	}
	for _, f := range found.Files {
		in.Deps = append(in.Deps, job.Dep{Path: f.Path, Name: f.Name})
	}
	in.Problems = append(in.Problems, k.opts.Roots.check(s.Input, found.Files)...)
	if string(found.Facts) == "{}" {
		return in, nil // there are problems that say why
	}
	facts := Facts{Version: found.Version, Build: found.Build, Main: found.Main}
	if err := json.Unmarshal(found.Facts, &facts); err != nil {
		return job.Inspection{}, fmt.Errorf("look at %s: %w", s.Input, err)
	}
	spec, err := DecodeSpec(s.Params)
	if err != nil {
		return job.Inspection{}, err
	}
	in.Problems = append(in.Problems, load.problems(facts.Scene, spec.Engine != "", k.ocio(s) == "")...)
	in.Problems = append(in.Problems, facts.filmProblems(spec.Frames)...)
	if err := k.inspectModel(ctx, spec, &facts, &in); err != nil {
		return job.Inspection{}, err
	}
	for i, d := range in.Deps {
		if job.SafeName(d.Name) != nil {
			in.Problems = append(in.Problems, problem(d.Path, "its name cannot travel to every system", "rename it without backslash or colon"))
			in.Deps[i].Name = ""
		}
	}
	in.Estimate = facts.estimate()
	in.Facts, err = json.Marshal(facts)
	return in, err
}

// estimate is what a device needs for a frame, as far as the file tells.
func (f Facts) estimate() job.Needs {
	n := job.Needs{MemoryBytes: max(f.MemoryBytes, 0), VRAMBytes: max(f.VRAMBytes, 0)}
	if f.CPUOnly {
		n.Device, n.VRAMBytes = "cpu", 0
	}
	return n
}

// refuseEarly finds what needs no Blender to see.
func (k *Kind) refuseEarly(s job.Spec) *job.Problem {
	refuse := func(where, message, remedy string) *job.Problem {
		p := problem(where, message, remedy)
		return &p
	}
	if _, err := DecodeSpec(s.Params); err != nil {
		return refuse("", err.Error(), "")
	}
	if c := k.ocio(s); c != "" && !builtInOCIO(c) {
		// Blender 3 aborts where it is not there.
		if fi, err := os.Stat(c); err != nil || !fi.Mode().IsRegular() {
			return refuse("Colour configuration (OCIO)", "the file "+c+" is missing", "correct the environment variable OCIO, or unset it")
		}
	}
	if s.Input == "" {
		return refuse("", "no .blend file given", "name one")
	}
	switch _, err := fileVersion(s.Input); {
	case errors.Is(err, os.ErrNotExist) && s.CopyOf != "":
		return refuse(s.CopyOf, "the copy of it that was submitted is gone", "submit it again")
	case errors.Is(err, os.ErrNotExist):
		return refuse(s.Input, "there is no such file", "check the path")
	case errors.Is(err, errNoFile):
		return refuse(s.Input, err.Error(), "name the .blend itself")
	case errors.Is(err, errCut):
		return refuse(s.Input, err.Error(), again)
	case errors.Is(err, errNotBlend):
		return refuse(s.Input, err.Error(), "choose a file that Blender saved")
	case err != nil:
		return refuse(s.Input, "it cannot be read: "+err.Error(), "check its permissions")
	}
	return nil
}

// again is what helps a file of which a part is missing.
const again = "save or copy it again, and wait for the end of that"

// unreadable is the problem of a file that Blender gives up on.
func unreadable(input, version string, log []byte) job.Problem {
	why, remedy := "", "see whether Blender opens it; if not, take an earlier version of it, such as its .blend1"
	for l := range strings.Lines(string(log)) {
		if _, after, ok := strings.Cut(l, "Error: "); ok {
			after = strings.TrimPrefix(strings.TrimSpace(after), "Failed to read blend file '"+input+"': ")
			why = ": " + strings.ReplaceAll(after, "'"+input+"'", "the file")
		}
	}
	// The block stands at a file's very end, and no Blender saves without.
	if strings.Contains(why, "Missing DNA block") {
		why, remedy = ": it is incomplete, its end is missing", again
	}
	return problem(input, fmt.Sprintf("Blender %s cannot read it%s", version, why), remedy)
}

func problem(where, message, remedy string) job.Problem {
	return job.Problem{Severity: job.SeverityError, Where: where, Message: message, Remedy: remedy}
}

// survey runs a Blender on the file; watch gets its log.
func (k *Kind) survey(ctx context.Context, p *program, s job.Spec, watch io.Writer) (survey, []byte, error) {
	var found survey
	work, err := os.MkdirTemp(k.opts.Scratch, "inspect-")
	if err != nil {
		return found, nil, err
	}
	defer os.RemoveAll(work)
	ask, out := filepath.Join(work, "ask.json"), filepath.Join(work, "out.json")
	wanted, err := k.asked(s.Params)
	if err != nil {
		return found, nil, err
	}
	if err := os.WriteFile(ask, wanted, 0o600); err != nil {
		return found, nil, err
	}
	input, real := s.Input, func(path string) string { return path }
	if s.CopyOf != "" {
		m, bad := mirrored(filepath.Join(work, "at"), s.Input, s.CopyOf)
		if bad != nil {
			return survey{Opened: true, Facts: json.RawMessage("{}"), Problems: []job.Problem{*bad}}, nil, nil
		}
		input, real = m.input, m.real
	}
	ctx, cancel := context.WithTimeoutCause(ctx, inspectTimeout, fmt.Errorf("no answer within %s", inspectTimeout))
	defer cancel()
	var env []string
	if c := k.ocio(s); c != "" {
		env = append(env, "OCIO="+c)
	}
	log, runErr := k.watched(ctx, p, work, env, watch, "-b", "-Y", "--factory-startup", "--python-exit-code", exitScript,
		input, "-P", filepath.Join(k.runner, "survey.py"), "--", ask, out)
	b, err := os.ReadFile(out)
	if err != nil {
		if isReadError(log) && !errors.Is(ctx.Err(), context.Canceled) {
			return survey{}, log, nil // 3.x ends at once when it cannot read a file
		}
		if runErr == nil {
			runErr = errors.New("it ran but did not answer")
		}
		return found, log, fmt.Errorf("Blender crashed on %s: %w; the end of its log:\n%s", s.Input, runErr, lastLines(log, 12)) //nolint:staticcheck // a name
	}
	if err := json.Unmarshal(b, &found); err != nil {
		return found, log, fmt.Errorf("look at %s: %w", s.Input, err)
	}
	for i := range found.Files {
		found.Files[i].Path = real(found.Files[i].Path)
	}
	for i, f := range found.Folders {
		found.Folders[i] = real(f)
	}
	for i := range found.Problems {
		p := &found.Problems[i]
		p.Where, p.Message = real(p.Where), real(p.Message)
	}
	return found, log, nil
}

// asked is what survey.py is asked: a person's overrides, and the disks.
func (k *Kind) asked(params json.RawMessage) ([]byte, error) {
	all := map[string]json.RawMessage{}
	if len(params) > 0 {
		if err := json.Unmarshal(params, &all); err != nil {
			return nil, err
		}
	}
	if len(k.opts.Disks) > 0 {
		disks, err := json.Marshal(k.opts.Disks)
		if err != nil {
			return nil, err
		}
		all["disks"] = disks
	}
	return json.Marshal(all)
}

func isReadError(log []byte) bool {
	return strings.Contains(string(log), "Failed to read blend file") || strings.Contains(string(log), "Unable to open")
}
