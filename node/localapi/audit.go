package localapi

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"idlewild/job"
)

// Audit is the log of who was given which job's content.
type Audit interface {
	Audit(q AuditQuery) (AuditView, error)
}

// AuditQuery says which entries are wanted. The zero value means all.
type AuditQuery struct {
	Job   job.ID
	Peer  string // id, or the name that it had then
	Since time.Time
	Limit int // so many, the newest; 0: all
}

// AuditView is what the log has of that.
type AuditView struct {
	Folder  string       `json:"folder"` // where it lies: one entry a line, as here
	Found   int          `json:"found"`  // entries that were asked for; more than there are here where a limit was given
	Damaged int          `json:"damaged,omitempty" doc:"Lines that could not be read"`
	Entries []AuditEntry `json:"entries" doc:"Oldest first"`
}

// AuditEntry is one right to read a job's content that a peer was given. It is
// also a line of the log.
type AuditEntry struct {
	At      time.Time `json:"at"`
	Peer    string    `json:"peer"`
	Name    string    `json:"name,omitempty"` // what it was called then
	Farm    string    `json:"farm,omitempty"` // id
	Job     job.ID    `json:"job"`
	Roots   []string  `json:"roots" doc:"CIDs of the manifests that it may read"`
	Expires time.Time `json:"expires" doc:"The right ends"`
}

func (h *Handler) auditRoutes(op func(id, method, path, summary string, status int) huma.Operation) {
	huma.Register(h.api, op("audit", "GET", "/v1/audit", "Who was given which job's content", 200),
		func(_ context.Context, r *struct {
			Job   string    `query:"job" maxLength:"64" doc:"Of one job"`
			Peer  string    `query:"peer" maxLength:"128" doc:"Given to one peer: its id, or the name that it had then"`
			Since time.Time `query:"since" doc:"Not older than that"`
			Limit int       `query:"limit" minimum:"0" maximum:"1000000" doc:"So many, the newest; 0: all"`
		}) (*out[AuditView], error) {
			q := AuditQuery{Peer: r.Peer, Since: r.Since, Limit: r.Limit}
			if r.Job != "" {
				id, err := parseJob(r.Job)
				if err != nil {
					return nil, err
				}
				q.Job = id
			}
			v, err := h.Audit.Audit(q)
			return &out[AuditView]{v}, answer(err)
		})
}

// Audit returns who was given which job's content; see Audit.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (v AuditView, err error) {
	u := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	if q.Job != "" {
		u.Set("job", string(q.Job))
	}
	if q.Peer != "" {
		u.Set("peer", q.Peer)
	}
	if !q.Since.IsZero() {
		u.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	return v, c.call(ctx, "GET", "/v1/audit?"+u.Encode(), nil, &v)
}
