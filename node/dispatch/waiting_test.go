package dispatch

import (
	"fmt"
	"testing"
	"time"

	"idlewild/job"
)

// For one of many that wait, which says so again and again, no work is looked for
// at once, as there was none just now; and what opens is leased soon all the same.
func TestManyThatWait(t *testing.T) {
	x := newTable(t)
	x.silent = true
	said := map[string]bool{}
	report := func(name string, want int, o ...OpenedReceipt) {
		r := job.Report{Session: "s", Bids: []job.Bid{{Device: "cpu", Want: want}}}
		if !said[name] {
			said[name], r.Machine = true, machine(map[string][]string{"fake": {"1"}}, "cpu")
		}
		x.step(Reported{Peer: x.id(name), Stream: x.streams[name], Receipts: o, Report: r})
	}
	x.submit("J", fakeParams{Frames: 1, Check: job.CheckNone}, job.Policy{})
	x.submit("K", fakeParams{Frames: 9, Needs: map[string]string{"os": "another"}}, job.Policy{}) // for none of them
	x.open("first")
	report("first", 1)
	if len(x.short) != 1 {
		t.Fatalf("%d leases", len(x.short))
	}
	var names []string
	for i := range some + 8 {
		names = append(names, fmt.Sprint("w", i))
		x.open(names[i])
		report(names[i], 1)
	}
	seat := x.b.worker(x.id(names[0])).seat("cpu")
	for range 4 {
		x.now = x.now.Add(lookAgain)
		x.step(Tick{})
		report(names[0], 1)
		x.now = x.now.Add(lookAgain / 8)
		x.step(Tick{})
		tried := seat.tried
		if report(names[0], 1); seat.tried != tried {
			t.Error("it was looked for work for one that waits, again")
		}
	}
	x.step(Tick{})
	report("first", 0, x.receipt("first", "L1", time.Second, map[int]job.Outcome{0: job.Cancelled}))
	opened := x.now
	for len(x.short) < 2 {
		if d := x.now.Sub(opened); d > 2*lookAgain {
			t.Fatalf("what was given back %v ago is leased to nobody", d)
		}
		x.now = x.now.Add(lookAgain / 16)
		report(names[3], 1)
		if at := x.b.Deadline(); !at.IsZero() && !x.now.Before(at) {
			x.step(Tick{})
		}
	}
}
