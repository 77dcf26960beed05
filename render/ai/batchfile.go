package ai

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"idlewild/internal/gguf"
	"idlewild/job"
	"idlewild/render/ai/onnx"
)

// batchHead is what every line of a batch has.
type batchHead struct {
	CustomID *string `json:"custom_id"`
	Method   string  `json:"method"`
	URL      *string `json:"url"`
	Body     *struct {
		Model string          `json:"model"`
		N     json.RawMessage `json:"n"`
	} `json:"body"`
}

// several reports whether more than one answer is asked for.
func (h batchHead) several() bool {
	return h.Body != nil && choicesOf(map[string]json.RawMessage{"n": h.Body.N}) > 1
}

// readHead reads the first line of a .jsonl; ok says that it is one of a batch in
// OpenAI's format.
func readHead(file string) (h batchHead, ok bool) {
	if ext := strings.ToLower(filepath.Ext(file)); ext != ".jsonl" && ext != ".ndjson" {
		return h, false
	}
	f, err := os.Open(file)
	if err != nil {
		return h, false // what is wrong with it is said elsewhere
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	for {
		b, err := readLine(r)
		text := bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(b), []byte("\ufeff")))
		if len(text) > 0 {
			ok = json.Unmarshal(text, &h) == nil && h.URL != nil && (h.Body != nil || h.Method != "")
			return h, ok
		}
		if err != nil {
			return h, false
		}
	}
}

// BatchModel returns the model that the requests of a batch name; ok says that
// the file is one.
func BatchModel(file string) (model string, ok bool) {
	h, ok := readHead(file)
	if ok && h.Body != nil {
		model = h.Body.Model
	}
	return model, ok
}

// BatchEndpoint returns what the requests of a batch are for; ok says that the
// file is one.
func BatchEndpoint(file string) (endpoint string, ok bool) {
	h, ok := readHead(file)
	return deref(h.URL), ok
}

// scanned is what scanBatch found.
type scanned struct {
	chunks   []chunk
	items    int
	endpoint string
	several  bool // a request asks for more than one answer
}

// scanBatch checks the requests of a batch, line by line.
func scanBatch(ctx context.Context, file string, batch int) (s scanned, err error) {
	first, model := 0, ""
	var names []uint64 // hashes: a batch may have millions of requests
	s.chunks, s.items, err = scanLines(ctx, file, batch, func(line int, text []byte) error {
		refuse := func(why, remedy string) error {
			return job.Refuse(fmt.Sprintf("%s line %d", filepath.Base(file), line), why, remedy)
		}
		var h batchHead
		if err := json.Unmarshal(text, &h); err != nil {
			return refuse("is no request: "+err.Error(), "mend it")
		}
		switch {
		case h.CustomID == nil || *h.CustomID == "":
			return refuse("it has no custom_id", "give each request one of its own")
		case len(*h.CustomID) > job.MaxNameBytes:
			return refuse(fmt.Sprintf("its custom_id has %d bytes", len(*h.CustomID)), "make it shorter")
		case h.Method != "POST":
			return refuse(fmt.Sprintf("its method is %q", h.Method), "say POST")
		case h.URL == nil || !slices.Contains(Endpoints, *h.URL):
			return refuse(fmt.Sprintf("its url is %q", deref(h.URL)), "a farm answers "+strings.Join(Endpoints, ", "))
		case h.Body == nil:
			return refuse("it has no body", "give it one")
		case len(text) > maxRequestBytes:
			return refuse(fmt.Sprintf("it has %d bytes, at most %d are taken", len(text), maxRequestBytes), "make it shorter")
		case first == 0:
			first, s.endpoint, model = line, *h.URL, h.Body.Model
		case *h.URL != s.endpoint:
			return refuse(fmt.Sprintf("its url is %s and that of line %d is %s", *h.URL, first, s.endpoint), "submit them as two batches")
		case h.Body.Model != model:
			return refuse(fmt.Sprintf("its model is %q and that of line %d is %q", h.Body.Model, first, model), "submit them as two batches")
		}
		names, s.several = append(names, nameHash(*h.CustomID)), s.several || h.several()
		return nil
	})
	if err == nil {
		err = distinct(ctx, file, names)
	}
	return s, err
}

func nameHash(customID string) uint64 {
	sum := sha256.Sum256([]byte(customID))
	return binary.LittleEndian.Uint64(sum[:])
}

// maxTwins is how many hashes that are there twice are looked up.
const maxTwins = 1000

// distinct refuses a batch in which two requests have one name. The names' hashes
// say where to look, and the file itself decides.
func distinct(ctx context.Context, file string, names []uint64) error {
	slices.Sort(names)
	twins := map[uint64]bool{}
	for i := 1; i < len(names) && len(twins) < maxTwins; i++ {
		if names[i] == names[i-1] {
			twins[names[i]] = true
		}
	}
	if len(twins) == 0 {
		return nil
	}
	lines := map[string]int{}
	_, _, err := scanLines(ctx, file, 1<<20, func(line int, text []byte) error {
		var h batchHead
		if err := json.Unmarshal(text, &h); err != nil || h.CustomID == nil || !twins[nameHash(*h.CustomID)] {
			return nil // all of it was looked at before
		}
		if before, twice := lines[*h.CustomID]; twice {
			return job.Refuse(fmt.Sprintf("%s line %d", filepath.Base(file), line),
				fmt.Sprintf("its custom_id %.100q is that of line %d", *h.CustomID, before), "give each request one of its own")
		}
		lines[*h.CustomID] = line
		return nil
	})
	return err
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// isGGUF reports whether a file begins as one does.
func isGGUF(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, 4)
	_, err = f.ReadAt(b, 0)
	return err == nil && string(b) == "GGUF"
}

// inspectBatch looks at a batch of requests.
func (k *Kind) inspectBatch(ctx context.Context, s Spec) (in job.Inspection, err error) {
	f := facts{Batch: s.Batch, Format: formatRequests, Input: filepath.Base(s.Inputs)}
	if f.Batch == 0 {
		f.Batch = 16
		if e, _ := BatchEndpoint(s.Inputs); e == Images {
			f.Batch = 1
		}
	}
	// The file first: it can be wrong in more ways.
	found, err := scanBatch(ctx, s.Inputs, f.Batch)
	if err != nil {
		return in, err
	}
	f.Chunks, f.Items, f.Endpoint = found.chunks, found.items, found.endpoint
	looked, err := k.Look(ctx, s.Model)
	if err != nil {
		return in, err
	}
	if !slices.Contains(looked.Endpoints, f.Endpoint) {
		return in, job.Refuse(looked.Name, fmt.Sprintf("it does not answer %s: it is %s", f.Endpoint, looked.Is), "name another model")
	}
	f.Model, f.SHA256, f.Precision, f.Runtime, f.Pipeline = looked.Name, looked.SHA256, looked.Precision, looked.Runtime, looked.Pipeline
	if looked.Dated && f.Endpoint == Chat {
		f.Day = today()
	}
	f.Choices = found.several && looked.commits(f.Endpoint)
	in.Deps = append(looked.Deps, job.Dep{Path: s.Inputs, Name: "input/" + f.Input})
	for _, d := range in.Deps {
		if err := job.SafeName(d.Name); err != nil {
			return in, job.Refuse(d.Path, err.Error(), "rename it")
		}
	}
	in.Facts, err = json.Marshal(f)
	return in, err
}

// Looked is what was found out about a model that answers requests.
type Looked struct {
	Name      string // of its file
	SHA256    string
	Precision string
	Runtime   string    // "llm" or "torch"; nothing: onnx
	Pipeline  string    // of the runtime torch
	Is        string    // what it is, for people
	Endpoints []string  // that it answers
	Deps      []job.Dep // its files
	Dated     bool      // its prompts say which day it is
}

// precisionTokens is that of an answer of tokens: a hair of difference somewhere
// makes it another one from there on.
const precisionTokens = "tokens"

// Look finds out what a model in a file answers.
func (k *Kind) Look(ctx context.Context, file string) (l Looked, err error) {
	l = Looked{Name: filepath.Base(file), Is: "an ONNX model", Endpoints: []string{Embeddings}}
	if isFolder(file) {
		return lookFolder(file)
	}
	l.Deps = []job.Dep{{Path: file, Name: "model/" + l.Name}}
	if isGGUF(file) {
		m, err := gguf.Read(file)
		if err != nil {
			return l, job.Refuse(l.Name, err.Error(), "fetch it again, or export it again")
		}
		if err := answerable(m); err != nil {
			return l, job.Refuse(l.Name, err.Error(), "name a language model of one file, with its tokenizer")
		}
		l.Runtime, l.Precision, l.Is, l.Endpoints = runtimeLLM, precisionTokens, "a language model ("+m.Architecture+")", Endpoints
		l.Dated = dayOf(m.Template).template != ""
	} else {
		m, err := k.model(ctx, file)
		if err != nil {
			return l, err
		}
		l.Precision = m.Precision
		for _, more := range beside(file, m) {
			l.Deps = append(l.Deps, job.Dep{Path: filepath.Join(filepath.Dir(file), more), Name: "model/" + more})
		}
	}
	l.SHA256, err = sha256File(file)
	return l, err
}

// What is asked at once of one process: as many as it answers side by side.
const (
	askedTexts = 64
	askTime    = 15 * time.Minute
)

// AtOnce is how many requests are best asked together.
func (l Looked) AtOnce(endpoint string) int {
	if endpoint == Embeddings {
		return askedTexts
	}
	if endpoint == Images {
		return 1
	}
	return atOnce
}

// commits reports whether answers can have commitments.
func (l Looked) commits(endpoint string) bool { return l.Runtime == runtimeLLM && endpoint == Chat }

// Asked is the task that answers count requests, one a line of RequestsFile in
// given; input is the manifest of the model's files. Where it is checked, answers
// come with commitments if they can.
func (l Looked) Asked(endpoint string, input job.Ref, given []byte, count int, checked bool) (job.Task, error) {
	p := Params{Op: opRequests, Model: l.Name, SHA256: l.SHA256, Endpoint: endpoint, Runtime: l.Runtime, Pipeline: l.Pipeline, First: 1, Count: count, Batch: l.AtOnce(endpoint)}
	need := needs(l.Runtime, "")
	if l.commits(endpoint) {
		for line := range bytes.Lines(given) {
			var h batchHead
			p.Choices = p.Choices || json.Unmarshal(line, &h) == nil && h.several()
		}
		p.Commit = checked || p.Choices // choices are answered in one way
	}
	if l.Dated && endpoint == Chat {
		p.Day = today()
	}
	p.require(need)
	if err := p.validate(); err != nil {
		return job.Task{}, err
	}
	check, err := job.Encode(job.RerunCheck{Items: count, First: 1, Precision: l.Precision})
	if err != nil {
		return job.Task{}, err
	}
	t := job.Task{
		Kind: Name, Params: p.encode(), Input: input, After: []job.TaskKey{job.GivenKey(given)}, Label: fmt.Sprintf("%d requests", count),
		Outputs: []job.OutputRule{{Name: recordsFile, Media: job.MediaFile}}, Needs: need, Timeout: askTime,
		Check: job.Check{Method: job.CheckRerun, Output: recordsFile, Params: check},
	}
	t.Needs.Latency = job.Interactive
	return t, nil
}

// require has a task with p go to machines that know what p says.
func (p Params) require(need job.Needs) {
	switch {
	case p.Choices:
		need.Require[string(Name)] = versionChoices
	case p.Day != "":
		need.Require[string(Name)] = versionDay
	case p.Commit:
		need.Require[string(Name)] = versionCommit
	}
}

// answerable says why a GGUF file is none that a request can be put to.
func answerable(m *gguf.Model) error {
	switch {
	case m.Parts > 1:
		return fmt.Errorf("it is one of %d parts of a model", m.Parts)
	case m.Vocabulary == 0:
		return errors.New("it has no tokenizer")
	case len(m.Tensors) == 0:
		return errors.New("it has no weights")
	}
	return nil
}

// CheckModel refuses what is no model of the formats that are run here, and says
// which files beside it belong to it. Nothing of it is run.
func CheckModel(file string) (more []string, err error) {
	if isGGUF(file) {
		m, err := gguf.Read(file)
		if err == nil {
			err = answerable(m)
		}
		return nil, err
	}
	m, err := onnx.Read(file)
	if err != nil {
		return nil, err
	}
	return beside(file, m), nil
}

// requests cuts a batch of them into chunks, and joins what comes of them.
func (p planner) requests() ([]job.Task, error) {
	base := Params{
		Op: opRequests, Model: p.facts.Model, SHA256: p.facts.SHA256, Batch: p.facts.Batch, Outputs: p.spec.Outputs,
		Endpoint: p.facts.Endpoint, Runtime: p.facts.Runtime, Pipeline: p.facts.Pipeline, Format: formatRequests,
		Commit: p.facts.Runtime == runtimeLLM && p.facts.Endpoint == Chat, Choices: p.facts.Choices, Day: p.facts.Day,
	}
	need := p.needs()
	base.require(need)
	var tasks []job.Task
	var level []job.TaskKey
	for i, c := range p.facts.Chunks {
		q := base
		q.Input, q.Offset, q.Length, q.First, q.Count = p.facts.Input, c.Offset, c.Length, c.First, c.Count
		t := job.Task{
			Kind: Name, Params: q.encode(), Input: p.input, Needs: need, Rank: i,
			Label:   fmt.Sprintf("items %d-%d", q.First, q.First+q.Count-1),
			Outputs: []job.OutputRule{{Name: recordsFile, Media: job.MediaFile}},
		}
		var err error
		if t.Check, err = p.check(recordsFile, job.RerunCheck{Items: q.Count, First: q.First}); err != nil {
			return nil, err
		}
		tasks, level = append(tasks, t), append(level, t.Key())
	}
	called := p.spec.Called
	if called == "" {
		called = p.facts.Model
	}
	end := Params{Op: opJoin, Format: formatRequests, Endpoint: p.facts.Endpoint, Called: called}
	return p.join(tasks, level, end, AnswersFile), nil
}
