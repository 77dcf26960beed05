package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/localapi"
)

// door asks a daemon's door as a client of OpenAI's API does.
type testDoor struct {
	t     *testing.T
	base  string
	token string
}

func doorOf(t *testing.T, n *testNode) testDoor {
	t.Helper()
	ep, err := localapi.ReadEndpoint(n.cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	return testDoor{t, "http://" + ep.Address, ep.Token}
}

func (d testDoor) do(ctx context.Context, method, path, kind string, body io.Reader) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

func (d testDoor) post(path, body string) (int, string) {
	d.t.Helper()
	status, b, err := d.do(d.t.Context(), http.MethodPost, path, "application/json", strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	return status, string(b)
}

type embeddings struct {
	Data []struct {
		Index     int       `json:"index"`
		Embedding []float64 `json:"embedding"`
	} `json:"data"`
	Model    string                 `json:"model"`
	Idlewild localapi.AnswerVerdict `json:"idlewild"`
}

func (d testDoor) embed(input string) embeddings {
	d.t.Helper()
	status, text := d.post("/v1/embeddings", fmt.Sprintf(`{"model":"embedder","input":%s}`, input))
	var e embeddings
	if err := json.Unmarshal([]byte(text), &e); err != nil || status != http.StatusOK || len(e.Data) == 0 {
		d.t.Fatalf("%d %s %v", status, text, err)
	}
	return e
}

func answering1(cfg Config) func(*Config) {
	return func(c *Config) { c.ONNX.Library = cfg.ONNX.Library }
}

func TestTheDoorAnswersByThisMachine(t *testing.T) {
	n := startNode(t, "one", answering1(aiConfig(t)))
	addEmbedder(t, n.cfg)
	d := doorOf(t, n)
	e := d.embed(`[[1,2,3],[4]]`)
	if len(e.Data) != 2 || len(e.Data[1].Embedding) != 16 || e.Model != "embedder" || e.Idlewild.Verdict != "own" {
		t.Errorf("%+v", e)
	}
	for body, want := range map[string]string{
		`{"model":"embedder"}`:                                       "no input",
		`{"model":"embedder","input":""}`:                            "empty",
		`{"model":"embedder","input":[]}`:                            "empty",
		`{"model":"embedder","input":"naïve 世界"}`:                    "tokenizer",
		`{"model":"embedder","input":[1,2,1000]}`:                    "text 0",
		`{"model":"embedder","input":[1],"dimensions":3}`:            "16 dimensions",
		`{"model":"embedder","input":[1],"encoding_format":"morse"}`: "morse",
		`{"input":[1]}`:                  "names no model",
		`{"model":7`:                     "no JSON",
		`{"model":"gpt-4o","input":[1]}`: "idlewild model add",
	} {
		status, text := d.post("/v1/embeddings", body)
		var e struct {
			Error struct{ Message, Type string }
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil || status < 400 || status > 404 || e.Error.Type == "" || !strings.Contains(e.Error.Message, want) {
			t.Errorf("%s: %d %s %v", body, status, text, err)
		}
	}
	if status, text := d.post("/v1/chat/completions", `{"model":"embedder","messages":[{"role":"user","content":"hi"}]}`); status != 400 || !strings.Contains(text, "gguf") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := d.post("/v1/images/generations", `{"model":"embedder","prompt":"a horse"}`); status != 400 || !strings.Contains(text, "model add FOLDER") {
		t.Errorf("%d %s", status, text)
	}
	status, text, err := d.do(t.Context(), http.MethodGet, "/v1/models", "", nil)
	if err != nil || status != 200 || !strings.Contains(string(text), `"id":"embedder"`) {
		t.Errorf("%d %s %v", status, text, err)
	}
	// The same questions as ever are asked of whoever comes.
	for name, change := range map[string]func(*http.Request){
		"no token":   func(r *http.Request) { r.Header.Del("Authorization") },
		"a web page": func(r *http.Request) { r.Header.Set("Origin", "https://example.org") },
		"rebinding":  func(r *http.Request) { r.Host = "example.org" },
	} {
		for _, path := range []string{"/v1/embeddings", "/v1/files"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.base+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+d.token)
			change(r)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 401 && resp.StatusCode != 403 {
				t.Errorf("%s at %s: %d", name, path, resp.StatusCode)
			}
		}
	}
}

// Many at once share the model's batches, and each gets its own answer.
func TestTheDoorAnswersManyAtOnce(t *testing.T) {
	n := startNode(t, "one", answering1(aiConfig(t)))
	addEmbedder(t, n.cfg)
	d := doorOf(t, n)
	want := make([]embeddings, 8)
	for i := range want {
		want[i] = d.embed(fmt.Sprintf("[%d]", i))
	}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			status, b, err := d.do(t.Context(), http.MethodPost, "/v1/embeddings", "application/json",
				strings.NewReader(fmt.Sprintf(`{"model":"embedder","input":[%d]}`, i%8)))
			var e embeddings
			if err == nil {
				err = json.Unmarshal(b, &e)
			}
			if err != nil || status != 200 || len(e.Data) != 1 {
				t.Errorf("%d: %d %s %v", i, status, b, err)
				return
			}
			for k, v := range e.Data[0].Embedding {
				if diff := v - want[i%8].Data[0].Embedding[k]; diff > 1e-5 || diff < -1e-5 {
					t.Errorf("%d has another's answer", i)
					return
				}
			}
		})
	}
	all.Wait()
}

// A machine whose own worker is off is answered by a member; what it says is
// unverified until it was run again, and when it is lost another one answers.
func TestTheDoorAnswersByTheFarm(t *testing.T) {
	cfg := aiConfig(t)
	desk := startNode(t, "desk", func(c *Config) { answering1(cfg)(c); c.Worker.Enabled = false })
	one := startNode(t, "one", answering1(cfg))
	two := startNode(t, "two", answering1(cfg))
	addEmbedder(t, desk.cfg)
	join(t, desk, one, two)
	eventually(t, "both are connected", func() error {
		if len(desk.near()) < 2 {
			return errors.New("not yet")
		}
		return nil
	})
	d := doorOf(t, desk)
	e := d.embed("[1,2]")
	if e.Idlewild.Verdict != "unverified" || e.Idlewild.Worker == "" || e.Idlewild.Worker == desk.self.String() {
		t.Fatalf("%+v", e.Idlewild)
	}
	status, text, err := d.do(t.Context(), http.MethodGet, "/v1/answers/"+e.Idlewild.Answer, "", nil)
	if err != nil || status != 200 || !strings.Contains(string(text), e.Idlewild.Worker) {
		t.Errorf("%d %s %v", status, text, err)
	}
	lost, stays := one, two
	if e.Idlewild.Worker == two.self.String() {
		lost, stays = two, one
	}
	lost.end(t)
	again := d.embed("[1,2]")
	if again.Idlewild.Worker != stays.self.String() {
		t.Errorf("%+v", again.Idlewild)
	}
	for k, v := range again.Data[0].Embedding {
		if diff := v - e.Data[0].Embedding[k]; diff > 1e-5 || diff < -1e-5 {
			t.Fatal("they answer differently")
		}
	}
	// Nobody is left: the reason is said, and what was asked does not hang.
	stays.end(t)
	desk.asker.mu.Lock()
	desk.asker.patience = 0
	desk.asker.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	status, text, err = d.do(ctx, http.MethodPost, "/v1/embeddings", "application/json", strings.NewReader(`{"model":"embedder","input":[1]}`))
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(string(text), "no machine of the farm answers") {
		t.Errorf("%d %s %v", status, text, err)
	}
}

// A member that answers what no model says is found out when its answers are run
// again here.
func TestAnswersOfOthersAreRunAgain(t *testing.T) {
	cfg := aiConfig(t)
	desk := startNode(t, "desk", answering1(cfg))
	other := startNode(t, "other", answering1(cfg))
	addEmbedder(t, desk.cfg)
	join(t, desk, other)
	// The desk's own worker rests while it is asked, so that the member answers.
	eventually(t, "it is connected", func() error {
		if len(desk.near()) < 1 {
			return errors.New("not yet")
		}
		return nil
	})
	desk.asker.mu.Lock()
	desk.asker.places = otherFirst{desk.asker.places}
	desk.asker.mu.Unlock()
	d := doorOf(t, desk)
	e := d.embed("[3,4]")
	if e.Idlewild.Worker != other.self.String() {
		t.Fatalf("%+v", e.Idlewild)
	}
	eventually(t, "the answer is judged", func() error {
		v, ok := desk.asker.Verdict(e.Idlewild.Answer)
		if !ok || v.Verdict == "unverified" {
			return fmt.Errorf("%+v", v)
		}
		if v.Verdict != string(job.Accepted) {
			t.Fatalf("%+v", v)
		}
		return nil
	})
	if s := desk.book.Score(other.self); s.Accepted != 1 {
		t.Errorf("%+v", s)
	}
	// Now it says something else than the model does.
	desk.asker.mu.Lock()
	honest := desk.asker.judge
	desk.asker.judge = func(c answerClaim) {
		var lie bytes.Buffer
		if err := recordsIn(c.file)(func(r media.Record) error {
			for i := range r.Outputs["embedding"].Data {
				r.Outputs["embedding"].Data[i] *= 1 + 0.01*float64(i%2)
			}
			b, err := json.Marshal(r)
			lie.Write(append(b, '\n'))
			return err
		}); err != nil {
			t.Error(err)
		}
		c.file = lie.Bytes()
		honest(c)
	}
	desk.asker.mu.Unlock()
	e = d.embed("[5,6]")
	eventually(t, "the lie is found out", func() error {
		if v, _ := desk.asker.Verdict(e.Idlewild.Answer); v.Verdict != string(job.Rejected) {
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
	if s := desk.book.Score(other.self); s.Rejected != 1 {
		t.Errorf("%+v", s)
	}
}

type otherFirst struct{ places }

func (o otherFirst) list() (out []peer.ID) {
	l := o.places.list()
	return append(out, l[1:]...)
}

func TestBatchesThroughTheDoor(t *testing.T) {
	n := startNode(t, "one", answering1(aiConfig(t)))
	addEmbedder(t, n.cfg)
	d := doorOf(t, n)
	send := func(text string) string {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		w.WriteField("purpose", "batch")
		f, err := w.CreateFormFile("file", "batch.jsonl")
		if err == nil {
			_, err = io.WriteString(f, text)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		status, b, err := d.do(t.Context(), http.MethodPost, "/v1/files", w.FormDataContentType(), &form)
		var file struct {
			ID    string
			Bytes int
		}
		if err == nil {
			err = json.Unmarshal(b, &file)
		}
		if err != nil || status != 200 || file.Bytes != len(text) {
			t.Fatalf("%d %s %v", status, b, err)
		}
		return file.ID
	}
	type batch struct {
		ID, Status string
		Output     string                                 `json:"output_file_id"`
		Wrong      string                                 `json:"error_file_id"`
		Counts     struct{ Total, Completed, Failed int } `json:"request_counts"`
		Errors     struct{ Data []struct{ Message string } }
	}
	run := func(text string) (b batch) {
		status, raw := d.post("/v1/batches", fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/embeddings","completion_window":"24h","metadata":{"a":"b"}}`, send(text)))
		if err := json.Unmarshal([]byte(raw), &b); err != nil || status != 200 {
			t.Fatalf("%d %s %v", status, raw, err)
		}
		eventually(t, "the batch ends", func() error {
			status, raw, err := d.do(t.Context(), http.MethodGet, "/v1/batches/"+b.ID, "", nil)
			if err == nil && status == 200 {
				err = json.Unmarshal(raw, &b)
			}
			if err == nil && b.Status != "completed" && b.Status != "failed" {
				err = errors.New(b.Status)
			}
			return err
		})
		return b
	}
	line := `{"custom_id":"%s","method":"POST","url":"/v1/embeddings","body":{"model":"embedder","input":[%d]}}` + "\n"
	b := run(fmt.Sprintf(line, "b", 2) + fmt.Sprintf(line, "bad", 1000) + fmt.Sprintf(line, "a", 1))
	if b.Status != "completed" || b.Counts.Completed != 2 || b.Counts.Failed != 1 {
		t.Fatalf("%+v", b)
	}
	for id, want := range map[string]string{b.Output: "b a", b.Wrong: "bad"} {
		_, text, err := d.do(t.Context(), http.MethodGet, "/v1/files/"+id+"/content", "", nil)
		var names []string
		for l := range strings.Lines(string(text)) {
			var a batchAnswer
			if err := json.Unmarshal([]byte(l), &a); err != nil {
				t.Fatal(err)
			}
			names = append(names, a.CustomID)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s: %q, want %q, %v", id, got, want, err)
		}
	}
	b = run(fmt.Sprintf(line, "a", 1) + "{\n")
	if b.Status != "failed" || len(b.Errors.Data) != 1 || !strings.Contains(b.Errors.Data[0].Message, "line 2") {
		t.Errorf("%+v", b)
	}
	for _, path := range []string{"/v1/files/../../identity.key/content", "/v1/files/file-..%2f..%2fidentity/content", "/v1/files/file-x", "/v1/batches/batch_..", "/v1/files/file-" + filepath.Base(n.cfg.DataDir) + "-output"} {
		if status, text, err := d.do(t.Context(), http.MethodGet, path, "", nil); err != nil || status != http.StatusNotFound {
			t.Errorf("%s: %d %s %v", path, status, text, err)
		}
	}
}

// A model that was removed does not stay in the store.
func TestRemovedModelsAreLetGo(t *testing.T) {
	n := startNode(t, "one", answering1(aiConfig(t)))
	m := addEmbedder(t, n.cfg)
	doorOf(t, n).embed("[1]")
	id := n.asker.models[m.SHA256].id
	root := n.asker.models[m.SHA256].root
	pinned := func(n *testNode) bool {
		ok, err := n.blocks.Pinned(t.Context(), ownContent(id), root.Cid)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !pinned(n) {
		t.Fatal("it is not kept for others")
	}
	n.end(t)
	n = runNode(t, n.cfg)
	if !pinned(n) {
		t.Error("it was let go")
	}
	if _, err := RemoveModel(n.cfg, m.Name); err != nil {
		t.Fatal(err)
	}
	n.end(t)
	if n = runNode(t, n.cfg); pinned(n) {
		t.Error("it stays")
	}
}
