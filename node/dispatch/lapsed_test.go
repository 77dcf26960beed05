package dispatch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/job"
)

// rota plays workers at a table that run what they are leased, a task every few
// seconds, whether they are connected or not.
type rota struct {
	*table
	takes  time.Duration
	told   int                 // leases seen so far
	queue  map[string][]string // of leases, by worker
	at     map[string]int      // tasks done of a lease
	unsent map[string][]OpenedReceipt
	runs   map[string]int // by label
	order  []string       // labels, as they were leased
}

func newRota(t *testing.T) *rota {
	x := newTable(t)
	x.silent = true
	return &rota{table: x, takes: 10 * time.Second, queue: map[string][]string{}, at: map[string]int{}, unsent: map[string][]OpenedReceipt{}, runs: map[string]int{}}
}

// join opens a stream, with whatever the worker has from before.
func (r *rota) join(name string) {
	r.open(name)
	r.report(name, machine(map[string][]string{"fake": {"1"}}, "cpu"))
}

func (r *rota) report(name string, m *job.Machine) {
	rep := job.Report{Session: name, Machine: m, Bids: []job.Bid{{Device: "cpu", Want: 2 - len(r.queue[name])}}}
	for i, l := range r.queue[name] {
		p := job.Progress{Lease: r.leases[l].ID, Task: -1, Phase: "waiting"}
		if i == 0 {
			p.Task, p.Phase = r.at[l], "rendering"
		}
		rep.Progress = append(rep.Progress, p)
	}
	receipts := r.unsent[name]
	r.unsent[name] = nil
	r.step(Reported{Peer: r.id(name), Stream: r.streams[name], Report: rep, Receipts: receipts})
	r.answer(true)
	r.collect()
}

// collect gives workers the leases that were sent.
func (r *rota) collect() {
	for ; r.told < len(r.short); r.told++ {
		l := fmt.Sprint("L", r.told+1)
		r.queue[r.holder[l]] = append(r.queue[r.holder[l]], l)
		for _, g := range r.leases[l].Tasks {
			r.order = append(r.order, g.Task.Label)
		}
	}
}

// work lets everybody work for one task's time. Those that are connected say
// what they did.
func (r *rota) work(working, connected []string) {
	r.pass(r.takes)
	r.answer(true)
	r.collect()
	for _, name := range working {
		if q := r.queue[name]; len(q) > 0 {
			l := q[0]
			r.unsent[name] = append(r.unsent[name], r.receipt(name, l, r.takes, map[int]job.Outcome{r.at[l]: job.Succeeded}))
			r.runs[r.leases[l].Tasks[r.at[l]].Task.Label]++
			if r.at[l]++; r.at[l] == len(r.leases[l].Tasks) {
				r.queue[name] = q[1:]
			}
		}
		if slices.Contains(connected, name) {
			r.report(name, nil)
		}
	}
}

func (r *rota) ended(id job.ID) bool { return r.b.byID[id].state.Ended() }

// held are the labels that a worker has leases for or results of.
func (r *rota) held(name string) []string {
	seen := map[string]bool{}
	for _, l := range r.queue[name] {
		for _, g := range r.leases[l].Tasks[r.at[l]:] {
			seen[g.Task.Label] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// amidAJob is a job that a and b work on, and the labels that a holds of it.
func amidAJob(t *testing.T, frames int) (r *rota, id job.ID, held []string) {
	r = newRota(t)
	r.join("a")
	r.join("b")
	r.submit("J", fakeParams{Frames: frames}, job.Policy{})
	r.collect()
	for range 10 {
		r.work([]string{"a", "b"}, []string{"a", "b"})
	}
	if held = r.held("a"); len(held) < 3 {
		t.Fatalf("a holds %v only", held)
	}
	return r, r.jobs["J"], held
}

func TestWhatACutOffWorkerHoldsIsRunOnce(t *testing.T) {
	for name, lost := range map[string]bool{"leases lapse": false, "and results are on their way": true} {
		t.Run(name, func(t *testing.T) {
			const frames = 200
			r, id, held := amidAJob(t, frames)
			if lost {
				// Its last word is a result that cannot be fetched any more.
				l := r.queue["a"][0]
				r.step(Reported{Peer: r.id("a"), Stream: r.streams["a"], Report: job.Report{Session: "a"},
					Receipts: []OpenedReceipt{r.receipt("a", l, r.takes, map[int]job.Outcome{r.at[l]: job.Succeeded})}})
				f := r.todo[0].(Fetch)
				r.todo = nil
				r.step(Closed{Peer: r.id("a"), Stream: r.streams["a"]})
				r.step(Fetched{ID: id, Fence: f.Fence, Err: errGone})
			} else {
				r.step(Closed{Peer: r.id("a"), Stream: r.streams["a"]})
			}
			for range 9 {
				r.work([]string{"a", "b"}, []string{"b"})
			}
			if n := len(r.b.byPeer[r.id("a")].leases); n > 0 {
				t.Fatalf("%d leases did not lapse", n)
			}
			r.join("c") // and others take work, of which there is plenty
			for range 9 {
				r.work([]string{"a", "b", "c"}, []string{"b", "c"})
			}
			r.join("a")
			for i := 0; !r.ended(id); i++ {
				if i > frames {
					t.Fatal("the job does not end")
				}
				r.work([]string{"a", "b", "c"}, []string{"a", "b", "c"})
			}
			for _, l := range held {
				if r.runs[l] != 1 {
					t.Errorf("%s ran %d times", l, r.runs[l])
				}
			}
			if len(r.deliver) != frames {
				t.Errorf("%d of %d delivered", len(r.deliver), frames)
			}
		})
	}
}

func TestWhatAWorkerHeldThatNeverReturnsIsRunLast(t *testing.T) {
	const frames = 100
	r, id, held := amidAJob(t, frames)
	r.step(Closed{Peer: r.id("a"), Stream: r.streams["a"]})
	delete(r.queue, "a")
	for i := 0; !r.ended(id); i++ {
		if i > frames {
			t.Fatal("the job does not end")
		}
		r.work([]string{"b"}, []string{"b"})
	}
	if len(r.deliver) != frames {
		t.Errorf("%d of %d delivered", len(r.deliver), frames)
	}
	for l, n := range r.runs {
		if n != 1 {
			t.Errorf("%s ran %d times", l, n)
		}
	}
	last := slices.Clone(r.order[len(r.order)-len(held):])
	slices.Sort(last)
	if !slices.Equal(last, held) {
		t.Errorf("last were %v, a held %v", last, held)
	}
}

// A person who wants a task anew is not kept waiting for a worker that is away.
func TestALapsedTaskThatIsBegunAnewWaitsForNobody(t *testing.T) {
	r := newRota(t)
	r.join("a")
	r.submit("J", fakeParams{Frames: 50}, job.Policy{})
	id := r.jobs["J"]
	r.collect()
	held := r.held("a")
	r.step(Closed{Peer: r.id("a"), Stream: r.streams["a"]})
	r.pass(2 * time.Minute)
	r.step(Requeued{ID: id, Label: held[0]})
	n := len(r.order)
	r.join("b")
	if !slices.Contains(r.order[n:], held[0]) {
		t.Errorf("b was leased %v, not %s", r.order[n:], held[0])
	}
}

// TestAResultThatCannotBeFetchedStaysWithItsWorker: it was gone a moment later. Nobody
// else does the task until its leases lapse, and back again it brings it.
func TestAResultThatCannotBeFetchedStaysWithItsWorker(t *testing.T) {
	for name, returns := range map[string]bool{"it returns": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			x := newTable(t)
			play := func(lines ...string) {
				for _, l := range lines {
					x.play(strings.Fields(l))
				}
			}
			play("open a", "report a want=1", "submit J frames=1", "open b", "report b want=2", "report a done=L1:0")
			f := x.todo[0].(Fetch)
			x.todo = nil
			play("close a")
			x.step(Fetched{ID: f.ID, Fence: f.Fence, Err: errGone})
			play("report b want=2", "pass 20s", "report b want=2", "pass 20s", "report b want=2")
			if n := len(x.short); n != 1 {
				t.Fatalf("%d leases while it may come back:\n%s", n, x.log.String())
			}
			if returns {
				x.open("a")
				play("report a want=1 done=L1:0", "answer") // its first report
			} else {
				play("pass 30s", "report b want=2", "report b done=L2:0", "answer")
			}
			if s := x.b.byID[f.ID].State(); s != job.StateFinished || len(x.short) != map[bool]int{true: 1, false: 2}[returns] {
				t.Errorf("job is %s after %d leases:\n%s", s, len(x.short), x.log.String())
			}
		})
	}
}

// TestNothingIsLeftToRemoveOfAResultThatMayComeAgain: what was fetched at the second
// time would be removed by it.
func TestNothingIsLeftToRemoveOfAResultThatMayComeAgain(t *testing.T) {
	x := newTable(t)
	for _, l := range []string{"open a", "report a want=1", "submit J frames=1", "report a done=L1:0"} {
		x.play(strings.Fields(l))
	}
	f := x.todo[0].(Fetch)
	x.play([]string{"close", "a"})
	for _, e := range x.b.Step(x.now, Fetched{ID: f.ID, Fence: f.Fence, Err: errGone}) {
		if _, ok := e.(Discard); ok {
			t.Error("its folder is to be removed")
		}
	}
}

// TestAWorkerIsToldOfAResultThatIsBegunAnew: its result waited behind another one,
// of which the files are gone, so that the task runs again. It need not keep it.
func TestAWorkerIsToldOfAResultThatIsBegunAnew(t *testing.T) {
	x := newTable(t)
	x.checks = true
	play := func(lines ...string) {
		for _, l := range lines {
			x.play(strings.Fields(l))
		}
	}
	play("open a", "report a want=1", "submit J frames=1 check", "pass 70s", "open b", "report b want=1", "open a", "report a done=L1:0", "report b done=L2:0")
	f := x.todo[0].(Fetch)
	x.todo = nil
	x.step(Fetched{ID: f.ID, Fence: f.Fence})
	x.log.Reset()
	x.step(Lost{ID: f.ID, Fence: f.Fence})
	play("pass 1s")
	if !strings.Contains(x.log.String(), "-> b L2 1 unsure") {
		t.Errorf("b was not told:\n%s", x.log.String())
	}
}
