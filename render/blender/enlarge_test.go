package blender

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"idlewild/job"
)

// twice is another kind that makes frames larger, without a model.
type twice struct{ model string }

func (w twice) LookAtModel(_ context.Context, file string, _, width, height int) (job.Inspection, error) {
	if width > 1000 {
		return job.Inspection{Problems: []job.Problem{problem("m.onnx", "it takes less", "render less")}}, nil
	}
	return job.Inspection{Facts: json.RawMessage(`"` + w.model + `"`), Deps: []job.Dep{{Path: file, Name: "m.onnx"}}}, nil
}

func (twice) Enlarge(facts json.RawMessage, input job.Ref, folder string) (int, job.Task, func(job.Task, string, int, int, string) (job.Task, error), error) {
	model := job.Task{Kind: "other", Params: facts, Input: input, Label: "model", Outputs: []job.OutputRule{{Name: "m.onnx", Media: job.MediaFile}}}
	return 2, model, func(of job.Task, file string, _, _ int, final string) (job.Task, error) {
		return job.Task{
			Kind: "other", Params: append([]byte(file), facts...), After: []job.TaskKey{of.Key(), model.Key()}, Rank: of.Rank,
			Outputs: []job.OutputRule{{Name: enlargedFrame, Media: job.MediaPNG, Final: final}},
		}, nil
	}, nil
}

func rootOf(t *testing.T, s string) cid.Cid {
	t.Helper()
	sum, err := multihash.Sum([]byte(s), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return cid.NewCidV1(cid.DagCBOR, sum)
}

func planLarger(t *testing.T, f Facts, p SpecParams, root string) []job.Task {
	t.Helper()
	facts, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	k := &Kind{opts: Options{Enlarger: twice{}}}
	tasks, err := k.Plan(job.Spec{Kind: Name, Params: raw}, job.Inspection{Facts: facts}, rootOf(t, root))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if err := task.Validate(); err != nil {
			t.Error(err)
		}
	}
	return tasks
}

func TestPlanOfLargerFrames(t *testing.T) {
	f := filmFacts()
	f.Model = json.RawMessage(`"a"`)
	p := SpecParams{Frames: "1-3", Upscale: "/models/m.onnx"}
	tasks := planLarger(t, f, p, "x")
	if len(tasks) != 1+3*3+1 || tasks[0].Label != "model" {
		t.Fatalf("%d tasks", len(tasks))
	}
	film := tasks[10]
	for i := range 3 {
		finish, larger := tasks[1+3*i+1], tasks[1+3*i+2]
		if larger.After[0] != finish.Key() || larger.After[1] != tasks[0].Key() || larger.Input.Defined() {
			t.Errorf("frame %d is made of %v", i+1, larger.After)
		}
		if string(larger.Params) != finalFrame+`"a"` || larger.Outputs[0].Final != EnlargedFolder+"/"+finish.Outputs[0].Final {
			t.Errorf("frame %d: %s, %+v", i+1, larger.Params, larger.Outputs)
		}
		if film.After[i] != larger.Key() {
			t.Errorf("frame %d of the film is another one", i+1)
		}
	}
	q, err := DecodeParams(film.Params)
	if err != nil || q.Film.Width != 128 || q.Film.Height != 72 || q.Film.Frame != enlargedFrame {
		t.Errorf("%+v %v", q.Film, err)
	}
	// Without a model the frames' own tasks are the same.
	plain := planLarger(t, f, SpecParams{Frames: "1-3"}, "x")
	for i := range 3 {
		if plain[2*i].Key() != tasks[1+3*i].Key() || plain[2*i+1].Key() != tasks[1+3*i+1].Key() {
			t.Errorf("frame %d is another one because it is made larger", i+1)
		}
	}
	// A frame that is no PNG leaves one for the model.
	f.Extension, f.Format, f.Film = ".jpg", "JPEG", FilmFacts{}
	tasks = planLarger(t, f, p, "x")
	if finish, larger := tasks[2], tasks[3]; len(finish.Outputs) != 2 || string(larger.Params) != filmFrame+`"a"` || larger.Outputs[0].Final != "upscaled/0001.png" {
		t.Errorf("%+v, %+v", finish.Outputs, larger)
	}
	f.Multilayer = true
	if tasks = planLarger(t, f, p, "x"); len(tasks) != 1+3*3 || tasks[2].Outputs[0].Name != filmFrame || tasks[3].After[0] != tasks[2].Key() {
		t.Errorf("multilayer: %d tasks, %+v", len(tasks), tasks[2])
	}
}

// Another model is another input of the job, and renders nothing again.
func TestAnotherModelMattersToLargerFramesOnly(t *testing.T) {
	f := filmFacts()
	f.Film, f.Model = FilmFacts{}, json.RawMessage(`"a"`)
	was, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	tasks := planLarger(t, f, SpecParams{Frames: "1-2", Upscale: "/models/m.onnx"}, "x")
	for _, c := range []struct {
		changed string
		want    string
	}{{modelFolder + "/m.onnx", "nyyyyyy"}, {"picture.png", "nnnynny"}} {
		same, _, err := new(Kind).Compare(t.Context(), job.Versions{Was: was, Now: was, Changed: []job.ChangedFile{{Name: c.changed, Was: true, Now: true}}})
		if err != nil {
			t.Fatal(err)
		}
		var have strings.Builder
		for _, task := range tasks {
			have.WriteByte("ny"[map[bool]int{true: 1}[same(task)]])
		}
		if have.String() != c.want {
			t.Errorf("%s changed: %s, want %s", c.changed, have.String(), c.want)
		}
	}
}

func TestAModelIsLookedAt(t *testing.T) {
	k := &Kind{opts: Options{Enlarger: twice{"a"}}}
	spec := SpecParams{Upscale: "/models/m.onnx"}
	look := func(k *Kind, width int, deps ...job.Dep) (Facts, job.Inspection) {
		t.Helper()
		f, in := Facts{Width: width, Height: 8}, job.Inspection{Deps: deps}
		if err := k.inspectModel(t.Context(), spec, &f, &in); err != nil {
			t.Fatal(err)
		}
		return f, in
	}
	if f, in := look(k, 8); string(f.Model) != `"a"` || len(in.Problems) != 0 || len(in.Deps) != 1 || in.Deps[0] != (job.Dep{Path: spec.Upscale, Name: "_model/m.onnx"}) {
		t.Errorf("%s %+v", f.Model, in)
	}
	for _, in := range []func() job.Inspection{
		func() job.Inspection { _, in := look(k, 2000); return in },
		func() job.Inspection { _, in := look(new(Kind), 8); return in },
		func() job.Inspection { _, in := look(k, 8, job.Dep{Path: "/p/_model/x", Name: "_model/x"}); return in },
	} {
		if p := in().Refused(); len(p) != 1 || p[0].Remedy == "" {
			t.Errorf("%+v", p)
		}
	}
	for _, p := range []SpecParams{{Upscale: "m.onnx"}, {UpscaleBy: 2}, {Upscale: "/m.onnx", UpscaleBy: 17}} {
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeSpec(b); err == nil {
			t.Errorf("%s is taken", b)
		}
	}
}
