package ai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/render/ai/onnx"
)

// facts are what Inspect found, for Plan.
type facts struct {
	Model     string    `json:"model"` // base name
	SHA256    string    `json:"sha256"`
	Precision string    `json:"precision"`
	Batch     int       `json:"batch"`
	Format    string    `json:"format"`
	Input     string    `json:"input,omitempty"`
	Column    int       `json:"column,omitempty"`
	Items     int       `json:"items,omitempty"`
	Chunks    []chunk   `json:"chunks,omitempty"`
	Pictures  []picture `json:"pictures,omitempty"`
	// Scale of a model that makes pictures of pictures; 0: it makes records.
	Scale   int `json:"scale,omitempty"`
	Overlap int `json:"overlap,omitempty"` // as the job says; 0: the model's reach is known
	// Whole says that pictures cannot be cut: nobody knows how far the model reaches.
	Whole bool     `json:"whole,omitempty"`
	Files []string `json:"files,omitempty"` // of a model of frames: all of it
	// Of requests.
	Runtime  string `json:"runtime,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Pipeline string `json:"pipeline,omitempty"` // of the runtime torch
	Day      string `json:"day,omitempty"`      // of a model whose template says it
	Choices  bool   `json:"choices,omitempty"`  // one asks for several answers, which are committed to
}

// Inspect implements dispatch.Kind.
func (k *Kind) Inspect(ctx context.Context, js job.Spec) (job.Inspection, error) {
	in, err := k.inspect(ctx, js)
	var r *job.RefusedError
	if errors.As(err, &r) {
		return job.Inspection{Problems: r.Problems}, nil
	}
	in.Estimate = estimate(in.Deps)
	return in, err
}

// processBytes is what a process with a runtime takes before it has a model.
const processBytes = 200 << 20

// estimate is what a machine needs to hold a job's model once; what an answer
// takes beside it is found out by the first tasks.
func estimate(deps []job.Dep) (n job.Needs) {
	gguf := false // run by CPUs alone
	for _, d := range deps {
		if fi, err := os.Stat(d.Path); err == nil && strings.HasPrefix(d.Name, "model/") {
			n.MemoryBytes += fi.Size()
			gguf = gguf || isGGUF(d.Path)
		}
	}
	if !gguf {
		n.VRAMBytes = n.MemoryBytes
	}
	if n.MemoryBytes > 0 {
		n.MemoryBytes += processBytes
	}
	return n
}

func (k *Kind) inspect(ctx context.Context, js job.Spec) (job.Inspection, error) {
	var in job.Inspection
	s, err := decodeSpec(js.Params)
	if err != nil {
		return in, err
	}
	if _, batch := readHead(s.Inputs); batch {
		return k.inspectBatch(ctx, s)
	}
	if isFolder(s.Model) {
		return k.inspectFolder(ctx, s, js.Policy.Parts)
	}
	if s.Pipeline != "" {
		return in, job.Refuse("pipeline "+s.Pipeline, "the model is no folder, and pipelines are for those", "name the folder that the model was saved into, or leave pipeline out")
	}
	if isGGUF(s.Model) {
		return in, job.Refuse(filepath.Base(s.Inputs), "a language model takes requests, and these are none", "give a .jsonl in OpenAI's batch format: custom_id, method, url, body")
	}
	m, err := k.model(ctx, s.Model)
	if err != nil {
		return in, err
	}
	f := facts{Model: filepath.Base(s.Model), Precision: m.Precision, Batch: s.Batch}
	if f.SHA256, err = sha256File(s.Model); err != nil {
		return in, err
	}
	for _, name := range s.Outputs {
		if !slices.ContainsFunc(m.Outputs, func(v onnx.Value) bool { return v.Name == name }) {
			return in, job.Refuse("outputs", fmt.Sprintf("the model has no %q", name), "it has "+names(m.Outputs))
		}
	}
	if f.Batch == 0 {
		f.Batch = 16
	}
	if !batches(m) {
		f.Batch = 1
	}
	in.Deps = append(in.Deps, job.Dep{Path: s.Model, Name: "model/" + f.Model})
	for _, name := range beside(s.Model, m) {
		in.Deps = append(in.Deps, job.Dep{Path: filepath.Join(filepath.Dir(s.Model), name), Name: "model/" + name})
	}
	fi, err := os.Stat(s.Inputs)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return in, job.Refuse(s.Inputs, "there is no such file or folder", "check the path")
	case err != nil:
		return in, job.Refuse(s.Inputs, err.Error(), "make it readable")
	}
	cut, err := job.ParseCut(js.Policy.Parts)
	if err != nil {
		return in, err
	}
	asked := !cut.Auto && cut.Columns*cut.Rows*cut.Ranges > 1
	f.Input = filepath.Base(s.Inputs)
	switch ext := strings.ToLower(filepath.Ext(f.Input)); {
	case fi.IsDir():
		f.Format = formatPictures
		if err := k.pictures(ctx, s, m, &f, &in); err != nil {
			return in, err
		}
	case asked:
		return in, job.Refuse("parts "+js.Policy.Parts, "items of a batch are not cut", "leave --parts out")
	case ext == ".jsonl" || ext == ".ndjson":
		f.Format = formatJSONL
		f.Chunks, f.Items, err = scanJSONL(ctx, s.Inputs, f.Batch)
	case ext == ".csv":
		f.Format = formatCSV
		f.Chunks, f.Items, f.Column, err = scanCSV(ctx, s.Inputs, s.Column, f.Batch)
	default:
		return in, job.Refuse(s.Inputs, "is neither a folder of pictures nor a .jsonl nor a .csv file", "name one of these")
	}
	if err != nil {
		return in, err
	}
	if f.Items+len(f.Pictures) == 0 {
		return in, job.Refuse(s.Inputs, "there is no item in it", "give at least one")
	}
	if f.Format != formatPictures {
		in.Deps = append(in.Deps, job.Dep{Path: s.Inputs, Name: "input/" + f.Input})
	}
	for _, d := range in.Deps {
		if err := job.SafeName(d.Name); err != nil {
			return in, job.Refuse(d.Path, err.Error(), "rename it")
		}
	}
	in.Facts, err = json.Marshal(f)
	return in, err
}

// model looks at the model's file, and has the runtime load it where there is
// one: what it does not take is said before a byte moves.
func (k *Kind) model(ctx context.Context, file string) (*onnx.Model, error) {
	name := filepath.Base(file)
	m, err := onnx.Read(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, job.Refuse(file, "there is no such model", "check the path, or see: idlewild model list")
	case err != nil:
		return nil, job.Refuse(name, err.Error(), "models are ONNX files; docs/ai.md says how to export one")
	}
	for _, more := range m.External {
		if fi, err := os.Stat(filepath.Join(filepath.Dir(file), more)); err != nil || !fi.Mode().IsRegular() {
			return nil, job.Refuse(name, "its weights are in "+more+", which is not beside it", "put the file there, or save the model with its weights inside")
		}
	}
	if k.find(ctx); k.missing != nil {
		return m, nil
	}
	if _, _, err := k.ask(ctx, request{Op: opLook, Library: k.library.Path, File: file}); err != nil {
		return nil, job.Refuse(name, err.Error(), "export it for an older version of operators, or install a newer onnxruntime")
	}
	return m, nil
}

func names(values []onnx.Value) string {
	var out []string
	for _, v := range values {
		out = append(out, v.Name)
	}
	return strings.Join(out, ", ")
}

// batches reports whether the model takes several items at once: the first
// dimension of all inputs and outputs is open.
func batches(m *onnx.Model) bool {
	for _, v := range slices.Concat(m.Inputs, m.Outputs) {
		if v.Name == seedInput {
			continue
		}
		if len(v.Dims) == 0 || v.Dims[0].N != 0 {
			return false
		}
	}
	return true
}

// pictures looks at a folder of them.
func (k *Kind) pictures(ctx context.Context, s Spec, m *onnx.Model, f *facts, in *job.Inspection) error {
	var err error
	if f.Pictures, in.Problems, err = scanPictures(ctx, s.Inputs); err != nil {
		return err
	}
	input, makes, err := paints(m)
	if err != nil {
		return err
	}
	for i, p := range f.Pictures {
		in.Deps = append(in.Deps, job.Dep{Path: filepath.Join(s.Inputs, filepath.FromSlash(p.Name)), Name: Params{Numbered: true}.inputFile(p.Name, i+1)})
	}
	if !makes {
		if s.Scale > 0 {
			return job.Refuse("scale", "the model makes no pictures", "leave it out")
		}
		return nil
	}
	f.Scale, f.Overlap = s.Scale, s.Overlap
	if err := f.scaled(m); err != nil {
		return err
	}
	for _, p := range f.Pictures {
		if large := tooLarge(p.Width*f.Scale, p.Height*f.Scale); large != "" {
			return job.Refuse(p.Name, fmt.Sprintf("%dx%d pixels become too large: %s", p.Width, p.Height, large), "leave it out")
		}
		if f.only(input, p.Width, p.Height) {
			return job.Refuse(p.Name, fmt.Sprintf("it has %dx%d pixels and the model takes %dx%d only", p.Width, p.Height, input.Dims[3].N, input.Dims[2].N),
				"export the model for any size, or say overlap so that it works on tiles")
		}
	}
	if f.Whole {
		in.Problems = append(in.Problems, job.Problem{Severity: job.SeverityWarning, Where: f.Model,
			Message: "pictures are not cut into tiles: " + m.Reach.Why, Remedy: "say overlap = 32, say, if its pixels reach no further"})
	}
	return nil
}

// paints returns the input that takes pictures, and whether pictures are what
// the model makes of them.
func paints(m *onnx.Model) (input onnx.Value, makes bool, err error) {
	if input, err = pictureInput(m); err != nil {
		return input, false, err
	}
	makes = len(m.Outputs) == 1 && len(m.Outputs[0].Dims) == 4 && m.Outputs[0].Type == onnx.Float32
	if makes && m.Outputs[0].Dims[1].N > 0 && m.Outputs[0].Dims[1].N != input.Dims[1].N {
		makes = false // maps of classes, say
	}
	return input, makes, nil
}

// scaled settles how many times as large pictures become, and in which tiles.
func (f *facts) scaled(m *onnx.Model) error {
	if m.Reach.Known {
		f.Overlap = 0
		scale := int(m.Reach.Scale)
		if float64(scale) != m.Reach.Scale || scale < 1 || scale > maxScale {
			return job.Refuse(f.Model, fmt.Sprintf("it makes pictures %g times as large", m.Reach.Scale), fmt.Sprintf("whole numbers up to %d are what can be put together", maxScale))
		}
		if f.Scale != 0 && f.Scale != scale {
			return job.Refuse(f.Model, fmt.Sprintf("it makes pictures %d times as large, not %d", scale, f.Scale), "name a model for that")
		}
		f.Scale = scale
	}
	if f.Scale == 0 {
		f.Scale = 1
	}
	f.Whole = !m.Reach.Known && f.Overlap == 0
	return nil
}

// only reports whether the model takes whole pictures of one size, which is not
// this one.
func (f *facts) only(input onnx.Value, width, height int) bool {
	return f.Whole && fixedSize(input) && (int64(width) != input.Dims[3].N || int64(height) != input.Dims[2].N)
}

func fixedSize(v onnx.Value) bool { return v.Dims[2].N > 0 && v.Dims[3].N > 0 }

// pictureInput is the input that takes a picture: channels, rows, columns.
func pictureInput(m *onnx.Model) (onnx.Value, error) {
	var found []onnx.Value
	for _, v := range m.Inputs {
		if v.Name != seedInput {
			found = append(found, v)
		}
	}
	if len(found) != 1 || len(found[0].Dims) != 4 || found[0].Type != onnx.Float32 || (found[0].Dims[1].N != 1 && found[0].Dims[1].N != 3) {
		return onnx.Value{}, job.Refuse("model", "it takes no pictures: "+kinds(found), "its one input has to be float32 [n 3 height width], or 1 for grey; for others give a .jsonl")
	}
	return found[0], nil
}

// kinds are what values are, for people.
func kinds(values []onnx.Value) string {
	var out []string
	for _, v := range values {
		out = append(out, fmt.Sprintf("%s: %s %s", v.Name, v.Type, onnx.Shape(v.Dims)))
	}
	return strings.Join(out, ", ")
}
