package dispatch

import (
	"fmt"
	"testing"
	"time"

	"idlewild/job"
)

// playOne is a job of one checked task in two parts, step by step.
func playOne(x *table, done int) {
	lease := func() string { return fmt.Sprintf("L%d", len(x.short)) }
	report := func(name, device string, want int, o ...OpenedReceipt) {
		x.step(Reported{Peer: x.id(name), Stream: x.streams[name], Report: job.Report{Session: "s", Machine: machine(map[string][]string{"fake": {"1"}}, device),
			Bids: []job.Bid{{Device: device, Want: want}}}, Receipts: o})
	}
	all := map[int]job.Outcome{0: job.Succeeded, 1: job.Succeeded}
	steps := []func(){
		func() { x.open("self"); report("self", job.HomeDevice, 0) },
		func() { x.open("a") },
		func() { report("a", "cpu", 1) },
		func() { report("a", "cpu", 1, x.receipt("a", lease(), time.Second, all)) },
		func() { x.answer(false) },
		func() { x.answer(false) },
		func() { report("self", job.HomeDevice, 2) },
		func() { report("self", job.HomeDevice, 0, x.receipt("self", lease(), time.Second, all)) },
		func() { x.answer(false) },
		func() { x.answer(false) },
		func() { x.answer(false) },
		func() { x.answer(true) },
	}
	for i := 0; i < min(done, len(steps)); i++ {
		steps[i]()
	}
}

// A job is cancelled after any step: it ends, nobody holds anything of it, late
// answers change nothing, and it stays so after a restart.
func TestCancelledInEachState(t *testing.T) {
	for n := range 13 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			x := newTable(t)
			x.silent, x.checks = true, true
			x.submit("J", fakeParams{Frames: 1, Parts: 2, Check: job.CheckExact}, job.Policy{})
			playOne(x, n)
			id := x.jobs["J"]
			if x.b.byID[id].state.Ended() {
				t.Fatal("it is over before it is cancelled")
			}
			x.step(Steered{ID: id, Action: job.Cancel})
			x.answer(true) // of what was under way, too
			x.now = x.now.Add(time.Hour)
			x.step(Tick{})
			j := x.b.byID[id]
			if j.state != job.StateCancelled || !j.cleaned {
				t.Errorf("it is %s, cleaned %v", j.state, j.cleaned)
			}
			for _, w := range x.b.workers {
				if len(w.leases) > 0 {
					t.Errorf("%s holds %d leases", x.names[w.peer], len(w.leases))
				}
			}
			if len(x.b.leases) > 0 || len(x.b.live) > 0 {
				t.Errorf("%d leases and %d jobs are left", len(x.b.leases), len(x.b.live))
			}
			if b := x.replayed(2); b.byID[id].State() != job.StateCancelled || len(b.live) > 0 || len(b.leases) > 0 {
				t.Errorf("read again it is %s, %d jobs live, %d leases", b.byID[id].State(), len(b.live), len(b.leases))
			}
		})
	}
}

// A clock that is set back or ahead by hours between steps costs leases, never
// the job.
func TestAClockThatJumps(t *testing.T) {
	for _, by := range []time.Duration{-3 * time.Hour, 3 * time.Hour} {
		for n := range 12 {
			x := newTable(t)
			x.silent = true
			x.submit("J", fakeParams{Frames: 3}, job.Policy{Limits: job.Limits{Deadline: x.now.Add(time.Hour)}})
			x.open("a")
			bid := func(o ...OpenedReceipt) {
				x.step(Reported{Peer: x.id("a"), Stream: x.streams["a"], Report: job.Report{Session: "s", Machine: machine(map[string][]string{"fake": {"1"}}, "cpu"),
					Bids: []job.Bid{{Device: "cpu", Want: 1}}}, Receipts: o})
			}
			bid()
			for i := range 12 {
				if i == n {
					x.now = x.now.Add(by)
					x.step(Tick{})
				}
				x.now = x.now.Add(time.Second)
				if s := fmt.Sprintf("L%d", len(x.short)); len(x.short) > 0 && !x.b.byID[x.jobs["J"]].state.Ended() {
					bid(x.receipt("a", s, time.Second, map[int]job.Outcome{0: job.Succeeded, 1: job.Succeeded, 2: job.Succeeded}))
				}
				x.answer(true)
			}
			if j := x.b.byID[x.jobs["J"]]; j.state != job.StateFinished {
				t.Errorf("by %v after %d: %s", by, n, j.state)
			}
			for label, times := range x.deliver {
				if times != 1 {
					t.Errorf("by %v after %d: %s was delivered %d times", by, n, label, times)
				}
			}
		}
	}
}

// Stewards are told when limits change; that they did is not lost with a rewriting
// of the journal.
func TestRaisedLimitsAreKnownAfterARestart(t *testing.T) {
	x := newTable(t)
	x.silent = true
	x.submit("J", fakeParams{Frames: 2}, job.Policy{Limits: job.Limits{Budget: 10}})
	j := x.b.byID[x.jobs["J"]]
	j.spent = 10
	if j.raised != 0 || !x.b.extend(j) || j.raised != 1 {
		t.Fatalf("raised %d times", j.raised)
	}
	for _, e := range drain(&x.b.out) {
		x.see(e)
	}
	if k := x.replayed(2).byID[j.id]; k.raised != 1 || k.spec.Policy.Budget != 20 {
		t.Errorf("read again: raised %d times, to %v", k.raised, k.spec.Policy.Budget)
	}
	frames, err := j.rewritten()
	if err != nil {
		t.Fatal(err)
	}
	k := newJobState(j.id)
	for _, f := range frames {
		if err := k.replay(f); err != nil {
			t.Fatal(err)
		}
	}
	if k.raised == 0 || k.spec.Policy.Budget != 20 {
		t.Errorf("rewritten: raised %d times, to %v", k.raised, k.spec.Policy.Budget)
	}
}
