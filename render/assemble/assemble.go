// Package assemble puts a frame together that was rendered in parts: tiles,
// ranges of samples, or both. It is a kind of work of its own, done by this
// program in a process and a sandbox of its own, because what it reads comes
// from strangers.
//
// A frame that is denoised takes two steps. Join also leaves what a denoiser
// is guided by, and Denoised puts the denoiser's picture where the noisy one
// was. Denoising the parts instead would leave seams. Guides leaves the same for
// a frame that is denoised already, so that this can be done again.
package assemble

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/gorunner"
)

// Name is the kind's name in a job.Task.
const Name job.Kind = "assemble"

// Version of what parameters mean: a fact that a machine has.
const Version = "1"

// VersionReels is that of machines that pack reels, too.
const VersionReels = "2"

// VersionViews is that of machines that take views apart, too.
const VersionViews = "3"

// Files that tasks of this kind leave.
const (
	FrameFile  = "frame.exr"
	GuidesFile = "guides.exr"
	ReelFile   = "reel.tar"
)

// DenoisedFile is what a denoiser leaves for Denoised: the picture of
// GuidesFile without noise, upside down like it.
const DenoisedFile = "denoised.exr"

// Params are a task's parameters: JSON with the fields in this order.
type Params struct {
	Op     string `json:"op"` // "join", "denoised", "guides", "reel" or "views"
	Width  int    `json:"width,omitempty"`
	Height int    `json:"height,omitempty"`
	// Parts are what the predecessors rendered, in their order (join only).
	// Those of one Keep follow each other.
	Parts []Part `json:"parts,omitempty"`
	// Denoise names the layers that are denoised.
	Denoise []string `json:"denoise,omitempty"`
	// Guided names the layers whose guiding passes the artist wants in the
	// frame too (denoised only).
	Guided []string `json:"guided,omitempty"`
	Half   bool     `json:"half,omitempty"` // light is stored as 16-bit floats
	// A reel holds Count predecessors' files Frame under their numbers in the
	// film, from First on (reel only).
	First int    `json:"first,omitempty"`
	Count int    `json:"count,omitempty"`
	Frame string `json:"frame,omitempty"`
	// Views of the frame, each of which becomes a file (views only).
	Views []string `json:"views,omitempty"`
}

// ViewFile is the name of the file of the i-th view.
func ViewFile(i int) string { return fmt.Sprintf("view-%d.exr", i) }

// Part is what one predecessor rendered.
type Part struct {
	Tile    job.Rect `json:"tile"` // the rectangle of the frame that its file shows
	Keep    job.Rect `json:"keep"` // what of it becomes the frame's
	Samples int      `json:"samples"`
}

// The operations of Params.Op.
const (
	OpJoin     = "join"
	OpDenoised = "denoised"
	OpGuides   = "guides"
	OpReel     = "reel"
	OpViews    = "views"
)

// Bounds.
const (
	MaxParts  = job.MaxTasksPerLease
	maxSide   = 1 << 16
	maxLayers = 64
	maxViews  = 32
)

// Encode returns the bytes that go into Task.Params.
func (p Params) Encode() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("assemble params: %v", err)) // its fields always encode
	}
	return b
}

// decode reads and checks the parameters of a task that may come from a
// stranger.
func decode(b []byte) (Params, error) {
	var p Params
	if len(b) > job.MaxTaskBytes {
		return p, fmt.Errorf("assemble task: %d bytes of parameters", len(b))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("assemble task: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return p, fmt.Errorf("assemble task: bytes after the end")
	}
	if p.Op == OpReel {
		return p, p.checkReel()
	}
	switch {
	case p.First != 0 || p.Count != 0 || p.Frame != "":
		return p, fmt.Errorf("assemble task: %s of a reel", p.Op)
	case p.Op != OpJoin && p.Op != OpDenoised && p.Op != OpGuides && p.Op != OpViews:
		return p, fmt.Errorf("assemble task: operation %q", p.Op)
	case p.Width <= 0 || p.Height <= 0 || p.Width > maxSide || p.Height > maxSide:
		return p, fmt.Errorf("assemble task: frame of %dx%d", p.Width, p.Height)
	case len(p.Parts) > MaxParts || (p.Op == OpJoin) != (len(p.Parts) > 0):
		return p, fmt.Errorf("assemble task: %s of %d parts", p.Op, len(p.Parts))
	case len(p.Views) > maxViews || (p.Op == OpViews) != (len(p.Views) > 0):
		return p, fmt.Errorf("assemble task: %s of %d views", p.Op, len(p.Views))
	case len(p.Denoise) > maxLayers || len(p.Guided) > maxLayers:
		return p, fmt.Errorf("assemble task: more than %d layers", maxLayers)
	}
	for _, s := range p.Parts {
		if err := (job.Part{Tile: s.Tile}).Validate(); err != nil {
			return p, fmt.Errorf("assemble task: %w", err)
		}
		t, k := s.Tile, s.Keep
		if k.X0 < t.X0 || k.Y0 < t.Y0 || k.X1 > t.X1 || k.Y1 > t.Y1 || k.Dx() <= 0 || k.Dy() <= 0 {
			return p, fmt.Errorf("assemble task: %v of tile %v", k, t)
		}
		if s.Samples < 0 {
			return p, fmt.Errorf("assemble task: part of %d samples", s.Samples)
		}
	}
	return p, nil
}

// Kind runs the tasks; others plan them. It implements render.Kind.
type Kind struct{ exe string }

var _ render.Kind = (*Kind)(nil)

// New returns the kind. exe is the absolute path of a program whose main
// function calls RunnerMain first: this one, usually.
func New(exe string) *Kind { return &Kind{exe: exe} }

// Probe implements render.Kind.
func (k *Kind) Probe(context.Context) (map[string][]string, []string, error) {
	return map[string][]string{string(Name): {Version, VersionReels, VersionViews}}, nil, nil
}

// Session implements render.Kind: one process serves all tasks.
func (k *Kind) Session(render.Task, render.Dirs) (string, render.Command, error) {
	return string(Name), gorunner.Command(k.exe, string(Name)), nil
}

// request is what the process is asked.
type request struct {
	Params Params   `json:"params"`
	Prior  []string `json:"prior"`
	Out    string   `json:"out"`
}

// Request implements render.Kind.
func (k *Kind) Request(t render.Task, at render.Mount) (render.Request, error) {
	p, err := decode(t.Params)
	if err != nil {
		return render.Request{}, err
	}
	if want := max(len(p.Parts), p.Count, 1); len(at.Prior) < want {
		return render.Request{}, fmt.Errorf("assemble task: %d parts where %d are told", len(at.Prior), want)
	}
	b, err := json.Marshal(request{Params: p, Prior: at.Prior, Out: at.Out})
	if err != nil {
		return render.Request{}, err
	}
	return render.Request{JSON: b, Timeout: t.Timeout}, nil
}
