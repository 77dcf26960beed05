package ai_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render"
	"idlewild/render/ai"
	"idlewild/render/ai/onnx"
	"idlewild/render/ai/onnxtest"
	"idlewild/render/ai/torch/torchtest"
	"idlewild/render/assemble"
)

func TestMain(m *testing.M) {
	ai.RunnerMain()
	assemble.RunnerMain()
	code := m.Run()
	torchtest.Clean()
	os.Exit(code)
}

// planner is dispatch.Kind, spelt out: this package may not import dispatch.
type planner interface {
	Inspect(ctx context.Context, s job.Spec) (job.Inspection, error)
	Plan(s job.Spec, in job.Inspection, input cid.Cid) ([]job.Task, error)
}

var _ planner = (*ai.Kind)(nil)

// newKind returns the kind with the library that the environment names, or
// that is found; without says that there is to be none.
func newKind(t testing.TB, without bool) *ai.Kind {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	library := os.Getenv("IDLEWILD_ONNX_LIBRARY")
	if without {
		library = t.TempDir()
	}
	return ai.New(ai.Options{Exe: exe, Library: library, Threads: 2})
}

// needRuntime skips where there is no onnxruntime.
func needRuntime(t testing.TB) *ai.Kind {
	t.Helper()
	k := newKind(t, false)
	if _, _, err := k.Runtime(t.Context()); err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "onnx") {
			t.Fatal(err)
		}
		t.Skipf("NOT RUN: %v", err)
	}
	return k
}

func write(t testing.TB, dir, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func specOf(t testing.TB, s ai.Spec, parts string) job.Spec {
	t.Helper()
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return job.Spec{Kind: ai.Name, Params: b, Policy: job.Policy{Parts: parts}}
}

var someRoot = func() cid.Cid {
	sum, err := mh.Sum([]byte("content"), mh.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.DagCBOR, sum)
}()

func plan(t testing.TB, k *ai.Kind, s job.Spec) (job.Inspection, []job.Task) {
	t.Helper()
	in, err := k.Inspect(t.Context(), s)
	if err != nil || len(in.Refused()) > 0 {
		t.Fatalf("inspect: %v %v", err, in.Problems)
	}
	tasks, err := k.Plan(s, in, someRoot)
	if err != nil {
		t.Fatal(err)
	}
	return in, tasks
}

// picture is a PNG that is nowhere the same.
func picture(t testing.TB, w, h int, alpha bool) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			a := uint8(255)
			if alpha {
				a = uint8(x * 255 / w)
			}
			v := func(k float64) uint8 {
				return uint8(128 + 100*math.Sin(float64(x)*k/7+float64(y)/(3+k)) + float64((x*7+y*13)%23))
			}
			m.Set(x, y, color.NRGBA{v(1), v(2), v(3), a})
		}
	}
	b, err := media.EncodePNG(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInspectNamesWhatIsWrong(t *testing.T) {
	k := newKind(t, true)
	dir := t.TempDir()
	model := write(t, dir, "dense.onnx", onnxtest.Dense(1, 2, 4, 1, 2))
	up := write(t, dir, "up.onnx", onnxtest.Upscaler(1))
	good := write(t, dir, "good.jsonl", []byte(`{"x":[1,2]}`+"\n"))
	pics := filepath.Join(dir, "pics")
	write(t, pics, "a.png", picture(t, 8, 6, false))
	table := write(t, dir, "t.csv", []byte("name,value\na,1\nb,2\n"))
	for name, c := range map[string]struct {
		spec  ai.Spec
		parts string
		says  string
	}{
		"no such model":  {ai.Spec{Model: filepath.Join(dir, "no.onnx"), Inputs: good}, "", "there is no such model"},
		"no model":       {ai.Spec{Model: good, Inputs: good}, "", "no ONNX model"},
		"a pickle":       {ai.Spec{Model: write(t, dir, "m.pt", []byte("\x80\x04\x95aaaaaaa")), Inputs: good}, "", "a pickle runs code"},
		"no inputs":      {ai.Spec{Model: model, Inputs: filepath.Join(dir, "no.jsonl")}, "", "no such file or folder"},
		"broken line":    {ai.Spec{Model: model, Inputs: write(t, dir, "b.jsonl", []byte("{\"x\":[1,2]}\n\n{\"x\":[1,\n{}\n"))}, "", "b.jsonl line 3: is not JSON"},
		"not UTF-8":      {ai.Spec{Model: model, Inputs: write(t, dir, "l.jsonl", []byte("[1,2]\n\"\xff\"\n"))}, "", "l.jsonl line 2"},
		"empty":          {ai.Spec{Model: model, Inputs: write(t, dir, "e.jsonl", []byte("\n\n"))}, "", "there is no item in it"},
		"another file":   {ai.Spec{Model: model, Inputs: write(t, dir, "x.txt", []byte("x"))}, "", "is neither a folder"},
		"no column":      {ai.Spec{Model: model, Inputs: table}, "", "it has no column"},
		"wrong column":   {ai.Spec{Model: model, Inputs: table, Column: "text"}, "", "one of: name, value"},
		"ragged":         {ai.Spec{Model: model, Inputs: write(t, dir, "r.csv", []byte("a,b\n1,2\n3\n")), Column: "b"}, "", "r.csv line 3"},
		"no output":      {ai.Spec{Model: model, Inputs: good, Outputs: []string{"z"}}, "", "it has y"},
		"parts of items": {ai.Spec{Model: model, Inputs: good}, "2x2", "are not cut"},
		"no pictures":    {ai.Spec{Model: model, Inputs: pics}, "", "it takes no pictures: x: float32 [n 2]"},
		"other scale":    {ai.Spec{Model: up, Inputs: pics, Scale: 4}, "", "2 times as large, not 4"},
		"empty folder":   {ai.Spec{Model: up, Inputs: t.TempDir()}, "", "there is no item in it"},
	} {
		in, err := k.Inspect(t.Context(), specOf(t, c.spec, c.parts))
		if err != nil || len(in.Refused()) != 1 || in.Problems[0].Remedy == "" || !strings.Contains(in.Problems[0].String(), c.says) {
			t.Errorf("%s: %v %v", name, in.Problems, err)
		}
	}
	if _, err := (ai.Spec{Model: "m", Inputs: "i", Batch: -1}).Encode(); !errors.Is(err, job.ErrRefused) {
		t.Error(err)
	}
	// One picture that is none spoils no other.
	write(t, pics, "broken.png", []byte("not a picture"))
	in, tasks := plan(t, k, specOf(t, ai.Spec{Model: up, Inputs: pics}, ""))
	if len(tasks) != 1 || len(in.Problems) != 1 || in.Problems[0].Severity != job.SeverityWarning || in.Problems[0].Where != "broken.png" {
		t.Errorf("%d tasks, %v", len(tasks), in.Problems)
	}
}

func TestJobFile(t *testing.T) {
	dir := t.TempDir()
	s, err := ai.ReadJob(write(t, dir, "job.toml", []byte("model = 'm/a.onnx'\ninputs = 'in'\nseed = 7\n[picture]\nmean = [0.5]\n")))
	if err != nil || s.Model != filepath.Join(dir, "m/a.onnx") || s.Inputs != filepath.Join(dir, "in") || *s.Seed != 7 || s.Picture.Mean[0] != 0.5 {
		t.Errorf("%+v %v", s, err)
	}
	for text, says := range map[string]string{
		"model = 'a'\nmodle = 'b'\n": "line 2: there is no setting modle",
		"model = \n":                 "line 1",
		"batch = 'x'\n":              "line 1",
	} {
		if _, err := ai.ReadJob(write(t, dir, "bad.toml", []byte(text))); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// many writes a file of lines for a test of how many there may be, and returns
// how many: usual, or IDLEWILD_ITEMS.
func many(t *testing.T, usual int, line func(i, of int) string) (file string, items int) {
	t.Helper()
	items = usual
	if n, err := strconv.Atoi(os.Getenv("IDLEWILD_ITEMS")); err == nil {
		items = n
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "many.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range items {
		w.WriteString(line(i, items))
		w.WriteByte('\n')
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name(), items
}

// However many items there are, the plan stays small and is made in one pass.
func TestMillionsOfItems(t *testing.T) {
	file, items := many(t, 300_000, func(i, _ int) string { return fmt.Sprintf("[%d]", i%10) })
	k := newKind(t, true)
	in, tasks := plan(t, k, specOf(t, ai.Spec{Model: write(t, t.TempDir(), "m.onnx", onnxtest.Dense(1, 1, 2, 1, 1)), Inputs: file}, ""))
	if len(tasks) > 4096 || len(in.Facts) > 1<<20 {
		t.Errorf("%d tasks, %d bytes of facts", len(tasks), len(in.Facts))
	}
	at, last := 1, tasks[len(tasks)-1]
	for _, x := range tasks {
		if err := x.Validate(); err != nil {
			t.Fatal(err)
		}
		var p struct{ First, Count int }
		if err := json.Unmarshal(x.Params, &p); err != nil {
			t.Fatal(err)
		}
		if p.Count == 0 {
			continue
		}
		if p.First != at {
			t.Fatalf("a task begins with item %d where %d is next", p.First, at)
		}
		at += p.Count
	}
	if at != items+1 || last.Outputs[0].Final != ai.ResultsFile {
		t.Errorf("%d items, the last task delivers %+v", at-1, last.Outputs)
	}
}

// TestMillionsOfRequests: the last of many has the name of one amid them.
func TestMillionsOfRequests(t *testing.T) {
	file, items := many(t, 20_000, func(i, of int) string {
		if i == of-1 {
			i = 7000
		}
		return fmt.Sprintf(`{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"a"}}`, i)
	})
	s := specOf(t, ai.Spec{Model: write(t, t.TempDir(), "m.onnx", onnxtest.Embedder(1, 100, 16)), Inputs: file}, "")
	in, err := newKind(t, true).Inspect(t.Context(), s)
	want := `its custom_id "7000" is that of line 7001`
	if err != nil || len(in.Problems) != 1 || !strings.Contains(in.Problems[0].String(), want) || !strings.Contains(in.Problems[0].String(), fmt.Sprintf("line %d", items)) {
		t.Errorf("%+v %v, want %s", in.Problems, err, want)
	}
}

// farm runs tasks as workers do, predecessors first, in a sandbox where there
// is one.
type farm struct {
	t    testing.TB
	exec *render.Runner
	in   string
	outs map[job.TaskKey]string
}

func newFarm(t testing.TB, k *ai.Kind, in job.Inspection) *farm {
	t.Helper()
	var process render.Process = render.NewLocalProcess(nil)
	if s, err := render.NewSandbox(t.Context(), nil, render.Limits{}); err == nil {
		process = s
	} else if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "sandbox") {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{t: t, in: t.TempDir(), outs: map[job.TaskKey]string{}}
	f.exec = render.NewExecutor(map[job.Kind]render.Kind{ai.Name: k, assemble.Name: assemble.New(exe)}, process, render.Options{Scratch: t.TempDir()})
	t.Cleanup(func() { f.exec.Close() })
	for _, d := range in.Deps {
		b, err := os.ReadFile(d.Path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, f.in, d.Name, b)
	}
	return f
}

func (f *farm) run(x job.Task) (string, render.Result) {
	f.t.Helper()
	out := f.t.TempDir()
	var prior []string
	for _, k := range x.After {
		prior = append(prior, f.outs[k])
	}
	defer f.hide(job.Lease{Tasks: []job.Granted{{Task: x}}}.Wants(x.Input))()
	r := f.exec.Execute(context.Background(), render.Task{Task: x, Requester: "r", Content: "c", Device: job.Device{Name: "cpu", Type: "cpu"}},
		render.Dirs{In: f.in, Out: out, Prior: prior}, nil)
	f.outs[x.Key()] = out
	return out, r
}

// hide takes the files that are not wanted out of the content, as no worker would
// have fetched them; what it returns puts them back.
func (f *farm) hide(w job.Wanted) (back func()) {
	f.t.Helper()
	away := f.t.TempDir()
	var moved []string
	if err := filepath.WalkDir(f.in, func(path string, d os.DirEntry, err error) error {
		name, rerr := filepath.Rel(f.in, path)
		if err = errors.Join(err, rerr); err != nil || d.IsDir() || w.Has(filepath.ToSlash(name)) {
			return err
		}
		moved = append(moved, name)
		return os.Rename(path, filepath.Join(away, strconv.Itoa(len(moved))))
	}); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		for i, name := range moved {
			if err := os.Rename(filepath.Join(away, strconv.Itoa(i+1)), filepath.Join(f.in, name)); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// all runs a plan and returns the folder of the last task.
func (f *farm) all(tasks []job.Task) (out string) {
	f.t.Helper()
	for _, x := range tasks {
		var r render.Result
		if out, r = f.run(x); r.Outcome != job.Succeeded {
			f.t.Fatalf("%s: %s: %s\n%s", x.Label, r.Outcome, r.Reason, r.Log)
		}
	}
	return out
}

func readRecords(t testing.TB, file string) []media.Record {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []media.Record
	if err := media.ReadRecords(f, func(r media.Record) error { out = append(out, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBatchWithPoison(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	var text strings.Builder
	for i := range 40 {
		switch i {
		case 7:
			text.WriteString(`{"custom_id":"short","x":[1]}` + "\n")
		case 8:
			text.WriteString(`{"custom_id":"words","x":["a","b"]}` + "\n")
		case 9:
			text.WriteString(`{"custom_id":"nothing"}` + "\n")
		case 10:
			text.WriteString(`{"custom_id":"ragged","x":[1,[2]]}` + "\n")
		case 11:
			text.WriteString(`{"custom_id":"empty","x":[]}` + "\n\n")
		default:
			fmt.Fprintf(&text, `{"custom_id":"日本 %d","x":[%d,1]}`+"\n", i, i)
		}
	}
	s := specOf(t, ai.Spec{Model: write(t, dir, "m.onnx", onnxtest.Dense(1, 2, 8, 1, 3)), Inputs: write(t, dir, "i.jsonl", []byte(text.String())), Batch: 6}, "")
	in, tasks := plan(t, k, s)
	if len(tasks) != 8 {
		t.Fatalf("%d tasks", len(tasks))
	}
	recs := readRecords(t, filepath.Join(newFarm(t, k, in).all(tasks), "records.jsonl"))
	if len(recs) != 40 {
		t.Fatalf("%d records", len(recs))
	}
	for i, r := range recs {
		poison := i >= 7 && i <= 11
		if r.Item != i+1 || (r.Error != "") != poison || (!poison && (len(r.Outputs["y"].Data) != 3 || r.ID != fmt.Sprintf("日本 %d", i))) {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if e := recs[7].Error; !strings.Contains(e, "[1] where the model takes [2]") {
		t.Error(e)
	}
	// An item gives the same whatever stands beside it.
	one := specOf(t, ai.Spec{Model: filepath.Join(dir, "m.onnx"), Inputs: write(t, dir, "one.jsonl", []byte("[39,1]\n"))}, "")
	in, tasks = plan(t, k, one)
	alone := readRecords(t, filepath.Join(newFarm(t, k, in).all(tasks), "records.jsonl"))
	for n, v := range alone[0].Outputs["y"].Data {
		if math.Abs(v-recs[39].Outputs["y"].Data[n]) > 1e-6 {
			t.Errorf("alone %v, among others %v", v, recs[39].Outputs["y"].Data[n])
		}
	}
}

func TestTextsAndNumbersOfAColumn(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	var g onnxtest.Graph
	g.Input("text", onnxtest.Text, "n")
	g.Output("same", onnxtest.Text, "n")
	g.Node("Identity", []string{"text"}, []string{"same"})
	s := specOf(t, ai.Spec{
		Model: write(t, dir, "m.onnx", g.Bytes()), Column: "prompt",
		Inputs: write(t, dir, "t.csv", []byte("id,prompt\n1,\"日本, 👩‍🚀\"\n2,\n3,\"two\nlines\"\n")),
	}, "")
	in, tasks := plan(t, k, s)
	recs := readRecords(t, filepath.Join(newFarm(t, k, in).all(tasks), "records.jsonl"))
	for i, want := range []string{"日本, 👩‍🚀", "", "two\nlines"} {
		if recs[i].Error != "" || len(recs[i].Outputs["same"].Text) != 1 || recs[i].Outputs["same"].Text[0] != want {
			t.Errorf("%+v, want %q", recs[i], want)
		}
	}
	s = specOf(t, ai.Spec{
		Model: write(t, dir, "d.onnx", onnxtest.Dense(1, 2, 4, 1, 1)), Column: "x",
		Inputs: write(t, dir, "n.csv", []byte("x\n\"[1,2]\"\nseven\n")),
	}, "")
	in, tasks = plan(t, k, s)
	recs = readRecords(t, filepath.Join(newFarm(t, k, in).all(tasks), "records.jsonl"))
	if len(recs) != 2 || recs[0].Error != "" || !strings.Contains(recs[1].Error, "seven") {
		t.Errorf("%+v", recs)
	}
}

func TestNumbersThatAreNone(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	var g onnxtest.Graph
	g.Input("x", onnxtest.Float, "n", 1)
	g.Output("y", onnxtest.Float, "n", 1)
	g.Node("Log", []string{"x"}, []string{"y"})
	s := specOf(t, ai.Spec{Model: write(t, dir, "m.onnx", g.Bytes()), Inputs: write(t, dir, "i.jsonl", []byte("[1]\n[-1]\n[0]\n2\n"))}, "")
	in, tasks := plan(t, k, s)
	recs := readRecords(t, filepath.Join(newFarm(t, k, in).all(tasks), "records.jsonl"))
	for i, bad := range []bool{false, true, true, false} {
		if strings.Contains(recs[i].Error, "no numbers") != bad {
			t.Errorf("%+v", recs[i])
		}
	}
}

// What the runtime does not take is said before a byte moves; a machine that
// learns it only from the task says it there.
func TestModelsThatDoNotLoad(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	input := write(t, dir, "i.jsonl", []byte("[1]\n"))
	model := func(op string, opset int64) string {
		g := onnxtest.Graph{Opset: opset}
		g.Input("x", onnxtest.Float, "n", 1)
		g.Output("y", onnxtest.Float, "n", 1)
		g.Node(op, []string{"x"}, []string{"y"})
		return write(t, dir, fmt.Sprintf("%s%d.onnx", op, opset), g.Bytes())
	}
	for name, c := range map[string]struct{ file, says string }{
		"operator missing": {model("DoesNotExist", 13), "DoesNotExist"},
		"wrong opset":      {model("Relu", 999), "opset"},
	} {
		s := specOf(t, ai.Spec{Model: c.file, Inputs: input}, "")
		in, err := k.Inspect(t.Context(), s)
		if err != nil || len(in.Refused()) != 1 || !strings.Contains(in.Problems[0].Message, c.says) {
			t.Errorf("%s: %v %v", name, in.Problems, err)
		}
		blind, tasks := plan(t, newKind(t, true), s)
		_, r := newFarm(t, k, blind).run(tasks[0])
		if r.Outcome != job.Failed || !strings.Contains(r.Reason, c.says) {
			t.Errorf("%s: %s: %s", name, r.Outcome, r.Reason)
		}
	}
	// Another model under the planned one's name.
	s := specOf(t, ai.Spec{Model: model("Relu", 13), Inputs: input}, "")
	in, tasks := plan(t, k, s)
	f := newFarm(t, k, in)
	write(t, f.in, "model/Relu13.onnx", onnxtest.Dense(1, 1, 1, 1, 1))
	if _, r := f.run(tasks[0]); r.Outcome != job.Failed || !strings.Contains(r.Reason, "not the one that was planned with") {
		t.Errorf("%s: %s", r.Outcome, r.Reason)
	}
}

// upscaled makes the picture in one run of the model, without this package.
func upscaled(t testing.TB, library, model string, m *media.Image) [][]float32 {
	t.Helper()
	s, err := onnx.Open(library, model, onnx.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	in := onnx.Tensor{Shape: []int64{1, 3, int64(m.Height), int64(m.Width)}}
	for _, c := range m.Channels[:3] {
		in.F32 = append(in.F32, c.Data...)
	}
	out, err := s.Run(map[string]onnx.Tensor{"image": in}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := len(out[0].F32) / 3
	return [][]float32{out[0].F32[:n], out[0].F32[n : 2*n], out[0].F32[2*n:]}
}

func TestTiledIsUntiled(t *testing.T) {
	k := needRuntime(t)
	library, _, err := k.Runtime(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	model := write(t, dir, "up.onnx", onnxtest.Upscaler(3))
	file := write(t, dir, "pics/sub/a.png", picture(t, 310, 270, false))
	src, err := media.DecodeFile(file, media.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := upscaled(t, library, model, src)
	for _, parts := range []string{"", "3x2"} {
		s := specOf(t, ai.Spec{Model: model, Inputs: filepath.Join(dir, "pics")}, parts)
		in, tasks := plan(t, k, s)
		f := newFarm(t, k, in)
		out := f.all(tasks)
		last := tasks[len(tasks)-1]
		if last.Outputs[0].Final != "sub/a.png" {
			t.Errorf("%q: delivered as %s", parts, last.Outputs[0].Final)
		}
		for c, name := range []string{"R", "G", "B"} {
			if parts != "" {
				// Before they are rounded to 8 bits: what was joined.
				joined, err := media.DecodeFile(filepath.Join(f.outs[tasks[len(tasks)-2].Key()], assemble.FrameFile), media.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				have, _ := joined.Channel(name)
				if off := furthest(have.Data, want[c]); off > 1e-4 {
					t.Errorf("tiles of %s, %s: off by %g", parts, name, off)
				}
			}
			m, err := media.DecodeFile(filepath.Join(out, "picture.png"), media.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			have, _ := m.Channel(name)
			clipped := make([]float32, len(want[c]))
			for i, v := range want[c] {
				clipped[i] = min(max(v, 0), 1)
			}
			if off := furthest(have.Data, clipped); m.Width != 620 || m.Height != 540 || off > 0.51/255 {
				t.Errorf("%q, %s: %dx%d, off by %g", parts, name, m.Width, m.Height, off)
			}
		}
		// What a checker runs again agrees with it.
		again, err := k.Sample(tasks[0], nil, func(w, h int) []job.Rect { return []job.Rect{{X0: 3, Y0: 5, X1: 300, Y1: 41}} })
		if err != nil {
			t.Fatal(err)
		}
		crops, r := f.run(again[0])
		if r.Outcome != job.Succeeded {
			t.Fatal(r.Reason)
		}
		m, err := media.DecodeFile(filepath.Join(crops, "crop-0.exr"), media.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		red, _ := m.Channel("R")
		if off := math.Abs(float64(red.Data[0] - want[0][(540-41)*620+3])); off > 1e-4 {
			t.Errorf("crop off by %g", off)
		}
	}
}

func furthest(a, b []float32) (most float64) {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	for i := range a {
		most = max(most, math.Abs(float64(a[i]-b[i])))
	}
	return most
}

// Where nobody knows how far a model reaches, tiles fade into each other, and
// what does not reach further than the overlap is as if there were none.
func TestBlendedTilesHaveNoSeam(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	var g onnxtest.Graph
	g.Input("image", onnxtest.Float, 1, 3, "h", "w")
	g.Output("out", onnxtest.Float, 1, 3, "h", "w")
	// The mean of the whole picture is added: tiles differ by it.
	g.Node("GlobalAveragePool", []string{"image"}, []string{"mean"})
	g.Weight("half", []float32{0.5}, 1)
	g.Node("Mul", []string{"image", "half"}, []string{"a"})
	g.Node("Mul", []string{"mean", "half"}, []string{"b"})
	g.Node("Add", []string{"a", "b"}, []string{"out"})
	// A ramp: its tiles' means differ, so that hard edges would be steps.
	m := image.NewNRGBA64(image.Rect(0, 0, 700, 520))
	for y := range 520 {
		for x := range 700 {
			v := uint16(x * 65535 / 700)
			m.Set(x, y, color.NRGBA64{v, v, v, 65535})
		}
	}
	file := filepath.Join(dir, "pics", "a.png")
	write(t, dir, "pics/.keep", nil)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(png.Encode(f, m), f.Close()); err != nil {
		t.Fatal(err)
	}
	s := specOf(t, ai.Spec{Model: write(t, dir, "m.onnx", g.Bytes()), Inputs: filepath.Join(dir, "pics"), Overlap: 32}, "")
	in, tasks := plan(t, k, s)
	out, err := media.DecodeFile(filepath.Join(newFarm(t, k, in).all(tasks), "picture.png"), media.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	red, _ := out.Channel("R")
	if out.Width != 700 || red.Sample != media.Uint16 {
		t.Fatalf("%dx%d", out.Width, out.Height)
	}
	step := 0.0
	for y := range out.Height {
		for x := 1; x < out.Width; x++ {
			step = max(step, math.Abs(float64(red.Data[y*700+x]-red.Data[y*700+x-1])))
		}
	}
	// Hard edges would jump by half the means' distance, 0.18.
	if step > 0.02 {
		t.Errorf("a step of %g", step)
	}
	if _, err := k.Plan(specOf(t, ai.Spec{Model: filepath.Join(dir, "m.onnx"), Inputs: filepath.Join(dir, "pics"), Overlap: 32}, "2x2"), in, someRoot); !errors.Is(err, job.ErrRefused) {
		t.Error(err)
	}
}

func TestAlphaAndPicturesAsItems(t *testing.T) {
	k := needRuntime(t)
	dir := t.TempDir()
	write(t, dir, "pics/a.png", picture(t, 40, 30, true))
	write(t, dir, "pics/b.png", picture(t, 33, 20, false))
	s := specOf(t, ai.Spec{Model: write(t, dir, "up.onnx", onnxtest.Upscaler(1)), Inputs: filepath.Join(dir, "pics")}, "")
	in, tasks := plan(t, k, s)
	f := newFarm(t, k, in)
	out, r := f.run(tasks[0])
	if r.Outcome != job.Succeeded {
		t.Fatal(r.Reason)
	}
	m, err := media.DecodeFile(filepath.Join(out, "picture.png"), media.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if a, ok := m.Channel("A"); !ok || a.Data[2] > 0.3 || a.Data[77] < 0.7 {
		t.Errorf("alpha is lost: %v", m.Channels)
	}
	// A model that makes vectors of pictures: the mean of each channel.
	var flat onnxtest.Graph
	flat.Input("image", onnxtest.Float, "n", 3, 16, 16)
	flat.Output("mean", onnxtest.Float, "n", 3)
	flat.Ints("shape", 0, 3)
	flat.Node("GlobalAveragePool", []string{"image"}, []string{"m"})
	flat.Node("Reshape", []string{"m", "shape"}, []string{"mean"})
	s = specOf(t, ai.Spec{Model: write(t, dir, "flat.onnx", flat.Bytes()), Inputs: filepath.Join(dir, "pics")}, "")
	in, tasks = plan(t, k, s)
	f = newFarm(t, k, in)
	write(t, f.in, "input/2/b.png", []byte("\x89PNG\r\n\x1a\nno longer one"))
	recs := readRecords(t, filepath.Join(f.all(tasks), "records.jsonl"))
	src, err := media.DecodeFile(filepath.Join(dir, "pics", "a.png"), media.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	mean := 0.0
	for _, v := range src.Channels[0].Data {
		mean += float64(v) / float64(len(src.Channels[0].Data))
	}
	if r := tasks[0].Reads; len(r) != 1 || !slices.Equal(r[0].Of, [][2]int{{1, 2}}) {
		t.Errorf("tasks of pictures read %v", r)
	}
	if len(recs) != 2 || recs[0].ID != "a.png" || math.Abs(recs[0].Outputs["mean"].Data[0]-mean) > 0.02 || recs[1].Error == "" {
		t.Errorf("%+v, mean %v", recs, mean)
	}
}

func TestModelsThatAreNotListedGoElsewhere(t *testing.T) {
	k := needRuntime(t)
	library, _, _ := k.Runtime(t.Context())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	strict := ai.New(ai.Options{Exe: exe, Library: library, Allowed: func(string) bool { return false }})
	dir := t.TempDir()
	s := specOf(t, ai.Spec{Model: write(t, dir, "m.onnx", onnxtest.Dense(1, 1, 1, 1, 1)), Inputs: write(t, dir, "i.jsonl", []byte("[1]\n"))}, "")
	in, tasks := plan(t, k, s)
	_, r := newFarm(t, strict, in).run(tasks[0])
	if r.Outcome != job.Cancelled || !strings.Contains(r.Reason, "not on this machine's list") {
		t.Errorf("%s: %s", r.Outcome, r.Reason)
	}
}

func TestProbeWithoutARuntime(t *testing.T) {
	facts, warnings, err := newKind(t, true).Probe(t.Context())
	if err != nil || len(warnings) != 0 || len(facts) != 1 {
		t.Errorf("%v %v %v", facts, warnings, err)
	}
	facts, _, err = needRuntime(t).Probe(t.Context())
	if err != nil || len(facts["onnx@cpu"]) != 1 {
		t.Errorf("%v %v", facts, err)
	}
}
