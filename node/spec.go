package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"idlewild/job"
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
	OCIO        string // absolute path of a colour configuration, or a built-in one's name
	Blender     string // version, build or path
	Recheck     *float64
	OnlyMissing bool
	Parts       string
	Finish      string // where files are made of what was rendered
	Video       string // what film the frames end in
	Exact       bool
	Params      json.RawMessage // the kind's own, as JSON; other settings are put over them
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
	if kind != blender.Name && kind != echo.Name {
		return job.Spec{}, job.Refuse("", fmt.Sprintf("there is no kind %q", kind), fmt.Sprintf("the kinds are %s and %s", blender.Name, echo.Name))
	}
	s := job.Spec{Kind: kind, Policy: job.Policy{Recheck: o.Recheck, OnlyMissing: o.OnlyMissing, Parts: o.Parts, Exact: o.Exact, Finish: o.Finish}}
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
		case fi.IsDir():
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
	if kind == blender.Name {
		s.Params, err = blenderParams(o)
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
		over(&p.OCIO, o.OCIO)
		over(&p.Blender, o.Blender)
		over(&p.Video, o.Video)
	}
	var b []byte
	if err == nil {
		b, err = json.Marshal(p)
	}
	if err == nil {
		_, err = blender.DecodeSpec(b)
	}
	if err != nil {
		return nil, job.Refuse("", err.Error(), "correct it")
	}
	return b, nil
}

// over replaces a value where something was said.
func over[T comparable](v *T, said T) {
	var nothing T
	if said != nothing {
		*v = said
	}
}
