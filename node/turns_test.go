package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"idlewild/node/worker"
)

// turnWorker is a worker that holds and wants what a test says.
type turnWorker struct {
	holds, wanted bool
	rest          map[string]worker.Rest
}

func (w *turnWorker) Yield(r map[string]worker.Rest) { w.rest = r }
func (w *turnWorker) Holds(string) bool              { return w.holds }
func (w *turnWorker) Wanted() bool                   { return w.wanted }

func TestOneFarmHasADeviceUntilItsSliceIsOver(t *testing.T) {
	now := time.Unix(1000, 0)
	ts := newTurns(slog.New(slog.DiscardHandler))
	ts.now = func() time.Time { return now }
	a, b, c := &turnWorker{}, &turnWorker{}, &turnWorker{}
	for _, w := range []*turnWorker{a, b, c} {
		ts.add(w)
	}
	look := func(after time.Duration) {
		now = now.Add(after)
		ts.look([]string{"cpu", "gpu"})
	}
	works := func(what string, want ...*turnWorker) {
		t.Helper()
		for i, w := range []*turnWorker{a, b, c} {
			if _, rests := w.rest["cpu"]; rests == slices.Contains(want, w) {
				t.Errorf("%s: farm %d rests: %v", what, i, rests)
			}
		}
	}
	look(0)
	works("nobody has work", a, b, c)
	b.holds, b.wanted = true, true
	look(time.Second)
	works("the second has a lease", b)
	look(turnSlice)
	works("nobody else has work when its slice is over", b)
	a.wanted = true
	look(turnSlice)
	works("the first has work too", a)
	if !a.rest["cpu"].Finish && !b.rest["cpu"].Finish {
		t.Error("a task that runs may not end")
	}
	b.holds = false
	look(turnChance / 2)
	works("it has a chance", a)
	look(turnChance)
	works("it took nothing up", a, b, c)
	b.holds = true
	look(time.Second)
	works("the second goes on", b)
	look(turnSlice)
	works("who took nothing up is passed over once", b)
	a.holds = true
	look(turnSlice)
	works("and then asked again", a)
	look(turnSlice)
	works("its slice is over as well", b)

	// What the owner says counts for all, and a farm that goes leaves its devices.
	ts.Yield(map[string]worker.Rest{"cpu": {Reason: "in use"}})
	for i, w := range []*turnWorker{a, b, c} {
		if w.rest["cpu"].Reason != "in use" {
			t.Errorf("farm %d: %+v", i, w.rest)
		}
	}
	ts.Yield(nil)
	ts.remove(b)
	works("the second is gone", a, b, c)
}

func TestTasksOfTwoFarmsNeverRunOnOneDevice(t *testing.T) {
	ts := newTurns(slog.New(slog.DiscardHandler))
	a, b := &turnWorker{}, &turnWorker{}
	if err := errors.Join(ts.begin(t.Context(), a, "cpu"), ts.begin(t.Context(), a, "cpu"), ts.begin(t.Context(), b, "gpu")); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the lease is gone"))
	if err := ts.begin(gone, b, "cpu"); err == nil || err.Error() != "the lease is gone" {
		t.Errorf("a second farm's task: %v", err)
	}
	begun := make(chan error)
	go func() { begun <- ts.begin(t.Context(), b, "cpu") }()
	ts.end("cpu")
	select {
	case err := <-begun:
		t.Fatalf("it began while another farm's task ran: %v", err)
	default:
	}
	ts.end("cpu")
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	ts.end("cpu")
	ts.end("gpu")
}
