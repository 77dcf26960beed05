package p2p

import (
	"context"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

type memberJobs struct {
	mu        sync.Mutex
	jobs      []FarmJob
	cancelled []job.ID
}

func (m *memberJobs) FarmJobs() []FarmJob { return m.jobs }
func (m *memberJobs) CancelForOwner(_ context.Context, id job.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id != m.jobs[0].Job {
		return job.ErrUnknownJob
	}
	m.cancelled = append(m.cancelled, id)
	return nil
}

// The farm's owner sees and cancels jobs of members; a member does not, whoever
// it asks.
func TestFarmJobsAreTheOwners(t *testing.T) {
	t.Parallel() // a stranger waits for its answer
	farm := newFarm(t, 3)
	id, other := job.NewID(time.Now()), job.NewID(time.Now())
	m := &memberJobs{jobs: []FarmJob{
		{
			Job: id, Kind: "echo", State: job.StatePlanned, Priority: 3, Tasks: 7,
			MaxWorkers: 2, Budget: 60, Deadline: time.Unix(1e9, 0).UTC(), Only: []peer.ID{farm[1].ID()}, OnlyN: 9,
		},
		{Job: "no id", Kind: "echo"},
		{Job: other, Kind: "echo", Not: slices.Repeat([]peer.ID{farm[1].ID()}, MaxFarmPool+1)},
	}}
	for _, h := range farm {
		h.ServeFarmJobs(m)
	}
	got, err := farm[0].AskFarmJobs(t.Context(), farm[1].ID())
	if err != nil || !reflect.DeepEqual(got, m.jobs[:1]) {
		t.Fatalf("%+v %v", got, err)
	}
	if err := farm[0].CancelFarmJob(t.Context(), farm[1].ID(), id); err != nil || !slices.Equal(m.cancelled, []job.ID{id}) {
		t.Errorf("%v %v", m.cancelled, err)
	}
	if err := farm[0].CancelFarmJob(t.Context(), farm[1].ID(), other); err == nil || !strings.Contains(err.Error(), job.ErrUnknownJob.Error()) {
		t.Errorf("another job: %v", err)
	}
	for _, asked := range []int{0, 2} {
		if got, err := farm[1].AskFarmJobs(t.Context(), farm[asked].ID()); err == nil || len(got) > 0 || !strings.Contains(err.Error(), "only the farm's owner") {
			t.Errorf("a member asks: %v %v", got, err)
		}
		if err := farm[1].CancelFarmJob(t.Context(), farm[asked].ID(), id); err == nil {
			t.Error("a member cancels")
		}
	}
	stranger := newHost(t, "stranger")
	if _, err := stranger.AskFarmJobs(t.Context(), farm[1].ID()); err == nil {
		t.Error("a stranger was answered")
	}
	if len(m.cancelled) != 1 {
		t.Errorf("cancelled %v", m.cancelled)
	}
}

func TestFarmJobsBounds(t *testing.T) {
	farm := newFarm(t, 2)
	farm[1].ServeFarmJobs(&memberJobs{})
	for _, q := range []string{"", "{", strings.Repeat(" ", maxFarmAsk+1) + "{}", `{"cancel":"../x"}`, `[]`} {
		s, err := farm[0].guarded.NewStream(t.Context(), farm[1].ID(), idOf(ProtocolFarmJobs))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Write([]byte(q))
		err = errors.Join(err, s.CloseWrite())
		if n, rerr := io.Copy(io.Discard, s); n != 0 || rerr == nil && err == nil {
			t.Errorf("%.20q: %d bytes, %v", q, n, rerr)
		}
	}
	if got := farm[1].Stats().Malformed; got != 5 {
		t.Errorf("%d malformed", got)
	}
}
