package ai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"idlewild/job"
	"idlewild/render/ai/onnx"
)

// What follows is for kinds whose jobs end in pictures that a model makes
// larger. They know nothing of this one but the tasks that they are given: a
// frame is a predecessor's output, and so is the model, which one task of the
// job takes out of its files. So machines that enlarge need none of the files
// that others rendered from.

// LookAtModel says what a model, a file on this machine, makes of pictures of
// that size: Facts are for Enlarge, Deps the model's files under their base
// names. by is how many times as large, 0 where the model says it itself. A
// problem refuses the model, and names it.
func (k *Kind) LookAtModel(ctx context.Context, file string, by, width, height int) (job.Inspection, error) {
	in, err := k.lookAtModel(ctx, file, by, width, height)
	var r *job.RefusedError
	if errors.As(err, &r) {
		for i := range r.Problems {
			if r.Problems[i].Where == "model" {
				r.Problems[i].Where = filepath.Base(file)
				r.Problems[i].Remedy = "name a model whose one input is float32 [n 3 height width], or 1 for grey"
			}
		}
		return job.Inspection{Problems: r.Problems}, nil
	}
	return in, err
}

func (k *Kind) lookAtModel(ctx context.Context, file string, by, width, height int) (job.Inspection, error) {
	var in job.Inspection
	name := filepath.Base(file)
	if isGGUF(file) {
		return in, job.Refuse(name, "it is a language model and makes no pictures", "name an ONNX model that makes pictures larger")
	}
	m, err := k.model(ctx, file)
	if err != nil {
		return in, err
	}
	input, makes, err := paints(m)
	if err != nil {
		return in, err
	}
	if !makes {
		return in, job.Refuse(name, "it makes no pictures: "+kinds(m.Outputs), "name a model whose one output is float32 [n 3 height width]")
	}
	f := facts{Model: name, Precision: m.Precision, Scale: by}
	if f.Scale == 0 && !m.Reach.Known {
		if f.Scale = statedScale(input, m.Outputs[0]); f.Scale == 0 {
			return in, job.Refuse(name, "it does not say how many times as large it makes a picture: "+m.Reach.Why, `say it, as --params '{"upscale_by": 4}'`)
		}
	}
	if err := f.scaled(m); err != nil {
		return in, err
	}
	large := tooLarge(width*f.Scale, height*f.Scale)
	switch {
	case large != "":
		return in, job.Refuse(name, fmt.Sprintf("frames of %dx%d pixels become too large: %s", width, height, large), "render smaller ones, or name a model for less")
	case f.only(input, width, height):
		return in, job.Refuse(name, fmt.Sprintf("it takes %dx%d pixels only, and frames have %dx%d", input.Dims[3].N, input.Dims[2].N, width, height),
			"export the model for any size, or render frames of this one")
	}
	if f.SHA256, err = sha256File(file); err != nil {
		return in, err
	}
	in.Deps = append(in.Deps, job.Dep{Path: file, Name: f.Model})
	for _, more := range m.External {
		in.Deps = append(in.Deps, job.Dep{Path: filepath.Join(filepath.Dir(file), more), Name: more})
	}
	for _, d := range in.Deps {
		if err := job.SafeName(d.Name); err != nil {
			return in, job.Refuse(d.Path, err.Error(), "rename it")
		}
		f.Files = append(f.Files, d.Name)
	}
	if len(f.Files) > job.MaxOutputs {
		return in, job.Refuse(name, fmt.Sprintf("its weights are in %d files", len(f.Files)-1), "save the model with its weights inside")
	}
	in.Facts, err = json.Marshal(f)
	return in, err
}

// statedScale is what fixed shapes say; 0: nothing.
func statedScale(from, to onnx.Value) int {
	w, h, toW, toH := from.Dims[3].N, from.Dims[2].N, to.Dims[3].N, to.Dims[2].N
	if w <= 0 || h <= 0 || toW%w != 0 || toH%h != 0 || toW/w != toH/h || toW/w > maxScale {
		return 0
	}
	return int(toW / w)
}

// Enlarge plans with what LookAtModel found. input is the manifest of the job,
// in which the model's files lie below folder. It returns how many times as
// large pictures become, the task that takes the model out of the files, and
// what makes the task for one picture: the PNG `file` of the task `of`, with
// width and height before, delivered under the name final.
func (k *Kind) Enlarge(raw json.RawMessage, input job.Ref, folder string) (scale int, model job.Task, each func(of job.Task, file string, width, height int, final string) (job.Task, error), err error) {
	var f facts
	if err := json.Unmarshal(raw, &f); err != nil {
		return 0, model, nil, fmt.Errorf("facts of the model: %w", err)
	}
	p := planner{facts: f, input: input}
	model = job.Task{
		Kind: Name, Params: Params{Op: opModel, Model: f.Model, SHA256: f.SHA256, Input: folder, Files: f.Files}.encode(),
		Input: input, Label: "model", Place: job.AtRequester, Needs: job.Needs{Require: map[string]string{string(Name): versionPrior}},
	}
	for _, name := range f.Files {
		model.Outputs = append(model.Outputs, job.OutputRule{Name: name, Media: job.MediaFile})
	}
	need := p.needs()
	need.Require[string(Name)] = versionPrior
	each = func(of job.Task, file string, width, height int, final string) (job.Task, error) {
		q := Params{Op: opPicture, Model: f.Model, SHA256: f.SHA256, Prior: file, Width: width * f.Scale, Height: height * f.Scale, Scale: f.Scale}
		if err := q.validate(); err != nil {
			return job.Task{}, err
		}
		check, err := p.check(pictureFile, job.RerunCheck{Width: q.Width, Height: q.Height})
		return job.Task{
			Kind: Name, Params: q.encode(), After: []job.TaskKey{of.Key(), model.Key()}, Needs: need, Check: check, Rank: of.Rank,
			Outputs: []job.OutputRule{{Name: pictureFile, Media: job.MediaPNG, Final: final}},
		}, err
	}
	return f.Scale, model, each, nil
}

// takeModel puts the model's files where tasks after this one find them.
func (r request) takeModel() error {
	for _, name := range r.Params.Files {
		to := filepath.Join(r.Out, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return trouble{job.Broken, err}
		}
		if err := copyFile(filepath.Join(r.In, filepath.FromSlash(path.Join(r.Params.Input, name))), to); err != nil {
			return absent(name, err, job.Broken)
		}
	}
	return nil
}

// absent is why a file of a task is not read. One that the task does not bring
// is no fault of this machine, and where tasks run is nobody else's business.
func absent(name string, err error, otherwise job.Outcome) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not among the task's files", name)
	}
	return trouble{otherwise, err}
}

// checkFiles checks the names of a model's files, each of which has to have its
// own place.
func checkFiles(files []string) error {
	if len(files) == 0 || len(files) > job.MaxOutputs {
		return fmt.Errorf("a model of %d files", len(files))
	}
	taken := map[string]bool{}
	for _, name := range files {
		if name == "" || taken[name] {
			return fmt.Errorf("a model with two files, or one without a name, at %q", name)
		}
		taken[name] = true
	}
	for _, name := range files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if taken[dir] {
				return fmt.Errorf("a model whose file %q is the folder of another", dir)
			}
		}
	}
	return nil
}

// checkPart checks which part of a picture is asked for.
func (p Params) checkPart(part job.Part) error {
	t := part.Tile
	if p.Op != opPicture || part.Whole() {
		return nil
	}
	if p.Pipeline != "" {
		return fmt.Errorf("ai task: part %v of a picture that is made as a whole", part)
	}
	if part != (job.Part{Tile: t}) || t.X0 < 0 || t.Y0 < 0 || t.Dx() <= 0 || t.Dy() <= 0 || t.X1 > p.Width || t.Y1 > p.Height {
		return fmt.Errorf("ai task: part %v of a picture of %dx%d", part, p.Width, p.Height)
	}
	return nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// source is the picture that the task makes another of.
func (r request) source() string {
	if r.Params.Prior != "" {
		return filepath.Join(r.Prior[0], filepath.FromSlash(r.Params.Prior))
	}
	return filepath.Join(r.In, filepath.FromSlash(r.Params.inputFile(r.Params.Input, r.Params.First)))
}

// models is the folder of the model's files.
func (r request) models() string {
	if r.Params.Prior != "" {
		return r.Prior[1]
	}
	return filepath.Join(r.In, "model")
}
