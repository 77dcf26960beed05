package localapi

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"idlewild/job"
)

// fake is a farm of one job table, without any work.
type fake struct {
	mu     sync.Mutex
	jobs   map[job.ID]job.Status
	specs  []job.Spec
	events []job.Event
	more   chan struct{} // closed and replaced at each event
	gone   chan struct{} // one value per watcher that left
	farm   FarmView
	paused string
	calls  []string
}

func newFake() *fake {
	return &fake{jobs: map[job.ID]job.Status{}, more: make(chan struct{}), gone: make(chan struct{}, 16)}
}

func (f *fake) Inspect(_ context.Context, s job.Spec) (job.Inspection, error) {
	return job.Inspection{Deps: []job.Dep{{Path: s.Input, Name: "a"}}, Facts: []byte(`{"n":1}`)}, nil
}

func (f *fake) Submit(_ context.Context, s job.Spec) (job.ID, error) {
	if s.Kind == "no" {
		return "", job.Refuse("scene", "no camera", "add one")
	}
	if s.Kind == "bang" {
		return "", fmt.Errorf("disk on fire")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := job.NewID(time.Now())
	f.jobs[id] = job.Status{Job: id, Kind: s.Kind, State: job.StateAccepted, Frames: []job.TaskStatus{{Label: "1", State: "waiting"}}}
	f.specs = append(f.specs, s)
	return id, nil
}

func (f *fake) Steer(_ context.Context, id job.ID, a job.Action) error {
	return f.change(id, func(s *job.Status) {
		s.State = map[job.Action]job.State{job.Cancel: job.StateCancelled, job.Pause: job.StatePaused, job.Resume: job.StatePlanned}[a]
	})
}

func (f *fake) Resubmit(ctx context.Context, id job.ID) (job.ID, error) {
	s, err := f.Status(id)
	if err != nil {
		return "", err
	}
	return f.Submit(ctx, job.Spec{Kind: s.Kind, Policy: job.Policy{Reuse: true}})
}

func (f *fake) Requeue(_ context.Context, id job.ID, label string) error {
	return f.change(id, func(s *job.Status) { s.Reason = "again: " + label })
}

func (f *fake) change(id job.ID, g func(*job.Status)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.jobs[id]
	if !ok {
		return fmt.Errorf("%s: %w", id, job.ErrUnknownJob)
	}
	g(&s)
	f.jobs[id] = s
	return nil
}

func (f *fake) List() []job.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []job.Status
	for _, s := range f.jobs {
		s.Frames = nil
		l = append(l, s)
	}
	return l
}

func (f *fake) Status(id job.ID) (job.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.jobs[id]
	if !ok {
		return s, fmt.Errorf("%s: %w", id, job.ErrUnknownJob)
	}
	return s, nil
}

func (f *fake) emit(e job.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.Seq = uint64(len(f.events) + 1)
	f.events = append(f.events, e)
	close(f.more)
	f.more = make(chan struct{})
}

// Watch starts at the beginning for seq 0, so that tests need no timing.
func (f *fake) Watch(ctx context.Context, id job.ID, seq uint64) iter.Seq[job.Event] {
	return func(yield func(job.Event) bool) {
		defer func() { f.gone <- struct{}{} }()
		for {
			f.mu.Lock()
			more := f.more
			var e *job.Event
			if seq < uint64(len(f.events)) {
				e = &f.events[seq]
			}
			f.mu.Unlock()
			if e != nil {
				seq++
				if (id == "" || e.Job == id) && !yield(*e) {
					return
				}
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (f *fake) Log(_ context.Context, id job.ID, label string) ([]byte, error) {
	if _, err := f.Status(id); err != nil {
		return nil, err
	}
	return []byte("log of " + label + "\n<b>\x00"), nil
}

func (f *fake) Machine() MachineView {
	f.mu.Lock()
	defer f.mu.Unlock()
	return MachineView{Name: "here", Paused: f.paused, Devices: []DeviceView{{Name: "cpu"}}}
}

func (f *fake) SetPaused(_ context.Context, w PauseWish) error {
	p, reason := w.Paused, w.Reason
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = ""
	if p {
		f.paused = reason
	}
	return nil
}

func (f *fake) Doctor(_ context.Context, speed bool) DoctorView {
	return DoctorView{Network: NetworkView{NAT: "none", Listen: []string{}}, Findings: []Finding{}, Peers: []DoctorPeer{{Name: fmt.Sprint(speed)}}, Offers: []OfferOutcome{}}
}

func (f *fake) Why() WhyView {
	return WhyView{Mode: "auto", Devices: []WhyDevice{{Name: "cpu", Level: "stop", Signal: "input", Reason: "ada uses it"}}, Signals: map[string]any{}}
}

// fakeFarm is apart from fake because both have other things to call Create.
type fakeFarm struct{ *fake }

func (f fakeFarm) Create(_ context.Context, name string) (FarmView, error) {
	f.farm = FarmView{ID: "f", Name: name, Owner: true}
	f.fake.farm = f.farm
	return f.farm, nil
}
func (f fakeFarm) Invite(_ context.Context, d, _ time.Duration) (string, error) {
	return "ticket for " + d.String(), nil
}
func (f fakeFarm) Join(_ context.Context, t string) (FarmView, error) {
	if t == "old" {
		return FarmView{}, job.Refuse("ticket", "expired yesterday", "ask for a new one")
	}
	return FarmView{ID: "g"}, nil
}
func (f fakeFarm) Leave(context.Context) (FarmView, error) { return FarmView{ID: "g"}, nil }
func (f fakeFarm) Revoke(_ context.Context, p string) error {
	if p != "p" {
		return fmt.Errorf("no member %s", p)
	}
	return nil
}
func (f fakeFarm) Ban(_ context.Context, p, reason string, d time.Duration) error {
	if p != "p" || reason != "r" || d != time.Hour {
		return fmt.Errorf("no member %s", p)
	}
	return nil
}
func (f fakeFarm) Pardon(_ context.Context, p, reason string) error {
	if p != "p" || reason != "r" {
		return fmt.Errorf("no member %s", p)
	}
	return nil
}
func (f fakeFarm) View() FarmView { return f.fake.farm }

const testToken = "correct-horse"

// door serves a fake farm on real sockets and returns where; it is shut at the
// end of the test, or by stop.
func door(t *testing.T, f *fake) (dir string, ep Endpoint, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "iw") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := New(Deps{Jobs: f, Views: f, Machine: f, Farm: fakeFarm{f}, Doctor: f, Store: fakeStore{}, Previews: fakePreviews{}, Records: fakeRecords{}, Audit: fakeAudit{}, AddOn: AddOn{Version: "1.2.3", File: "x-1.2.3.zip", Zip: []byte("zip")}, Version: "1.2.3", Token: testToken, Log: slog.New(slog.DiscardHandler)})
	d, err := Listen(dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, h) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	eventually(t, "endpoint file", func() bool { ep, err = ReadEndpoint(dir); return err == nil })
	if ep.Socket != filepath.Join(dir, socketFile) {
		t.Fatalf("socket at %q", ep.Socket)
	}
	return dir, ep, stop
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(3 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// over is an HTTP client for one side of the door.
func over(ep Endpoint, network string) (*http.Client, string) {
	if network == "tcp" {
		return &http.Client{Transport: &http.Transport{}}, "http://" + ep.Address
	}
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", ep.Socket)
	}}}, "http://" + unixHost
}

// fakeStore is a store with one damaged block of 10 bytes beside one of 20.
type fakeStore struct{}

func (fakeStore) Stat() StoreView {
	return StoreView{Blocks: 2, Bytes: 30, DiskBytes: 40, QuotaBytes: 100}
}

func (fakeStore) GC(_ context.Context, keep int64) (int64, error) { return 30 - keep, nil }

func (fakeStore) Verify(context.Context) (int, int, error) { return 2, 1, nil }

func (f fakeFarm) Backup(_ context.Context, passphrase string) ([]byte, error) {
	return []byte("sealed with " + passphrase), nil
}
func (f fakeFarm) Recover(_ context.Context, file []byte, passphrase string) (FarmView, error) {
	if string(file) != "sealed with "+passphrase {
		return FarmView{}, job.Refuse("backup", "the passphrase is another one", "try again")
	}
	return FarmView{ID: "farm3", Name: "recovered", Owner: true}, nil
}
func (f fakeFarm) Rotate(_ context.Context, carry time.Duration) (FarmView, error) {
	return FarmView{ID: "farm3", Name: carry.String(), Owner: true, Turn: 1}, nil
}

func (f fakeFarm) Open(_ context.Context, valid time.Duration, bits int) (string, error) {
	return fmt.Sprintf("opening for %v at %d", valid, bits), nil
}
func (f fakeFarm) Close(context.Context) (FarmView, error) {
	return FarmView{ID: "farm3", Name: "closed", Owner: true}, nil
}
func (f fakeFarm) Opening(context.Context) (string, error) { return "opening", nil }
