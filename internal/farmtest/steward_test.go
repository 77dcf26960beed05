package farmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/steward"
)

// studio is a laptop, machines that may be its stewards, and workers that join
// whoever offers work.
type studio struct {
	*Farm
	laptop *Requester
	nas    []*Requester
	pcs    []*Requester
}

func newStudio(t *testing.T, stewards, workers int) *studio {
	s := &studio{Farm: New(t)}
	o := &steward.Options{}
	s.laptop = s.Requester("laptop", RequesterOptions{Rate: .1, Steward: o})
	for i := range stewards {
		s.nas = append(s.nas, s.Requester(fmt.Sprint("nas", i), RequesterOptions{Rate: .1, Steward: o}))
	}
	for i := range workers {
		s.pcs = append(s.pcs, s.Requester(fmt.Sprint("pc", i), RequesterOptions{Works: true, Steward: o}))
	}
	return s
}

// ready waits until the first steward has all that it needs.
func (s *studio) ready(id job.ID, stewards int) {
	s.T.Helper()
	s.laptop.Until(id, time.Hour, "followed", func(x job.Status) bool {
		n := 0
		for _, st := range x.Stewards {
			if st.State == "ready" {
				n++
			}
		}
		return n == stewards
	})
}

// alone cuts a machine off from all others.
func (s *studio) alone(r *Requester, cut bool) {
	for _, o := range append(append([]*Requester{s.laptop}, s.nas...), s.pcs...) {
		if o == r {
			continue
		}
		if cut {
			s.Cut(r.ID(), o.ID())
		} else {
			s.Heal(r.ID(), o.ID())
		}
	}
}

// taken waits until a steward goes on with the job.
func (s *studio) taken(by *Requester, id job.ID, limit time.Duration) time.Duration {
	s.T.Helper()
	start := time.Now()
	for {
		synctest.Wait()
		if x, err := by.Dispatcher.Status(id); err == nil && x.Holder == by.ID().String() {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			s.T.Fatalf("%s does not go on with the job", by.name)
		}
		time.Sleep(time.Second)
	}
}

// firstRun waits for the end of a task that began later than so long after the
// cut, and says when after the cut the earliest of them began; 0: none ended in
// time.
func (s *studio) firstRun(cut time.Time, after, limit time.Duration) (first time.Duration) {
	for first == 0 && time.Since(cut) < limit {
		time.Sleep(time.Second)
		synctest.Wait()
		for _, l := range s.RunsSince(cut.Add(after)) {
			if d := l.Start.Sub(cut); first == 0 || d < first {
				first = d
			}
		}
	}
	return first
}

// forgotten waits until a steward knows nothing of the job any more.
func (s *studio) forgotten(by *Requester, id job.ID, limit time.Duration) {
	s.T.Helper()
	start := time.Now()
	for {
		synctest.Wait()
		if _, err := by.Dispatcher.Status(id); err != nil {
			return
		}
		if time.Since(start) > limit {
			s.T.Fatalf("%s still has the job", by.name)
		}
		time.Sleep(time.Second)
	}
}

// stop ends all machines.
func (s *studio) stop() {
	for _, r := range append(append([]*Requester{s.laptop}, s.nas...), s.pcs...) {
		r.Stop()
	}
}

// bounded checks that at most so many tasks were done twice at each hand-over:
// a job goes to a steward, and back.
func (s *studio) bounded(each int) {
	s.T.Helper()
	most := 2 * each
	if again := twice(s.Farm); len(again) > most {
		s.T.Errorf("%d tasks were done twice where %d may be: %v", len(again), most, again)
	}
}

// An artist closes the laptop: the steward goes on within 90 seconds, and what
// it had done is there when the laptop is back.
func TestStewardGoesOn(t *testing.T) {
	t.Parallel()
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill ", kill), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const tasks = 200
				s := newStudio(t, 1, 3)
				input := filepath.Join(t.TempDir(), "scene")
				os.WriteFile(input, []byte("the scene"), 0o600)
				id, out := s.laptop.Submit(Work{Tasks: tasks, Millis: 8000, Join: true}, func(x *job.Spec) { x.Input = input; Stewards(s.nas...)(x) })
				s.ready(id, 1)
				s.laptop.Until(id, time.Hour, "a fifth done", func(x job.Status) bool { return x.Delivered >= tasks/5 })

				cut := time.Now()
				if kill {
					s.laptop.Crash()
				} else {
					s.alone(s.laptop, true)
				}
				took := s.taken(s.nas[0], id, 2*time.Minute)
				first := s.firstRun(cut, took-time.Second, 100*time.Second) // a grant within 90 s, and its task's own time
				t.Logf("went on after %v, first task %v after the cut", took, first)
				if took > 90*time.Second || first > 90*time.Second || first == 0 {
					t.Errorf("the first grant came %v after the cut", first)
				}
				if st := s.nas[0].Status(id); st.Origin != s.laptop.ID().String() || st.State != job.StatePlanned {
					t.Errorf("on the steward: %+v", st)
				}
				time.Sleep(2 * time.Minute)
				if kill {
					s.laptop.Start()
				} else {
					s.alone(s.laptop, false)
				}
				at := time.Now()
				s.laptop.Until(id, time.Minute, "taken back", func(x job.Status) bool {
					return len(x.Stewards) == 1 && x.Stewards[0].State != "silent" && x.Holder == "" && x.Delivered > tasks/5+10
				})
				if took := time.Since(at); took > 3*time.Second {
					t.Errorf("given back after %v", took)
				}
				end, _ := s.laptop.Wait(id, time.Hour)
				finished(t, end)
				whole(t, out, tasks, []byte("the scene"))
				s.forgotten(s.nas[0], id, 2*time.Minute)
				s.bounded(3 * 4) // a piece for each of three workers at the cut; pieces are of 25 s
			})
		})
	}
}

// A steward that is connected and answers nothing is asked with the beats, after a
// few quicker tries, and each minute once the job is over.
func TestAStewardThatNeverAnswersIsNotPressed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStudio(t, 1, 1)
		var asked atomic.Int64
		s.nas[0].mu.Lock()
		s.nas[0].answer = func(context.Context, peer.ID, []byte) ([]byte, error) {
			asked.Add(1)
			return nil, errors.New("no")
		}
		s.nas[0].mu.Unlock()
		id, _ := s.laptop.Submit(Work{Tasks: 60, Millis: 8000}, Stewards(s.nas...))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := asked.Load(); n < 10 || n > 30+6 { // a beat is of ten seconds
			t.Errorf("asked %d times in five minutes", n)
		}
		end, _ := s.laptop.Wait(id, time.Hour)
		finished(t, end)
		asked.Store(0)
		time.Sleep(10 * time.Minute)
		if n := asked.Load(); n > 11 {
			t.Errorf("asked %d times in ten minutes after the end", n)
		}
	})
}

// partly submits a job and waits until a fifth is done.
func (s *studio) partly(tasks int) (job.ID, string) {
	s.T.Helper()
	id, out := s.laptop.Submit(Work{Tasks: tasks, Millis: 8000}, Stewards(s.nas...))
	s.ready(id, len(s.nas))
	s.laptop.Until(id, time.Hour, "a fifth done", func(x job.Status) bool { return x.Delivered >= tasks/5 })
	return id, out
}

// ended waits for the end of the job at the laptop, whole.
func (s *studio) ended(t *testing.T, id job.ID, out string, tasks int) {
	t.Helper()
	end, _ := s.laptop.Wait(id, 2*time.Hour)
	finished(t, end)
	whole(t, out, tasks, nil)
	for _, n := range s.nas {
		if !n.isOff() {
			s.forgotten(n, id, 5*time.Minute)
		}
	}
}

// A laptop that wakes at any moment around the take-over has its job back.
func TestLaptopWakesDuringTheTakeOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{30 * time.Second, 59 * time.Second, 62500 * time.Millisecond, 63 * time.Second, 70 * time.Second} {
			const tasks = 60
			s := newStudio(t, 1, 2)
			id, out := s.partly(tasks)
			s.alone(s.laptop, true)
			time.Sleep(after)
			s.alone(s.laptop, false)
			s.ended(t, id, out, tasks)
			s.bounded(2 * 4)
			s.stop()
		}
	})
}

// A steward that is cut off while the laptop lives leaves the job alone: the
// workers hear the laptop.
func TestStewardThatIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks = 60
		s := newStudio(t, 1, 2)
		id, out := s.partly(tasks)
		s.Cut(s.laptop.ID(), s.nas[0].ID())
		for range 60 {
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if _, err := s.nas[0].Dispatcher.Status(id); err == nil {
				t.Fatal("it went on although the workers hear the laptop")
			}
		}
		s.Heal(s.laptop.ID(), s.nas[0].ID())
		s.ended(t, id, out, tasks)
		s.bounded(0)
	})
}

// Both sides of a split work, and neither loses what the other did.
func TestSplitFarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks = 200
		s := newStudio(t, 1, 2)
		id, out := s.partly(tasks)
		for _, a := range []*Requester{s.laptop, s.pcs[0]} {
			for _, b := range []*Requester{s.nas[0], s.pcs[1]} {
				s.Cut(a.ID(), b.ID())
			}
		}
		s.taken(s.nas[0], id, 2*time.Minute)
		time.Sleep(time.Minute)
		at := s.laptop.Status(id).Delivered
		if n := s.nas[0].Status(id).Delivered; n == 0 || at <= tasks/5 {
			t.Errorf("%d done on the steward's side, %d on the laptop's", n, at)
		}
		for _, a := range []*Requester{s.laptop, s.pcs[0]} {
			for _, b := range []*Requester{s.nas[0], s.pcs[1]} {
				s.Heal(a.ID(), b.ID())
			}
		}
		s.ended(t, id, out, tasks)
	})
}

// Of two stewards the second goes on only if the first does not, or is gone too;
// what both did comes back.
func TestTwoStewards(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"lives", "is gone", "dies later"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const tasks = 200
				s := newStudio(t, 2, 3)
				id, out := s.partly(tasks)
				if first == "is gone" {
					s.nas[0].Crash()
				}
				s.laptop.Crash()
				switch first {
				case "lives":
					s.taken(s.nas[0], id, 90*time.Second)
					time.Sleep(2 * time.Minute)
					if _, err := s.nas[1].Dispatcher.Status(id); err == nil {
						t.Error("both go on with the job")
					}
				case "is gone":
					if took := s.taken(s.nas[1], id, 2*time.Minute); took < 75*time.Second {
						t.Errorf("the second went on after %v", took)
					}
					time.Sleep(time.Minute)
				case "dies later":
					s.taken(s.nas[0], id, 90*time.Second)
					time.Sleep(30 * time.Second)
					s.nas[0].Crash()
					s.taken(s.nas[1], id, 3*time.Minute)
					time.Sleep(time.Minute)
				}
				s.laptop.Start()
				if first != "lives" {
					s.nas[0].Start()
				}
				s.ended(t, id, out, tasks)
				if first != "dies later" {
					s.bounded(3 * 4)
				}
			})
		})
	}
}

// A steward that dies while it holds the job goes on after its restart.
func TestStewardRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks = 200
		s := newStudio(t, 1, 3)
		id, out := s.partly(tasks)
		s.laptop.Crash()
		s.taken(s.nas[0], id, 90*time.Second)
		time.Sleep(30 * time.Second)
		s.nas[0].Crash()
		time.Sleep(10 * time.Second)
		s.nas[0].Start()
		had := s.nas[0].Status(id).Delivered
		s.nas[0].Until(id, 3*time.Minute, "going on", func(x job.Status) bool { return x.Delivered > had+5 })
		s.laptop.Start()
		s.ended(t, id, out, tasks)
		s.bounded(3*4 + 3*4)
	})
}

// The steward does the rest while the laptop is away, and the laptop ends the job
// with it.
func TestStewardEndsTheJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks = 40
		s := newStudio(t, 1, 3)
		id, out := s.partly(tasks)
		s.laptop.Crash()
		s.taken(s.nas[0], id, 90*time.Second)
		s.nas[0].Wait(id, time.Hour)
		time.Sleep(10 * time.Minute)
		back := time.Now()
		s.laptop.Start()
		s.ended(t, id, out, tasks)
		if again := s.RunsSince(back); len(again) > 8 { // checks by the laptop, no more
			for _, r := range again {
				if !r.Check {
					t.Errorf("task %s was run after the laptop was back", r.Label)
				}
			}
		}
		s.bounded(3 * 4)
	})
}

// A job that is cancelled while a steward holds it ends there too, as soon as the
// two hear each other.
func TestCancelledWhileHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStudio(t, 1, 2)
		id, _ := s.partly(200)
		s.alone(s.laptop, true)
		s.taken(s.nas[0], id, 90*time.Second)
		if err := s.laptop.Dispatcher.Steer(t.Context(), id, job.Cancel); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.alone(s.laptop, false)
		s.forgotten(s.nas[0], id, 3*time.Minute)
		n := len(s.Runs())
		time.Sleep(time.Minute)
		if len(s.Runs()) > n+4 {
			t.Error("workers go on with a job that was cancelled")
		}
		if x := s.laptop.Status(id); x.State != job.StateCancelled {
			t.Errorf("%s at the laptop", x.State)
		}
	})
}

// A steward goes on twice with a job.
func TestLaptopSleepsTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks = 300
		s := newStudio(t, 1, 3)
		id, out := s.partly(tasks)
		for range 2 {
			s.alone(s.laptop, true)
			s.taken(s.nas[0], id, 90*time.Second)
			time.Sleep(30 * time.Second)
			s.alone(s.laptop, false)
			s.forgotten(s.nas[0], id, 2*time.Minute)
			s.ready(id, 1)
			time.Sleep(3 * time.Second) // it hears at once what was made of what it gave back
		}
		s.ended(t, id, out, tasks)
		s.bounded(2 * 3 * 4)
	})
}

// Results that wait for their check at the laptop when it falls silent, and that
// the steward has had done again, do not keep the job from going back.
func TestGivenBackWhileChecksWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks = 60
		s := newStudio(t, 1, 3)
		s.laptop.Book.mu.Lock()
		s.laptop.Book.rate = 1 // more than the laptop can keep up with
		s.laptop.Book.mu.Unlock()
		id, out := s.laptop.Submit(Work{Tasks: tasks, Millis: 8000}, Stewards(s.nas...))
		s.ready(id, 1)
		waits := func(x job.Status) (n int) {
			for _, f := range x.Frames {
				if f.State == "returned" {
					n++
				}
			}
			return n
		}
		s.laptop.Until(id, time.Hour, "many waiting", func(x job.Status) bool { return waits(x) > 10 })
		s.laptop.Crash()
		s.taken(s.nas[0], id, 90*time.Second)
		time.Sleep(2 * time.Minute)
		s.laptop.Start()
		s.forgotten(s.nas[0], id, time.Minute)
		s.ended(t, id, out, tasks)
	})
}

// A steward whose workers bring something all the time gives back all the same.
func TestGivenBackFromABusySteward(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks = 600
		s := newStudio(t, 1, 3)
		id, out := s.laptop.Submit(Work{Tasks: tasks, Millis: 500}, Stewards(s.nas...))
		s.ready(id, 1)
		s.laptop.Crash()
		s.taken(s.nas[0], id, 90*time.Second)
		s.nas[0].Until(id, time.Hour, "well under way", func(x job.Status) bool { return x.Delivered > 20 })
		s.laptop.Start()
		s.forgotten(s.nas[0], id, 30*time.Second)
		if x := s.laptop.Status(id); x.State.Ended() {
			t.Fatal("it was over before it could be given back")
		}
		s.ended(t, id, out, tasks)
	})
}

// A steward spends of a budget what the requester has left of it, no more.
func TestStewardKeepsToTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const tasks, millis, budget = 200, 8000, 800
		s := newStudio(t, 1, 3)
		id, _ := s.laptop.Submit(Work{Tasks: tasks, Millis: millis}, func(x *job.Spec) {
			Stewards(s.nas...)(x)
			x.Policy.Budget = budget
		})
		s.ready(id, 1)
		s.laptop.Until(id, time.Hour, "half its budget spent", func(x job.Status) bool { return x.DeviceSeconds >= budget/2 })
		time.Sleep(20 * time.Second)
		s.laptop.Crash()
		s.taken(s.nas[0], id, 90*time.Second)
		time.Sleep(20 * time.Minute)
		var spent float64
		for _, r := range s.Runs() {
			if !r.Check && r.Outcome == job.Succeeded {
				spent += r.Wall.Seconds()
			}
		}
		// What a worker does while nobody hears of it may come twice.
		if most := budget + 3*4*millis/1000.; spent > most {
			t.Errorf("%v s of devices were spent of a budget of %d s", spent, budget)
		}
	})
}
