package blender

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"idlewild/job"
)

// SpecParams are what a person may ask of a render beyond the file's own
// settings: job.Spec.Params, decoded strictly. Zero values mean the file's.
type SpecParams struct {
	Frames    string `json:"frames,omitempty"` // as people write them, "1-250x5,300"; empty: the file's range
	Scene     string `json:"scene,omitempty"`
	Camera    string `json:"camera,omitempty"`
	ViewLayer string `json:"view_layer,omitempty"`
	Engine    string `json:"engine,omitempty"` // "cycles", "eevee" or Blender's own name
	Samples   int    `json:"samples,omitempty"`
	Width     int    `json:"width,omitempty"` // with Height; the percentage is then 100
	Height    int    `json:"height,omitempty"`
	Percent   int    `json:"percent,omitempty"` // of the file's resolution
	Name      string `json:"name,omitempty"`    // of finished files, # for the frame: "shot_####"
	Denoise   string `json:"denoise,omitempty"` // "off", or "auto": as the file says, where the build can
	// Precision of what render tasks leave for finishing: "half", or "float",
	// the default, with which the finished file is the one that Blender alone
	// would have written.
	Precision string `json:"precision,omitempty"`
	OCIO      string `json:"ocio,omitempty"`  // absolute path of the colour configuration; empty: Blender's own
	Video     string `json:"video,omitempty"` // "h264", "h265", "av1", "prores"; "none"; empty: as the scene's output says
	// Upscale is the absolute path of a model that makes finished frames larger;
	// UpscaleBy says how many times, where the model does not.
	Upscale   string `json:"upscale,omitempty"`
	UpscaleBy int    `json:"upscale_by,omitempty"`
	Sequencer string `json:"sequencer,omitempty"` // "off": the scene's own picture, also where strips would replace it
	// Bake has a task bake, before all frames, the simulations that are not baked.
	Bake    bool   `json:"bake,omitempty"`
	Blender string `json:"blender,omitempty"` // version, build or path of the one to render with; empty: the file decides
}

// DecodeSpec reads and checks SpecParams; no bytes mean all defaults.
func DecodeSpec(raw json.RawMessage) (SpecParams, error) {
	var p SpecParams
	if len(raw) == 0 {
		return p, nil
	}
	if err := strict(raw, &p); err != nil {
		return p, fmt.Errorf("render options: %w", err)
	}
	switch {
	case p.Denoise != "" && p.Denoise != "auto" && p.Denoise != "off":
		return p, fmt.Errorf("render options: denoise is %q, not \"auto\" or \"off\"", clip(p.Denoise))
	case p.Precision != "" && p.Precision != "float" && p.Precision != precisionHalf:
		return p, fmt.Errorf("render options: precision is %q, not \"float\" or \"half\"", clip(p.Precision))
	case p.Sequencer != "" && p.Sequencer != "off":
		return p, fmt.Errorf("render options: sequencer is %q, not \"off\"", clip(p.Sequencer))
	case p.Percent < 0 || p.Percent > 1000:
		return p, fmt.Errorf("render options: %d percent of the resolution", p.Percent)
	case (p.Width == 0) != (p.Height == 0):
		return p, fmt.Errorf("render options: width and height go together")
	case p.Width != 0 && p.Percent != 0:
		return p, fmt.Errorf("render options: a resolution and a percentage of it exclude each other")
	}
	if err := checkVideo(p.Video); err != nil {
		return p, err
	}
	if err := checkUpscale(p.Upscale, p.UpscaleBy); err != nil {
		return p, err
	}
	if p.OCIO != "" && !filepath.IsAbs(p.OCIO) && !builtInOCIO(p.OCIO) {
		return p, fmt.Errorf("render options: the colour configuration %q is no absolute path", clip(p.OCIO))
	}
	if p.Frames != "" {
		if _, err := parseFrames(p.Frames); err != nil {
			return p, err
		}
	}
	if p.Name != "" {
		if err := job.SafeName(frameName(p.Name, 0)); err != nil {
			return p, fmt.Errorf("render options: name: %w", err)
		}
	}
	return p, checkCommon(p.Samples, p.Width, p.Height, p.Scene, p.Camera, p.ViewLayer, p.Engine, p.Blender)
}

// Params are what one task asks of Blender: job.Task.Params, JSON with the
// fields in this order. Zero values mean the file's own.
type Params struct {
	Op        string `json:"op"`   // "bake", "render", "denoise", "finish", "film", "sequence" or "crop"
	Main      string `json:"main"` // the .blend, in the input tree
	Frame     int    `json:"frame"`
	Build     string `json:"build,omitempty"` // of Blender, that the job is pinned to; empty: any
	Scene     string `json:"scene,omitempty"`
	Camera    string `json:"camera,omitempty"`
	ViewLayer string `json:"view_layer,omitempty"`
	Engine    string `json:"engine,omitempty"`
	Samples   int    `json:"samples,omitempty"`
	Width     int    `json:"width,omitempty"`
	Height    int    `json:"height,omitempty"`
	Percent   int    `json:"percent,omitempty"`
	Denoise   string `json:"denoise,omitempty"` // "off": whatever the file says; "later": keep what a denoiser is guided by; "guided": denoise, and keep it
	// Depth and Codec of the EXR's channels, where it is the delivered file.
	// Depth is "16" also where a job asks for halves on the way.
	Depth string `json:"depth,omitempty"`
	Codec string `json:"codec,omitempty"`
	// Persistent keeps Cycles' data from frame to frame. Only for one view
	// layer: with several the first frame already comes out wrong.
	Persistent bool `json:"persistent,omitempty"`
	// Framed says that the file has a border that does not crop: crops of it
	// come back as whole frames, empty outside.
	Framed bool `json:"framed,omitempty"`
	// Extension of the finished file, as Blender names it: ".png".
	Extension string `json:"extension,omitempty"`
	// Views that are rendered, in their order; of a crop the one that is
	// compared. Empty: one picture without a name.
	Views []string `json:"views,omitempty"`
	// Suffixes of the finished files, where each view has one.
	Suffixes []string `json:"suffixes,omitempty"`
	// OCIO is the colour configuration, in the input tree or built in.
	OCIO string `json:"ocio,omitempty"`
	// Files that the compositor's File Output nodes leave, in their order.
	Files []string `json:"files,omitempty"`
	Crops []Crop   `json:"crops,omitempty"`
	// FilmFrame asks a finish task for a PNG beside the finished file.
	FilmFrame bool  `json:"film_frame,omitempty"`
	Film      *Film `json:"film,omitempty"`
	// Baked says that the first predecessor baked the file that is rendered.
	Baked bool `json:"baked,omitempty"`
	// Tree asks a bake for a folder, of which frames read a part, and not for
	// one archive, as earlier programs did.
	Tree bool `json:"tree,omitempty"`
}

// late reports whether a session opens its file by the first request.
func (p Params) late() bool { return p.Baked || p.Op == opBake }

// Crop is one rectangle to render again.
type Crop struct {
	// Rect is what is rendered, a few pixels more than what was asked for.
	Rect job.Rect `json:"rect"`
	// Asked is the rectangle that is compared.
	Asked job.Rect `json:"asked"`
	Runs  []Run    `json:"runs"`
	// Look says that this is no crop but all of it, with few samples.
	Look bool `json:"look,omitempty"`
}

// Run is one way of rendering a crop.
type Run struct {
	From      int  `json:"from,omitempty"` // samples, half-open; 0, 0: all
	To        int  `json:"to,omitempty"`
	SeedDelta int  `json:"seed_delta,omitempty"` // added to the file's seed
	Count     bool `json:"count,omitempty"`      // with a pass that counts samples
	// Other renders as other hardware might: with another ray tracing
	// structure and older instructions. On the CPU only.
	Other bool `json:"other,omitempty"`
}

// The operations of Params.Op.
const (
	opBake    = "bake" // Frame is the last one that anything has to be baked for
	opRender  = "render"
	opDenoise = "denoise"
	opFinish  = "finish"
	opFilm    = "film"
	opStrips  = "sequence"
	opCrop    = "crop"
)

// precisionHalf is a value of SpecParams.Precision.
const precisionHalf = "half"

// Values of Params.Denoise.
const (
	denoiseOff    = "off"
	denoiseLater  = "later"
	denoiseGuided = "guided"
)

const (
	maxCrops    = job.MaxOutputs
	maxViews    = 32
	maxSide     = 1 << 16
	maxSamples  = 1 << 24
	maxText     = 256
	maxFileName = job.MaxNameBytes
)

// encode returns the bytes that go into Task.Params.
func (p Params) encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("blender params: %v", err)) // its fields always encode
	}
	return b
}

// DecodeParams reads and checks the parameters of a task that may come from a
// stranger.
func DecodeParams(b []byte) (Params, error) {
	var p Params
	if len(b) > job.MaxTaskBytes {
		return p, fmt.Errorf("blender task: %d bytes of parameters", len(b))
	}
	if err := strict(b, &p); err != nil {
		return p, fmt.Errorf("blender task: %w", err)
	}
	switch {
	case p.Op != opBake && p.Op != opRender && p.Op != opDenoise && p.Op != opFinish && p.Op != opFilm && p.Op != opStrips && p.Op != opCrop:
		return p, fmt.Errorf("blender task: operation %q", clip(p.Op))
	case p.Frame < -maxFrame || p.Frame > maxFrame:
		return p, fmt.Errorf("blender task: frame %d", p.Frame)
	case p.Percent < 0 || p.Percent > 1000:
		return p, fmt.Errorf("blender task: %d percent", p.Percent)
	case p.Denoise != "" && p.Denoise != denoiseOff && p.Denoise != denoiseLater && p.Denoise != denoiseGuided:
		return p, fmt.Errorf("blender task: denoise %q", clip(p.Denoise))
	case p.Depth != "" && p.Depth != "16" && p.Depth != "32":
		return p, fmt.Errorf("blender task: depth %q", clip(p.Depth))
	case len(p.Codec) > 16:
		return p, fmt.Errorf("blender task: codec %q", clip(p.Codec))
	case p.Extension != "" && !safeExtension(p.Extension):
		return p, fmt.Errorf("blender task: extension %q", clip(p.Extension))
	case (p.Op == opCrop) != (len(p.Crops) > 0):
		return p, fmt.Errorf("blender task: %s with %d crops", p.Op, len(p.Crops))
	case (p.Op == opFilm) != (p.Film != nil) || p.Op == opFilm && p.Extension == "":
		return p, fmt.Errorf("blender task: %s with a film, or a film without a name", p.Op)
	case p.Baked && p.Op != opRender && p.Op != opCrop:
		return p, fmt.Errorf("blender task: %s of a baked file", p.Op)
	case p.Tree && p.Op != opBake:
		return p, fmt.Errorf("blender task: %s that leaves a folder", p.Op)
	case p.FilmFrame && p.Op != opFinish && p.Op != opStrips:
		return p, fmt.Errorf("blender task: %s that leaves a frame of a film", p.Op)
	}
	if len(p.Views) > maxViews || len(p.Suffixes) > maxViews {
		return p, fmt.Errorf("blender task: %d views", max(len(p.Views), len(p.Suffixes)))
	}
	if err := checkCommon(0, 0, 0, slices.Concat(p.Views, p.Suffixes)...); err != nil {
		return p, fmt.Errorf("blender task: views: %w", err)
	}
	if p.Film != nil {
		if err := p.Film.validate(); err != nil {
			return p, err
		}
	}
	if err := job.SafeName(p.Main); err != nil {
		return p, fmt.Errorf("blender task: main file: %w", err)
	}
	if len(p.Files) >= job.MaxOutputs {
		return p, fmt.Errorf("blender task: %d files of File Output nodes", len(p.Files))
	}
	for _, f := range p.Files {
		if err := job.SafeName(f); err != nil {
			return p, fmt.Errorf("blender task: %w", err)
		}
	}
	if p.OCIO != "" && !builtInOCIO(p.OCIO) {
		if err := job.SafeName(p.OCIO); err != nil {
			return p, fmt.Errorf("blender task: colour configuration: %w", err)
		}
	}
	runs := 0
	for _, c := range p.Crops {
		runs += len(c.Runs)
		if err := (job.Part{Tile: c.Rect}).Validate(); err != nil || c.Rect == (job.Rect{}) || len(c.Runs) == 0 || runs > maxCrops {
			return p, fmt.Errorf("blender task: bad crop %v", c.Rect)
		}
		for _, r := range c.Runs {
			if r.From < 0 || r.To < 0 || r.To > maxSamples || (r.To > 0 && r.From >= r.To) || (r.To == 0 && r.From != 0) || r.SeedDelta < 0 || r.SeedDelta > 1<<20 {
				return p, fmt.Errorf("blender task: bad run %+v", r)
			}
		}
	}
	return p, checkCommon(p.Samples, p.Width, p.Height, p.Scene, p.Camera, p.ViewLayer, p.Engine, p.Build)
}

func checkCommon(samples, width, height int, names ...string) error {
	switch {
	case samples < 0 || samples > maxSamples:
		return fmt.Errorf("%d samples", samples)
	case width < 0 || height < 0 || width > maxSide || height > maxSide:
		return fmt.Errorf("resolution of %dx%d", width, height)
	}
	for _, n := range names {
		if len(n) > maxText || !utf8.ValidString(n) || strings.ContainsRune(n, 0) {
			return fmt.Errorf("name of %d bytes", len(n))
		}
	}
	return nil
}

func safeExtension(s string) bool {
	if len(s) < 2 || len(s) > 8 || s[0] != '.' {
		return false
	}
	for _, c := range s[1:] {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// strict decodes one JSON value without unknown fields or trailing bytes.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("bytes after the end")
	}
	return nil
}
