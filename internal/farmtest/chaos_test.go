package farmtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/job"
)

// TestChaos lets everything happen that can happen to a farm, in an order
// drawn from a seed: the job always ends, no acknowledged file changes, and
// what is lost to a fault is at most what was under way. FARMTEST_SEEDS sets
// how many orders are tried, FARMTEST_SEED the first.
func TestChaos(t *testing.T) {
	first, seeds := number("FARMTEST_SEED", 1), number("FARMTEST_SEEDS", 3)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func number(name string, d uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return d
}

func chaos(t *testing.T, rng *rand.Rand) {
	const tasks = 150
	f := New(t)
	r := f.Requester("r", RequesterOptions{Rate: .1})
	var ws []*Worker
	for i := range 3 {
		ws = append(ws, f.Worker(fmt.Sprint("w", i), WorkerOptions{Speed: .5 + rng.Float64(), Devices: 1 + rng.IntN(2)}))
	}
	id, out := r.Submit(Work{Tasks: tasks, Millis: 500 + rng.IntN(8000), Join: rng.IntN(2) == 0}, nil)
	acknowledged := map[string]string{}
	look := func() {
		for _, x := range r.Status(id).Frames {
			if x.State != "delivered" {
				continue
			}
			for _, file := range x.Files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatalf("acknowledged, but: %v", err)
				}
				if was, ok := acknowledged[file]; ok && was != string(b) {
					t.Fatalf("%s changed after it was acknowledged", file)
				}
				acknowledged[file] = string(b)
			}
		}
	}
	down := map[int]bool{}
	cut := map[int]bool{}
	faults := 0
	for range 40 {
		time.Sleep(time.Duration(rng.ExpFloat64() * float64(4*time.Second)))
		synctest.Wait()
		if r.Status(id).State.Ended() {
			break
		}
		look()
		i := rng.IntN(len(ws))
		w := ws[i]
		switch what := rng.IntN(8); {
		case what == 0 && !down[i]:
			t.Logf("%v kill %s", time.Now(), w.name)
			w.Crash()
			down[i], faults = true, faults+1
		case what == 1 && !down[i]:
			t.Logf("%v stop %s", time.Now(), w.name)
			w.Stop()
			down[i], faults = true, faults+1
		case what <= 2 && down[i]:
			t.Logf("%v start %s", time.Now(), w.name)
			w.Start()
			down[i] = false
		case what == 3:
			t.Logf("%v kill requester", time.Now())
			r.Crash()
			time.Sleep(time.Duration(rng.ExpFloat64() * float64(20*time.Second)))
			r.Start()
			faults++
		case what == 4 && !cut[i]:
			t.Logf("%v cut %s", time.Now(), w.name)
			f.Cut(r.ID(), w.ID())
			cut[i], faults = true, faults+1
		case what <= 5 && cut[i]:
			t.Logf("%v heal %s", time.Now(), w.name)
			f.Heal(r.ID(), w.ID())
			cut[i] = false
		case what == 6:
			f.Drop(r.ID(), w.ID())
		case what == 7 && !down[i]:
			w.Worker.Pause("somebody plays", rng.IntN(2) == 0)
			time.Sleep(time.Duration(rng.ExpFloat64() * float64(10*time.Second)))
			w.Worker.Resume()
		}
	}
	for i, w := range ws {
		f.Heal(r.ID(), w.ID())
		if down[i] {
			w.Start()
		}
	}
	s, took := r.Wait(id, 3*time.Hour)
	finished(t, s)
	look()
	whole(t, out, tasks, nil)
	again := len(twice(f))
	t.Logf("%d faults, %d tasks done twice, ended %v after the last fault", faults, again, took)
	if s.State != job.StateFinished || again > 10+6*faults {
		t.Errorf("%d of %d tasks were done twice with %d faults", again, tasks, faults)
	}
}
