package localapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"idlewild/job"
)

// APILevel counts changes of /v1 that a caller has to know about. Fields and
// endpoints that are merely added do not raise it.
//
//	1 (2025-11): the first.
const APILevel = 1

var apiLevelText = strconv.Itoa(APILevel)

func portText(port int) string { return strconv.Itoa(port) }

// Deps is what the door opens to.
type Deps struct {
	Jobs     Jobs
	Views    Views
	Machine  Machine
	Farm     Farm
	Doctor   Doctor
	Store    Store
	Blenders Blenders
	Previews Previews
	Records  Records
	Audit    Audit
	Answers  Answers      // nil: no model answers
	Batches  Batches      // nil: there are none
	FarmJobs FarmJobs     // nil: none
	Farms    Farms        // nil: this is not the first farm's door
	Metrics  http.Handler // for Prometheus, at /metrics; nil: none
	AddOn    AddOn
	Version  string       // of the program
	Token    string       // empty: a fresh one is drawn
	Log      *slog.Logger // nil: silent
}

// Handler answers /v1.
type Handler struct {
	Deps
	api    huma.API
	guard  guard
	logins logins
}

// New returns the handler for everything in d.
func New(d Deps) *Handler {
	if d.Token == "" {
		d.Token = rand.Text()
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	d.Log = d.Log.With("part", "localapi")
	mux := http.NewServeMux()
	h := &Handler{Deps: d, logins: logins{now: time.Now, codes: map[string]time.Time{}}}
	h.guard = guard{token: sha256.Sum256([]byte(d.Token)), version: d.Version, public: h.public, next: mux}

	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	h.api = humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "idlewild",
				Version: d.Version,
				Description: "The local door of an idlewild daemon. Units stand in the names of fields; " +
					"unknown fields and query parameters are refused.",
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "The token in " + EndpointFile + " of the data folder."},
				},
			},
			Security: []map[string][]string{{"token": {}}},
		},
		Formats:                      map[string]huma.Format{"application/json": strictJSON, "json": strictJSON},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
	})
	h.routes()
	mux.HandleFunc("GET /v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(h.api.OpenAPI())
		if err != nil {
			writeError(w, newError(http.StatusInternalServerError, err.Error()))
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(b) // the caller may be gone
	})
	h.modelRoutes(mux)
	if d.Metrics != nil {
		mux.Handle("GET /metrics", d.Metrics)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, newError(http.StatusNotFound, fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path)))
	})
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	h.guard.ServeHTTP(w, r)
	h.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "took", time.Since(start))
}

// strictJSON refuses fields that the target does not have, whatever the schema
// says, and anything behind the document.
var strictJSON = huma.Format{
	Marshal:   huma.DefaultJSONFormat.Marshal,
	Unmarshal: func(b []byte, v any) error { return strictDecode(bytes.NewReader(b), v) },
}

func strictDecode(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one JSON document")
	}
	return nil
}

// Bodies of requests and answers. The types of package job go as they are.
type (
	// StatusView is this machine and its farm at a glance.
	StatusView struct {
		Machine MachineView `json:"machine"`
		Farm    FarmView    `json:"farm"`
		Jobs    JobCounts   `json:"jobs"`
	}
	// JobCounts counts this machine's jobs.
	JobCounts struct {
		Open  int `json:"open"`
		Ended int `json:"ended"`
	}
	// Submitted names a job that was accepted.
	Submitted struct {
		Job job.ID `json:"job"`
	}
	// JobList is every job of this machine, newest first, without frames.
	JobList struct {
		Jobs []job.Status `json:"jobs"`
	}
	// Ticket lets one machine into the farm, once.
	Ticket struct {
		Ticket string `json:"ticket"`
	}

	requeueBody struct {
		Task string `json:"task" minLength:"1" maxLength:"1024" doc:"Label of the task: a frame number"`
	}
	createBody struct {
		Name string `json:"name" maxLength:"128" doc:"For people"`
	}
	inviteBody struct {
		ValidSeconds float64 `json:"valid_s" exclusiveMinimum:"0" maximum:"31536000" doc:"How long the ticket can be used; more than 30 days are refused"`
		GuestSeconds float64 `json:"guest_s,omitempty" minimum:"0" maximum:"315360000" doc:"For how long the machine is a member once it came; 0: until it is put out"`
	}
	joinBody struct {
		Ticket string `json:"ticket" minLength:"1" maxLength:"65536" doc:"A ticket, or the opening of an open farm"`
	}
	revokeBody struct {
		Peer string `json:"peer" minLength:"1" maxLength:"128"`
	}
	banBody struct {
		Peer       string  `json:"peer" minLength:"1" maxLength:"128"`
		Reason     string  `json:"reason,omitempty" maxLength:"1024"`
		ForSeconds float64 `json:"for_s,omitempty" minimum:"0" maximum:"31536000" doc:"0: until a pardon"`
	}
	pardonBody struct {
		Peer   string `json:"peer" minLength:"1" maxLength:"128"`
		Reason string `json:"reason,omitempty" maxLength:"1024"`
	}
	shareBody struct {
		Which string `json:"which,omitempty" maxLength:"4096" doc:"Version, build or path; empty: the only one"`
	}
	sharedBlenders struct {
		Blenders []SharedBlender `json:"blenders"`
	}
	gcBody struct {
		KeepBytes int64 `json:"keep_bytes" minimum:"0" doc:"Stop where at most so many bytes are left"`
	}
)

// out is an answer with a JSON body, in is a request with one.
type (
	out[T any] struct{ Body T }
	in[T any]  struct{ Body T }
	text       struct {
		ContentType string `header:"Content-Type"`
		Body        []byte
	}
	// JobPath is the job in a path; exported because huma fills it.
	JobPath struct {
		ID string `path:"id" maxLength:"64" doc:"The job"`
	}
)

func (h *Handler) routes() {
	op := func(id, method, path, summary string, status int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: status,
			MaxBodyBytes:    -1, // the guard bounded and read it
			BodyReadTimeout: -1,
			Errors:          []int{400, 401, 403, 404, 413, 422, 500},
		}
	}

	huma.Register(h.api, op("status", "GET", "/v1/status", "What this machine does, and its farm", 200),
		func(context.Context, *struct{}) (*out[StatusView], error) {
			v := StatusView{Machine: h.Machine.Machine(), Farm: h.Farm.View()}
			for _, s := range h.Views.List() {
				if s.State.Ended() {
					v.Jobs.Ended++
				} else {
					v.Jobs.Open++
				}
			}
			return &out[StatusView]{v}, nil
		})
	huma.Register(h.api, op("pause-machine", "POST", "/v1/machine/pause", "Stop or start taking work from others", 200),
		func(ctx context.Context, r *in[PauseWish]) (*out[MachineView], error) {
			if err := h.Machine.SetPaused(ctx, r.Body); err != nil {
				return nil, answer(err)
			}
			return &out[MachineView]{h.Machine.Machine()}, nil
		})

	huma.Register(h.api, op("why", "GET", "/v1/machine/why", "Which signal decides what each device may do for others", 200),
		func(context.Context, *struct{}) (*out[WhyView], error) {
			return &out[WhyView]{h.Machine.Why()}, nil
		})

	huma.Register(h.api, op("doctor", "GET", "/v1/doctor", "What is wrong between this machine and its farm", 200),
		func(ctx context.Context, r *struct {
			Speed bool `query:"speed" doc:"Measure how fast bytes pass, for some seconds per member"`
		}) (*out[DoctorView], error) {
			return &out[DoctorView]{h.Doctor.Doctor(ctx, r.Speed)}, nil
		})

	h.auditRoutes(op)
	h.farmKeyRoutes(op)

	huma.Register(h.api, op("submit", "POST", "/v1/jobs", "Submit a job; it is on disk once this answers", 201),
		func(ctx context.Context, r *in[job.Spec]) (*out[Submitted], error) {
			if err := r.Body.Validate(); err != nil {
				return nil, invalid(err)
			}
			id, err := h.Jobs.Submit(ctx, r.Body)
			if err != nil {
				return nil, answer(err)
			}
			return &out[Submitted]{Submitted{id}}, nil
		})
	huma.Register(h.api, op("inspect", "POST", "/v1/inspect", "Dependencies and problems of a job that is not submitted", 200),
		func(ctx context.Context, r *in[job.Spec]) (*out[job.Inspection], error) {
			if err := r.Body.Validate(); err != nil {
				return nil, invalid(err)
			}
			i, err := h.Jobs.Inspect(ctx, r.Body)
			if err != nil {
				return nil, answer(err)
			}
			return &out[job.Inspection]{i}, nil
		})
	huma.Register(h.api, op("jobs", "GET", "/v1/jobs", "Every job of this machine, newest first, without frames", 200),
		func(_ context.Context, r *struct {
			Ended int `query:"ended" default:"-1" minimum:"-1" doc:"How many of the jobs that ended are wanted, the newest ones; -1: all"`
		}) (*out[JobList], error) {
			l := []job.Status{}
			ended := 0
			for _, s := range h.Views.List() {
				if s.State.Ended() {
					if ended++; r.Ended >= 0 && ended > r.Ended {
						continue
					}
				}
				l = append(l, s)
			}
			return &out[JobList]{JobList{l}}, nil
		})
	huma.Register(h.api, op("job", "GET", "/v1/jobs/{id}", "One job, with its frames and workers", 200),
		func(_ context.Context, r *struct {
			JobPath
			Frames bool `query:"frames" default:"true" doc:"With its frames, of which there may be many"`
		}) (*out[job.Status], error) {
			s, err := h.status(r.ID)
			if err == nil && !r.Frames {
				s.Body.Frames = nil
			}
			return s, err
		})
	huma.Register(h.api, op("steer", "POST", "/v1/jobs/{id}/{action}", "Cancel, pause or resume a job", 200),
		func(ctx context.Context, r *struct {
			JobPath
			Action string `path:"action" enum:"cancel,pause,resume"`
		}) (*out[job.Status], error) {
			id, err := parseJob(r.ID)
			if err != nil {
				return nil, err
			}
			if err := h.Jobs.Steer(ctx, id, job.Action(r.Action)); err != nil {
				return nil, answer(err)
			}
			return h.status(r.ID)
		})
	huma.Register(h.api, op("resubmit", "POST", "/v1/jobs/{id}/resubmit", "Submit an ended job again, as its file is now; delivered files stay that nothing changed for", 201),
		func(ctx context.Context, r *struct{ JobPath }) (*out[Submitted], error) {
			id, err := parseJob(r.ID)
			if err != nil {
				return nil, err
			}
			if id, err = h.Jobs.Resubmit(ctx, id); err != nil {
				return nil, answer(err)
			}
			return &out[Submitted]{Submitted{id}}, nil
		})
	huma.Register(h.api, op("requeue", "POST", "/v1/jobs/{id}/requeue", "Run a task again, also one that was delivered or failed", 200),
		func(ctx context.Context, r *struct {
			JobPath
			Body requeueBody
		}) (*out[job.Status], error) {
			id, err := parseJob(r.ID)
			if err != nil {
				return nil, err
			}
			if err := h.Jobs.Requeue(ctx, id, r.Body.Task); err != nil {
				return nil, answer(err)
			}
			return h.status(r.ID)
		})
	huma.Register(h.api, op("log", "GET", "/v1/jobs/{id}/log", "The newest log of a task, or every log that is kept of the job", 200),
		func(ctx context.Context, r *struct {
			JobPath
			Task string `query:"task" maxLength:"1024" doc:"Label of a task; empty: every log that is kept, each under its task's label"`
		}) (*text, error) {
			id, err := parseJob(r.ID)
			if err != nil {
				return nil, err
			}
			b, err := h.Views.Log(ctx, id, r.Task)
			if err != nil {
				return nil, answer(err)
			}
			return &text{"text/plain; charset=utf-8", b}, nil
		})
	h.previewRoutes(op)
	h.dashboardRoutes(op)
	h.farmJobsRoutes(op)
	h.farmsRoutes(op)
	h.openFarmRoutes(op)
	h.eventRoute(op("events", "GET", "/v1/events", "What happens to jobs, as it happens", 200))

	huma.Register(h.api, op("store", "GET", "/v1/store", "What is in this machine's store", 200),
		func(context.Context, *struct{}) (*out[StoreView], error) {
			return &out[StoreView]{h.Store.Stat()}, nil
		})
	huma.Register(h.api, op("store-gc", "POST", "/v1/store/gc", "Drop blocks that no job holds", 200),
		func(ctx context.Context, r *in[gcBody]) (*out[StoreWork], error) {
			freed, err := h.Store.GC(ctx, r.Body.KeepBytes)
			if err != nil {
				return nil, answer(err)
			}
			return &out[StoreWork]{StoreWork{FreedBytes: freed, Store: h.Store.Stat()}}, nil
		})
	huma.Register(h.api, op("store-verify", "POST", "/v1/store/verify", "Read every block and drop those that are damaged", 200),
		func(ctx context.Context, _ *struct{}) (*out[StoreWork], error) {
			read, dropped, err := h.Store.Verify(ctx)
			if err != nil {
				return nil, answer(err)
			}
			return &out[StoreWork]{StoreWork{Read: read, Dropped: dropped, Store: h.Store.Stat()}}, nil
		})

	huma.Register(h.api, op("blenders", "GET", "/v1/blenders/shared", "The Blenders that members may fetch from this machine", 200),
		func(context.Context, *struct{}) (*out[sharedBlenders], error) {
			return &out[sharedBlenders]{sharedBlenders{h.Blenders.Shared()}}, nil
		})
	huma.Register(h.api, op("share-blender", "POST", "/v1/blenders/shared", "Let members fetch a Blender of this machine", 201),
		func(ctx context.Context, r *in[shareBody]) (*out[SharedBlender], error) {
			s, err := h.Blenders.Share(ctx, r.Body.Which)
			if err != nil {
				return nil, answer(err)
			}
			return &out[SharedBlender]{s}, nil
		})
	huma.Register(h.api, op("unshare-blender", "DELETE", "/v1/blenders/shared/{root}", "Let members fetch it no more", 200),
		func(ctx context.Context, r *struct {
			Root string `path:"root" maxLength:"128"`
		}) (*out[sharedBlenders], error) {
			if err := h.Blenders.Unshare(ctx, r.Root); err != nil {
				return nil, answer(err)
			}
			return &out[sharedBlenders]{sharedBlenders{h.Blenders.Shared()}}, nil
		})

	huma.Register(h.api, op("peers", "GET", "/v1/peers", "The farm and its members", 200),
		func(context.Context, *struct{}) (*out[FarmView], error) {
			return &out[FarmView]{h.Farm.View()}, nil
		})
	huma.Register(h.api, op("create-farm", "POST", "/v1/farm", "Make a private farm with this machine as its owner", 201),
		func(ctx context.Context, r *in[createBody]) (*out[FarmView], error) {
			v, err := h.Farm.Create(ctx, r.Body.Name)
			return &out[FarmView]{v}, answer(err)
		})
	huma.Register(h.api, op("invite", "POST", "/v1/farm/invite", "Make a ticket that lets one machine in, once", 201),
		func(ctx context.Context, r *in[inviteBody]) (*out[Ticket], error) {
			t, err := h.Farm.Invite(ctx, time.Duration(r.Body.ValidSeconds*float64(time.Second)), time.Duration(r.Body.GuestSeconds*float64(time.Second)))
			return &out[Ticket]{Ticket{t}}, answer(err)
		})
	huma.Register(h.api, op("join", "POST", "/v1/farm/join", "Join the farm that a ticket is for, or an open one as a stranger", 200),
		func(ctx context.Context, r *in[joinBody]) (*out[FarmView], error) {
			v, err := h.Farm.Join(ctx, r.Body.Ticket)
			return &out[FarmView]{v}, answer(err)
		})
	huma.Register(h.api, op("leave", "POST", "/v1/farm/leave", "Leave the farm; answers with what was left", 200),
		func(ctx context.Context, _ *struct{}) (*out[FarmView], error) {
			v, err := h.Farm.Leave(ctx)
			return &out[FarmView]{v}, answer(err)
		})
	huma.Register(h.api, op("revoke", "POST", "/v1/farm/revoke", "Take a member's right away", 200),
		func(ctx context.Context, r *in[revokeBody]) (*out[FarmView], error) {
			if err := h.Farm.Revoke(ctx, r.Body.Peer); err != nil {
				return nil, answer(err)
			}
			return &out[FarmView]{h.Farm.View()}, nil
		})
	huma.Register(h.api, op("ban", "POST", "/v1/farm/ban", "Give a member no work of this machine", 200),
		func(ctx context.Context, r *in[banBody]) (*out[FarmView], error) {
			if err := h.Farm.Ban(ctx, r.Body.Peer, r.Body.Reason, time.Duration(r.Body.ForSeconds*float64(time.Second))); err != nil {
				return nil, answer(err)
			}
			return &out[FarmView]{h.Farm.View()}, nil
		})
	huma.Register(h.api, op("pardon", "POST", "/v1/farm/pardon", "End a ban of a member", 200),
		func(ctx context.Context, r *in[pardonBody]) (*out[FarmView], error) {
			if err := h.Farm.Pardon(ctx, r.Body.Peer, r.Body.Reason); err != nil {
				return nil, answer(err)
			}
			return &out[FarmView]{h.Farm.View()}, nil
		})
}

func (h *Handler) status(id string) (*out[job.Status], error) {
	i, err := parseJob(id)
	if err != nil {
		return nil, err
	}
	s, err := h.Views.Status(i)
	if err != nil {
		return nil, answer(err)
	}
	return &out[job.Status]{s}, nil
}

func parseJob(s string) (job.ID, error) {
	id, err := job.ParseID(s)
	if err != nil {
		return "", newError(http.StatusUnprocessableEntity, err.Error())
	}
	return id, nil
}
