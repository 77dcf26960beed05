package ai

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/torch"
)

// The requests that models answer, by the path of their URL in OpenAI's API.
const (
	Embeddings = "/v1/embeddings"
	Chat       = "/v1/chat/completions"
	Images     = "/v1/images/generations"
)

// Endpoints are all of them.
var Endpoints = []string{Embeddings, Chat, Images}

// endpointOf is what a model that is put to a pipeline answers.
var endpointOf = map[string]string{torch.Embed: Embeddings, torch.Write: Chat, torch.Draw: Images}

// Seeded reports whether answers are drawn by a seed that the request may have.
func Seeded(endpoint string) bool { return endpoint == Chat || endpoint == Images }

const (
	// maxRequestBytes bounds one request.
	maxRequestBytes = 4 << 20
	// Outputs of the records: an embedding for each text and how many tokens
	// the texts had, or the answer's body as it is the same every time.
	outEmbedding = "embedding"
	outTokens    = "tokens"
	outBody      = "body"
	outImages    = "images" // numbers from 0 to 1, [pictures rows columns 3]
)

// query is one request.
type query struct {
	number int
	id     string
	body   map[string]json.RawMessage
	claim  *media.Record // of a replay, where the request has it
	stream bool
	err    error // it cannot be answered
}

// Request is one line of a batch.
type Request struct {
	CustomID string          `json:"custom_id"`
	Method   string          `json:"method,omitempty"`
	URL      string          `json:"url"`
	Body     json.RawMessage `json:"body"`
	// Claim is an answer to it that is read again.
	Claim *media.Record `json:"claim,omitempty"`
}

// readQuery reads a line of a batch, of which everything may be wrong.
func (p Params) readQuery(line []byte, number int) query {
	q := query{number: number}
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		q.err = err
		return q
	}
	if q.id = r.CustomID; p.Input == "" {
		q.claim = r.Claim
	}
	if len(q.id) > job.MaxNameBytes {
		q.id, q.err = "", fmt.Errorf("its custom_id has %d bytes", len(q.id))
		return q
	}
	if r.URL != p.Endpoint {
		q.err = fmt.Errorf("a request of %q among those of %s", r.URL, p.Endpoint)
		return q
	}
	if q.err = json.Unmarshal(r.Body, &q.body); q.err == nil && q.body == nil {
		q.err = errors.New("it has no body")
	}
	if raw, ok := q.body["stream"]; ok && q.err == nil {
		if q.err = json.Unmarshal(raw, &q.stream); q.err != nil {
			q.err = fmt.Errorf("stream: %w", q.err)
		} else if q.stream && p.Input != "" {
			q.err = errors.New("stream: nobody waits for the answers of a batch")
		}
	}
	return q
}

// answerer is a model that is loaded.
type answerer interface {
	// answer answers some requests, each in a record of its own, in their
	// order. What can be said of one before it is complete goes to tell.
	answer(qs []query, tell func(number int, chunk []byte)) ([]media.Record, error)
}

// Told is what a task says of its answers before it ends: a piece of a streamed
// one, as OpenAI's API has it, or a whole record.
type Told struct {
	Item   int             `json:"item"`
	Chunk  json.RawMessage `json:"chunk,omitempty"`
	Record *media.Record   `json:"record,omitempty"`
}

// requests answers the task's requests and writes a record of each, in their
// order.
func (r request) requests(model answerer, tell func(data []byte, fraction float64)) (err error) {
	p := r.Params
	from, shut, err := r.openRequests()
	if err != nil {
		return err
	}
	defer shut()
	w, end, err := r.records()
	if err != nil {
		return err
	}
	defer func() { err = end(err) }()
	done, seen := 0, 0
	var batch []query
	said := func(t Told) {
		if b, err := json.Marshal(t); err == nil && p.live() {
			tell(b, float64(done)/float64(p.Count))
		}
	}
	flush := func() error {
		records, err := model.answer(batch, func(number int, chunk []byte) { said(Told{Item: number, Chunk: chunk}) })
		if err != nil {
			return err
		}
		for _, rec := range records {
			b, err := json.Marshal(rec)
			if err != nil {
				return err
			}
			w.Write(b)
			if err := w.WriteByte('\n'); err != nil {
				return trouble{job.Broken, err}
			}
			plain := rec.WithoutWriting() // who waits checks nothing
			said(Told{Item: rec.Item, Record: &plain})
		}
		if done += len(batch); !p.live() {
			tell([]byte("null"), float64(done)/float64(p.Count))
		}
		batch = batch[:0]
		return nil
	}
	only := p.Only
	for {
		line, err := from()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if seen++; seen > p.Count {
			return fmt.Errorf("there are more requests than the %d that were planned", p.Count)
		}
		q := p.readQuery(line, p.First+seen-1)
		if len(p.Only) > 0 {
			if len(only) == 0 || only[0] != q.number {
				continue
			}
			only = only[1:]
		}
		if batch = append(batch, q); len(batch) == p.Batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if seen != p.Count {
		return fmt.Errorf("%d requests where %d were planned", seen, p.Count)
	}
	if len(batch) == 0 {
		return nil
	}
	return flush()
}

// openRequests gives the task's lines, one after the other; io.EOF ends them.
func (r request) openRequests() (next func() ([]byte, error), shut func(), err error) {
	p := r.Params
	file := filepath.Join(r.In, "input", filepath.FromSlash(p.Input))
	if p.Input == "" {
		if len(r.Prior) != 1 {
			return nil, nil, fmt.Errorf("%d predecessors where one has the requests", len(r.Prior))
		}
		file = filepath.Join(r.Prior[0], RequestsFile)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, trouble{job.Broken, err}
	}
	var from io.Reader = f
	if p.Input != "" {
		from = io.NewSectionReader(f, p.Offset, p.Length)
	}
	lines := bufio.NewReaderSize(from, 1<<16)
	first := p.Offset == 0
	return func() ([]byte, error) {
		for {
			b, err := readLine(lines)
			if len(b) == 0 && err != nil {
				return nil, err
			}
			if err != nil && err != io.EOF {
				return nil, err
			}
			text := bytes.TrimSpace(b)
			if first {
				text, first = bytes.TrimPrefix(text, []byte("\ufeff")), false
			}
			if len(text) > 0 {
				return text, nil
			}
		}
	}, func() { f.Close() }, nil
}

// serverOnly are the settings of the server that a request may not make.
var serverOnly = []string{"model", "id_slot", "n_probs", "verbose", "return_tokens", "post_sampling_probs", "timings_per_token", "return_progress", "response_fields", "lora"}

// one answers a request. What is wrong with it is in the record; an error is
// about the server.
func (m *writer) one(q query, rec *media.Record, said *saying) error {
	if why := unanswerable(m.endpoint, q.body); why != "" {
		rec.Error = why
		return nil
	}
	body := map[string]json.RawMessage{}
	for k, v := range q.body {
		body[k] = v
	}
	for _, k := range serverOnly {
		delete(body, k)
	}
	if err := m.dated.put(body, m.day); err != nil {
		return err
	}
	if m.endpoint == Embeddings {
		delete(body, "dimensions")
		body["encoding_format"] = json.RawMessage(`"float"`)
	} else {
		// An answer must not depend on what was asked before.
		body["cache_prompt"] = json.RawMessage("false")
	}
	x, err := m.choices(body, said)
	if err != nil {
		return err
	}
	if rec.Error = x.refused; rec.Error != "" {
		return nil
	}
	if m.endpoint == Embeddings {
		rec.Outputs, err = embeddingsOf(x.body)
	} else {
		var body []byte
		body, err = lasting(x.body)
		rec.Outputs = map[string]media.Tensor{outBody: {Text: []string{string(body)}}}
		for i, w := range x.writings {
			if w != nil {
				w.Put(rec.Outputs, i)
			}
		}
	}
	if err != nil {
		rec.Error, rec.Outputs = "llama.cpp answers what nobody understands: "+err.Error(), nil
	}
	return nil
}

// unanswerable says what is wrong with a request before anything is asked of a
// model.
func unanswerable(endpoint string, body map[string]json.RawMessage) string {
	if endpoint == Embeddings {
		var one string
		var many []json.RawMessage
		raw := body["input"]
		switch {
		case len(raw) == 0:
			return "it has no input"
		case json.Unmarshal(raw, &one) == nil && one == "", json.Unmarshal(raw, &many) == nil && one == "" && raw[0] == '[' && len(many) == 0:
			return "its input is empty"
		}
		for i, v := range many {
			if string(v) == `""` {
				return fmt.Sprintf("text %d of its input is empty", i)
			}
		}
		return ""
	}
	var messages []json.RawMessage
	if json.Unmarshal(body["messages"], &messages) != nil || len(messages) == 0 {
		return "it has no messages"
	}
	return ""
}

func errorOf(answer []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(answer, &e) == nil && e.Error.Message != "" {
		return e.Error.Message
	}
	return strings.ToValidUTF8(string(answer[:min(len(answer), 400)]), "?")
}

func embeddingsOf(answer []byte) (map[string]media.Tensor, error) {
	var a struct {
		Data []struct {
			Index     int       `json:"index"`
			Embedding []float64 `json:"embedding"`
		} `json:"data"`
		Usage struct {
			Prompt int `json:"prompt_tokens"`
		} `json:"usage"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return nil, err
	}
	if len(a.Data) == 0 {
		return nil, errors.New("no embedding")
	}
	t := media.Tensor{Shape: []int{len(a.Data), len(a.Data[0].Embedding)}}
	for i, d := range a.Data {
		if d.Index != i || len(d.Embedding) != t.Shape[1] {
			return nil, errors.New("embeddings out of order, or of different lengths")
		}
		t.Data = append(t.Data, d.Embedding...)
	}
	return embedded(t, a.Usage.Prompt), nil
}

func embedded(t media.Tensor, tokens int) map[string]media.Tensor {
	return map[string]media.Tensor{outEmbedding: t, outTokens: {Data: []float64{float64(tokens)}}}
}

// lasting is what of an answer's body is the same every time: without times and
// names.
func lasting(body []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]json.RawMessage{"choices": all["choices"], "usage": all["usage"]})
}
