package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// The part of the door that speaks OpenAI's API, so that their clients work
// against it unchanged: base_url is http://127.0.0.1:PORT/v1, the API key the
// door's token. Fields that mean nothing here are ignored, as there.
const (
	pathEmbeddings = "/v1/embeddings"
	pathChat       = "/v1/chat/completions"
	pathImages     = "/v1/images/generations"
	pathFiles      = "/v1/files"
)

// asked are the paths of requests to models.
var asked = []string{pathEmbeddings, pathChat, pathImages}

func (h *Handler) modelRoutes(mux *http.ServeMux) {
	if h.Answers == nil {
		return
	}
	for _, path := range asked {
		h.speak(mux, "POST "+path, spokenOf[path], func(w http.ResponseWriter, r *http.Request) { h.ask(w, r, path) })
	}
	h.speak(mux, "GET /v1/models", spoken{id: "models", summary: "The models that requests can name", answer: typeOf[listObject[modelObject]]()},
		func(w http.ResponseWriter, _ *http.Request) { h.models(w, "") })
	h.speak(mux, "GET /v1/models/{name...}", spoken{id: "model", summary: "One model", answer: typeOf[modelObject]()}, func(w http.ResponseWriter, r *http.Request) { h.models(w, r.PathValue("name")) })
	verdict := spoken{id: "answer", summary: "What is known of an answer by now", answer: typeOf[AnswerVerdict]()}
	h.speak(mux, "GET /v1/answers/{answer}", verdict, func(w http.ResponseWriter, r *http.Request) {
		v, ok := h.Answers.Verdict(r.PathValue("answer"))
		if !ok {
			writeAskError(w, &AskError{Status: http.StatusNotFound, Message: "no such answer is remembered; the newest few thousand are"})
			return
		}
		writeJSON(w, http.StatusOK, v)
	})
	const pictures = "no runtime of this farm makes pictures of pictures and words; pictures are made larger with: idlewild submit --kind ai --upscale 2 FOLDER"
	for _, path := range []string{"edits", "variations"} {
		s := spoken{id: "images-" + path, summary: "Refused: no runtime of a farm makes pictures of pictures and words", refused: true}
		h.speak(mux, "POST /v1/images/"+path, s, func(w http.ResponseWriter, _ *http.Request) {
			// A status of 500 and more would be tried again by their clients.
			writeAskError(w, &AskError{Status: http.StatusBadRequest, Code: "unsupported", Message: pictures})
		})
	}
	if h.Batches != nil {
		h.fileRoutes(mux)
		h.batchRoutes(mux)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		writeError(w, newError(http.StatusInternalServerError, err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the caller may be gone
}

// askBody is the shape of OpenAI's errors.
type askBody struct {
	Error askDetail `json:"error"`
}

type askDetail struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

// asAskError makes an AskError of any error.
func asAskError(err error) *AskError {
	var e *AskError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, ErrNoFile):
		return &AskError{Status: http.StatusNotFound, Message: err.Error()}
	case errors.Is(err, context.Canceled):
		return &AskError{Status: http.StatusServiceUnavailable, Message: "stopped before it was done"}
	}
	if a, ok := answer(err).(*Error); ok && a.Status < 500 {
		return &AskError{Status: http.StatusBadRequest, Message: err.Error()}
	}
	return &AskError{Status: http.StatusInternalServerError, Message: err.Error()}
}

func (e *AskError) body() askBody {
	b := askBody{askDetail{Message: e.Message, Type: e.Type}}
	if b.Error.Type == "" {
		b.Error.Type = "invalid_request_error"
		if e.Status >= 500 {
			b.Error.Type = "server_error"
		}
	}
	if e.Code != "" {
		b.Error.Code = &e.Code
	}
	return b
}

func writeAskError(w http.ResponseWriter, err error) {
	e := asAskError(err)
	if e.Status == http.StatusServiceUnavailable || e.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "2")
	}
	writeJSON(w, e.Status, e.body())
}

// ask puts a request to a model.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request, path string) {
	var head struct {
		Stream        bool `json:"stream"`
		StreamOptions *struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	body, err := readAll(r)
	if err == nil {
		err = json.Unmarshal(body, &head)
	}
	if err != nil {
		writeAskError(w, &AskError{Status: http.StatusBadRequest, Message: "the request is no JSON object that is understood: " + err.Error()})
		return
	}
	if !head.Stream {
		a, err := h.Answers.Ask(r.Context(), path, body, nil)
		if err != nil {
			writeAskError(w, err)
			return
		}
		v, err := json.Marshal(a.Verdict)
		if err != nil {
			writeAskError(w, err)
			return
		}
		// The label stands in the answer itself: a client that keeps it keeps
		// that too.
		b, ok := strings.CutSuffix(strings.TrimSpace(string(a.Body)), "}")
		if !ok {
			writeAskError(w, errors.New("the answer is no object"))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "%s,\"idlewild\":%s}\n", b, v) // the caller may be gone
		return
	}
	if path != pathChat {
		writeAskError(w, &AskError{Status: http.StatusBadRequest, Message: "only " + pathChat + " is streamed"})
		return
	}
	ctl := http.NewResponseController(w)
	begun := false
	say := func(data []byte) error {
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
		}
		_ = ctl.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer can
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
			return err
		}
		return ctl.Flush()
	}
	if _, err := h.Answers.Ask(r.Context(), path, body, say); err != nil {
		if !begun {
			writeAskError(w, err)
			return
		}
		if b, merr := json.Marshal(asAskError(err).body()); merr == nil {
			_ = say(b) // the caller may be gone
		}
		return
	}
	_ = say([]byte("[DONE]"))
}

type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Bytes   int64  `json:"size_bytes"`
	SHA256  string `json:"sha256"`
}

type listObject[T any] struct {
	Object  string `json:"object"`
	Data    []T    `json:"data"`
	FirstID string `json:"first_id,omitempty"`
	LastID  string `json:"last_id,omitempty"`
	HasMore bool   `json:"has_more"`
}

// models answers with the models that requests can name, or with one.
func (h *Handler) models(w http.ResponseWriter, name string) {
	list, err := h.Answers.Models()
	if err != nil {
		writeAskError(w, err)
		return
	}
	out := listObject[modelObject]{Object: "list", Data: []modelObject{}}
	for _, m := range list {
		o := modelObject{ID: m.Name, Object: "model", Created: m.Added.Unix(), OwnedBy: "idlewild", Bytes: m.Bytes, SHA256: m.SHA256}
		if m.Name == name {
			writeJSON(w, http.StatusOK, o)
			return
		}
		out.Data = append(out.Data, o)
	}
	if name != "" {
		writeAskError(w, &AskError{Status: http.StatusNotFound, Code: "model_not_found", Message: fmt.Sprintf("there is no model %q; add one with: idlewild model add FILE", name)})
		return
	}
	writeJSON(w, http.StatusOK, out)
}
