package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

func (h *History) found(what Wrong) bool {
	return slices.ContainsFunc(h.faults, func(f Fault) bool { return f.What == what })
}

// begunJob is a table where a has one of three frames done, told and delivered,
// and what lies in front of b is being rendered.
func begunJob(t *testing.T) (*table, job.ID) {
	x := newTable(t)
	for _, line := range []string{"open a", "report a want=1", "submit J frames=3", "report a want=1 done=L1:0", "answer", "pass 1s", "open b", "report b want=2"} {
		x.play(strings.Fields(line))
	}
	if f := x.h.Faults(); len(f) > 0 {
		t.Fatal("before anything is planted: ", f)
	}
	return x, x.jobs["J"]
}

// TestHistoryFindsWhatIsPlanted: each of the four faults is made, and seen; and
// the same run without it shows none.
func TestHistoryFindsWhatIsPlanted(t *testing.T) {
	forget := func(sorts ...byte) func(t *testing.T, x *table, id job.ID) {
		return func(t *testing.T, x *table, id job.ID) {
			recs := x.records[id]
			at := slices.IndexFunc(recs, func(b []byte) bool { return slices.Contains(sorts, b[0]&^packedRecord) })
			if at < 0 {
				t.Fatal("no such record")
			}
			x.records[id] = recs[:at]
			if at == 0 {
				delete(x.records, id)
				x.h.compare(map[job.ID]bool{})
				return
			}
			x.play([]string{"restart"})
		}
	}
	did := func(x *table, id job.ID, rs ...record) {
		for _, r := range rs {
			x.h.Did(Write{id, r})
		}
	}
	for _, c := range []struct {
		name  string
		what  Wrong
		plant func(t *testing.T, x *table, id job.ID)
	}{
		{"the job is not in the journal", WrongLost, forget(recJob)},
		{"a result that its worker was told of is not", WrongLost, forget(recReturn)},
		{"files that a person was told of are not", WrongLost, forget(recDeliver)},
		{"it ended and goes on", WrongLost, func(t *testing.T, x *table, id job.ID) {
			x.play([]string{"steer", "J", "cancel"})
			forget(recState)(t, x, id)
		}},
		{"a result is recorded twice", WrongTwice, func(t *testing.T, x *table, id job.ID) { did(x, id, &returnRecord{}) }},
		{"files are delivered twice", WrongTwice, func(t *testing.T, x *table, id job.ID) { did(x, id, &deliverRecord{}) }},
		{"the board forgets that a task has its result", WrongTwice, func(t *testing.T, x *table, id job.ID) {
			j := x.b.byID[id]
			j.tasks[0].accepted, j.tasks[0].placed = nil, false
			j.left++
			x.b.place(j, j.tasks[0])
			x.play(strings.Fields("pass 70s"))
			x.play(strings.Fields("open a"))
			x.play(strings.Fields("report a want=2"))
			for l, lease := range x.leases {
				for i, g := range lease.Tasks {
					if l != "L1" && g.Task.Label == "1" {
						x.play(strings.Fields(fmt.Sprintf("report %s want=0 done=%s:%d", x.holder[l], l, i)))
					}
				}
			}
			x.answer(true)
		}},
		{"a task is granted that has its result", WrongGrant, func(t *testing.T, x *table, id job.ID) {
			did(x, id, &grantRecord{Lease: make([]byte, 16), Fence: job.Fence(9, 0, 1), Tasks: []int{0}})
		}},
		{"a start counts no epoch", WrongGrant, func(t *testing.T, x *table, id job.ID) { x.replayed(x.b.epoch) }},
		{"the fences begin anew", WrongGrant, func(t *testing.T, x *table, id job.ID) {
			x.b.grants = 0
			x.play(strings.Fields("open c"))
			x.play(strings.Fields("pass 70s"))
			x.play(strings.Fields("report c want=2"))
		}},
		{"two lives give the same lease to two", WrongGrant, func(t *testing.T, x *table, id job.ID) {
			l := *x.leases["L2"]
			x.h.Did(Send{Peer: x.id("c"), Order: job.Order{Leases: []job.Lease{l}}})
		}},
		{"files are never delivered", WrongEndless, func(t *testing.T, x *table, id job.ID) {
			x.todo = nil
			x.pass(48 * time.Hour)
			x.h.End()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, id := begunJob(t)
			c.plant(t, x, id)
			if !x.h.found(c.what) {
				t.Errorf("not found; found was %v", x.h.Faults())
			}
		})
	}
}

// TestHistoryBindsOnlyWhatIsNotBegunAnew: a person has a frame rendered again,
// and a start in the middle of that finds no fault; nor one after the rewriting of
// the journal.
func TestHistoryBindsOnlyWhatIsNotBegunAnew(t *testing.T) {
	x, id := begunJob(t)
	x.play(strings.Fields("requeue J 1"))
	x.play([]string{"restart"})
	for range 20 {
		for l, h := range x.holder {
			delete(x.holder, l)
			if l == "L1" {
				continue
			}
			for i := range x.leases[l].Tasks {
				x.play(strings.Fields(fmt.Sprintf("report %s want=2 done=%s:%d", h, l, i)))
			}
		}
		x.play([]string{"answer"})
		x.play(strings.Fields("pass 70s"))
		for _, w := range []string{"a", "b"} {
			x.play([]string{"open", w})
			x.play([]string{"report", w, "want=2"})
		}
	}
	if s := x.b.byID[id].State(); s != job.StateFinished {
		t.Fatalf("the job is %s", s)
	}
	frames, err := replayedFrom(t, id, x.records[id]).rewritten()
	if err != nil {
		t.Fatal(err)
	}
	x.records[id] = frames
	x.play([]string{"restart"})
	x.h.End()
	for _, f := range x.h.Faults() {
		t.Error(f)
	}
}

// TestARigThatIsBrokenIsFound: the same rig that is killed elsewhere shows faults
// as soon as its requester tells before it writes, does not wait for the disk, or
// counts no epochs.
func TestARigThatIsBrokenIsFound(t *testing.T) {
	dir, names := t.TempDir(), map[string]peer.ID{}
	for broken, what := range map[string]Wrong{"tells first": WrongLost, "does not sync": WrongLost, "one epoch": WrongGrant} {
		n, found := rigOps(t, dir, names, 2), 0
		for at := 40; at < n && found == 0; at += 7 {
			x := newRig(t, dir, names, 2, rigJobs[0])
			x.broken, x.written.off = broken, true
			x.run([]kill{{at: at, who: -1, power: true, away: time.Second}})
			if x.h.found(what) {
				found++
			}
		}
		if found == 0 {
			t.Errorf("%s: not found", broken)
		}
	}
}
