package p2p

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// ProtocolFarmJobs is how the farm's owner asks a member what its jobs are, and
// cancels one. One stream is one question and its answer, each a JSON document
// up to the end of its side. Whoever is not the owner by its certificate is
// refused. Titles, files and folders stay with the member.
const ProtocolFarmJobs Protocol = "farm-jobs"

// Bounds of it.
const (
	maxFarmAsk    = 1 << 10
	maxFarmAnswer = 1 << 20
	maxFarmJobs   = 1000
	maxFarmText   = 200
	farmJobsLimit = 10 * time.Second
)

// FarmJobs is what a member lets the farm's owner see and do.
type FarmJobs interface {
	// FarmJobs are this machine's jobs, those that go on first.
	FarmJobs() []FarmJob
	// CancelForOwner cancels one of them.
	CancelForOwner(ctx context.Context, id job.ID) error
}

// FarmJob is a job as the farm's owner sees it.
type FarmJob struct {
	Job       job.ID    `json:"job"`
	Kind      job.Kind  `json:"kind"`
	State     job.State `json:"state"`
	Submitted time.Time `json:"submitted"`
	Priority  int       `json:"priority"` // among the jobs of its member
	Tasks     int       `json:"tasks"`
	Delivered int       `json:"delivered"`
	Running   int       `json:"running"`
	Waiting   int       `json:"waiting"`
	Failed    int       `json:"failed"`
	Seconds   float64   `json:"render_s"` // of devices, so far
	Left      float64   `json:"left_s,omitempty"`

	// What it may take, and when it should be there; see job.Limits.
	MaxWorkers  int       `json:"max_workers,omitempty"`
	Device      float64   `json:"device_s,omitempty"` // of the budget
	Budget      float64   `json:"budget_s,omitempty"`
	Deadline    time.Time `json:"deadline,omitzero"`
	Late        float64   `json:"late_s,omitempty"`
	Interactive bool      `json:"interactive,omitempty"`
	// Which peers may work on it, and which may not: the first of each, and how
	// many there are.
	Only  []peer.ID `json:"only,omitempty"`
	OnlyN int       `json:"only_n,omitempty"`
	Not   []peer.ID `json:"not,omitempty"`
	NotN  int       `json:"not_n,omitempty"`
}

// MaxFarmPool bounds FarmJob.Only and FarmJob.Not.
const MaxFarmPool = 4

type farmAsk struct {
	Cancel job.ID `json:"cancel,omitempty"` // empty: list
}

type farmAnswer struct {
	Jobs  []FarmJob `json:"jobs,omitempty"`
	Error string    `json:"error,omitempty"`
}

// isOwner reports whether a member is the farm's owner by its certificate.
func (m *Membership) isOwner(p peer.ID) bool {
	return slices.ContainsFunc(m.Members(), func(x Member) bool { return x.Peer == p && x.Role == RoleOwner })
}

// ServeFarmJobs answers the farm's owner from now on.
func (h *Host) ServeFarmJobs(f FarmJobs) {
	h.serve(ProtocolFarmJobs, func(s network.Stream) {
		h.goRun(func(ctx context.Context) {
			defer s.Close()
			ctx, cancel := context.WithTimeout(ctx, farmJobsLimit)
			defer cancel()
			defer watch(s, farmJobsLimit)()
			var q farmAsk
			b, err := io.ReadAll(io.LimitReader(s, maxFarmAsk+1))
			if err == nil && len(b) > maxFarmAsk {
				err = errors.New("too long")
			}
			if err == nil {
				err = json.Unmarshal(b, &q)
			}
			if err == nil && q.Cancel != "" {
				_, err = job.ParseID(string(q.Cancel))
			}
			if err != nil {
				h.stats.malformed.Add(1)
				s.Reset()
				return
			}
			var a farmAnswer
			switch {
			case !h.Membership().isOwner(s.Conn().RemotePeer()):
				a.Error = "only the farm's owner may ask that"
			case q.Cancel != "":
				if err := f.CancelForOwner(ctx, q.Cancel); err != nil {
					a.Error = err.Error()
				}
			default:
				a.Jobs = f.FarmJobs()
				a.Jobs = a.Jobs[:min(len(a.Jobs), maxFarmJobs)]
			}
			if b, err = json.Marshal(a); err == nil {
				_, _ = s.Write(b) // the owner may be gone
			}
		})
	})
}

// AskFarmJobs lists the jobs of a connected member; this machine has to be the
// farm's owner.
func (h *Host) AskFarmJobs(ctx context.Context, p peer.ID) ([]FarmJob, error) {
	a, err := h.askFarm(ctx, p, farmAsk{})
	return a.Jobs, err
}

// CancelFarmJob cancels a job of a connected member, likewise.
func (h *Host) CancelFarmJob(ctx context.Context, p peer.ID, id job.ID) error {
	_, err := h.askFarm(ctx, p, farmAsk{Cancel: id})
	return err
}

func (h *Host) askFarm(ctx context.Context, p peer.ID, q farmAsk) (a farmAnswer, err error) {
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(network.WithNoDial(ctx, "farm jobs"), "farm jobs"), farmJobsLimit)
	defer cancel()
	s, err := h.stream(ctx, p, ProtocolFarmJobs)
	if err != nil {
		return a, fmt.Errorf("ask %s: %w", p, cause(err))
	}
	defer s.Reset()
	defer watch(s, farmJobsLimit)()
	b, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if _, err = s.Write(b); err == nil {
		err = s.CloseWrite()
	}
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(s, maxFarmAnswer+1))
	}
	if err == nil && len(b) > maxFarmAnswer {
		err = errors.New("the answer is too long")
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		return farmAnswer{}, fmt.Errorf("ask %s: %w", p, cause(err))
	}
	if a.Error != "" {
		return farmAnswer{}, errors.New(a.Error[:min(len(a.Error), maxFarmText)])
	}
	if len(a.Jobs) > maxFarmJobs {
		a.Jobs = a.Jobs[:maxFarmJobs]
	}
	// What a member says is shown to a person: a job without a right id, or with
	// words of its own, is none.
	a.Jobs = slices.DeleteFunc(a.Jobs, func(j FarmJob) bool {
		_, err := job.ParseID(string(j.Job))
		return err != nil || len(j.Kind) > maxFarmText || len(j.State) > maxFarmText || len(j.Only) > MaxFarmPool || len(j.Not) > MaxFarmPool
	})
	return a, nil
}
