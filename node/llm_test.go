package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/render/ai"
	"idlewild/render/ai/llm/llmtest"
)

// llmServer is llama.cpp's server, without which these tests are skipped.
func llmServer(t *testing.T) string {
	t.Helper()
	cfg := DefaultConfig()
	cfg.DataDir, cfg.LLM.Server = t.TempDir(), os.Getenv("IDLEWILD_LLM_SERVER")
	r, err := FindLLM(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Error != "" {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "llm") {
			t.Fatal(r.Error)
		}
		t.Skip("NOT RUN: " + r.Error)
	}
	return r.Path
}

func addWriter(t *testing.T, cfg Config) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(file, llmtest.Transformer(1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := AddModel(cfg, file, ""); err != nil {
		t.Fatal(err)
	}
}

type chatAnswer struct {
	Choices []struct {
		Message  struct{ Role, Content string }
		Logprobs struct{ Content []struct{ Logprob float64 } }
		Finish   string `json:"finish_reason"`
	}
	Usage struct {
		Prompt int `json:"prompt_tokens"`
	}
	Model string
}

func (d testDoor) chat(more string) chatAnswer {
	d.t.Helper()
	status, text := d.post("/v1/chat/completions", chatRequest(more))
	var a chatAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil || status != 200 || len(a.Choices) == 0 {
		d.t.Fatalf("%d %s %v", status, text, err)
	}
	return a
}

func chatRequest(more string) string {
	return fmt.Sprintf(`{"model":"tiny","messages":[{"role":"user","content":"naïve 世界 🙂"}],"max_tokens":24%s}`, more)
}

// stream reads a streamed answer: its text, its ends, and an error that it ends in.
func (d testDoor) stream(more string) (text string, labels map[string]int, problem string) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.base+"/v1/chat/completions", strings.NewReader(chatRequest(`,"stream":true`+more)))
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		d.t.Fatalf("%d %s", resp.StatusCode, ct)
	}
	labels = map[string]int{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			return text, labels, problem
		}
		var c struct {
			Choices []struct {
				Delta  struct{ Content string }
				Finish string `json:"finish_reason"`
			}
			Idlewild struct{ Verdict string }
			Error    struct{ Message string }
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			d.t.Fatal(err)
		}
		if c.Error.Message != "" {
			return text, labels, c.Error.Message
		}
		for _, ch := range c.Choices {
			text += ch.Delta.Content
			if ch.Finish != "" {
				labels["finish "+ch.Finish]++
			}
		}
		labels[c.Idlewild.Verdict]++
	}
	d.t.Fatal("the stream has no end")
	return
}

func TestALanguageModelAnswersAtTheDoor(t *testing.T) {
	server := llmServer(t)
	n := startNode(t, "one", func(c *Config) { c.LLM.Server, c.Sandbox.Mode = server, "auto" }) // in the sandbox where there is one
	addWriter(t, n.cfg)
	d := doorOf(t, n)
	greedy := d.chat(`,"temperature":0,"logprobs":true,"top_logprobs":2`)
	c := greedy.Choices[0]
	if c.Message.Role != "assistant" || c.Message.Content == "" || len(c.Logprobs.Content) == 0 || c.Finish != "length" || greedy.Model != "tiny" || greedy.Usage.Prompt == 0 {
		t.Errorf("%+v", greedy)
	}
	if again := d.chat(`,"temperature":0`); again.Choices[0].Message.Content != c.Message.Content {
		t.Error("greedy answers differ")
	}
	seeded := d.chat(`,"temperature":1.5,"seed":7`).Choices[0].Message.Content
	if again := d.chat(`,"temperature":1.5,"seed":7`).Choices[0].Message.Content; again != seeded {
		t.Error("the same seed answers otherwise")
	}
	if other := d.chat(`,"temperature":1.5,"seed":8`).Choices[0].Message.Content; other == seeded {
		t.Error("another seed answers the same")
	}
	// A grammar is passed through: whatever the weights, this can be nothing else.
	shaped := d.chat(`,"max_tokens":100,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"],"additionalProperties":false}}}`)
	var v struct{ A *bool }
	if err := json.Unmarshal([]byte(shaped.Choices[0].Message.Content), &v); err != nil || v.A == nil {
		t.Errorf("%q %v", shaped.Choices[0].Message.Content, err)
	}
	text, labels, problem := d.stream(`,"temperature":0`)
	if problem != "" || text != c.Message.Content || labels["own"] == 0 || labels["finish length"] != 1 {
		t.Errorf("%q %v %s, want %q", text, labels, problem, c.Message.Content)
	}
	status, raw := d.post("/v1/embeddings", `{"model":"tiny","input":["naïve 世界","b"]}`)
	var e embeddings
	if err := json.Unmarshal([]byte(raw), &e); err != nil || status != 200 || len(e.Data) != 2 || len(e.Data[0].Embedding) != 64 {
		t.Errorf("%d %s %v", status, raw, err)
	}
	for body, want := range map[string]string{
		`{"model":"tiny","messages":[]}`: "no messages",
		`{"model":"tiny","messages":[{"role":"user","content":"` + strings.Repeat("long ", 1000) + `"}]}`: "context",
		`{"model":"tiny","messages":[{"role":"user","content":"x"}],"temperature":"warm"}`:                "",
	} {
		if status, text := d.post("/v1/chat/completions", body); status != 400 || !strings.Contains(text, want) {
			t.Errorf("%.80s: %d %s", body, status, text)
		}
	}
}

// lossy loses whoever answers first in the middle of it.
type lossy struct {
	places
	lost atomic.Int32
	to   atomic.Value
}

func (l *lossy) ask(ctx context.Context, to peer.ID, a job.Ask, tell func([]byte)) (job.Signed, []byte, error) {
	if l.lost.Add(1) > 1 {
		return l.places.ask(ctx, to, a, tell)
	}
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	told := 0
	l.to.Store(to)
	_, _, err := l.places.ask(ctx, to, a, func(b []byte) {
		if told++; told > 5 {
			cut()
			return
		}
		tell(b)
	})
	return job.Signed{}, nil, fmt.Errorf("cut after %d pieces: %w", told, errors.Join(err, context.Canceled))
}

func TestAStreamGoesOnElsewhere(t *testing.T) {
	server := llmServer(t)
	change := func(c *Config) { c.LLM.Server = server }
	desk := startNode(t, "desk", func(c *Config) { change(c); c.Worker.Enabled = false })
	one, two := startNode(t, "one", change), startNode(t, "two", change)
	addWriter(t, desk.cfg)
	join(t, desk, one, two)
	eventually(t, "both are connected", func() error {
		if len(desk.near()) < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	d := doorOf(t, desk)
	want := d.chat(`,"temperature":0`).Choices[0].Message.Content
	desk.asker.mu.Lock()
	l := &lossy{places: desk.asker.places}
	desk.asker.places = l
	desk.asker.mu.Unlock()
	text, labels, problem := d.stream(`,"temperature":0`)
	if problem != "" || text != want || labels["unverified"] == 0 || labels["own"] != 0 || labels["finish length"] != 1 {
		t.Errorf("%q %v %s, want %q", text, labels, problem, want)
	}
	if l.lost.Load() < 2 {
		t.Error("nobody was lost")
	}
}

func TestABatchOfChats(t *testing.T) {
	cfg := DefaultConfig()
	cfg.LLM.Server = llmServer(t)
	cfg.DataDir, cfg.Sandbox.Mode, cfg.Blender.Path = t.TempDir(), "off", filepath.Join(t.TempDir(), "none")
	addWriter(t, cfg)
	var lines strings.Builder
	for i := range 20 {
		messages := fmt.Sprintf(`[{"role":"user","content":"item %d"}]`, i)
		if i == 3 {
			messages = "[]"
		}
		fmt.Fprintf(&lines, `{"custom_id":"i%d","method":"POST","url":"/v1/chat/completions","body":{"model":"tiny","messages":%s,"max_tokens":8,"temperature":0}}`+"\n", i, messages)
	}
	input, out := filepath.Join(t.TempDir(), "batch.jsonl"), t.TempDir()
	if err := os.WriteFile(input, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	all := 1.0
	spec, err := SpecFor(input, SpecOptions{Kind: string(ai.Name), Output: out, Recheck: &all, Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	s, err := RunEmbedded(t.Context(), EmbeddedOptions{Nodes: 2, Config: cfg, Spec: spec}, func(job.Event, job.Status) {})
	if err != nil || s.State != job.StateFinished || s.Rejected != 0 || s.Rechecked == 0 {
		t.Fatalf("%s: %s, %d rechecked, %d rejected, %v", s.State, s.Reason, s.Rechecked, s.Rejected, err)
	}
	for i, a := range readAnswers(t, filepath.Join(out, ai.AnswersFile)) {
		bad := i == 3
		if a.CustomID != fmt.Sprintf("i%d", i) || bad != (a.Response.Status == 400) || !bad && a.Response.Body.Choices[0].Message.Content == "" {
			t.Errorf("%d: %+v", i, a)
		}
	}
}
