package dispatch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"idlewild/job"
)

// roundsOfOrders is how many orders one table plays: after each the whole job is
// begun anew.
const roundsOfOrders = 25

// TestResultsInAnyOrderCountOnce lets three workers come by the same tasks, as
// leases lapse and copies are made, and then says every result twice in a random
// order, and some of those of earlier rounds again, with a restart somewhere in between whose newest lazy records are lost. Each task is
// accepted and delivered once, and the job ends. IDLEWILD_ORDERS says how many
// orders; see make chaos.
func TestResultsInAnyOrderCountOnce(t *testing.T) {
	orders := amount("IDLEWILD_ORDERS", 300)
	first := newTable(t)
	for _, w := range orderWorkers {
		first.id(w)
	}
	// Tables share nothing but names, which are there already.
	shards := min(runtime.GOMAXPROCS(0), 4)
	sums := make([]orderSum, shards)
	var wg sync.WaitGroup
	for s := range shards {
		wg.Go(func() {
			for seed := s; seed*roundsOfOrders < orders && !t.Failed(); seed += shards {
				sums[s].table(t, first, seed, min(roundsOfOrders, orders-seed*roundsOfOrders))
			}
		})
	}
	wg.Wait()
	var sum orderSum
	for _, s := range sums {
		sum.orders, sum.said, sum.stale = sum.orders+s.orders, sum.said+s.said, sum.stale+s.stale
		sum.old, sum.restarts, sum.wrong = sum.old+s.old, sum.restarts+s.restarts, sum.wrong+s.wrong
	}
	t.Logf("seeds 0 to %d, %d orders of each", (orders-1)/roundsOfOrders, roundsOfOrders)
	figure(t, "random orders of results", sum.orders, fmt.Sprint(">= ", orders), sum.orders >= orders)
	figure(t, "results said", sum.said, "", true)
	figure(t, "of them of fences that are void", sum.old, ">= 1", sum.old > 0)
	figure(t, "results too many", sum.stale, ">= 1", sum.stale > 0)
	figure(t, "restarts in between", sum.restarts, ">= 1", sum.restarts > 0)
	figure(t, "orders in which a task did not count once", sum.wrong, "<= 0", sum.wrong == 0)
}

var orderWorkers = []string{"a", "b", "c"}

type orderSum struct{ orders, said, stale, old, restarts, wrong int }

// said is a result and whose it is.
type said struct {
	who string
	o   OpenedReceipt
}

func (sum *orderSum) table(t *testing.T, first *table, seed, rounds int) {
	frames := 2 + seed%2
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	x := newTable(t)
	x.ids, x.names, x.silent = maps.Clone(first.ids), maps.Clone(first.names), true
	x.submit("J", fakeParams{Frames: frames}, job.Policy{})
	id := x.jobs["J"]
	var before []said // of earlier rounds
	for round := range rounds {
		wrong := false
		fail := func(format string, args ...any) {
			wrong = true
			t.Errorf("seed %d, round %d: %s", seed, round, fmt.Sprintf(format, args...))
		}
		now := x.grantAll(r)
		sum.stale += max(0, len(now)-frames)
		list := append(slices.Clone(now), now...)
		for range min(4, len(before)) {
			list = append(list, before[r.IntN(len(before))])
		}
		before = append(before, now...)
		before = before[max(0, len(before)-40):]
		r.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		restart := r.IntN(4 * len(list))
		for i, s := range list {
			if i == restart {
				x.restartLosing(t, r, id)
				sum.restarts++
			}
			if s.o.Receipt.Leaves[0].Fence <= x.b.byID[id].tasks[0].also().floor {
				sum.old++
			}
			x.step(Reported{Peer: x.id(s.who), Stream: x.streams[s.who], Report: job.Report{Session: "s"}, Receipts: []OpenedReceipt{s.o}})
			if r.IntN(2) == 0 {
				x.answer(r.IntN(2) == 0)
			}
		}
		x.answer(true)
		j := x.b.byID[id]
		if !x.doRest(id) {
			fail("the job does not end: %d left", j.left)
			sum.wrong++
			return
		}
		for f := range frames {
			if n := x.deliver[fmt.Sprint(f+1)]; n != round+1 {
				fail("frame %d was delivered %d times", f+1, n)
			}
		}
		for _, task := range j.tasks {
			taken := 0
			for _, ret := range task.rets {
				if ret.taken {
					taken++
				}
			}
			if taken != 1 {
				fail("task %s has %d results that count", task.Label, taken)
			}
		}
		for _, f := range x.h.Faults() {
			fail("%v", f)
		}
		if wrong {
			sum.wrong++
			return
		}
		sum.orders++
		sum.said += len(list)
		if round%4 == 3 {
			var err error
			if x.records[id], err = replayedFrom(t, id, x.records[id]).rewritten(); err != nil {
				fail("%v", err)
				return
			}
		}
		if round+1 < rounds {
			for f := range frames {
				x.step(Requeued{ID: id, Label: fmt.Sprint(f + 1)})
			}
		}
	}
}

// grantAll has one worker after the other take everything and fall silent, so
// that tasks have grants of several fences, and returns what they will say.
func (x *table) grantAll(r *rand.Rand) []said {
	was := len(x.short)
	for i, w := range orderWorkers {
		x.play([]string{"open", w})
		x.play([]string{"report", w, "want=2"})
		if i+1 < len(orderWorkers) && r.IntN(4) > 0 {
			x.pass(70 * time.Second)
		}
	}
	var list []said
	for n := was + 1; n <= len(x.short); n++ {
		l := fmt.Sprint("L", n)
		for i := range x.leases[l].Tasks {
			list = append(list, said{x.holder[l], x.receipt(x.holder[l], l, time.Second, map[int]job.Outcome{i: job.Succeeded})})
		}
	}
	return list
}

// restartLosing goes on with a board made from the journal, without some of the
// newest records that nobody waited for.
func (x *table) restartLosing(t *testing.T, r *rand.Rand, id job.ID) {
	recs := x.records[id]
	for len(recs) > 0 && r.IntN(2) == 0 {
		rec, err := decodeRecord(recs[len(recs)-1])
		if err != nil || !lazy(rec) { // a frame of several records is of a rewriting, and synced
			break
		}
		recs = recs[:len(recs)-1]
	}
	x.records[id] = recs
	x.b = x.replayed(x.b.epoch + 1)
	x.todo = nil
	for _, w := range orderWorkers {
		x.play([]string{"open", w})
	}
	for _, e := range append(drain(&x.b.out), x.b.Step(x.now, Tick{})...) {
		x.see(e)
	}
}

// doRest has whoever is there do what was never granted to anybody, or was lost
// with a restart; false if the job does not end.
func (x *table) doRest(id job.ID) bool {
	for n := 0; x.b.byID[id].state != job.StateFinished; n++ {
		if n > 100 {
			return false
		}
		x.pass(70 * time.Second)
		was := len(x.short)
		x.play([]string{"open", "a"})
		x.play([]string{"report", "a", "want=2"})
		for i := was + 1; i <= len(x.short); i++ {
			l := fmt.Sprint("L", i)
			outcomes := map[int]job.Outcome{}
			for k := range x.leases[l].Tasks {
				outcomes[k] = job.Succeeded
			}
			x.step(Reported{Peer: x.id("a"), Stream: x.streams["a"], Report: job.Report{Session: "s"}, Receipts: []OpenedReceipt{x.receipt("a", l, time.Second, outcomes)}})
		}
		x.answer(true)
	}
	return true
}
