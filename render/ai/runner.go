package ai

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"idlewild/internal/gguf"
	"idlewild/job"
	"idlewild/render/ai/llm"
	"idlewild/render/ai/onnx"
	"idlewild/render/ai/torch"
	"idlewild/render/gorunner"
)

// envThreads is how many threads an operation may use, 0 for all.
const envThreads = "IDLEWILD_AI_THREADS"

// Operations of a request.
const (
	opTask = "task"
	opLook = "look" // load the library, and the model File where one is named
)

// request is one line on the runner's standard input.
type request struct {
	Op      string   `json:"op"`
	Params  Params   `json:"params"`
	Part    job.Part `json:"part,omitzero"`
	Library string   `json:"library,omitempty"`
	File    string   `json:"file,omitempty"`
	GPU     bool     `json:"gpu,omitempty"`
	In      string   `json:"in,omitempty"`
	Prior   []string `json:"prior,omitempty"`
	Out     string   `json:"out,omitempty"`
}

// RunnerMain never returns where the environment says that this process is
// the runner of this kind; else it does nothing. Every program that gives its
// own path to New calls it first in main.
func RunnerMain() {
	w := &warm{}
	gorunner.Main(string(Name), w.answer)
}

// warm is what the process keeps: the model, loaded.
type warm struct {
	sha256  string
	session *onnx.Session
	tokens  *tokens // of the session's model
	server  *llm.Server
	writes  string // the endpoint that the server answers
	// vocabulary is how many tokens the server's model knows, context how many a
	// request has.
	vocabulary, context int
	noise               float64 // of the server's model, as replays measured it; negative: none did
	dated               dated   // its template
	version             string  // of the server
	torch               *torch.Process
	build               string // of its libraries
	device              string // on which its model is
}

// trouble is an error that knows the outcome it means; all others mean failed.
type trouble struct {
	outcome job.Outcome
	error
}

func (w *warm) answer(asked gorunner.Request) gorunner.Answer {
	done := gorunner.Answer{Device: "cpu", Build: "ai " + version}
	var r request
	err := json.Unmarshal(asked.JSON, &r)
	if err == nil {
		switch {
		case r.Op == opLook:
			done.Build, done.Device, err = w.look(r)
			done.Build = "onnxruntime " + done.Build
		case r.Op != opTask:
			err = fmt.Errorf("operation %q", r.Op)
		default:
			err = w.task(r, asked, &done)
		}
	}
	if err != nil {
		fmt.Fprintln(asked.Log, err)
		done.Outcome, done.Reason = job.Failed, err.Error()
		if t, ok := err.(trouble); ok {
			done.Outcome = t.outcome
		}
	}
	return done
}

// look says which runtime there is and on what it works, separated by commas.
func (w *warm) look(r request) (version, devices string, err error) {
	version, sorts, err := onnx.Runtime(r.Library)
	if err != nil {
		return "", "", err
	}
	if r.File != "" {
		s, err := onnx.Open(r.Library, r.File, onnx.Options{Threads: threads()})
		if err != nil {
			return "", "", err
		}
		s.Close()
	}
	return version, strings.Join(sorts, ","), nil
}

func threads() int {
	n, _ := strconv.Atoi(os.Getenv(envThreads)) // 0 is all
	return n
}

func (w *warm) task(r request, asked gorunner.Request, done *gorunner.Answer) error {
	if err := r.Params.validate(); err != nil {
		return err
	}
	switch r.Params.Op {
	case opJoin:
		if r.Params.Format == formatRequests {
			return r.joinAnswers(asked.Progress)
		}
		return r.join(asked.Progress)
	case opFinish:
		return r.finish(asked.Progress)
	case opModel:
		return r.takeModel()
	}
	asked.Progress("loading", 0)
	if r.Params.Runtime == runtimeLLM {
		if err := w.loadLLM(r, asked.Log); err != nil {
			return err
		}
		done.Device, done.Build = "cpu", "llama.cpp "+w.version
		fresh := func() (*llm.Server, error) {
			w.drop()
			err := w.loadLLM(r, asked.Log)
			return w.server, err
		}
		m := writer{server: w.server, endpoint: r.Params.Endpoint, commit: r.Params.Commit, several: r.Params.Choices, dated: w.dated, day: r.Params.Day, fresh: fresh}
		if r.Params.Op != opReplay {
			if r.Params.live() && m.commit {
				m.slots = slotsOf(atOnce)
			}
			return r.requests(&m, asked.Tell)
		}
		again, err := newReplayer(r, m, w)
		if err != nil {
			return err
		}
		return r.requests(again, asked.Tell)
	}
	if r.Params.Runtime == runtimeTorch {
		if err := w.loadTorch(r, asked.Log); err != nil {
			return err
		}
		done.Device, done.Build = w.device, w.build
		return w.pipeline(r, asked)
	}
	if err := w.load(r); err != nil {
		return err
	}
	runtime, _, err := onnx.Runtime(r.Library)
	if err != nil {
		return trouble{job.Broken, err}
	}
	done.Device, done.Build = w.session.Device(), "onnxruntime "+runtime
	if r.Params.Op == opRequests {
		return r.requests(embedder{w.session, w.tokens, r.Params}, asked.Tell)
	}
	if r.Params.Op == opPicture {
		return r.picture(w.session, asked.Progress)
	}
	return r.items(w.session, w.tokens, asked.Progress)
}

// drop ends what is loaded.
func (w *warm) drop() {
	if w.session != nil {
		w.session.Close()
	}
	if w.server != nil {
		w.server.Close()
	}
	if w.torch != nil {
		w.torch.Close()
	}
	w.session, w.server, w.torch = nil, nil, nil
}

// file is the model's, which is the one that was planned with.
func (r request) file() (string, error) {
	file := filepath.Join(r.models(), filepath.FromSlash(r.Params.Model))
	sum, err := sha256File(file)
	if err != nil {
		return "", absent(r.Params.Model, err, job.Broken)
	}
	if sum != r.Params.SHA256 {
		return "", fmt.Errorf("the model is not the one that was planned with: its hash is %.12s, not %.12s", sum, r.Params.SHA256)
	}
	return file, nil
}

// What a language model has for one request, and for all that it answers at
// once.
const (
	maxContext  = 8192
	atOnce      = 4
	loadTimeout = 10 * time.Minute
)

// loadLLM starts the server unless it runs. It stays in the folder of the socket.
func (w *warm) loadLLM(r request, log io.Writer) error {
	p := r.Params
	if w.server != nil && w.server.Alive() && w.sha256 == p.SHA256 && w.writes == p.Endpoint {
		return nil
	}
	w.drop()
	file, err := r.file()
	if err != nil {
		return err
	}
	m, err := gguf.Read(file)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "llm-")
	if err == nil {
		err = os.Chdir(dir)
	}
	if err != nil {
		return trouble{job.Broken, err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	if w.version, err = llm.Version(ctx, r.Library); err != nil {
		return trouble{job.Broken, err}
	}
	o := llm.Options{
		Server: r.Library, Model: file, Dir: dir, Threads: threads(), Embeddings: p.Endpoint == Embeddings, Mean: !m.Pools,
		Context: maxContext, Parallel: atOnce, Log: log,
	}
	w.dated = dayOf(m.Template)
	o.Template = w.dated.template
	if m.Context > 0 {
		o.Context = min(o.Context, m.Context)
	}
	if w.server, err = llm.Start(ctx, o); err != nil {
		return err
	}
	w.sha256, w.writes, w.vocabulary, w.context, w.noise = p.SHA256, p.Endpoint, m.Vocabulary, o.Context, -1
	return nil
}

// load loads the model unless it is there: once for each process, usually.
func (w *warm) load(r request) error {
	if w.session != nil && w.sha256 == r.Params.SHA256 {
		return nil
	}
	w.drop()
	file, err := r.file()
	if err != nil {
		return err
	}
	sum := r.Params.SHA256
	// What does not load here may elsewhere: by another version of the
	// runtime. Two machines that say so are enough.
	if w.session, err = onnx.Open(r.Library, file, onnx.Options{Threads: threads(), GPU: r.GPU}); err != nil {
		return err
	}
	w.sha256, w.tokens = sum, tokensOf(file)
	return nil
}
