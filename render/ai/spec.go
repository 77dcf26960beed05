package ai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"idlewild/job"
	"idlewild/render/ai/torch"
)

// Spec is what a job asks for: the parameters in its job.Spec. In a job file
// it is TOML with the same names; paths in one count from its folder.
type Spec struct {
	Model   string `json:"model" toml:"model"`               // path of a model's file or folder, or the name of one that was added
	Runtime string `json:"runtime,omitempty" toml:"runtime"` // "onnx", "llm", "torch" or nothing: the model says it itself
	// Inputs is a folder of pictures or of sounds, a .jsonl or a .csv file.
	Inputs string `json:"inputs,omitempty" toml:"inputs"`
	Column string `json:"column,omitempty" toml:"column"` // of a CSV: its name
	Batch  int    `json:"batch,omitempty" toml:"batch"`   // items that the model is given at once; 0: 16, or one where it takes no more
	// Outputs of the model that are kept; none: all.
	Outputs []string `json:"outputs,omitempty" toml:"outputs"`
	// Tolerance of checks, as the root mean square of the difference over that
	// of the result; 0: as is usual for the model's precision.
	Tolerance float64 `json:"tolerance,omitempty" toml:"tolerance"`
	Seed      *int64  `json:"seed,omitempty" toml:"seed"`
	Device    string  `json:"device,omitempty" toml:"device"` // "cpu", "gpu" or nothing for any
	// Scale is how much larger the model makes a picture; 0: as it says itself.
	Scale   int     `json:"scale,omitempty" toml:"scale"`
	Overlap int     `json:"overlap,omitempty" toml:"overlap"` // of tiles, where the model does not say how far it reaches
	Picture Picture `json:"picture,omitzero" toml:"picture"`
	// Pipeline is what a model in a folder is put to; empty: what it is made for.
	Pipeline string   `json:"pipeline,omitempty" toml:"pipeline"`
	Generate Generate `json:"generate,omitzero" toml:"generate"`
	// Called is what answers to requests call the model; empty: its file's name.
	Called string `json:"called,omitempty" toml:"called"`
}

// maxJobFile bounds a job file.
const maxJobFile = 1 << 20

// ReadJob reads a job file. Relative paths in it count from its folder; a
// model that is no path stays a name.
func ReadJob(file string) (Spec, error) {
	var s Spec
	f, err := os.Open(file)
	if err != nil {
		return s, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxJobFile+1))
	if err != nil {
		return s, err
	}
	if len(b) > maxJobFile {
		return s, job.Refuse(file, "is no job file: it is too long", "name a file of settings, as job.toml")
	}
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		why := err.Error()
		var strict *toml.StrictMissingError
		var decode *toml.DecodeError
		switch {
		case errors.As(err, &strict) && len(strict.Errors) > 0:
			row, _ := strict.Errors[0].Position()
			why = fmt.Sprintf("line %d: there is no setting %s", row, strings.Join(strict.Errors[0].Key(), "."))
		case errors.As(err, &decode):
			row, _ := decode.Position()
			why = fmt.Sprintf("line %d: %v", row, err)
		}
		return s, job.Refuse(file, "is no job file: "+why, "docs/ai.md has the settings")
	}
	dir := filepath.Dir(file)
	if s.Inputs != "" && !filepath.IsAbs(s.Inputs) {
		s.Inputs = filepath.Join(dir, s.Inputs)
	}
	if IsPath(s.Model) && !filepath.IsAbs(s.Model) {
		s.Model = filepath.Join(dir, s.Model)
	}
	return s, nil
}

// IsPath tells a model's path from the name of one that was added.
func IsPath(model string) bool {
	return strings.ContainsAny(model, `/\`) || slices.Contains([]string{".onnx", ".gguf"}, strings.ToLower(filepath.Ext(model))) || filepath.Ext(model) != "" && !strings.HasPrefix(model, "sha256:")
}

// Encode returns the spec as a job.Spec has it.
func (s Spec) Encode() (json.RawMessage, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// decodeSpec reads the parameters of a job strictly.
func decodeSpec(b []byte) (Spec, error) {
	var s Spec
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("ai parameters: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return s, fmt.Errorf("ai parameters: more than one value")
	}
	return s, s.validate()
}

func (s Spec) validate() error {
	refuse := func(what, why, remedy string) error { return job.Refuse(what, why, remedy) }
	switch {
	case s.Model == "":
		return refuse("model", "none is named", "name an ONNX or GGUF file, a folder, or one that was added with: idlewild model add")
	case s.Runtime != "" && s.Runtime != "onnx" && s.Runtime != runtimeLLM && s.Runtime != runtimeTorch:
		return refuse("runtime "+s.Runtime, "there is none of this name", "onnx, llm and torch are those there are; the model says itself which it needs")
	case s.Pipeline != "" && !slices.Contains(torch.Pipelines, s.Pipeline):
		return refuse("pipeline "+s.Pipeline, "there is none of this name", "there are "+strings.Join(torch.Pipelines, ", "))
	case s.Inputs == "":
		return refuse("inputs", "none are named", "name a folder of pictures or sounds, a .jsonl or a .csv file")
	case s.Batch < 0 || s.Batch > maxBatch:
		return refuse("batch", fmt.Sprintf("%d is not within 1 and %d", s.Batch, maxBatch), "choose a smaller one")
	case !(s.Tolerance >= 0 && s.Tolerance <= 1):
		return refuse("tolerance", fmt.Sprintf("%v is not within 0 and 1", s.Tolerance), "it is a share of the result's size, as 0.001")
	case s.Device != "" && s.Device != "cpu" && s.Device != "gpu":
		return refuse("device "+s.Device, "there is no such sort", "say cpu, gpu or nothing")
	case s.Scale < 0 || s.Scale > maxScale:
		return refuse("scale", fmt.Sprintf("%d is not within 1 and %d", s.Scale, maxScale), "leave it out where the model says it itself")
	case s.Overlap < 0 || s.Overlap > 1<<12:
		return refuse("overlap", fmt.Sprintf("%d is not within 0 and %d", s.Overlap, 1<<12), "it is in pixels of the input")
	case len(s.Outputs) > job.MaxOutputs:
		return refuse("outputs", fmt.Sprintf("%d of them", len(s.Outputs)), fmt.Sprintf("at most %d are kept", job.MaxOutputs))
	}
	if err := s.Generate.validate(); err != nil {
		return refuse("generate", err.Error(), "docs/ai.md has the settings")
	}
	if err := s.Picture.validate(); err != nil {
		return refuse("picture", err.Error(), "give mean and std as one or three numbers")
	}
	return nil
}
