package blender

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"idlewild/job"
)

// Enlarger is another kind, whose tasks make finished frames larger by a model.
// Nothing else is known of it here.
type Enlarger interface {
	// LookAtModel says what a model, a file on this machine, makes of pictures of
	// that size: Facts are for Enlarge, Deps its files under their base names. by
	// is how many times as large, 0 where the model says it itself. A problem
	// refuses the model, and names it.
	LookAtModel(ctx context.Context, file string, by, width, height int) (job.Inspection, error)
	// Enlarge plans with these facts. input is the job's manifest, in which the
	// model's files lie below folder. It returns how many times as large pictures
	// become, a task that each of the others comes after, and what makes the task
	// for one picture: the PNG `file` of the task `of`, delivered as final.
	Enlarge(facts json.RawMessage, input job.Ref, folder string) (scale int, model job.Task, each func(of job.Task, file string, width, height int, final string) (job.Task, error), err error)
}

const (
	// modelFolder holds the model's files in the input tree.
	modelFolder = "_model"
	// EnlargedFolder is where larger frames are delivered. Frames themselves keep
	// their names, whether or not a job makes larger ones: so none is rendered
	// again for a model.
	EnlargedFolder = "upscaled"
	// enlargedFrame is a larger frame's file among the outputs of its task.
	enlargedFrame = "picture.png"
)

func checkUpscale(model string, by int) error {
	switch {
	case model != "" && !filepath.IsAbs(model):
		return fmt.Errorf("render options: the model %q is no absolute path", clip(model))
	case by < 0 || by > maxEnlarged || by != 0 && model == "":
		return fmt.Errorf("render options: frames %d times as large, with the model %q", by, clip(model))
	}
	return nil
}

// maxEnlarged bounds how many times as large frames may become.
const maxEnlarged = 16

// inspectModel adds to what was found what becomes of frames afterwards.
func (k *Kind) inspectModel(ctx context.Context, spec SpecParams, facts *Facts, in *job.Inspection) error {
	if spec.Upscale == "" {
		return nil
	}
	if k.opts.Enlarger == nil {
		in.Problems = append(in.Problems, problem("upscale", "nothing here makes frames larger", "leave it out"))
		return nil
	}
	for _, d := range in.Deps {
		if strings.HasPrefix(d.Name, modelFolder+"/") {
			in.Problems = append(in.Problems, problem(d.Path, "the folder "+modelFolder+" is where the model goes", "give the folder another name"))
		}
	}
	m, err := k.opts.Enlarger.LookAtModel(ctx, spec.Upscale, spec.UpscaleBy, facts.Width, facts.Height)
	if err != nil {
		return fmt.Errorf("look at the model %s: %w", spec.Upscale, err)
	}
	facts.Model = m.Facts
	in.Problems = append(in.Problems, m.Problems...)
	for _, d := range m.Deps {
		d.Name = path.Join(modelFolder, d.Name)
		in.Deps = append(in.Deps, d)
	}
	return nil
}

// enlarging is how a job's frames are made larger.
type enlarging struct {
	f    *Facts
	each func(of job.Task, file string, width, height int, final string) (job.Task, error)
}

// enlarge plans what comes before the first larger frame. It returns nil where
// there are none.
func (k *Kind) enlarge(spec SpecParams, f *Facts, input job.Ref) (*enlarging, []job.Task, error) {
	if spec.Upscale == "" {
		return nil, nil, nil
	}
	if k.opts.Enlarger == nil || len(f.Model) == 0 {
		return nil, nil, fmt.Errorf("plan: the inspection found no model")
	}
	scale, model, each, err := k.opts.Enlarger.Enlarge(f.Model, input, modelFolder)
	if err != nil {
		return nil, nil, fmt.Errorf("plan: %w", err)
	}
	f.scale = scale
	return &enlarging{f, each}, []job.Task{model}, nil
}

// frame is the task for one frame, of which last leaves the picture.
func (e *enlarging) frame(last job.Task, number, final string) (job.Task, error) {
	name := path.Join(EnlargedFolder, strings.TrimSuffix(final, path.Ext(final))+".png")
	t, err := e.each(last, e.f.frameFile(), e.f.Width, e.f.Height, name)
	t.Label = number + " upscaled"
	return t, err
}

// filmFrames are the size of a film's frames, and the name of their files.
func (f Facts) filmFrames() (width, height int, file string) {
	if f.scale == 0 {
		return f.Width, f.Height, f.frameFile()
	}
	return f.Width * f.scale, f.Height * f.scale, enlargedFrame
}
