package localapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"idlewild/job"
)

// fileIdle is how long a file that is sent may stand still.
const fileIdle = 30 * time.Second

func readAll(r *http.Request) ([]byte, error) { return io.ReadAll(r.Body) }

type fileObject struct {
	ID        string `json:"id"`
	Object    string `json:"object"`
	Bytes     int64  `json:"bytes"`
	CreatedAt int64  `json:"created_at"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
	Status    string `json:"status"`
}

func fileOf(f FileView) fileObject {
	return fileObject{f.ID, "file", f.Bytes, f.Created.Unix(), f.Name, f.Purpose, "processed"}
}

func (h *Handler) fileRoutes(mux *http.ServeMux) {
	h.speak(mux, "POST "+pathFiles, spoken{id: "add-file", summary: "Keep a file of requests", request: fileAsked, answer: typeOf[fileObject]()}, h.addFile)
	list := spoken{id: "files", summary: "Files of requests and of answers", answer: typeOf[listObject[fileObject]](), query: []string{"limit", "after", "purpose"}}
	h.speak(mux, "GET "+pathFiles, list, func(w http.ResponseWriter, r *http.Request) {
		files, err := h.Batches.Files()
		if err != nil {
			writeAskError(w, err)
			return
		}
		if p := r.URL.Query().Get("purpose"); p != "" {
			files = slices.DeleteFunc(files, func(f FileView) bool { return f.Purpose != p })
		}
		writePage(w, r, files, fileOf, func(f fileObject) string { return f.ID })
	})
	h.speak(mux, "GET "+pathFiles+"/{id}", spoken{id: "file", summary: "One file", answer: typeOf[fileObject]()}, func(w http.ResponseWriter, r *http.Request) {
		f, err := h.Batches.File(r.PathValue("id"))
		if err != nil {
			writeAskError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, fileOf(f))
	})
	h.speak(mux, "GET "+pathFiles+"/{id}/content", spoken{id: "file-content", summary: "What is in a file"}, func(w http.ResponseWriter, r *http.Request) {
		f, err := h.Batches.OpenFile(r.PathValue("id"))
		if err != nil {
			writeAskError(w, err)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "application/octet-stream")
		if _, err := io.Copy(w, f); err != nil {
			h.Log.Debug("a file was not read to its end", "error", err)
			panic(http.ErrAbortHandler) // so that nobody takes it for whole
		}
	})
	h.speak(mux, "DELETE "+pathFiles+"/{id}", spoken{id: "remove-file", summary: "Remove a file", answer: typeOf[deletedObject]()}, func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		if err := h.Batches.RemoveFile(id); err != nil {
			writeAskError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, deletedObject{id, "file", true})
	})
}

// patient gives each piece of a body a time of its own.
type patient struct {
	r   io.Reader
	ctl *http.ResponseController
}

func (p patient) Read(b []byte) (int, error) {
	_ = p.ctl.SetReadDeadline(time.Now().Add(fileIdle)) // not every writer can
	return p.r.Read(b)
}

func (h *Handler) addFile(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	r.Body = io.NopCloser(patient{http.MaxBytesReader(w, r.Body, MaxFileBytes+1<<20), ctl})
	defer func() { _ = ctl.SetReadDeadline(time.Time{}) }()
	bad := func(format string, a ...any) {
		writeAskError(w, &AskError{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, a...)})
	}
	parts, err := r.MultipartReader()
	if err != nil {
		bad("a file is sent as a form with the fields purpose and file: %v", err)
		return
	}
	var added FileView
	purpose := ""
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			bad("the file is over %d MiB; submit it with: idlewild submit --kind ai FILE", MaxFileBytes>>20)
			return
		}
		if err != nil {
			bad("the file did not arrive whole: %v", err)
			return
		}
		switch part.FormName() {
		case "purpose":
			b, _ := io.ReadAll(io.LimitReader(part, 64))
			purpose = string(b)
		case "file":
			if added.ID != "" {
				bad("more than one file")
				return
			}
			if added, err = h.Batches.AddFile(part.FileName(), part); err != nil {
				writeAskError(w, err)
				return
			}
		default:
			_, _ = io.Copy(io.Discard, part) // fields of theirs that mean nothing here
		}
	}
	switch {
	case added.ID == "":
		bad("no file was sent")
	case purpose != "batch":
		_ = h.Batches.RemoveFile(added.ID) // it stays without being listed as anything else
		bad("the purpose is %q; files of requests have the purpose batch", purpose)
	default:
		writeJSON(w, http.StatusOK, fileOf(added))
	}
}

// writePage answers with a page of a list, as ?limit= and ?after= ask for.
func writePage[V, T any](w http.ResponseWriter, r *http.Request, all []V, object func(V) T, id func(T) string) {
	limit := 10000
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			writeAskError(w, &AskError{Status: http.StatusBadRequest, Message: fmt.Sprintf("limit is %q", s)})
			return
		}
		limit = min(n, limit)
	}
	objects := []T{}
	after := r.URL.Query().Get("after")
	past := after == ""
	more := false
	for _, v := range all {
		o := object(v)
		switch {
		case !past:
			past = id(o) == after
		case len(objects) == limit:
			more = true
		default:
			objects = append(objects, o)
		}
	}
	out := listObject[T]{Object: "list", Data: objects, HasMore: more}
	if len(objects) > 0 {
		out.FirstID, out.LastID = id(objects[0]), id(objects[len(objects)-1])
	}
	writeJSON(w, http.StatusOK, out)
}

type batchObject struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Endpoint         string            `json:"endpoint"`
	Errors           *batchErrors      `json:"errors"`
	InputFileID      string            `json:"input_file_id"`
	CompletionWindow string            `json:"completion_window"`
	Status           string            `json:"status"`
	OutputFileID     *string           `json:"output_file_id"`
	ErrorFileID      *string           `json:"error_file_id"`
	CreatedAt        int64             `json:"created_at"`
	CompletedAt      *int64            `json:"completed_at"`
	FailedAt         *int64            `json:"failed_at"`
	CancelledAt      *int64            `json:"cancelled_at"`
	RequestCounts    batchCounts       `json:"request_counts"`
	Metadata         map[string]string `json:"metadata"`
	Job              job.ID            `json:"job"`
}

type batchErrors struct {
	Object string       `json:"object"`
	Data   []batchError `json:"data"`
}

type batchError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
	Line    *int    `json:"line"`
}

type batchCounts struct {
	Total     int `json:"total"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
}

var batchStates = map[job.State]string{
	job.StateAccepted: "validating", job.StatePlanned: "in_progress", job.StatePaused: "in_progress",
	job.StateFinished: "completed", job.StateFailed: "failed", job.StateCancelled: "cancelled",
}

func batchOf(b BatchView) batchObject {
	o := batchObject{
		ID: b.ID, Object: "batch", Endpoint: b.Endpoint, InputFileID: b.Input, CompletionWindow: "24h", Status: batchStates[b.Status.State],
		CreatedAt: b.Created.Unix(), Metadata: b.Metadata, Job: b.Job,
	}
	ended := b.Created.Add(time.Duration(b.Status.WallSeconds * float64(time.Second))).Unix()
	switch b.Status.State {
	case job.StateFinished:
		o.CompletedAt = &ended
	case job.StateCancelled:
		o.CancelledAt = &ended
	case job.StateFailed:
		o.FailedAt = &ended
		o.Errors = &batchErrors{Object: "list"}
		for _, p := range b.Status.Problems {
			if p.Severity == job.SeverityError {
				o.Errors.Data = append(o.Errors.Data, batchError{Code: "refused", Message: p.String()})
			}
		}
		if len(o.Errors.Data) == 0 {
			o.Errors.Data = []batchError{{Code: "failed", Message: b.Status.Reason}}
		}
	}
	if b.OutputCount > 0 {
		o.OutputFileID = &b.Output
	}
	if b.ErrorsLen > 0 {
		o.ErrorFileID = &b.Errors
	}
	o.RequestCounts = batchCounts{b.OutputCount + b.ErrorsLen, b.OutputCount, b.ErrorsLen}
	return o
}

func (h *Handler) batchRoutes(mux *http.ServeMux) {
	one := func(w http.ResponseWriter, b BatchView, err error) {
		if err != nil {
			writeAskError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, batchOf(b))
	}
	batch := func(id, summary string, request *huma.RequestBody) spoken {
		return spoken{id: id, summary: summary, request: request, answer: typeOf[batchObject]()}
	}
	h.speak(mux, "POST /v1/batches", batch("add-batch", "Answer the requests of a file, as a job", batchAsked), func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Input    string            `json:"input_file_id"`
			Endpoint string            `json:"endpoint"`
			Window   string            `json:"completion_window"`
			Metadata map[string]string `json:"metadata"`
		}
		raw, err := readAll(r)
		if err == nil {
			err = json.Unmarshal(raw, &body)
		}
		if err == nil && !slices.Contains(asked, body.Endpoint) {
			err = fmt.Errorf("the endpoint is %q; a farm answers %v", body.Endpoint, asked)
		}
		if err != nil {
			writeAskError(w, &AskError{Status: http.StatusBadRequest, Message: err.Error()})
			return
		}
		b, err := h.Batches.Submit(r.Context(), body.Input, body.Endpoint, body.Metadata)
		one(w, b, err)
	})
	list := spoken{id: "batches", summary: "Batches, the newest first", answer: typeOf[listObject[batchObject]](), query: []string{"limit", "after"}}
	h.speak(mux, "GET /v1/batches", list, func(w http.ResponseWriter, r *http.Request) {
		all, err := h.Batches.Batches()
		if err != nil {
			writeAskError(w, err)
			return
		}
		writePage(w, r, all, batchOf, func(b batchObject) string { return b.ID })
	})
	h.speak(mux, "GET /v1/batches/{id}", batch("batch", "One batch", nil), func(w http.ResponseWriter, r *http.Request) {
		b, err := h.Batches.Batch(r.PathValue("id"))
		one(w, b, err)
	})
	h.speak(mux, "POST /v1/batches/{id}/cancel", batch("cancel-batch", "Cancel a batch", nil), func(w http.ResponseWriter, r *http.Request) {
		b, err := h.Batches.CancelBatch(r.Context(), r.PathValue("id"))
		one(w, b, err)
	})
}
