package ai_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai"
	"idlewild/render/ai/torch/torchtest"
)

// torchKind is the kind with PyTorch, and the folder of tiny models.
func torchKind(t *testing.T, threads int) (*ai.Kind, string) {
	t.Helper()
	models := torchtest.Make(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return ai.New(ai.Options{Exe: exe, Library: t.TempDir(), Python: torchtest.Python(t), Threads: threads}), models
}

func TestPipelinesArePlanned(t *testing.T) {
	k := newKind(t, true)
	dir := t.TempDir()
	fake := func(name, class string) string { return torchtest.Fake(t, filepath.Join(dir, name), class) }
	bert, gpt, sd := fake("bert", "BertModel"), fake("gpt", "GPT2LMHeadModel"), fake("sd", "StableDiffusionPipeline")
	deep, ear := fake("deep", "DPTForDepthEstimation"), fake("ear", "WhisperForConditionalGeneration")
	lines := write(t, dir, "in.jsonl", []byte(`"a"`+"\n"+`{"prompt":"b"}`+"\n"))
	table := write(t, dir, "in.csv", []byte("n,text\n1,a\n2,b\n"))
	pics := filepath.Dir(write(t, dir, "pics/a.png", picture(t, 24, 16, false)))
	sounds := filepath.Dir(write(t, dir, "sounds/a.wav", []byte("RIFF....WAVEfmt ")))
	write(t, dir, "sounds/b.flac", []byte("no sound at all"))
	for name, c := range map[string]struct {
		spec ai.Spec
		n    int    // tasks, with joining
		last string // what the last delivers
		task string // in the first's parameters
		says string // or why it is refused
	}{
		"embedding":         {ai.Spec{Model: bert, Inputs: lines}, 2, "results.jsonl", `"pipeline":"text-embedding"`, ""},
		"a column":          {ai.Spec{Model: gpt, Inputs: table, Column: "text", Pipeline: "text-generation"}, 2, "results.jsonl", `"column":1`, ""},
		"drawing":           {ai.Spec{Model: sd, Inputs: lines, Generate: ai.Generate{Size: "64x32", Steps: 3}}, 2, "0002.png", `"width":64,"height":32`, ""},
		"depth":             {ai.Spec{Model: deep, Inputs: pics}, 1, "a.png", `"deep":true`, ""},
		"transcription":     {ai.Spec{Model: ear, Inputs: sounds}, 2, "results.jsonl", `"files":["a.wav"]`, ""},
		"another pipeline":  {ai.Spec{Model: bert, Inputs: lines, Pipeline: "depth"}, 0, "", "", "the model is a model for text-embedding"},
		"no such pipeline":  {ai.Spec{Model: write(t, dir, "m.onnx", []byte("x")), Inputs: lines, Pipeline: "depth"}, 0, "", "", "the model is no folder"},
		"text of depth":     {ai.Spec{Model: deep, Inputs: lines}, 0, "", "", "is given a folder of pictures"},
		"pictures of words": {ai.Spec{Model: bert, Inputs: pics}, 0, "", "", "is neither a .jsonl nor a .csv"},
		"code":              {ai.Spec{Model: filepath.Dir(write(t, fake("code", "BertModel"), "modeling.py", []byte("x"))), Inputs: lines}, 0, "", "", "code/modeling.py: is a program"},
	} {
		b, err := c.spec.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := job.Spec{Kind: ai.Name, Params: b}
		in, err := k.Inspect(t.Context(), s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.says != "" {
			if p := in.Refused(); len(p) != 1 || !strings.Contains(p[0].String(), c.says) || p[0].Remedy == "" {
				t.Errorf("%s: %v", name, in.Problems)
			}
			continue
		}
		tasks, err := k.Plan(s, in, someRoot)
		if err != nil || len(in.Refused()) > 0 || len(tasks) != c.n {
			t.Errorf("%s: %d tasks, %v %v", name, len(tasks), in.Problems, err)
			continue
		}
		for _, x := range tasks {
			if err := x.Validate(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !strings.Contains(string(tasks[0].Params), c.task) || tasks[c.n-1].Outputs[0].Final != c.last || tasks[0].Needs.Require["torch"] == "" {
			t.Errorf("%s: %s delivers %+v, needs %v", name, tasks[0].Params, tasks[c.n-1].Outputs, tasks[0].Needs)
		}
		for _, d := range in.Deps {
			if strings.Contains(d.Name, "README") || strings.Contains(d.Name, "single-file") || strings.Contains(d.Name, ".cache") {
				t.Errorf("%s: %s is sent", name, d.Name)
			}
		}
		_, r := newFarm(t, k, in).run(tasks[0])
		if r.Outcome != job.Broken || !strings.Contains(r.Reason, "idlewild runtime add torch") {
			t.Errorf("%s without PyTorch: %s: %s", name, r.Outcome, r.Reason)
		}
	}
	for text, says := range map[string]string{
		"size = '65x64'": "multiples of 8", "steps = 1000": "at most", "temperature = -1": "temperature", "max_tokens = 1000000": "max_tokens",
	} {
		s, err := ai.ReadJob(write(t, dir, "job.toml", []byte("model = 'm'\ninputs = 'i'\n[generate]\n"+text)))
		if err == nil {
			_, err = s.Encode()
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// runPipeline plans a job, runs it, and runs its first task's check: it returns the
// folder of the last task.
func runPipeline(t *testing.T, k *ai.Kind, s ai.Spec) (f *farm, tasks []job.Task, out string) {
	t.Helper()
	in, tasks := plan(t, k, specOf(t, s, ""))
	f = newFarm(t, k, in)
	return f, tasks, f.all(tasks)
}

func TestPipelinesOfTexts(t *testing.T) {
	k, models := torchKind(t, 1)
	dir := t.TempDir()
	lines := write(t, dir, "in.jsonl", []byte(`{"custom_id":"one","text":"hello"}`+"\n"+`""`+"\n"+`"`+strings.Repeat("a", 100)+`"`+"\n"+`"hello"`+"\n"))
	_, _, out := runPipeline(t, k, ai.Spec{Model: filepath.Join(models, "tiny-bert"), Inputs: lines})
	recs := readRecords(t, filepath.Join(out, "records.jsonl"))
	if len(recs) != 4 || recs[0].ID != "one" || len(recs[0].Outputs["embedding"].Data) != 32 || recs[1].Error == "" || !strings.Contains(recs[2].Error, "100 tokens") {
		t.Fatalf("%+v", recs)
	}
	length := 0.0
	for i, v := range recs[0].Outputs["embedding"].Data {
		length += v * v
		if v != recs[3].Outputs["embedding"].Data[i] {
			t.Fatal("the same text has another embedding")
		}
	}
	if math.Abs(length-1) > 1e-5 {
		t.Errorf("its length is %v", length)
	}
	seed := int64(7)
	table := write(t, dir, "in.csv", []byte("text\nhello\nhello\n"))
	spec := ai.Spec{Model: filepath.Join(models, "tiny-gpt"), Inputs: table, Seed: &seed, Generate: ai.Generate{MaxTokens: 12}}
	_, _, out = runPipeline(t, k, spec)
	first := readRecords(t, filepath.Join(out, "records.jsonl"))
	_, _, out = runPipeline(t, k, spec)
	again := readRecords(t, filepath.Join(out, "records.jsonl"))
	text := func(r media.Record) string { return r.Outputs["text"].Text[0] }
	if text(first[0]) == "" || text(first[0]) == text(first[1]) || text(first[0]) != text(again[0]) || text(first[1]) != text(again[1]) {
		t.Errorf("%+v, again %+v", first, again)
	}
}

func TestPipelinesOfPictures(t *testing.T) {
	k, models := torchKind(t, 1)
	dir := t.TempDir()
	pics := filepath.Dir(write(t, dir, "pics/a.png", picture(t, 60, 40, false)))
	_, _, out := runPipeline(t, k, ai.Spec{Model: filepath.Join(models, "tiny-depth"), Inputs: pics})
	m, err := media.DecodeFile(filepath.Join(out, "picture.png"), media.Limits{})
	if err != nil || m.Width != 60 || m.Height != 40 || m.Channels[0].Sample != media.Uint16 {
		t.Fatalf("%v %v", m, err)
	}
	low, high := float32(1), float32(0)
	for _, v := range m.Channels[0].Data {
		low, high = min(low, v), max(high, v)
	}
	if low != 0 || high != 1 {
		t.Errorf("depth from %v to %v", low, high)
	}
	words := write(t, dir, "in.jsonl", []byte(`{"prompt":"a cat","seed":3}`+"\n"+`{"prompt":"a cat"}`+"\n"+`{"no":1}`+"\n"))
	seed := int64(1)
	in, tasks := plan(t, k, specOf(t, ai.Spec{Model: filepath.Join(models, "tiny-sd"), Inputs: words, Seed: &seed, Generate: ai.Generate{Size: "64x48", Steps: 3}}, ""))
	f := newFarm(t, k, in)
	var pictures []*media.Image
	for _, x := range tasks[:2] {
		at, r := f.run(x)
		m, err := media.DecodeFile(filepath.Join(at, "picture.png"), media.Limits{})
		if r.Outcome != job.Succeeded || err != nil || m.Width != 64 || m.Height != 48 {
			t.Fatalf("%s %s %v\n%s", r.Outcome, r.Reason, err, r.Log)
		}
		pictures = append(pictures, m)
	}
	// Seeds are the item's own, or the job's and the item's number: both are 3.
	for i, v := range pictures[0].Channels[0].Data {
		if v != pictures[1].Channels[0].Data[i] {
			t.Fatal("the same seed draws another picture")
		}
	}
	if _, r := f.run(tasks[2]); r.Outcome != job.Failed || !strings.Contains(r.Reason, "it has no text") {
		t.Errorf("%s: %s", r.Outcome, r.Reason)
	}
	// A check makes it again and keeps the crops that were drawn.
	crop := job.Rect{X0: 8, Y0: 4, X1: 40, Y1: 20}
	again, err := k.Sample(tasks[0], nil, func(int, int) []job.Rect { return []job.Rect{crop} })
	if err != nil {
		t.Fatal(err)
	}
	at, r := f.run(again[0])
	if r.Outcome != job.Succeeded {
		t.Fatal(r.Reason)
	}
	e, err := media.DecodeFile(filepath.Join(at, "crop-0.exr"), media.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	part, err := pictures[0].Crop(crop.X0, crop.Y0, crop.X1, crop.Y1)
	if err != nil {
		t.Fatal(err)
	}
	red, _ := e.Channel("R")
	have, _ := part.Channel("R")
	for i, v := range red.Data {
		if math.Abs(float64(v-have.Data[i])) > 0.51/255 {
			t.Fatalf("sample %d of the crop is %v, in the picture %v", i, v, have.Data[i])
		}
	}
	if dst := os.Getenv("IDLEWILD_KEEP_PICTURES"); dst != "" {
		for name, x := range map[string]string{"drawn.png": f.outs[tasks[0].Key()], "depth.png": out} {
			b, err := os.ReadFile(filepath.Join(x, "picture.png"))
			if err == nil {
				err = os.WriteFile(filepath.Join(dst, name), b, 0o644)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPipelineOfSounds(t *testing.T) {
	k, models := torchKind(t, 1)
	sounds := t.TempDir()
	for _, name := range []string{"a.wav", "b.flac"} {
		b, err := os.ReadFile(filepath.Join(models, "sounds", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, sounds, name, b)
	}
	write(t, sounds, "c.wav", []byte("RIFF....WAVE that ends here"))
	_, _, out := runPipeline(t, k, ai.Spec{Model: filepath.Join(models, "tiny-whisper"), Inputs: sounds})
	recs := readRecords(t, filepath.Join(out, "records.jsonl"))
	// Three seconds are two pieces of the two that the model hears at once.
	if len(recs) != 3 || recs[0].ID != "a.wav" || len(recs[0].Outputs["segments"].Text) != 2 || recs[0].Outputs["times"].Data[3] != 3 ||
		recs[1].Outputs["text"].Text[0] == "" || !strings.Contains(recs[2].Error, "no sound") {
		t.Errorf("%+v", recs)
	}
}

// What is not the model that was planned with, or tells the runner of another one,
// is refused by the worker too.
func TestAWorkerLooksAtTheFolderItself(t *testing.T) {
	k, models := torchKind(t, 1)
	in, tasks := plan(t, k, specOf(t, ai.Spec{Model: filepath.Join(models, "tiny-bert"), Inputs: write(t, t.TempDir(), "i.jsonl", []byte("\"a\"\n"))}, ""))
	for name, c := range map[string]struct{ file, text, says string }{
		"code":          {"model/tiny-bert/hubconf.py", "x", "is a program"},
		"a pickle":      {"model/tiny-bert/pytorch_model.bin", "x", "pickle"},
		"a remote code": {"model/tiny-bert/config.json", `{"architectures":["BertModel"],"auto_map":{"AutoModel":"m.M"}}`, "auto_map"},
		"other weights": {"model/tiny-bert/model.safetensors", string(torchtest.Weights("F32", 16)), "not the one that was planned with"},
	} {
		f := newFarm(t, k, in)
		write(t, f.in, c.file, []byte(c.text))
		if _, r := f.run(tasks[0]); r.Outcome != job.Failed || !strings.Contains(r.Reason, c.says) {
			t.Errorf("%s: %s: %s", name, r.Outcome, r.Reason)
		}
	}
}

// Other threads make other sums: checks have to bear that.
func TestPipelinesAgreeAcrossThreads(t *testing.T) {
	one, models := torchKind(t, 1)
	two, _ := torchKind(t, 2)
	dir := t.TempDir()
	words := write(t, dir, "in.jsonl", []byte(`{"prompt":"a cat","seed":3}`+"\n"))
	read := func(k *ai.Kind, spec ai.Spec) []float32 {
		_, _, out := runPipeline(t, k, spec)
		m, err := media.DecodeFile(filepath.Join(out, "picture.png"), media.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return m.Channels[0].Data
	}
	spec := ai.Spec{Model: filepath.Join(models, "tiny-sd"), Inputs: words, Generate: ai.Generate{Size: "64x64", Steps: 12}}
	a, b := read(one, spec), read(two, spec)
	worst := 0.0
	for i := range a {
		worst = max(worst, math.Abs(float64(a[i]-b[i])))
	}
	t.Logf("one and two threads differ by %.4f at most", worst)
	if worst > 3.0/255 {
		t.Errorf("they differ by %v", worst)
	}
}

func TestAnswersOfPictures(t *testing.T) {
	shape := []int{2, 8, 16, 3}
	rec := media.Record{Item: 1, Outputs: map[string]media.Tensor{"images": {Shape: shape, Data: make([]float64, 2*8*16*3)}}}
	b, err := ai.Body(ai.Images, "m", json.RawMessage(`{"seed":5}`), rec, time.Unix(1, 0))
	var body struct {
		Data []struct {
			B64 []byte `json:"b64_json"`
		}
		Size string
		Seed int
	}
	if err == nil {
		err = json.Unmarshal(b, &body)
	}
	if err != nil || len(body.Data) != 2 || body.Size != "16x8" || body.Seed != 5 || !strings.HasPrefix(string(body.Data[0].B64), "\x89PNG") {
		t.Errorf("%s %v", b, err)
	}
	for _, bad := range []media.Tensor{
		{}, {Shape: []int{1, 1 << 20, 1, 3}, Data: make([]float64, 3)}, {Shape: []int{11, 1, 1, 3}, Data: make([]float64, 33)}, {Shape: []int{1, 1, 1, 3}, Data: []float64{1}},
	} {
		if _, err := ai.Body(ai.Images, "m", nil, media.Record{Outputs: map[string]media.Tensor{"images": bad}}, time.Unix(1, 0)); err == nil {
			t.Errorf("%v is taken for pictures", bad.Shape)
		}
	}
}
