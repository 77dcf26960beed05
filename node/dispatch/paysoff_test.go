package dispatch

import (
	"testing"
	"time"

	"idlewild/job"
)

// A small rest of a job with much content is done although fetching it takes longer:
// by a device that has nothing better to do where nobody is at it, and at home, where
// the content lies, in any case. Another job is open all the while and for nobody here.
func TestALittleIsDoneWhereItsContentIsFarAway(t *testing.T) {
	x := newTable(t)
	want := 1
	report := func(name string, m *job.Machine, device string, o ...OpenedReceipt) {
		x.step(Reported{Peer: x.id(name), Stream: x.streams[name], Receipts: o,
			Report: job.Report{Session: "s", Machine: m, Bids: []job.Bid{{Device: device, Want: want}}}})
	}
	x.submit("K", fakeParams{Frames: 9, Needs: map[string]string{"os": "another"}}, job.Policy{})
	x.submit("H", fakeParams{Frames: 1, Check: job.CheckNone}, job.Policy{})
	x.open("self")
	x.open("a")
	report("self", machine(map[string][]string{"fake": {"1"}}, job.HomeDevice), job.HomeDevice)
	report("a", machine(map[string][]string{"fake": {"1"}}, "cpu"), "cpu")
	want = 0
	report("a", nil, "cpu", x.receipt("a", "L1", time.Second, map[int]job.Outcome{0: job.Succeeded}))
	x.answer(true) // what a second of work is worth is known
	x.submit("J", fakeParams{Frames: 1, Parts: 2, Check: job.CheckNone}, job.Policy{})
	x.b.byID[x.jobs["J"]].snapshot.Bytes = 5 << 30
	x.now = x.now.Add(time.Second)
	x.step(Tick{})
	want = 1
	report("a", nil, "cpu")
	if len(x.short) != 2 {
		t.Fatalf("%d leases: nobody is at the job, and the one device that is there does not begin\n%s", len(x.short), x.log.String())
	}
	report("a", nil, "cpu", x.receipt("a", "L2", time.Second, map[int]job.Outcome{0: job.Succeeded}))
	report("a", nil, "cpu", x.receipt("a", "L3", time.Second, map[int]job.Outcome{0: job.Succeeded}))
	x.answer(true)
	report("self", nil, job.HomeDevice)
	if len(x.short) != 4 || x.leases["L4"] == nil || x.leases["L4"].Device != job.HomeDevice {
		t.Fatalf("%d leases: what is to be done at home is not\n%s", len(x.short), x.log.String())
	}
}
