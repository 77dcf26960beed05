package dispatch

import (
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"idlewild/job"
)

// What a steward hands over counts only with the receipt of the worker that it
// names, for this job, by a lease of the steward's or of ours.
func TestAStewardsResultsHaveTheirWorkersReceipt(t *testing.T) {
	_, self := testPeer(t, "self")
	_, steward := testPeer(t, "steward")
	stewardKey, _ := testPeer(t, "steward")
	workerKey, worker := testPeer(t, "worker")
	_, other := testPeer(t, "other")
	d := &Dispatcher{deps: Deps{Self: self}}
	const rank, epoch = 1, 5
	id, another := job.NewID(time.Unix(1, 0)), job.NewID(time.Unix(2, 0))
	result := func(key crypto.PrivKey, change func(*job.Receipt, *Result)) Result {
		r := job.Receipt{Version: 1, Worker: worker.String(), Requester: steward.String(), Job: id,
			Leaves: []job.Leaf{{Task: refOf([]byte("task")), Fence: job.Fence(epoch, rank+1, 1), Outcome: job.Succeeded}}}
		out := Result{Worker: worker.String()}
		change(&r, &out)
		var err error
		if out.Receipt, err = job.SignReceipt(key, r); err != nil {
			t.Fatal(err)
		}
		return out
	}
	fence := func(f uint64) func(*job.Receipt, *Result) {
		return func(r *job.Receipt, _ *Result) { r.Leaves[0].Fence = f }
	}
	for _, c := range []struct {
		name string
		key  crypto.PrivKey
		ok   bool
		what func(*job.Receipt, *Result)
	}{
		{"granted by the steward", workerKey, true, func(*job.Receipt, *Result) {}},
		{"granted here before", workerKey, true, func(r *job.Receipt, _ *Result) {
			r.Requester, r.Leaves[0].Fence = self.String(), job.Fence(epoch-1, 0, 1)
		}},
		{"signed by the steward", stewardKey, false, func(*job.Receipt, *Result) {}},
		{"of another worker than it says", workerKey, false, func(_ *job.Receipt, o *Result) { o.Worker = other.String() }},
		{"of no worker", workerKey, false, func(_ *job.Receipt, o *Result) { o.Worker = "nobody" }},
		{"granted by somebody else", workerKey, false, func(r *job.Receipt, _ *Result) { r.Requester = other.String() }},
		{"of another job", workerKey, false, func(r *job.Receipt, _ *Result) { r.Job = another }},
		{"of a leaf that is not there", workerKey, false, func(_ *job.Receipt, o *Result) { o.Leaf = 1 }},
		{"of a leaf before the first", workerKey, false, func(_ *job.Receipt, o *Result) { o.Leaf = -1 }},
		{"in another steward's lane", workerKey, false, fence(job.Fence(epoch, rank+2, 1))},
		{"in our lane, granted by the steward", workerKey, false, fence(job.Fence(epoch, 0, 1))},
		{"of a later epoch than it has", workerKey, false, fence(job.Fence(epoch+1, rank+1, 1))},
		{"in the steward's lane, granted here", workerKey, false, func(r *job.Receipt, _ *Result) { r.Requester = self.String() }},
	} {
		if _, err := d.openResult(id, steward, rank, epoch, result(c.key, c.what)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	changed := result(workerKey, func(*job.Receipt, *Result) {})
	changed.Receipt.Body[len(changed.Receipt.Body)-1] ^= 1
	if _, err := d.openResult(id, steward, rank, epoch, changed); err == nil {
		t.Error("a receipt that the steward changed was taken")
	}
}

// And with a receipt it counts only as a result of that task of the plan, which
// is then judged here like any other.
func TestAStewardsResultsAreJudgedHere(t *testing.T) {
	x := newTable(t)
	x.silent = true
	x.submit("J", fakeParams{Frames: 2, Check: job.CheckExact}, job.Policy{})
	j := x.b.byID[x.jobs["J"]]
	x.id("w")
	x.id("barred")
	j.barred[x.id("barred")] = "caught"
	bring := func(change func(*job.Leaf, *OpenedResult)) {
		leaf := job.Leaf{Task: j.tasks[0].Task().Key(), Fence: job.Fence(x.b.epoch, 1, 1), Outcome: job.Succeeded, Meter: job.Meter{Wall: time.Second, Render: time.Second}}
		for _, out := range j.tasks[0].Task().Outputs {
			leaf.Outputs = append(leaf.Outputs, job.Output{Name: out.Name, Media: out.Media, File: refOf([]byte("made")), Bytes: 1})
		}
		r := OpenedResult{OpenedReceipt: OpenedReceipt{Peer: x.id("w")}}
		change(&leaf, &r)
		r.Receipt = job.Receipt{Version: 1, Worker: r.Peer.String(), Requester: x.id("steward").String(), Job: j.id, Leaves: []job.Leaf{leaf}}
		x.b.bring(j, x.id("steward"), r)
		for _, e := range drain(&x.b.out) {
			x.see(e)
		}
	}
	for name, change := range map[string]func(*job.Leaf, *OpenedResult){
		"another task's":             func(l *job.Leaf, _ *OpenedResult) { l.Task = j.tasks[1].Task().Key() },
		"of no task":                 func(_ *job.Leaf, r *OpenedResult) { r.Task = len(j.tasks) },
		"of a task before the first": func(_ *job.Leaf, r *OpenedResult) { r.Task = -1 },
		"of no leaf":                 func(_ *job.Leaf, r *OpenedResult) { r.Leaf = 1 },
		"failed":                     func(l *job.Leaf, _ *OpenedResult) { l.Outcome = job.Failed },
		"without its outputs":        func(l *job.Leaf, _ *OpenedResult) { l.Outputs = nil },
		"with outputs of other names": func(l *job.Leaf, _ *OpenedResult) {
			l.Outputs[0].Name += ".exe"
		},
		"of a worker that was caught": func(_ *job.Leaf, r *OpenedResult) { r.Peer = x.id("barred") },
	} {
		if bring(change); len(j.rets) != 0 {
			t.Fatalf("%s: it counts", name)
		}
	}
	bring(func(*job.Leaf, *OpenedResult) {})
	if len(j.rets) != 1 || j.tasks[0].accepted != nil {
		t.Fatalf("%d results, accepted %v: one was to come, and to be judged", len(j.rets), j.tasks[0].accepted)
	}
	x.checks, x.silent = true, false
	x.answer(true)
	if !strings.Contains(x.log.String(), "challenge "+j.tasks[0].Label+" of w") {
		t.Errorf("it was not looked at:\n%s", x.log.String())
	}
}
