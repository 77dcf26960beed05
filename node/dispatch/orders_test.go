package dispatch

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"idlewild/job"
)

// TestResultsInAnyOrderCountOnce lets three workers come by the same tasks, as
// leases lapse and copies are made, and then says every result two or three
// times in a random order, with a restart somewhere in between whose newest
// lazy records are lost. Each task is accepted and delivered once, and the job
// ends. IDLEWILD_ORDERS says how many orders; 100000 takes a minute or two.
func TestResultsInAnyOrderCountOnce(t *testing.T) {
	orders := 300
	if n, err := strconv.Atoi(os.Getenv("IDLEWILD_ORDERS")); err == nil {
		orders = n
	}
	first := newTable(t)
	names := []string{"a", "b", "c"}
	for _, w := range names {
		first.id(w)
	}
	const frames = 4
	stale, again := 0, 0
	for seed := range orders {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		x := newTable(t)
		x.ids, x.names, x.silent = first.ids, first.names, true
		x.submit("J", fakeParams{Frames: frames}, job.Policy{})
		id := x.jobs["J"]
		// One after the other takes everything and falls silent, so that every
		// task has grants of three fences.
		for i, w := range names {
			x.play([]string{"open", w})
			x.play([]string{"report", w, "want=2"})
			if i+1 < len(names) && r.IntN(4) > 0 {
				x.pass(70 * time.Second)
			}
		}
		type said struct {
			who string
			o   OpenedReceipt
		}
		var list []said
		for l, lease := range x.leases {
			for i := range lease.Tasks {
				s := said{x.holder[l], x.receipt(x.holder[l], l, time.Second, map[int]job.Outcome{i: job.Succeeded})}
				for range 2 + r.IntN(2) {
					list = append(list, s)
				}
			}
		}
		// Maps have no order: the seed has to decide alone.
		for i := range list {
			for k := i; k > 0 && key(list[k].o) < key(list[k-1].o); k-- {
				list[k], list[k-1] = list[k-1], list[k]
			}
		}
		r.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		restart := r.IntN(2 * len(list))
		for i, s := range list {
			if i == restart {
				recs := x.records[id]
				for len(recs) > 0 && r.IntN(2) == 0 {
					rec, err := decodeRecord(recs[len(recs)-1])
					if err != nil {
						t.Fatal(err)
					}
					if !lazy(rec) {
						break
					}
					recs = recs[:len(recs)-1]
				}
				x.records[id] = recs
				x.b = x.replayed(x.b.epoch + 1)
				x.todo = nil
				for _, w := range names {
					x.play([]string{"open", w})
				}
				for _, e := range append(drain(&x.b.out), x.b.Step(x.now, Tick{})...) {
					x.see(e)
				}
			}
			x.step(Reported{Peer: x.id(s.who), Stream: x.streams[s.who], Report: job.Report{Session: "s"}, Receipts: []OpenedReceipt{s.o}})
			if r.IntN(2) == 0 {
				x.answer(r.IntN(2) == 0)
			}
		}
		x.answer(true)
		j := x.b.byID[id]
		// What was never granted to anybody, or was lost with a restart, is done
		// by whoever is there.
		for n := len(x.short); j.state != job.StateFinished; n++ {
			if n > len(x.short)+100 {
				t.Fatalf("seed %d: the job does not end: %d left", seed, j.left)
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
		for f := range frames {
			if n := x.deliver[fmt.Sprint(f+1)]; n != 1 {
				t.Fatalf("seed %d: frame %d was delivered %d times", seed, f+1, n)
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
				t.Fatalf("seed %d: task %s has %d results that count", seed, task.Label, taken)
			}
			stale += len(task.rets) - 1
		}
		again += len(list)
	}
	if stale == 0 {
		t.Error("no task was ever done twice")
	}
	t.Logf("%d orders, %d reports, %d results too many", orders, again, stale)
}

func key(o OpenedReceipt) uint64 { return o.Receipt.Leaves[0].Fence }
