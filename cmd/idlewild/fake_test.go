package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
)

// fakeDaemon answers at a real door with the jobs that a test put there. It
// stands in for a farm where the test is about the command line.
type fakeDaemon struct {
	ticket string // what an invitation gives; empty: none that is real
	dir    string

	mu       sync.Mutex
	jobs     map[job.ID]job.Status
	events   []job.Event
	more     chan struct{}
	spec     job.Spec
	onSubmit func(job.ID) // called without the mutex, after the job is there
	refuse   error
	machine  localapi.MachineView
	farm     localapi.FarmView
	findings []localapi.Finding // of the doctor, beside a warning
	stop     func()
}

func newFakeDaemon(t *testing.T) *fakeDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "iw") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fakeDaemon{dir: dir, jobs: map[job.ID]job.Status{}, more: make(chan struct{})}
	f.machine = localapi.MachineView{Name: "here", Version: "1", Sandbox: "none: it is a fake"}
	f.start(t)
	t.Cleanup(func() { f.stop() })
	return f
}

// start opens the door, for the first time or again.
func (f *fakeDaemon) start(t *testing.T) {
	t.Helper()
	d, err := localapi.Listen(f.dir, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	h := localapi.New(localapi.Deps{Jobs: f, Views: f, Machine: f, Farm: fakeFarm{f}, Doctor: f, Version: "1"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Serve(ctx, h); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	f.stop = func() { cancel(); <-done }
	for {
		if _, err := localapi.ReadEndpoint(f.dir); err == nil {
			return
		}
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// set changes a job and tells the watchers.
func (f *fakeDaemon) set(s job.Status, events ...job.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.jobs[s.Job]; ok && old.State != s.State {
		events = append(events, job.Event{Type: job.EventState, Text: string(s.State)})
	}
	f.jobs[s.Job] = s
	for _, e := range events {
		e.Seq, e.Job = uint64(len(f.events)+2), s.Job
		f.events = append(f.events, e)
	}
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fakeDaemon) Inspect(context.Context, job.Spec) (job.Inspection, error) {
	return job.Inspection{}, nil
}

func (f *fakeDaemon) Submit(_ context.Context, s job.Spec) (job.ID, error) {
	if f.refuse != nil {
		return "", f.refuse
	}
	id := job.NewID(time.Now())
	f.mu.Lock()
	f.spec = s
	f.mu.Unlock()
	f.set(job.Status{Job: id, Kind: s.Kind, State: job.StateAccepted, Output: s.Output})
	if f.onSubmit != nil {
		f.onSubmit(id)
	}
	return id, nil
}

func (f *fakeDaemon) Steer(_ context.Context, id job.ID, a job.Action) error {
	s, err := f.Status(id)
	if err != nil {
		return err
	}
	s.State = map[job.Action]job.State{job.Cancel: job.StateCancelled, job.Pause: job.StatePaused, job.Resume: job.StatePlanned}[a]
	f.set(s)
	return nil
}

func (f *fakeDaemon) Resubmit(_ context.Context, id job.ID) (job.ID, error) {
	s, err := f.Status(id)
	if err != nil {
		return "", err
	}
	s.Reused, s.ReusedFrom = s.Skipped, id
	f.set(s)
	return id, nil
}

func (f *fakeDaemon) Requeue(_ context.Context, id job.ID, label string) error {
	s, err := f.Status(id)
	if err != nil {
		return err
	}
	if label != "1" {
		return fmt.Errorf("job %s has no task %q", id, label)
	}
	f.set(s)
	return nil
}

func (f *fakeDaemon) List() []job.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []job.Status
	for _, s := range f.jobs {
		s.Frames, s.Workers = nil, nil
		l = append(l, s)
	}
	return l
}

func (f *fakeDaemon) Status(id job.ID) (job.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.jobs[id]
	if !ok {
		return s, fmt.Errorf("job %s: %w", id, job.ErrUnknownJob)
	}
	return s, nil
}

func (f *fakeDaemon) Watch(ctx context.Context, id job.ID, seq uint64) iter.Seq[job.Event] {
	return func(yield func(job.Event) bool) {
		next := 0
		for {
			f.mu.Lock()
			more, events := f.more, f.events[next:]
			next = len(f.events)
			f.mu.Unlock()
			for _, e := range events {
				if e.Seq > seq && (id == "" || e.Job == id) && !yield(e) {
					return
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (f *fakeDaemon) Log(_ context.Context, id job.ID, label string) ([]byte, error) {
	if _, err := f.Status(id); err != nil {
		return nil, err
	}
	return []byte("first\nlast of " + label + "\x1b[2J\n"), nil
}

func (f *fakeDaemon) Machine() localapi.MachineView {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.machine
}

func (f *fakeDaemon) Why() localapi.WhyView {
	return localapi.WhyView{
		Mode: "auto", Desk: true, Missing: map[string]string{"x11": "there is no DISPLAY"}, Signals: map[string]any{},
		Devices: []localapi.WhyDevice{
			{Name: "cpu", Model: "CPU", Level: "stop", Signal: "input", Reason: "ada uses it (logind)", Also: []string{"battery: it runs on battery"}, LeftSeconds: 290, Doing: "resting: ada uses it (logind)"},
			{Name: "GPU-1", Model: "GPU", Level: "free", Doing: "idle: nothing is open"},
		},
	}
}

func (f *fakeDaemon) Doctor(_ context.Context, speed bool) localapi.DoctorView {
	v := localapi.DoctorView{
		Network:  localapi.NetworkView{NAT: "symmetric", Listen: []string{}, Seen: []string{"/ip4/11.0.0.1/udp/4001/quic-v1"}, Relays: []string{"desk"}, RelayedBytes: 2e9},
		Findings: []localapi.Finding{{Severity: "warning", What: "1 of 1 connected members is reached through a relay\x1b[2J", Remedy: "pass on UDP port 4001"}},
		Peers: []localapi.DoctorPeer{
			{Peer: "p1", Name: "far", Connected: true, Path: "relayed", Transport: "quic", Via: "desk", RTTMillis: 41, ClockMillis: -1500, Agent: "idlewild/1"},
			{Peer: "p2", Name: "gone", Trouble: "no answer"},
		},
		Offers: []localapi.OfferOutcome{{Job: "01J", Requester: "p1", Name: "far", Outcome: "unfit", Reason: "lacks blender 9", Remedy: "install it"}},
	}
	v.Findings = append(v.Findings, f.findings...)
	if speed {
		v.Peers[0].UpBytes, v.Peers[0].DownBytes = 1.25e6, 2.5e6
	}
	return v
}

func (f *fakeDaemon) SetPaused(_ context.Context, w localapi.PauseWish) error {
	paused, reason := w.Paused, w.Reason
	f.mu.Lock()
	defer f.mu.Unlock()
	f.machine.Paused = ""
	if paused {
		f.machine.Paused = reason
	}
	return nil
}

type fakeFarm struct{ *fakeDaemon }

func (f fakeFarm) Create(_ context.Context, name string) (localapi.FarmView, error) {
	f.farm = localapi.FarmView{ID: "farm1", Name: name, Owner: true, Members: []localapi.PeerView{
		{Peer: "p0", Name: "here", Self: true},
		{Peer: "p1", Name: "other\x1b]0;evil\x07", Connected: true, Path: "direct", Transport: "tcp", RTTMillis: 1.5, Score: "10 checked",
			Apart: "other is too old: update idlewild on other\x1b[2J"},
	}}
	f.fakeDaemon.farm = f.farm
	return f.farm, nil
}
func (f fakeFarm) Invite(_ context.Context, d, stay time.Duration) (string, error) {
	if stay > 0 {
		return "guest-" + stay.String(), nil
	}
	if f.ticket != "" {
		return f.ticket, nil
	}
	return "ticket-" + d.String(), nil
}
func (f fakeFarm) Join(_ context.Context, t string) (localapi.FarmView, error) {
	if t != "good" {
		return localapi.FarmView{}, job.Refuse("ticket", "it has expired", "ask for a new one")
	}
	return localapi.FarmView{ID: "farm2", Name: "there"}, nil
}
func (f fakeFarm) Leave(context.Context) (localapi.FarmView, error) {
	return localapi.FarmView{Name: "studio"}, nil
}
func (f fakeFarm) Revoke(context.Context, string) error { return nil }
func (f fakeFarm) Ban(context.Context, string, string, time.Duration) error {
	return nil
}
func (f fakeFarm) Pardon(context.Context, string, string) error { return nil }
func (f fakeFarm) View() localapi.FarmView                      { return f.fakeDaemon.farm }

// result of one run of the command line.
type result struct {
	code     int
	out, err string
}

// idlewild runs the command line in this process, on the daemon's data folder.
func (f *fakeDaemon) idlewild(args ...string) result {
	return idlewild(append(args, "--data-dir", f.dir)...)
}

func idlewild(args ...string) result {
	var out, err bytes.Buffer
	code := run(append([]string{"idlewild"}, args...), strings.NewReader(""), &out, &err)
	return result{code, out.String(), err.String()}
}

// doc decodes the one JSON document that r printed.
func doc[T any](t *testing.T, r result) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(r.out))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q; stderr %q", err, r.out, r.err)
	}
	if d.More() {
		t.Fatalf("more than one document: %q", r.out)
	}
	return v
}

func (f fakeFarm) Backup(_ context.Context, passphrase string) ([]byte, error) {
	return []byte("sealed with " + passphrase), nil
}
func (f fakeFarm) Recover(_ context.Context, file []byte, passphrase string) (localapi.FarmView, error) {
	if string(file) != "sealed with "+passphrase {
		return localapi.FarmView{}, job.Refuse("backup", "the passphrase is another one", "try again")
	}
	return localapi.FarmView{ID: "farm3", Name: "recovered", Owner: true}, nil
}
func (f fakeFarm) Rotate(_ context.Context, carry time.Duration) (localapi.FarmView, error) {
	return localapi.FarmView{ID: "farm3", Name: carry.String(), Owner: true, Turn: 1}, nil
}

func (f fakeFarm) Open(_ context.Context, valid time.Duration, bits int) (string, error) {
	return fmt.Sprintf("opening for %v at %d", valid, bits), nil
}
func (f fakeFarm) Close(context.Context) (localapi.FarmView, error) {
	return localapi.FarmView{ID: "farm3", Name: "closed", Owner: true}, nil
}
func (f fakeFarm) Opening(context.Context) (string, error) { return "opening", nil }
