package localapi

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"idlewild/job"
)

// FarmJobs is what the farm's owner sees and does of all members' jobs. On other
// machines it is their own jobs.
type FarmJobs interface {
	List(ctx context.Context) FarmJobsView
	// Cancel cancels a job of a member, by its id.
	Cancel(ctx context.Context, peer string, id job.ID) error
}

// FarmJobsView is all jobs of the farm.
type FarmJobsView struct {
	Owner  bool           `json:"owner"` // this machine is the farm's owner, and sees all members' jobs
	Jobs   []FarmJob      `json:"jobs"`  // newest first
	Silent []SilentMember `json:"silent"`
}

// FarmJob is one of them. Titles and files stay with the member.
type FarmJob struct {
	Peer          string    `json:"peer"`
	Name          string    `json:"name"` // of the member
	Self          bool      `json:"self"`
	Job           job.ID    `json:"job"`
	Kind          job.Kind  `json:"kind"`
	State         job.State `json:"state"`
	Submitted     time.Time `json:"submitted"`
	Priority      int       `json:"priority" doc:"Among the jobs of its member"`
	Tasks         int       `json:"tasks"`
	Delivered     int       `json:"delivered"`
	Running       int       `json:"running"`
	Waiting       int       `json:"waiting"`
	Failed        int       `json:"failed"`
	RenderSeconds float64   `json:"render_s"`
	LeftSeconds   float64   `json:"left_s,omitempty"`

	MaxWorkers    int       `json:"max_workers,omitempty" doc:"Machines that work on it at a time; absent: all"`
	DeviceSeconds float64   `json:"device_s,omitempty" doc:"Device time used of the budget"`
	BudgetSeconds float64   `json:"budget_s,omitempty" doc:"Device time that it may take; absent: no bound"`
	Deadline      time.Time `json:"deadline,omitzero"`
	LateSeconds   float64   `json:"late_s,omitempty" doc:"How much later than its deadline it ended or is expected to end"`
	Interactive   bool      `json:"interactive,omitempty" doc:"Somebody waits for it"`
	Only          Pool      `json:"only,omitzero" doc:"Members that may work on it; absent: all"`
	Not           Pool      `json:"not,omitzero" doc:"Members that may not"`
}

// Pool is some members.
type Pool struct {
	Count int      `json:"count"`
	Names []string `json:"names" doc:"Of the first few"`
}

// SilentMember is one that did not say what its jobs are.
type SilentMember struct {
	Peer string `json:"peer"`
	Name string `json:"name"`
	Why  string `json:"why"`
}

type farmCancelBody struct {
	Peer string `json:"peer" minLength:"1" maxLength:"128"`
	Job  string `json:"job" minLength:"1" maxLength:"64"`
}

func (h *Handler) farmJobsRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	if h.FarmJobs == nil {
		return
	}
	huma.Register(h.api, op("farm-jobs", "GET", "/v1/farm/jobs", "All jobs of the farm, for its owner; elsewhere this machine's", 200),
		func(ctx context.Context, _ *struct{}) (*out[FarmJobsView], error) {
			return &out[FarmJobsView]{h.FarmJobs.List(ctx)}, nil
		})
	huma.Register(h.api, op("farm-cancel", "POST", "/v1/farm/jobs/cancel", "Cancel a job of a member, as the farm's owner", 200),
		func(ctx context.Context, r *in[farmCancelBody]) (*out[FarmJobsView], error) {
			id, err := parseJob(r.Body.Job)
			if err != nil {
				return nil, err
			}
			if err := h.FarmJobs.Cancel(ctx, r.Body.Peer, id); err != nil {
				return nil, answer(err)
			}
			return &out[FarmJobsView]{h.FarmJobs.List(ctx)}, nil
		})
}

// FarmJobs lists all jobs of the farm.
func (c *Client) FarmJobs(ctx context.Context) (v FarmJobsView, err error) {
	return v, c.call(ctx, "GET", "/v1/farm/jobs", nil, &v)
}

// CancelFarmJob cancels a job of a member.
func (c *Client) CancelFarmJob(ctx context.Context, peer string, id job.ID) (v FarmJobsView, err error) {
	return v, c.call(ctx, "POST", "/v1/farm/jobs/cancel", farmCancelBody{peer, string(id)}, &v)
}
