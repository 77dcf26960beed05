package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"idlewild/job"
	"idlewild/render/ai"
	"idlewild/render/blender"
	"idlewild/render/echo"
)

// SpecOptions are what the command line can say of a job. Zero values leave it
// to the file.
type SpecOptions struct {
	Kind        string // empty: by the file's name
	Frames      string
	Output      string
	Scene       string
	Camera      string
	ViewLayer   string
	Engine      string
	Samples     int
	Width       int
	Height      int
	Denoise     string
	Precision   string // of what comes back to be finished
	NoSequencer bool   // the scene's own picture where strips would replace it
	Bake        bool   // what simulations are not baked
	OCIO        string // absolute path of a colour configuration, or a built-in one's name
	Blender     string // version, build or path
	Recheck     *float64
	OnlyMissing bool
	Parts       string
	Finish      string // where files are made of what was rendered
	Video       string // what film the frames end in
	Exact       bool
	Priority    int
	MaxPrice    float64
	Limits      job.Limits
	Stewards    []string        // members, by id or name, or NoSteward
	Params      json.RawMessage // the kind's own, as JSON; other settings are put over them
	Model       string          // of an AI job: path, or name of one that was added
	Upscale     string          // pictures, so many times as large; of frames, the model or so many times
	Config      Config          // of this machine: where models are
}

// SpecFor makes a Spec of a file and options. Trouble with the file is a
// refusal that names it.
func SpecFor(file string, o SpecOptions) (job.Spec, error) {
	kind := job.Kind(o.Kind)
	if kind == "" {
		if file == "" {
			return job.Spec{}, job.Refuse("", "no file was given", "name a .blend file, or a kind with --kind")
		}
		if strings.ToLower(filepath.Ext(strings.TrimRight(file, "0123456789"))) != ".blend" {
			return job.Spec{}, job.Refuse(file, "is not a .blend file", "name one, or say what it is with --kind")
		}
		kind = blender.Name
	}
	if kind != blender.Name && kind != echo.Name && kind != ai.Name {
		return job.Spec{}, job.Refuse("", fmt.Sprintf("there is no kind %q", kind), fmt.Sprintf("the kinds are %s, %s and %s", blender.Name, ai.Name, echo.Name))
	}
	if kind != ai.Name && o.Model != "" {
		return job.Spec{}, job.Refuse("", "--model is for AI jobs", fmt.Sprintf("say --kind %s, or --upscale for what makes frames larger", ai.Name))
	}
	if kind == echo.Name && o.Upscale != "" {
		return job.Spec{}, job.Refuse("", "--upscale is for pictures", "leave it out")
	}
	s := job.Spec{Kind: kind, Policy: job.Policy{Recheck: o.Recheck, OnlyMissing: o.OnlyMissing, Parts: o.Parts, Exact: o.Exact, Finish: o.Finish,
		Stewards: o.Stewards, Priority: o.Priority, MaxPrice: o.MaxPrice, Limits: o.Limits}}
	var err error
	if file != "" {
		if s.Input, err = filepath.Abs(file); err != nil {
			return s, err
		}
		fi, err := os.Stat(s.Input)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return s, job.Refuse(file, "no such file", "check the path")
		case err != nil:
			return s, job.Refuse(file, rootCause(err), "make it readable")
		case fi.IsDir() && kind != ai.Name:
			return s, job.Refuse(file, "is a folder", "name the file in it")
		}
		s.Title = filepath.Base(s.Input)
	}
	if o.Output != "" {
		if s.Output, err = filepath.Abs(o.Output); err != nil {
			return s, err
		}
	}
	s.Params = o.Params
	switch kind {
	case blender.Name:
		s.Params, err = blenderParams(o)
	case ai.Name:
		s.Params, err = aiParams(s.Input, o)
	}
	if s.Title == "" {
		s.Title = string(kind)
	}
	if err == nil {
		err = s.Validate()
	}
	return s, err
}

func blenderParams(o SpecOptions) (json.RawMessage, error) {
	p, err := blender.DecodeSpec(o.Params)
	if err == nil {
		over(&p.Frames, o.Frames)
		over(&p.Scene, o.Scene)
		over(&p.Camera, o.Camera)
		over(&p.ViewLayer, o.ViewLayer)
		over(&p.Engine, o.Engine)
		over(&p.Samples, o.Samples)
		over(&p.Width, o.Width)
		over(&p.Height, o.Height)
		over(&p.Denoise, o.Denoise)
		over(&p.Precision, o.Precision)
		p.Bake = p.Bake || o.Bake
		if o.NoSequencer {
			p.Sequencer = "off"
		}
		over(&p.OCIO, o.OCIO)
		over(&p.Blender, o.Blender)
		over(&p.Video, o.Video)
		if o.Upscale != "" {
			var refused error
			if p.Upscale, refused = modelPath(upscaler(o.Upscale), o.Config); refused != nil {
				return nil, refused
			}
		}
	}
	var b []byte
	if err == nil {
		b, err = json.Marshal(p)
	}
	if err == nil {
		_, err = blender.DecodeSpec(b)
	}
	if err != nil {
		return nil, job.Refuse("", err.Error(), "")
	}
	return b, nil
}

// aiParams are those of a job file, or of inputs that the options say the model
// for.
func aiParams(input string, o SpecOptions) (json.RawMessage, error) {
	var p ai.Spec
	var err error
	if input == "" {
		return nil, job.Refuse("", "no job file was given", "name one, as job.toml, or inputs with --model")
	}
	switch strings.ToLower(filepath.Ext(input)) {
	case ".toml":
		if p, err = ai.ReadJob(input); err != nil {
			return nil, err
		}
	default:
		p.Inputs = input
	}
	if len(o.Params) > 0 {
		d := json.NewDecoder(bytes.NewReader(o.Params))
		d.DisallowUnknownFields()
		if err := d.Decode(&p); err != nil {
			return nil, job.Refuse("--params", err.Error(), "docs/ai.md has the settings")
		}
	}
	over(&p.Model, o.Model)
	if named, batch := ai.BatchModel(p.Inputs); batch && p.Model == "" {
		// As OpenAI's batches do it, the requests themselves name the model: one
		// that was added, since a path is nobody's business there.
		if named == "" {
			return nil, job.Refuse(input, "its requests name no model", "say --model, or put \"model\" into the body of each")
		}
		m, err := findModel(o.Config, named)
		if err != nil {
			return nil, err
		}
		p.Model, p.Called = m.Path(o.Config), named
	}
	if o.Upscale != "" {
		times, err := strconv.Atoi(o.Upscale)
		if err != nil || times < 2 {
			return nil, job.Refuse("--upscale "+o.Upscale, "it is no number of at least 2", "say how many times as large, and the model with --model")
		}
		p.Scale = times
		if p.Model == "" {
			p.Model = upscaler(o.Upscale)
		}
	}
	if p.Model != "" {
		if p.Model, err = modelPath(p.Model, o.Config); err != nil {
			return nil, err
		}
	}
	return p.Encode()
}

// upscaler is the model that is meant by how many times as large; any other
// words name it themselves.
func upscaler(s string) string {
	if times, err := strconv.Atoi(s); err == nil {
		return fmt.Sprintf("upscale%d", times)
	}
	return s
}

// modelPath is where a model is: a path, or the name of one that was added.
func modelPath(model string, cfg Config) (string, error) {
	if ai.IsPath(model) {
		return filepath.Abs(model)
	}
	m, err := findModel(cfg, model)
	if err != nil {
		return "", err
	}
	return m.Path(cfg), nil
}

// over replaces a value where something was said.
func over[T comparable](v *T, said T) {
	var nothing T
	if said != nothing {
		*v = said
	}
}
