package node

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render/ai"
	"idlewild/render/ai/onnxtest"
	"idlewild/render/ai/wordpiece"
)

// addEmbedder adds a model of tokens to the models of cfg.
func addEmbedder(t *testing.T, cfg Config) Model {
	t.Helper()
	file := filepath.Join(t.TempDir(), "embedder.onnx")
	if err := os.WriteFile(file, onnxtest.Embedder(1, 100, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := AddModel(cfg, file, "")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// batchAnswer is what a test reads of a line of a batch's output.
type batchAnswer struct {
	CustomID string `json:"custom_id"`
	Response struct {
		Status int `json:"status_code"`
		Body   struct {
			Model string `json:"model"`
			Data  []struct {
				Index     int       `json:"index"`
				Embedding []float64 `json:"embedding"`
			} `json:"data"`
			Choices []struct {
				Message struct{ Content string }
			} `json:"choices"`
			Error struct{ Message string } `json:"error"`
		} `json:"body"`
	} `json:"response"`
}

func readAnswers(t *testing.T, file string) (out []batchAnswer) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var a batchAnswer
		if err := json.Unmarshal(s.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// A batch in OpenAI's format names its model itself, and its answers come in its
// order under the same names; what is wrong with one is in its answer.
func TestBatchInOpenAIsFormat(t *testing.T) {
	cfg := aiConfig(t)
	addEmbedder(t, cfg)
	var text strings.Builder
	for i := range 60 {
		input := fmt.Sprintf("[%d,2,3]", i)
		switch i {
		case 7:
			input = "[1,2,100]" // no such token
		case 8:
			input = `"naïve 世界"`
		case 9:
			input = `[[1],[2,3]]`
		case 10:
			input = "[]"
		}
		fmt.Fprintf(&text, `{"custom_id":"i%d","method":"POST","url":"/v1/embeddings","body":{"model":"embedder","input":%s}}`+"\n", i, input)
	}
	dir := t.TempDir()
	input := filepath.Join(dir, "batch.jsonl")
	if err := os.WriteFile(input, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	all := 1.0
	out := filepath.Join(dir, "out")
	spec, err := SpecFor(input, SpecOptions{Kind: string(ai.Name), Output: out, Recheck: &all, Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	s, err := RunEmbedded(t.Context(), EmbeddedOptions{Nodes: 2, Config: cfg, Spec: spec}, func(job.Event, job.Status) {})
	if err != nil || s.State != job.StateFinished || s.Rejected != 0 || s.Rechecked == 0 {
		t.Fatalf("%s: %s, %d rechecked, %d rejected, %v", s.State, s.Reason, s.Rechecked, s.Rejected, err)
	}
	answers := readAnswers(t, filepath.Join(out, ai.AnswersFile))
	if len(answers) != 60 {
		t.Fatalf("%d answers", len(answers))
	}
	for i, a := range answers {
		bad := i == 7 || i == 8 || i == 10
		switch body := a.Response.Body; {
		case a.CustomID != fmt.Sprintf("i%d", i):
			t.Errorf("answer %d is %s's", i, a.CustomID)
		case bad && (a.Response.Status != 400 || body.Error.Message == ""):
			t.Errorf("%d: %+v", i, a)
		case bad:
		case a.Response.Status != 200 || body.Model != "embedder" || len(body.Data) == 0 || len(body.Data[0].Embedding) != 16:
			t.Errorf("%d: %+v", i, a)
		case i == 9 && (len(body.Data) != 2 || body.Data[1].Index != 1):
			t.Errorf("%+v", a)
		}
	}
	if m := answers[8].Response.Body.Error.Message; !strings.Contains(m, "tokenizer") {
		t.Error(m)
	}
}

func TestBrokenBatchesAreRefusedByTheLine(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	addEmbedder(t, cfg)
	good := `{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"embedder","input":[1]}}`
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	kind := ai.New(ai.Options{Exe: exe, Library: filepath.Join(t.TempDir(), "none")})
	for want, line := range map[string]string{
		"line 3 is not JSON":                         `{"custom_id":"b",`,
		"line 3 it has no custom_id":                 `{"method":"POST","url":"/v1/embeddings","body":{"model":"embedder"}}`,
		`line 3 its custom_id "a" is that of line 1`: good,
		`line 3 its method is "GET"`:                 `{"custom_id":"b","method":"GET","url":"/v1/embeddings","body":{"model":"embedder"}}`,
		`line 3 its url is "/v1/moon"`:               `{"custom_id":"b","method":"POST","url":"/v1/moon","body":{"model":"embedder"}}`,
		"line 3 its url is /v1/chat":                 `{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"model":"embedder"}}`,
		"line 3 it has no body":                      `{"custom_id":"b","method":"POST","url":"/v1/embeddings"}`,
		`line 3 its model is "other"`:                `{"custom_id":"b","method":"POST","url":"/v1/embeddings","body":{"model":"other"}}`,
	} {
		input := filepath.Join(t.TempDir(), "batch.jsonl")
		if err := os.WriteFile(input, []byte(good+"\n\n"+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		spec, err := SpecFor(input, SpecOptions{Kind: string(ai.Name), Output: t.TempDir(), Config: cfg})
		if err != nil {
			t.Fatal(err)
		}
		in, err := kind.Inspect(t.Context(), spec)
		if err != nil || len(in.Problems) != 1 {
			t.Errorf("%s: %+v, %v", line, in, err)
			continue
		}
		if p := in.Problems[0]; !strings.Contains(p.Where+" "+p.Message, want) || p.Remedy == "" {
			t.Errorf("%q %q %q, want %q", p.Where, p.Message, p.Remedy, want)
		}
	}
	// A model that nobody has added, and one that answers something else.
	input := filepath.Join(t.TempDir(), "batch.jsonl")
	if err := os.WriteFile(input, []byte(strings.ReplaceAll(good, "embedder", "gpt-4o")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SpecFor(input, SpecOptions{Kind: string(ai.Name), Config: cfg}); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "gpt-4o") {
		t.Error(err)
	}
	chat := strings.NewReplacer("embeddings", "chat/completions").Replace(good)
	if err := os.WriteFile(input, []byte(chat), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := SpecFor(input, SpecOptions{Kind: string(ai.Name), Output: t.TempDir(), Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	if in, err := kind.Inspect(t.Context(), spec); err != nil || len(in.Problems) != 1 || !strings.Contains(in.Problems[0].Message, "/v1/chat/completions") {
		t.Errorf("%+v %v", in, err)
	}
}

// A model of tokens with a tokenizer beside it is given texts, in a batch and as
// items, and makes of them what it makes of their tokens.
func TestTextsForAModelOfTokens(t *testing.T) {
	cfg := aiConfig(t)
	dir := t.TempDir()
	b, err := os.ReadFile(filepath.Join("..", "render", "ai", "wordpiece", "testdata", wordpiece.FileName))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := wordpiece.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	model := write("embedder.onnx", onnxtest.Embedder(1, 1000, 16))
	write(wordpiece.FileName, b)
	if _, err := AddModel(cfg, model, ""); err != nil {
		t.Fatal(err)
	}
	text := "naïve 世界, a farm of frames"
	ids, err := json.Marshal(tok.Encode(text).IDs)
	if err != nil {
		t.Fatal(err)
	}
	const line = `{"custom_id":"%s","method":"POST","url":"/v1/embeddings","body":{"model":"embedder","input":%s}}` + "\n"
	batch := write("batch.jsonl", fmt.Appendf(nil, line+line, "text", `"`+text+`"`, "tokens", ids))
	run := func(input string, o SpecOptions) string {
		t.Helper()
		o.Kind, o.Output, o.Config = string(ai.Name), filepath.Join(t.TempDir(), "out"), cfg
		spec, err := SpecFor(input, o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := RunEmbedded(t.Context(), EmbeddedOptions{Nodes: 1, Config: cfg, Spec: spec}, func(job.Event, job.Status) {})
		if err != nil || s.State != job.StateFinished {
			t.Fatalf("%s: %s, %v", s.State, s.Reason, err)
		}
		return o.Output
	}
	answers := readAnswers(t, filepath.Join(run(batch, SpecOptions{}), ai.AnswersFile))
	if len(answers) != 2 || len(answers[0].Response.Body.Data) != 1 || !slices.Equal(answers[0].Response.Body.Data[0].Embedding, answers[1].Response.Body.Data[0].Embedding) {
		t.Errorf("%+v", answers)
	}
	for name, items := range map[string]string{
		"items.jsonl": fmt.Sprintf("%q\n{\"input\": %q}\n{\"input_ids\": %s}\n%s\n", text, text, ids, ids),
		"items.csv":   fmt.Sprintf("text\n%q\n\"%s\"\n", text, ids),
	} {
		job := write(name+".toml", fmt.Appendf(nil, "model = %q\ninputs = %q\n", model, write(name, []byte(items))))
		b, err := os.ReadFile(filepath.Join(run(job, SpecOptions{}), "results.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var outputs []string
		for l := range strings.Lines(string(b)) {
			_, values, ok := strings.Cut(l, `"outputs":`)
			if !ok {
				t.Errorf("%s: %s", name, l)
			}
			outputs = append(outputs, values)
		}
		if n := len(slices.Compact(outputs)); n != 1 {
			t.Errorf("%s: %d different answers to one text", name, n)
		}
	}
}
