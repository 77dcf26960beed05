package dispatch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"idlewild/job"
)

// actor is a worker in random tests: it holds what it was sent, until it says
// what became of it.
type actor struct {
	name string
	said []OpenedReceipt // every receipt, to be said again
	open bool
}

// holds lists the leases that an actor was given and did not finish.
func (x *table) holds(a *actor, over map[string]bool) []string {
	var out []string
	for s, h := range x.holder {
		if h == a.name && !over[s] {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// TestAnyOrderCountsOnceAndEnds plays reports, receipts, answers, cuts, restarts
// and time in random order, with results that come twice, late and after their
// lease lapsed. Whatever happens, each task is delivered once, a board made from
// the journal is the same, and the job ends.
func TestAnyOrderCountsOnceAndEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := newTable(rt)
		x.silent = true
		frames := rapid.IntRange(1, 9).Draw(rt, "frames")
		parts := rapid.IntRange(0, 2).Draw(rt, "parts")
		check := rapid.Bool().Draw(rt, "check")
		x.checks = rapid.Bool().Draw(rt, "challenged")
		p := fakeParams{Frames: frames, Parts: parts, Film: rapid.Bool().Draw(rt, "film")}
		labels, there := []string{}, []string{}
		for i := range frames {
			labels = append(labels, fmt.Sprint(i+1))
		}
		if p.Film {
			labels = append(labels, "film")
			if there = labels; rapid.Bool().Draw(rt, "some are not there") {
				there = rapid.SliceOf(rapid.SampledFrom(labels)).Draw(rt, "there")
			}
			p.Reels = rapid.IntRange(0, 3).Draw(rt, "reels")
		}
		if parts > 0 {
			p.Member = rapid.Bool().Draw(rt, "finished by members")
		}
		if check {
			p.Check = job.CheckExact
		}
		x.submit("J", p, job.Policy{}, there...)
		id := x.jobs["J"]
		again, firm := false, 0 // how many records are on disk for certain
		actors := []*actor{{name: "self"}, {name: "a"}, {name: "b"}, {name: "c"}}
		over := map[string]bool{}
		harsh := rapid.Bool().Draw(rt, "failures")

		report := func(a *actor, omit, work bool, outcome func() job.Outcome) {
			ev := Reported{Peer: x.id(a.name), Stream: x.streams[a.name], Report: job.Report{Session: "s"}}
			dev := "cpu"
			if a.name == "self" {
				dev = job.HomeDevice
			}
			ev.Report.Bids = []job.Bid{{Device: dev, Want: 2}}
			for _, s := range x.holds(a, over) {
				l := x.leases[s]
				if work {
					outcomes := map[int]job.Outcome{}
					for i := range l.Tasks {
						outcomes[i] = outcome()
					}
					o := x.receipt(a.name, s, time.Second, outcomes)
					a.said = append(a.said, o)
					ev.Receipts = append(ev.Receipts, o)
					over[s] = true
					work = false
					continue
				}
				if !omit {
					ev.Report.Progress = append(ev.Report.Progress, job.Progress{Lease: l.ID, Task: 0, Fraction: .5})
				}
			}
			x.step(ev)
		}
		connect := func(a *actor) {
			dev := "cpu"
			if a.name == "self" {
				dev = job.HomeDevice
			}
			x.stream++
			x.streams[a.name] = x.stream
			a.open = true
			x.step(Opened{Peer: x.id(a.name), Stream: x.stream})
			x.step(Reported{Peer: x.id(a.name), Stream: x.stream, Report: job.Report{Session: "s", Machine: machine(map[string][]string{"fake": {"1"}}, dev), Bids: []job.Bid{{Device: dev, Want: 2}}}})
		}
		ended := func() bool { return x.b.byID[id].state.Ended() }
		restart := func() {
			recs := x.records[id]
			for len(recs) > firm && rapid.Bool().Draw(rt, "lost") {
				r, err := decodeRecord(recs[len(recs)-1])
				if err != nil {
					rt.Fatal(err)
				}
				if !lazy(r) {
					break
				}
				recs = recs[:len(recs)-1] // nobody waited for it to be on disk
			}
			if rapid.Bool().Draw(rt, "rewritten") {
				var err error
				if recs, err = replayedFrom(rt, id, recs).rewritten(); err != nil {
					rt.Fatal(err)
				}
				firm = len(recs)
			}
			x.records[id] = recs
			x.b = x.replayed(x.b.epoch + 1)
			x.todo = nil
			for _, a := range actors {
				a.open = false
			}
			for _, e := range append(drain(&x.b.out), x.b.Step(x.now, Tick{})...) {
				x.see(e)
			}
		}
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			a := rapid.SampledFrom(actors).Draw(rt, "who")
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				connect(a)
			case 1:
				if a.open {
					a.open = false
					x.step(Closed{Peer: x.id(a.name), Stream: x.streams[a.name]})
				}
			case 2, 3, 4:
				report(a, false, true, func() job.Outcome {
					if !harsh {
						return job.Succeeded
					}
					return rapid.SampledFrom([]job.Outcome{job.Succeeded, job.Succeeded, job.Succeeded, job.Broken, job.Cancelled, job.Failed}).Draw(rt, "outcome")
				})
			case 5:
				report(a, rapid.Bool().Draw(rt, "omit"), false, nil)
			case 6: // everything once more, from the last stream
				if len(a.said) > 0 {
					o := rapid.SampledFrom(a.said).Draw(rt, "again")
					x.step(Reported{Peer: x.id(a.name), Stream: x.streams[a.name], Receipts: []OpenedReceipt{o}})
				}
			case 7:
				x.pass(time.Duration(rapid.IntRange(0, 90_000).Draw(rt, "ms")) * time.Millisecond)
			case 8: // what was wanted is done in any order
				if n := len(x.todo); n > 0 {
					i := rapid.IntRange(0, n-1).Draw(rt, "effect")
					e := x.todo[i]
					x.todo = slices.Delete(x.todo, i, i+1)
					if f, ok := e.(Fetch); ok && rapid.IntRange(0, 5).Draw(rt, "lost block") == 0 {
						x.step(Fetched{ID: f.ID, Fence: f.Fence, Err: errGone})
					} else {
						x.carryOut(e)
					}
				}
			case 9:
				switch rapid.IntRange(0, 5).Draw(rt, "person") {
				case 0:
					x.step(Steered{ID: id, Action: job.Pause})
				case 1:
					x.step(Steered{ID: id, Action: job.Resume})
				case 2:
					restart()
				case 3:
					again = true
					x.gone = map[string]bool{rapid.SampledFrom(labels).Draw(rt, "gone"): true}
					x.step(Requeued{ID: id, Label: rapid.SampledFrom(labels).Draw(rt, "label")})
				}
			}
			if d := cmp.Diff(durable(x.b), durable(x.replayed(x.b.epoch+1))); d != "" {
				rt.Fatalf("a board made from the journal differs: %s", d)
			}
		}
		// From here on everybody is there and does their work.
		finish := func() {
			if !ended() {
				x.step(Steered{ID: id, Action: job.Resume})
			}
			for round := 0; !ended(); round++ {
				if round > 200 {
					s, _ := x.b.Status(x.now, id, 0, true)
					rt.Fatalf("no end: %+v, %d checks, todo %d, left %d, rechecks %d", s, len(x.b.byID[id].checks), len(x.todo), x.b.byID[id].left, x.b.byID[id].rechecks)
				}
				for _, a := range actors {
					if !a.open {
						connect(a)
					}
					report(a, false, true, func() job.Outcome { return job.Succeeded })
				}
				x.answer(true)
				x.pass(2 * time.Second)
			}
			x.answer(true)
		}
		finish()
		s, _ := x.b.Status(x.now, id, 0, true)
		if !harsh && s.State != job.StateFinished {
			rt.Fatalf("%+v", s)
		}
		if s.Delivered+s.FailedN+s.Skipped != len(labels) || s.Running+s.Waiting != 0 || s.Tasks != len(labels) {
			rt.Fatalf("%+v", s)
		}
		for range rapid.IntRange(0, 3).Draw(rt, "requeued after the end") {
			again = true
			films := x.deliver["film"]
			if rapid.Bool().Draw(rt, "restarted") {
				restart()
			}
			x.gone = map[string]bool{rapid.SampledFrom(labels).Draw(rt, "gone"): true}
			x.step(Requeued{ID: id, Label: rapid.SampledFrom(labels).Draw(rt, "label")})
			if rapid.Bool().Draw(rt, "restarted") {
				restart()
			}
			finish()
			if d := cmp.Diff(durable(x.b), durable(x.replayed(x.b.epoch+1))); d != "" {
				rt.Fatalf("a board made from the journal differs: %s", d)
			}
			if s, _ := x.b.Status(x.now, id, 0, true); !harsh && s.State != job.StateFinished {
				rt.Fatalf("%+v", s)
			} else if p.Film && s.State == job.StateFinished && x.deliver["film"] != films+1 {
				rt.Fatalf("the film was made %d times before, and %d times after something was made again", films, x.deliver["film"])
			}
		}
		if again {
			return // some are delivered more often
		}
		total := 0
		for label, n := range x.deliver {
			if n != 1 {
				rt.Fatalf("task %s was delivered %d times", label, n)
			}
			total++
		}
		if total != s.Delivered {
			rt.Fatalf("%d deliveries, status says %d", total, s.Delivered)
		}
		// Late news after the end changes nothing.
		before := durable(x.b)
		for _, a := range actors {
			for _, o := range a.said {
				x.step(Reported{Peer: x.id(a.name), Stream: x.streams[a.name], Receipts: []OpenedReceipt{o}})
			}
		}
		if d := cmp.Diff(before, durable(x.b)); d != "" {
			rt.Fatalf("late receipts changed an ended job: %s", d)
		}
	})
}

// TestTheSameEventsHaveTheSameEffects: no map order, no clock, no chance.
func TestTheSameEventsHaveTheSameEffects(t *testing.T) {
	run := func() string {
		x := newTable(t)
		for _, w := range []string{"a", "b", "c", "d"} {
			x.open(w)
			x.play([]string{"report", w, "want=2"})
		}
		for i := range 5 {
			x.submit(fmt.Sprint("J", i), fakeParams{Frames: 20, Needs: map[string]string{"fake": "1"}}, job.Policy{Priority: i % 2})
		}
		for range 5 {
			for _, w := range []string{"a", "b", "c", "d"} {
				args := []string{"report", w, "want=1"}
				for i := 1; i <= len(x.short); i++ {
					if l := fmt.Sprintf("L%d", i); x.holder[l] == w {
						x.play(append(args, "done="+l+":0"))
						x.holder[l] = ""
						break
					}
				}
			}
			x.answer(true)
			x.pass(3 * time.Second)
		}
		return x.log.String()
	}
	first := run()
	for range 3 {
		if d := cmp.Diff(first, run()); d != "" {
			t.Fatal(d)
		}
	}
}

func TestCostsAreTakenFromNeighbours(t *testing.T) {
	c := newCosts(100)
	if _, ok := c.at(3); ok {
		t.Error("something from nothing")
	}
	for _, p := range [][2]float64{{10, 2}, {20, 4}, {0, 1}, {10, 3}} {
		c.add(int(p[0]), p[1])
	}
	for i, want := range map[int]float64{0: 1, 5: 1.75, 10: 2.5, 15: 3.25, 20: 4, 90: 4} {
		if got, ok := c.at(i); !ok || got != want {
			t.Errorf("at %d: %v, want %v", i, got, want)
		}
	}
	if m, _ := c.mean(); m != 2.5 {
		t.Errorf("mean %v", m)
	}
	for i := range 30 {
		c.count(i, 1, i < 3)
	}
	if w, lead, ok := c.rest(); !ok || w < 88 || w > 89 || lead > 4 || lead < 3 {
		t.Errorf("30 tasks will cost %v, the preview %v of it", w, lead)
	}
	c.add(1, -1)
	c.add(1, 0)
	if c.known != 3 {
		t.Error("absurd costs were taken")
	}
}

// BenchmarkStep is the board's part of a frame's whole way, with 100 000 tasks
// planned and 1 000 workers connected.
func BenchmarkStep(b *testing.B) {
	x := newTable(b)
	x.silent = true
	for i := range 1000 {
		w := fmt.Sprint("w", i)
		x.open(w)
		x.play([]string{"open", w})
		x.play([]string{"report", w, "want=1"})
	}
	x.submit("J", fakeParams{Frames: 100_000}, job.Policy{})
	x.answer(true)
	next := 1
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		l := fmt.Sprint("L", next)
		next++
		w := x.holder[l]
		if w == "" {
			b.Fatalf("no lease %s", l)
		}
		outcomes := map[int]job.Outcome{}
		for n := range x.leases[l].Tasks {
			outcomes[n] = job.Succeeded
		}
		e := Reported{Peer: x.id(w), Stream: x.streams[w], Report: job.Report{Session: "s", Bids: []job.Bid{{Device: "cpu", Want: 1}}},
			Receipts: []OpenedReceipt{x.receipt(w, l, 30*time.Second, outcomes)}}
		x.now = x.now.Add(30 * time.Millisecond)
		b.StartTimer()
		x.step(e)
		x.answer(true)
	}
	b.ReportMetric(float64(x.written)/float64(next), "journal-B/task")
}

// TestAPeerIsNotAsFastAsItSays: its own clock counts for twice this machine's at
// most, also once its result is judged.
func TestAPeerIsNotAsFastAsItSays(t *testing.T) {
	x := newTable(t)
	for _, line := range []string{
		"open a", "submit J frames=3", "report a want=1",
		// The first result is not held against it: it fetched the content then.
		"pass 50s", "report a want=1 done=L1:0 wall=5s", "answer",
		"pass 50s", "report a want=1 done=L2:0 wall=5s", "answer",
	} {
		x.play(strings.Fields(line))
	}
	if p := x.b.byPeer[x.id("a")].seat("cpu").pace(); p > .5 {
		t.Errorf("pace %.2f after a task of 50 s that it said took 5 s, like the one before", p)
	}
}
