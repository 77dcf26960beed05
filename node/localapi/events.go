package localapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"idlewild/job"
)

const (
	// beatEvery is how often a silent stream says that it lives, so that
	// either side notices when the other is gone.
	beatEvery = 15 * time.Second
	// writeTimeout bounds one write to a watcher that does not read.
	writeTimeout = 30 * time.Second
)

type eventQuery struct {
	Job string `query:"job" maxLength:"64" doc:"Only this job's events; empty: all"`
	// A stream is resumed after the last event that was seen; 0 starts now.
	LastEventID uint64 `header:"Last-Event-ID" doc:"Resume after this event; 0 or absent: from now on"`
}

// eventRoute registers the stream of events. Each is one server-sent event:
// id is its seq, event its type, data a job.Event as JSON.
func (h *Handler) eventRoute(op huma.Operation) {
	schema := h.api.OpenAPI().Components.Schemas.Schema(typeOf[job.Event](), true, "Event")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "Server-sent events; data is an Event",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: schema, Example: example("event.json")}},
	}}
	huma.Register(h.api, op, func(_ context.Context, q *eventQuery) (*huma.StreamResponse, error) {
		var id job.ID
		if q.Job != "" {
			s, err := h.status(q.Job)
			if err != nil {
				return nil, err
			}
			id = s.Body.Job
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			r, w := humago.Unwrap(c)
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			h.stream(r.Context(), w, id, q.LastEventID)
		}}, nil
	})
}

// stream writes events until the watcher leaves, does not read, or the daemon
// stops.
func (h *Handler) stream(ctx context.Context, w http.ResponseWriter, id job.ID, after uint64) {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan job.Event)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		for e := range h.Views.Watch(ctx, id, after) {
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		<-done
	}()

	ctl := http.NewResponseController(w)
	write := func(s string) bool {
		_ = ctl.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer can
		if _, err := w.Write([]byte(s)); err != nil {
			return false
		}
		return ctl.Flush() == nil
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	if !write(": idlewild\n\n") {
		return
	}
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			b, err := json.Marshal(e)
			if err != nil {
				h.Log.Error("event does not encode", "job", e.Job, "error", err)
				return
			}
			if !write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, b)) {
				return
			}
		case <-beat.C:
			if !write(": beat\n\n") {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
