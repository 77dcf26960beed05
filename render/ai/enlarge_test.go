package ai_test

import (
	"context"
	"image"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render"
	"idlewild/render/ai"
	"idlewild/render/ai/onnxtest"
)

// larger plans one frame of that size that another kind finished.
func larger(t *testing.T, k *ai.Kind, model string, w, h int) (frame, take, task job.Task) {
	t.Helper()
	in, err := k.LookAtModel(t.Context(), model, 0, w, h)
	if err != nil || len(in.Problems) > 0 || len(in.Deps) != 1 || in.Deps[0] != (job.Dep{Path: model, Name: filepath.Base(model)}) {
		t.Fatalf("%+v %v", in, err)
	}
	scale, take, each, err := k.Enlarge(in.Facts, job.RefOf(someRoot), "_model")
	if err != nil || scale != 2 {
		t.Fatalf("%d times, %v", scale, err)
	}
	frame = job.Task{Kind: "other", Label: "1", Outputs: []job.OutputRule{{Name: "frame.png", Media: job.MediaPNG, Final: "0001.png"}}, Rank: 7}
	if task, err = each(frame, "frame.png", w, h, "upscaled/0001.png"); err != nil {
		t.Fatal(err)
	}
	return frame, take, task
}

func TestLargerFramesNeedTheFrameAndTheModelOnly(t *testing.T) {
	k := newKind(t, true)
	dir := t.TempDir()
	frame, take, task := larger(t, k, write(t, dir, "up.onnx", onnxtest.Upscaler(1)), 32, 24)
	if err := task.Validate(); err != nil || task.Input.Defined() || !slices.Equal(task.After, []job.TaskKey{frame.Key(), take.Key()}) ||
		task.Check.Method != job.CheckRerun || task.Rank != frame.Rank || task.Outputs[0].Final != "upscaled/0001.png" {
		t.Errorf("%+v %v", task, err)
	}
	if take.Place != job.AtRequester || len(take.Outputs) != 1 || take.Outputs[0] != (job.OutputRule{Name: "up.onnx", Media: job.MediaFile}) {
		t.Errorf("%+v", take)
	}
	cpu := job.Device{Name: "cpu", Type: "cpu"}
	for _, c := range []struct {
		facts map[string][]string
		can   bool
	}{
		{map[string][]string{"blender": {"3.4.1"}}, false},
		{map[string][]string{"ai": {"1", "2"}}, false},                   // no runtime
		{map[string][]string{"ai": {"1"}, "onnx@cpu": {"1"}}, false},     // of a release before this
		{map[string][]string{"ai": {"1", "2"}, "onnx@cpu": {"1"}}, true}, // and no Blender
	} {
		if have := (job.Machine{Facts: c.facts}).Has(task.Needs, cpu); have != c.can {
			t.Errorf("%v takes it: %v", c.facts, have)
		}
	}
	// Another model is another key.
	_, _, other := larger(t, k, write(t, dir, "2/up.onnx", onnxtest.Upscaler(2)), 32, 24)
	if other.Key() == task.Key() {
		t.Error("another model makes the same task")
	}
	checks, err := k.Sample(task, nil, func(w, h int) []job.Rect { return []job.Rect{{X1: w, Y1: h}} })
	if err != nil || len(checks) != 1 || !slices.Equal(checks[0].After, task.After) || checks[0].Outputs[0].Final != "" {
		t.Errorf("%+v %v", checks, err)
	}
}

func TestModelsThatMakeNoFramesLargerAreRefused(t *testing.T) {
	k := newKind(t, true)
	dir := t.TempDir()
	var fixed onnxtest.Graph
	fixed.Input("image", onnxtest.Float, 1, 3, 16, 16)
	fixed.Output("y", onnxtest.Float, 1, 3, 32, 32)
	fixed.Node("GlobalAveragePool", []string{"image"}, []string{"m"})
	fixed.Node("Add", []string{"image", "m"}, []string{"y"})
	for _, c := range []struct {
		file, want string
	}{
		{filepath.Join(dir, "none.onnx"), "there is no such model"},
		{write(t, dir, "text.onnx", []byte("no model")), "text.onnx: "},
		{write(t, dir, "dense.onnx", onnxtest.Dense(1, 2, 8, 1, 3)), "dense.onnx: it takes no pictures"},
		{write(t, dir, "fixed.onnx", fixed.Bytes()), "fixed.onnx: it takes 16x16 pixels only, and frames have 32x24"},
	} {
		in, err := k.LookAtModel(t.Context(), c.file, 0, 32, 24)
		if p := in.Refused(); err != nil || len(p) != 1 || !strings.Contains(p[0].String(), c.want) || p[0].Remedy == "" {
			t.Errorf("%s: %v %v, want %s", c.file, p, err, c.want)
		}
	}
	up := write(t, dir, "up.onnx", onnxtest.Upscaler(1))
	for by, want := range map[int]string{4: "2 times as large, not 4", 0: "more than"} {
		size := 32
		if by == 0 {
			size = 40000
		}
		if in, err := k.LookAtModel(t.Context(), up, by, size, 24); err != nil || len(in.Refused()) != 1 || !strings.Contains(in.Refused()[0].String(), want) {
			t.Errorf("by %d: %+v %v", by, in, err)
		}
	}
}

// One frame after the other with a real runtime: what cannot be made larger
// says so and leaves the next one as it is.
func TestAFrameThatCannotBeMadeLargerFailsAlone(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	var g onnxtest.Graph // one over the pixel, which of black is no number
	g.Input("image", onnxtest.Float, "n", 3, "h", "w")
	g.Output("y", onnxtest.Float, "n", 3, "h2", "w2")
	g.Weight("twice", []float32{1, 1, 2, 2}, 4)
	g.Node("Div", []string{"image", "image"}, []string{"d"})
	g.Node("Resize", []string{"d", "", "twice"}, []string{"y"}, onnxtest.Attr{Name: "mode", Text: "nearest"},
		onnxtest.Attr{Name: "coordinate_transformation_mode", Text: "asymmetric"}, onnxtest.Attr{Name: "nearest_mode", Text: "floor"})
	file := write(t, dir, "in/_model/over.onnx", g.Bytes())
	_, take, task := larger(t, k, file, 8, 8)
	exec := render.NewExecutor(map[job.Kind]render.Kind{ai.Name: k}, render.NewLocalProcess(nil), render.Options{Scratch: filepath.Join(dir, "scratch")})
	t.Cleanup(func() { exec.Close() })
	n := 0
	run := func(task job.Task, dirs render.Dirs) (render.Result, string) {
		n++
		dirs.Out = filepath.Join(dir, "out", string(rune('a'+n)))
		if dirs.In == "" {
			dirs.In = filepath.Join(dir, "empty")
		}
		for _, d := range []string{dirs.Out, dirs.In} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return exec.Execute(context.WithoutCancel(t.Context()), render.Task{Task: task, Requester: "r", Content: "c", Device: job.Device{Name: "cpu", Type: "cpu"}}, dirs, func(render.Progress) {}), dirs.Out
	}
	r, model := run(take, render.Dirs{In: filepath.Join(dir, "in")})
	if r.Outcome != job.Succeeded {
		t.Fatal(r.Outcome, r.Reason)
	}
	for i, c := range []struct {
		name string
		w    int
		want string
	}{{"black", 8, "no number"}, {"wide", 9, "frame.png has 9x8 pixels"}, {"good", 8, ""}} {
		m := picture(t, c.w, 8, false)
		if c.name == "black" {
			m = black(t, 8)
		}
		prior := filepath.Dir(write(t, dir, c.name+"/frame.png", m))
		r, out := run(task, render.Dirs{Prior: []string{prior, model}})
		if ok := r.Outcome == job.Succeeded; ok != (c.want == "") || !strings.Contains(r.Reason, c.want) {
			t.Errorf("%d: %s: %s", i, r.Outcome, r.Reason)
		}
		if c.want != "" {
			continue
		}
		if made, err := media.DecodeFile(filepath.Join(out, "picture.png"), media.Limits{}); err != nil || made.Width != 16 || made.Height != 16 {
			t.Errorf("%+v %v", made, err)
		}
	}
}

func black(t *testing.T, side int) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, side, side))
	for i := 3; i < len(m.Pix); i += 4 {
		m.Pix[i] = 255
	}
	b, err := media.EncodePNG(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
