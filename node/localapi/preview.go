package localapi

import (
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"os"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"idlewild/job"
)

// Previews is what can be seen of a job's cost and of its pictures.
type Previews interface {
	// Estimate looks at a spec's input, as Inspect does, and says what the job
	// would take. Nothing is stored.
	Estimate(ctx context.Context, s job.Spec) (Estimate, error)
	// Thumbnail returns the delivered file of a task as a PNG of at most side
	// by side pixels.
	Thumbnail(ctx context.Context, id job.ID, label string, side int) ([]byte, error)
}

// Estimate is what a job would take, and what is wrong with it.
type Estimate struct {
	Facts    json.RawMessage `json:"facts,omitempty"` // the kind's own, as in an inspection
	Problems []job.Problem   `json:"problems"`
	Tasks    int             `json:"tasks"`   // that end in a delivered file
	Skipped  int             `json:"skipped"` // of them, whose files are there already and may stay

	Files     int   `json:"files"`
	SizeBytes int64 `json:"size_bytes"` // of the files
	// ChangedBytes are those of files that changed since they were stored
	// last. What is sent is less: only their changed parts, compressed.
	ChangedBytes int64 `json:"changed_bytes"`

	// TaskSeconds is what one task took one device, as Basis says; 0 where
	// nothing like it was rendered yet.
	TaskSeconds float64 `json:"task_s"`
	Basis       string  `json:"basis"`
	Devices     int     `json:"devices"` // that work for this machine now, as far as it knows
	// LeftSeconds is the expected time from submission to the end; 0: unknown.
	LeftSeconds float64 `json:"left_s"`
}

// FrameList is some tasks of one job.
type FrameList struct {
	Frames []job.TaskStatus `json:"frames"`
	Total  int              `json:"total"` // that there are in that state
}

// AddOn is the Blender add-on that goes with this daemon.
type AddOn struct {
	Version string
	File    string // base name of the zip
	Zip     []byte
}

//go:embed examples
var examples embed.FS

// example is one document of the examples folder, for the OpenAPI document.
// Tests of both sides read the same files.
func example(name string) any {
	b, err := examples.ReadFile("examples/" + name)
	if err != nil {
		panic(err) // it is in the program
	}
	return json.RawMessage(b)
}

// exemplify puts examples of request and answer into an operation.
func (h *Handler) exemplify(path, method, request, answer string) {
	item := h.api.OpenAPI().Paths[path]
	op := map[string]*huma.Operation{"GET": item.Get, "POST": item.Post}[method]
	if request != "" {
		op.RequestBody.Content["application/json"].Example = example(request)
	}
	for status, r := range op.Responses {
		if m := r.Content["application/json"]; m != nil && status[0] == '2' {
			m.Example = example(answer)
		}
	}
}

type frameQuery struct {
	JobPath
	State string `query:"state" enum:"waiting,leased,returned,checked,delivered,failed,skipped" doc:"Only tasks in this state; empty: all"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"How many at most"`
}

func (h *Handler) previewRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	huma.Register(h.api, op("estimate", "POST", "/v1/estimate", "What a job would take and what is wrong with it, before it is submitted", 200),
		func(ctx context.Context, r *in[job.Spec]) (*out[Estimate], error) {
			if err := r.Body.Validate(); err != nil {
				return nil, invalid(err)
			}
			e, err := h.Previews.Estimate(ctx, r.Body)
			if err != nil {
				return nil, answer(err)
			}
			return &out[Estimate]{e}, nil
		})
	h.exemplify("/v1/estimate", "POST", "spec.json", "estimate.json")
	h.exemplify("/v1/jobs", "POST", "spec.json", "submitted.json")
	for _, m := range h.api.OpenAPI().Paths["/v1/jobs"].Post.Responses["422"].Content {
		m.Example = example("refused.json")
	}
	h.exemplify("/v1/jobs", "GET", "", "jobs.json")
	h.exemplify("/v1/status", "GET", "", "status.json")
	huma.Register(h.api, op("frames", "GET", "/v1/jobs/{id}/frames", "Some tasks of a job; delivered ones newest first, others in their order", 200),
		func(_ context.Context, r *frameQuery) (*out[FrameList], error) {
			s, err := h.status(r.ID)
			if err != nil {
				return nil, err
			}
			return &out[FrameList]{someFrames(s.Body.Frames, r.State, r.Limit)}, nil
		})
	h.exemplify("/v1/jobs/{id}/frames", "GET", "", "frames.json")
	huma.Register(h.api, op("thumbnail", "GET", "/v1/jobs/{id}/thumbnail", "A delivered file as a small PNG", 200),
		func(ctx context.Context, r *struct {
			JobPath
			Task string `query:"task" required:"true" maxLength:"1024" doc:"Label of the task"`
			Side int    `query:"side" default:"256" minimum:"16" maximum:"1024" doc:"Pixels of the longer side, at most"`
		}) (*text, error) {
			id, err := parseJob(r.ID)
			if err != nil {
				return nil, err
			}
			b, err := h.Previews.Thumbnail(ctx, id, r.Task, r.Side)
			if err != nil {
				return nil, answer(err)
			}
			return &text{"image/png", b}, nil
		})
}

func someFrames(all []job.TaskStatus, state string, limit int) FrameList {
	var l []job.TaskStatus
	for _, f := range all {
		if state == "" || f.State == state {
			l = append(l, f)
		}
	}
	if state == "delivered" {
		when := make(map[string]time.Time, len(l))
		for _, f := range l {
			if len(f.Files) > 0 {
				if fi, err := os.Stat(f.Files[0]); err == nil { // it may have been moved away
					when[f.Label] = fi.ModTime()
				}
			}
		}
		slices.SortStableFunc(l, func(a, b job.TaskStatus) int { return cmp.Compare(when[b.Label].UnixNano(), when[a.Label].UnixNano()) })
	}
	out := FrameList{Frames: []job.TaskStatus{}, Total: len(l)}
	out.Frames = append(out.Frames, l[:min(limit, len(l))]...)
	return out
}
