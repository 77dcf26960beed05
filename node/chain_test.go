package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"idlewild/job"
	"idlewild/render/ai"
	"idlewild/render/ai/onnxtest"
	"idlewild/render/blender"
)

// TestAPlanAcrossKinds plans frames of one kind that tasks of the other make
// larger and that end in a film, with neither program on the machine. With
// another model the job's other tasks stay the same.
func TestAPlanAcrossKinds(t *testing.T) {
	dir := t.TempDir()
	models := ai.New(ai.Options{Library: filepath.Join(dir, "none")})
	frames, err := blender.New(blender.Options{Blender: filepath.Join(dir, "none"), Scratch: dir, Enlarger: models})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := multihash.Sum([]byte("content"), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "twice.onnx")
	params, err := json.Marshal(blender.SpecParams{Frames: "1-3", Upscale: model})
	if err != nil {
		t.Fatal(err)
	}
	plan := func(seed uint64) []job.Task {
		t.Helper()
		if err := os.WriteFile(model, onnxtest.Upscaler(seed), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := models.LookAtModel(t.Context(), model, 0, 64, 36)
		if err != nil || len(in.Problems) > 0 {
			t.Fatal(err, in.Problems)
		}
		facts, err := json.Marshal(blender.Facts{
			Version: "4.5.4", Build: "b", Main: "a.blend", Scene: "S", ViewLayers: []string{"V"}, FrameStart: 1, FrameEnd: 3, Width: 64, Height: 36,
			Engine: "CYCLES", Samples: 1, Format: "PNG", Extension: ".png", Film: blender.FilmFacts{Extension: ".mp4", Codec: "h264"}, Model: in.Facts,
		})
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := frames.Plan(job.Spec{Kind: blender.Name, Params: params}, job.Inspection{Facts: facts}, cid.NewCidV1(cid.DagCBOR, sum))
		if err != nil {
			t.Fatal(err)
		}
		return tasks
	}
	tasks := plan(1)
	planned := map[job.TaskKey]job.Task{}
	kinds := map[job.Kind]int{}
	for _, task := range tasks {
		if err := task.Validate(); err != nil {
			t.Error(err)
		}
		for _, k := range task.After {
			if _, ok := planned[k]; !ok {
				t.Errorf("%s comes before what it is made of", task.Label)
			}
		}
		planned[task.Key()] = task
		kinds[task.Kind]++
	}
	if len(planned) != 11 || kinds[ai.Name] != 4 || kinds[blender.Name] != 7 {
		t.Fatalf("%v", kinds)
	}
	// The film reads what the model's tasks leave.
	film := tasks[10]
	p, err := blender.DecodeParams(film.Params)
	if err != nil || p.Film.Width != 128 || p.Film.Height != 72 {
		t.Errorf("%+v %v", p.Film, err)
	}
	for _, k := range film.After {
		if from := planned[k]; from.Kind != ai.Name || from.Outputs[0].Name != p.Film.Frame || from.Check.Method != job.CheckRerun {
			t.Errorf("the film is made of %+v", from)
		}
	}
	other := plan(2)
	for i, task := range other {
		_, same := planned[task.Key()]
		if rendered := task.Kind == blender.Name && task.Label != "film"; same != rendered {
			t.Errorf("with another model %s is the same: %v", tasks[i].Label, same)
		}
	}
}
