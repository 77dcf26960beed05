package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"idlewild/job"
)

// Answers is what models of this machine say to requests as OpenAI's API has
// them; the farm answers.
type Answers interface {
	// Models are those that requests can name.
	Models() ([]ModelView, error)
	// Ask puts one request to a model. Pieces of a streamed answer go to hear, as
	// JSON; the answer has no body then. What is wrong with the request is an
	// *AskError.
	Ask(ctx context.Context, endpoint string, body []byte, hear func(piece []byte) error) (Answered, error)
	// Verdict says what is known of an answer by now.
	Verdict(answer string) (AnswerVerdict, bool)
}

// ModelView is a model that was added.
type ModelView struct {
	Name      string
	Added     time.Time
	Bytes     int64
	SHA256    string
	Endpoints []string
}

// Answered is an answer.
type Answered struct {
	Body    json.RawMessage
	Verdict AnswerVerdict
}

// AnswerVerdict is what is known of an answer: that this machine gave it itself
// ("own"), that nobody has looked at it ("unverified"), or what came of running
// it again.
type AnswerVerdict struct {
	Answer  string `json:"answer"`
	Verdict string `json:"verdict" enum:"own,unverified,accepted,rejected,unsure"`
	Reason  string `json:"reason,omitempty"`
	Worker  string `json:"worker,omitempty"`
}

// AskError is why a request has no answer.
type AskError struct {
	Status  int // of HTTP
	Type    string
	Code    string
	Message string
}

// Error implements error.
func (e *AskError) Error() string { return e.Message }

// Batches are files of requests, and what became of them: jobs like others.
type Batches interface {
	// AddFile keeps a file of requests; r ends it.
	AddFile(name string, r io.Reader) (FileView, error)
	Files() ([]FileView, error)
	File(id string) (FileView, error)
	OpenFile(id string) (io.ReadCloser, error)
	RemoveFile(id string) error
	// Submit begins a batch of the requests in a file.
	Submit(ctx context.Context, file, endpoint string, metadata map[string]string) (BatchView, error)
	Batches() ([]BatchView, error) // the newest first
	Batch(id string) (BatchView, error)
	CancelBatch(ctx context.Context, id string) (BatchView, error)
}

// FileView is a file of requests or of answers.
type FileView struct {
	ID      string
	Name    string
	Purpose string
	Bytes   int64
	Created time.Time
}

// BatchView is a batch.
type BatchView struct {
	ID       string
	Job      job.ID
	Input    string
	Endpoint string
	Metadata map[string]string
	Created  time.Time
	Status   job.Status
	// Where it ended: files with the answers and with what went wrong, and how
	// many requests are in them.
	Output, Errors         string
	OutputCount, ErrorsLen int
}

// ErrNoFile is matched by the errors for files and batches that are not there.
var ErrNoFile = errors.New("there is none of this name")
