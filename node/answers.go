package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/ai"
)

// asker answers requests that somebody waits for: localapi.Answers. Requests of
// one model wait in one line; whoever falls free gets as many as it answers at
// once, as one task. Nothing of it is written down: who asks is there to ask
// again.
type asker struct {
	self   peer.ID
	key    job.Signer
	cfg    Config
	kind   *ai.Kind
	places places
	store  snapshotter
	score  func(peer.ID) job.Score
	judge  func(answerClaim) // of an answer by another machine
	log    *slog.Logger
	life   context.Context
	// patience is how long a request waits while nobody could answer it.
	patience time.Duration
	room     int // bytes of requests that are not answered yet, at most

	holds sync.Mutex // of the list of models that the store keeps

	mu       sync.Mutex
	models   map[string]*askedModel
	verdicts map[string]localapi.AnswerVerdict
	recent   []string // names of verdicts, the oldest first
	bytes    int      // of requests that are not answered yet
	runs     sync.WaitGroup
}

// places are the machines that may answer.
type places interface {
	// list names them, this machine first.
	list() []peer.ID
	// ask has one do a task; tell is called with what is known of its output.
	ask(ctx context.Context, to peer.ID, a job.Ask, tell func([]byte)) (job.Signed, []byte, error)
}

// snapshotter is the content of this machine's jobs.
type snapshotter interface {
	keepModel(ctx context.Context, id job.ID, deps []job.Dep) (job.Ref, error)
}

// answerClaim is what another machine answered.
type answerClaim struct {
	names   []string
	task    job.Task
	ask     job.Ask
	worker  peer.ID
	receipt job.Signed
	leaf    job.Leaf
	file    []byte
}

// askedModel is a model and the requests that wait for it.
type askedModel struct {
	looked ai.Looked
	id     job.ID
	lines  map[string]*line // by endpoint

	ready chan struct{} // closed when root and err are set
	root  job.Ref
	err   error
}

// line is the requests to one model that wait, and who answers.
type line struct {
	a        *asker
	m        *askedModel
	endpoint string
	waiting  []*waiting
	busy     map[peer.ID]bool
	warm     map[peer.ID]bool      // it has the model loaded
	rest     map[peer.ID]time.Time // it said no: not before that
	said     map[peer.ID]string    // why
	timer    *time.Timer
	hope     time.Time // when somebody was busy last, and so will be free
}

// waiting is one request.
type waiting struct {
	ctx    context.Context
	name   string
	body   []byte
	hear   func([]byte) error
	called string
	since  time.Time
	tries  int
	texts  int
	stream *resumed
	done   chan struct{}
	once   sync.Once
	says   sync.Mutex // held while hear is called
	answer localapi.Answered
	err    error
}

const (
	askTries     = 4
	askPatience  = 30 * time.Second // without anybody who could answer
	askedBytes   = 2 << 20          // of the requests of one task
	askedTexts   = 2048             // in them
	maxWaiting   = 4096
	waitingBytes = 256 << 20 // of all requests that are not answered yet
	restUnfit    = 5 * time.Second
	restBusy     = 100 * time.Millisecond
	restLost     = 5 * time.Second
	keepVerdicts = 4096
)

func refused(status int, code, format string, a ...any) *localapi.AskError {
	e := &localapi.AskError{Status: status, Type: "invalid_request_error", Code: code, Message: fmt.Sprintf(format, a...)}
	if status >= 500 {
		e.Type = "server_error"
	}
	return e
}

// Models implements localapi.Answers.
func (a *asker) Models() ([]localapi.ModelView, error) {
	list, err := Models(a.cfg)
	if err != nil {
		return nil, err
	}
	out := make([]localapi.ModelView, len(list))
	for i, m := range list {
		out[i] = localapi.ModelView{Name: m.Name, Added: m.Added, Bytes: m.Bytes, SHA256: m.SHA256}
	}
	return out, nil
}

// Ask implements localapi.Answers.
func (a *asker) Ask(ctx context.Context, endpoint string, body []byte, hear func([]byte) error) (localapi.Answered, error) {
	var head struct {
		Model  *string         `json:"model"`
		Stream bool            `json:"stream"`
		Input  json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return localapi.Answered{}, refused(http.StatusBadRequest, "", "the request is no JSON object: %v", err)
	}
	if head.Model == nil || *head.Model == "" {
		return localapi.Answered{}, refused(http.StatusBadRequest, "", "the request names no model")
	}
	m, err := a.model(ctx, *head.Model)
	if err != nil {
		return localapi.Answered{}, err
	}
	if !slices.Contains(m.looked.Endpoints, endpoint) {
		add := "FILE.gguf"
		if endpoint == ai.Images {
			add = "FOLDER"
		}
		return localapi.Answered{}, refused(http.StatusBadRequest, "unsupported_model",
			"the model %s does not answer %s: it is %s; add one that does with: idlewild model add %s", *head.Model, endpoint, m.looked.Is, add)
	}
	w := &waiting{
		ctx: ctx, name: string(job.NewLeaseID(time.Now())), body: body, called: *head.Model, since: time.Now(),
		done: make(chan struct{}), stream: &resumed{}, hear: func([]byte) error { return nil },
	}
	if head.Stream {
		w.hear = hear
	}
	var texts []json.RawMessage
	if json.Unmarshal(head.Input, &texts) == nil {
		w.texts = len(texts)
	}
	if ai.Seeded(endpoint) {
		if w.body, err = withSeed(body); err != nil {
			return localapi.Answered{}, err
		}
	}
	a.mu.Lock()
	l := m.lines[endpoint]
	if l == nil {
		l = &line{a: a, m: m, endpoint: endpoint, busy: map[peer.ID]bool{}, warm: map[peer.ID]bool{}, rest: map[peer.ID]time.Time{}, said: map[peer.ID]string{}}
		m.lines[endpoint] = l
	}
	if len(l.waiting) >= maxWaiting {
		a.mu.Unlock()
		return localapi.Answered{}, refused(http.StatusTooManyRequests, "rate_limit_exceeded", "%d requests wait already; ask again later", maxWaiting)
	}
	size := len(w.body)
	if size > a.room-a.bytes {
		had := a.bytes
		a.mu.Unlock()
		return localapi.Answered{}, refused(http.StatusTooManyRequests, "rate_limit_exceeded",
			"the requests that wait have %d MiB together, and this one has no room beside them (%d MiB in all); ask again later", had>>20, a.room>>20)
	}
	a.bytes += size
	defer a.answered(size)
	l.waiting = append(l.waiting, w)
	l.pump()
	a.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		w.end(localapi.Answered{}, context.Cause(ctx))
	case <-a.life.Done():
		w.end(localapi.Answered{}, refused(http.StatusServiceUnavailable, "", "the daemon is shutting down"))
	}
	w.says.Lock() // nobody hears anything after this
	defer w.says.Unlock()
	return w.answer, w.err
}

// answered gives the room of a request back.
func (a *asker) answered(size int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes -= size
}

// say passes on a piece of the answer to who still listens.
func (w *waiting) say(piece []byte) error {
	w.says.Lock()
	defer w.says.Unlock()
	if w.over() {
		return context.Canceled
	}
	return w.hear(piece)
}

// withSeed gives a request a seed that has none, so that another machine would
// answer the same.
func withSeed(body []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, err
	}
	if s, ok := fields["seed"]; ok && string(s) != "null" {
		return body, nil
	}
	fields["seed"] = strconv.AppendUint(nil, uint64(rand.Uint32()>>1), 10)
	return json.Marshal(fields)
}

func (w *waiting) end(x localapi.Answered, err error) {
	w.once.Do(func() {
		w.answer, w.err = x, err
		close(w.done)
	})
}

func (w *waiting) over() bool {
	select {
	case <-w.done:
		return true
	default:
		return w.ctx.Err() != nil
	}
}

// model finds a model by its name, and stores its files for whoever will answer.
func (a *asker) model(ctx context.Context, name string) (*askedModel, error) {
	found, err := findModel(a.cfg, name)
	if err != nil {
		return nil, refused(http.StatusNotFound, "model_not_found", "%v", err)
	}
	a.mu.Lock()
	m := a.models[found.SHA256]
	if m == nil {
		m = &askedModel{lines: map[string]*line{}, ready: make(chan struct{})}
		a.models[found.SHA256] = m
		a.runs.Go(func() { a.open(m, found) })
	}
	a.mu.Unlock()
	select {
	case <-m.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if m.err != nil {
		return nil, refused(http.StatusBadRequest, "model_refused", "%v", m.err)
	}
	return m, nil
}

func (a *asker) open(m *askedModel, found Model) {
	defer close(m.ready)
	sum, err := hex.DecodeString(found.SHA256)
	if err == nil {
		m.looked, err = a.kind.Look(a.life, found.Path(a.cfg))
	}
	if err == nil {
		m.id = job.IDOf([32]byte(sum))
		err = a.hold(found.SHA256)
	}
	if err == nil {
		m.root, err = a.store.keepModel(a.life, m.id, m.looked.Deps)
	}
	if m.err = err; err != nil {
		a.mu.Lock()
		delete(a.models, found.SHA256) // it may be mended
		a.mu.Unlock()
	}
}

// claimed opens a receipt and holds the file to it.
func claimed(s job.Signed, worker, requester peer.ID, a job.Ask, file []byte) (job.Leaf, error) {
	r, err := job.OpenReceipt(s, worker, requester)
	if err != nil {
		return job.Leaf{}, err
	}
	if len(r.Leaves) != 1 || r.Lease != a.Lease || r.Job != a.Job || r.Leaves[0].Task != a.Task.Key() {
		return job.Leaf{}, fmt.Errorf("a receipt of something else than what was asked")
	}
	leaf := r.Leaves[0]
	if leaf.Outcome != job.Succeeded {
		return leaf, nil
	}
	sum, err := sumFile(file)
	if err != nil {
		return leaf, err
	}
	if len(leaf.Outputs) != 1 || leaf.Outputs[0].File != sum || leaf.Outputs[0].Bytes != int64(len(file)) {
		return leaf, fmt.Errorf("an answer that is not its receipt's")
	}
	return leaf, nil
}

// sumFile names a file's bytes as a store would.
func sumFile(b []byte) (job.Ref, error) {
	r, err := diffupload.SnapshotReader(context.Background(), &diffupload.Memory{}, bytes.NewReader(b), diffupload.Options{Exact: true})
	return job.RefOf(r.Root), err
}

// note keeps what is known of an answer, among the newest.
func (a *asker) note(v localapi.AnswerVerdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, there := a.verdicts[v.Answer]; !there {
		if a.recent = append(a.recent, v.Answer); len(a.recent) > keepVerdicts {
			delete(a.verdicts, a.recent[0])
			a.recent = a.recent[1:]
		}
	}
	a.verdicts[v.Answer] = v
}

// Verdict implements localapi.Answers.
func (a *asker) Verdict(answer string) (localapi.AnswerVerdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := a.verdicts[answer]
	return v, ok
}
