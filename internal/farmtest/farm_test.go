package farmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/worker"
)

// whole checks that every file is there and right.
func whole(t *testing.T, out string, n int, input []byte) {
	t.Helper()
	for i := 1; i <= n; i++ {
		b, err := os.ReadFile(filepath.Join(out, fmt.Sprintf("%04d.txt", i)))
		if err != nil {
			t.Errorf("task %d: %v", i, err)
		} else if want := Output(i, input); string(b) != string(want) {
			t.Errorf("task %d: %q, want %q", i, b, want)
		}
	}
}

// twice lists labels that succeeded more than once, challenges aside.
func twice(f *Farm) (out []string) {
	n := map[string]int{}
	for _, r := range f.Runs() {
		if !r.Check && r.Outcome == job.Succeeded {
			if n[r.Label]++; n[r.Label] == 2 {
				out = append(out, r.Label)
			}
		}
	}
	return out
}

func finished(t *testing.T, s job.Status) {
	t.Helper()
	if s.State != job.StateFinished || s.Delivered != s.Tasks {
		s.Frames = nil
		t.Fatalf("%+v", s)
	}
}

// many is how many tasks a long job has: a thousand in make test-long.
func many() int {
	if os.Getenv("IDLEWILD_SLOW") != "" {
		return 1000
	}
	return 400
}

func TestManyTasksOnFourWorkers(t *testing.T) {
	t.Parallel()
	n := many()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{Rate: .05})
		for i := range 4 {
			f.Worker(fmt.Sprint("w", i), WorkerOptions{Speed: 1 + float64(i)/4})
		}
		input := filepath.Join(t.TempDir(), "scene")
		os.WriteFile(input, []byte("the scene"), 0o600)
		id, out := r.Submit(Work{Tasks: n, Millis: 2000}, func(s *job.Spec) { s.Input = input })
		s, took := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, n, []byte("the scene"))
		ideal := time.Duration(n) * 2 * time.Second * 2 / 11 // speeds sum to 5.5
		t.Logf("%v where %v is ideal, %d messages, %d run twice, %d rechecked", took, ideal, f.Messages(), len(twice(f)), s.Rechecked)
		if took > ideal*115/100 {
			t.Errorf("took %v where %v is ideal", took, ideal)
		}
		if s.Rechecked == 0 || s.Rejected != 0 {
			t.Errorf("%d rechecked, %d rejected", s.Rechecked, s.Rejected)
		}
		// Progress once a second is part of it.
		if f.Messages() > 4*n {
			t.Errorf("%d messages for %d tasks of 2 s", f.Messages(), n)
		}
		if again := len(twice(f)); again > 30*n/1000 {
			t.Errorf("%d tasks were run twice", again)
		}
	})
}

func TestNoOpTasksTakeTwoMessagesEach(t *testing.T) {
	t.Parallel()
	n := many()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		f.Worker("w", WorkerOptions{})
		id, out := r.Submit(Work{Tasks: n}, nil)
		s, took := r.Wait(id, 10*time.Minute)
		finished(t, s)
		whole(t, out, n, nil)
		t.Logf("%v for %d no-op tasks, %d messages", took, n, f.Messages())
		if took > time.Duration(n)*20*time.Millisecond || f.Messages() > 2*n {
			t.Errorf("%v and %d messages for %d no-op tasks", took, f.Messages(), n)
		}
	})
}

func TestAJoinAtTheRequesterComesLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		f.Worker("w", WorkerOptions{})
		id, out := r.Submit(Work{Tasks: 10, Millis: 1000, Join: true}, nil)
		s, _ := r.Wait(id, 10*time.Minute)
		finished(t, s)
		var want []byte
		for i := 1; i <= 10; i++ {
			want = append(want, Output(i, nil)...)
		}
		if b, err := os.ReadFile(filepath.Join(out, "all.txt")); string(b) != string(want) {
			t.Errorf("%q %v", b, err)
		}
		for _, x := range f.Runs() {
			if (x.Label == "join") != (x.Worker == "r") {
				t.Errorf("%s ran at %s", x.Label, x.Worker)
			}
		}
	})
}

func TestALinkThatIsCutAndHealed(t *testing.T) {
	for _, cut := range []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute} {
		t.Run(cut.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := New(t)
				r := f.Requester("r", RequesterOptions{})
				a := f.Worker("a", WorkerOptions{})
				b := f.Worker("b", WorkerOptions{})
				id, out := r.Submit(Work{Tasks: 200, Millis: 10_000}, nil)
				r.Until(id, 5*time.Minute, "under way", func(s job.Status) bool { return s.Delivered >= 10 })
				before := work(f, "a")
				f.Cut(r.ID(), a.ID())
				time.Sleep(cut)
				f.Heal(r.ID(), a.ID())
				healed := time.Now()
				r.Until(id, 10*time.Second, "joined again", func(s job.Status) bool {
					return a.Worker.Doing()["cpu0"] != "" && connected(f, a, r)
				})
				t.Logf("back after %v", time.Since(healed))
				s, took := r.Wait(id, 2*time.Hour)
				finished(t, s)
				whole(t, out, 200, nil)
				if after := work(f, "a"); after-before < 50 {
					t.Errorf("the worker that was cut off did %d tasks more in %v", after-before, took)
				}
				if n := len(twice(f)); n > 8 {
					t.Errorf("%d tasks were done twice", n)
				}
				_ = b
			})
		})
	}
}

func connected(f *Farm, w *Worker, r *Requester) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l := range f.links {
		if l.from == w.id && l.to == r.id {
			return true
		}
	}
	return false
}

func work(f *Farm, name string) (n int) {
	for _, r := range f.Runs() {
		if r.Worker == name && r.Outcome == job.Succeeded && !r.Check {
			n++
		}
	}
	return n
}

func TestAWorkerThatIsKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		a := f.Worker("a", WorkerOptions{})
		f.Worker("b", WorkerOptions{})
		id, out := r.Submit(Work{Tasks: 300, Millis: 3000}, nil)
		for i := range 6 {
			r.Until(id, 10*time.Minute, "going on", func(s job.Status) bool { return s.Delivered >= 20*(i+1) })
			time.Sleep(time.Duration(i) * 333 * time.Millisecond)
			a.Crash()
			time.Sleep(time.Duration(i) * 20 * time.Second)
			a.Start()
		}
		s, _ := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, 300, nil)
		if n := len(twice(f)); n > 12 {
			t.Errorf("%d tasks were done twice in 6 kills", n)
		}
	})
}

func TestARequesterThatIsKilled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{Rate: .1})
		for i := range 3 {
			f.Worker(fmt.Sprint("w", i), WorkerOptions{})
		}
		id, out := r.Submit(Work{Tasks: 300, Millis: 3000}, nil)
		acknowledged := map[string][]byte{}
		for i := range 6 {
			s, _ := r.Until(id, 10*time.Minute, "going on", func(s job.Status) bool { return s.Delivered >= 30*(i+1) || s.State.Ended() })
			for _, x := range s.Frames {
				if x.State == "delivered" {
					for _, file := range x.Files {
						b, err := os.ReadFile(file)
						if err != nil {
							t.Fatal(err)
						}
						acknowledged[file] = b
					}
				}
			}
			time.Sleep(time.Duration(i) * 777 * time.Millisecond)
			r.Crash()
			time.Sleep(time.Duration(i*i) * 10 * time.Second)
			r.Start()
		}
		s, took := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, 300, nil)
		for file, b := range acknowledged {
			if now, err := os.ReadFile(file); err != nil || string(now) != string(b) {
				t.Errorf("%s was acknowledged and is %q, %v", file, now, err)
			}
		}
		t.Logf("ended %v after the last kill, %d done twice", took, len(twice(f)))
		if n := len(twice(f)); n > 18 {
			t.Errorf("%d tasks were done twice in 6 kills", n)
		}
	})
}

func TestACheatIsCaughtAndItsWorkDoneAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{Rate: 1})
		f.Worker("honest", WorkerOptions{})
		cheat := f.Worker("cheat", WorkerOptions{Cheat: func(n int) bool { return n%3 == 0 }})
		id, out := r.Submit(Work{Tasks: 60, Millis: 2000}, nil)
		s, _ := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, 60, nil)
		if s.Rejected == 0 {
			t.Error("nothing was rejected")
		}
		if x := r.Book.Score(cheat.ID()); x.Rejected == 0 {
			t.Errorf("the book says of the cheat: %+v", x)
		}
		for _, w := range s.Workers {
			if w.Peer == cheat.ID().String() && w.Resting == "" {
				t.Errorf("the cheat is not told why it gets no work: %+v", w)
			}
		}
		// It works on until a second look agrees with the first: three pieces of
		// eight, and two tasks. Unhindered it would do half of all, and more.
		if n := work(f, "cheat"); n > 28 {
			t.Errorf("the cheat did %d tasks", n)
		}
	})
}

func TestATaskThatFailsOnTwoPeersFailsForGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		f.Worker("a", WorkerOptions{})
		f.Worker("b", WorkerOptions{})
		id, _ := r.Submit(Work{Tasks: 5, Millis: 1000, Fail: 3}, nil)
		s, _ := r.Wait(id, 10*time.Minute)
		if s.State != job.StateFailed || s.Delivered != 4 || s.FailedN != 1 {
			t.Errorf("%+v", s)
		}
		log, err := r.Dispatcher.Log(t.Context(), id, "3")
		if err != nil || string(log) == "" {
			t.Errorf("log of the failed task: %q, %v", log, err)
		}
	})
}

func TestSlowWorkersDoNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		f.Worker("fast", WorkerOptions{Speed: 1})
		f.Worker("slow", WorkerOptions{Speed: .05})
		id, out := r.Submit(Work{Tasks: 60, Millis: 10_000}, nil)
		s, took := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, 60, nil)
		ideal := 600 * time.Second * 100 / 105
		t.Logf("%v where %v is ideal", took, ideal)
		if took > ideal*6/5 {
			t.Errorf("took %v where %v is ideal", took, ideal)
		}
	})
}

func TestPauseResumeAndCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		f.Worker("w", WorkerOptions{})
		id, out := r.Submit(Work{Tasks: 40, Millis: 5000}, nil)
		r.Until(id, 5*time.Minute, "under way", func(s job.Status) bool { return s.Delivered >= 3 })
		if err := r.Dispatcher.Steer(t.Context(), id, job.Pause); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute) // what was leased may end
		at := len(f.Runs())
		time.Sleep(10 * time.Minute)
		if n := len(f.Runs()); n != at {
			t.Errorf("%d tasks ran while the job was paused", n-at)
		}
		if err := r.Dispatcher.Steer(t.Context(), id, job.Resume); err != nil {
			t.Fatal(err)
		}
		s, took := r.Wait(id, 10*time.Minute)
		finished(t, s)
		whole(t, out, 40, nil)
		if took > 4*time.Minute {
			t.Errorf("%v after it was resumed", took)
		}

		id, _ = r.Submit(Work{Tasks: 100, Millis: 60_000}, nil)
		r.Until(id, 5*time.Minute, "under way", func(s job.Status) bool { return s.Running > 0 })
		time.Sleep(10 * time.Second)
		at = len(f.Runs())
		if err := r.Dispatcher.Steer(t.Context(), id, job.Cancel); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		runs := f.Runs()
		if len(runs) != at+1 || runs[at].Outcome != job.Cancelled {
			t.Errorf("the task that ran was not cancelled at once: %+v", runs[at:])
		}
		if s := r.Status(id); s.State != job.StateCancelled {
			t.Errorf("%v", s.State)
		}
		time.Sleep(10 * time.Minute)
		if n := len(f.Runs()); n != at+1 {
			t.Errorf("%d tasks of a cancelled job ran", n-at-1)
		}
	})
}

func TestAnOwnerWhoComesBackGetsTheMachineAndTheWorkGoesElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		a := f.Worker("a", WorkerOptions{})
		f.Worker("b", WorkerOptions{})
		id, out := r.Submit(Work{Tasks: 40, Millis: 20_000}, nil)
		r.Until(id, 5*time.Minute, "under way", func(s job.Status) bool { return s.Delivered >= 4 })
		time.Sleep(5 * time.Second)
		at := time.Now()
		a.Worker.Pause("somebody plays", false)
		synctest.Wait()
		if runs := f.Runs(); runs[len(runs)-1].Outcome != job.Cancelled || time.Since(at) > 0 {
			t.Errorf("not free at once")
		}
		time.Sleep(2 * time.Second)
		for _, w := range r.Status(id).Frames {
			if w.State == "leased" && w.Worker == a.ID().String() {
				t.Errorf("frame %s is still leased to a machine that is paused", w.Label)
			}
		}
		time.Sleep(3 * time.Minute)
		done := work(f, "a")
		a.Worker.Resume()
		s, _ := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, 40, nil)
		if work(f, "a") == done {
			t.Error("no work after it was resumed")
		}
	})
}

func TestOrderlyRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{})
		a := f.Worker("a", WorkerOptions{})
		f.Worker("b", WorkerOptions{})
		id, out := r.Submit(Work{Tasks: 60, Millis: 5000}, nil)
		r.Until(id, 5*time.Minute, "under way", func(s job.Status) bool { return s.Delivered >= 5 })
		a.Stop()
		r.Until(id, 5*time.Minute, "going on", func(s job.Status) bool { return s.Delivered >= 15 })
		a.Start()
		r.Until(id, 5*time.Minute, "going on", func(s job.Status) bool { return s.Delivered >= 25 })
		r.Stop()
		time.Sleep(30 * time.Second)
		r.Start()
		s, _ := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, 60, nil)
		if n := len(twice(f)); n > 4 {
			t.Errorf("%d tasks were done twice", n)
		}
	})
}

func TestTwoRequestersShareTheWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		one := f.Requester("one", RequesterOptions{})
		two := f.Requester("two", RequesterOptions{})
		for i := range 2 {
			f.Worker(fmt.Sprint("w", i), WorkerOptions{Devices: 2})
		}
		a, outA := one.Submit(Work{Tasks: 100, Millis: 4000}, nil)
		b, outB := two.Submit(Work{Tasks: 100, Millis: 4000}, nil)
		s, tookA := one.Wait(a, time.Hour)
		finished(t, s)
		s, tookB := two.Wait(b, time.Hour)
		finished(t, s)
		whole(t, outA, 100, nil)
		whole(t, outB, 100, nil)
		t.Logf("%v and %v more", tookA, tookB)
		if tookA+tookB > 200*time.Second*13/10 {
			t.Errorf("800 s of work on 4 devices took %v", tookA+tookB)
		}
	})
}

// Who worked for a machine's owner gets more of it than somebody else, and not
// all of it.
func TestWhoHelpedGetsMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		one := f.Requester("one", RequesterOptions{})
		two := f.Requester("two", RequesterOptions{})
		helped := two.ID()
		for i := range 2 {
			f.Worker(fmt.Sprint("w", i), WorkerOptions{Worker: worker.Options{Precedence: func(p peer.ID) float64 {
				if p == helped {
					return 3
				}
				return 1
			}}})
		}
		a, _ := one.Submit(Work{Tasks: 900, Millis: 4000}, nil)
		b, _ := two.Submit(Work{Tasks: 300, Millis: 4000}, nil)
		s, took := two.Wait(b, 2*time.Hour)
		finished(t, s)
		// Three quarters of two devices, where half would be 20 minutes.
		if want := 300 * 4 * time.Second * 4 / 3 / 2; took > want+2*time.Minute {
			t.Errorf("300 tasks took %v, with three quarters of the devices it would be %v", took, want)
		}
		if done := one.Status(a).Delivered; done < 50 {
			t.Errorf("the other has %d meanwhile", done)
		}
		if err := one.Dispatcher.Steer(t.Context(), a, job.Cancel); err != nil {
			t.Error(err)
		}
	})
}

// Who comes later gets its share of devices at once, and does not wait until
// whoever was first has no work left.
func TestALateRequesterGetsItsShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		one := f.Requester("one", RequesterOptions{})
		two := f.Requester("two", RequesterOptions{})
		for i := range 4 {
			f.Worker(fmt.Sprint("w", i), WorkerOptions{})
		}
		a, _ := one.Submit(Work{Tasks: 600, Millis: 4000}, nil)
		time.Sleep(2 * time.Minute)
		b, _ := two.Submit(Work{Tasks: 50, Millis: 4000}, nil)
		s, took := two.Wait(b, time.Hour)
		finished(t, s)
		if one.Status(a).State.Ended() {
			t.Error("the first job is over already: nothing was shared")
		}
		// Half of four devices, after the minute that each stays with what it is at.
		if half := 50 * 4 * time.Second / 2; took > half+90*time.Second {
			t.Errorf("50 tasks took %v, with half of the devices it would be %v", took, half)
		}
		s, _ = one.Wait(a, time.Hour)
		finished(t, s)
	})
}

func TestAMachineThatOnlyOwnsJobsDoesNotRenderThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{Rate: .2})
		f.Worker("w", WorkerOptions{})
		id, _ := r.Submit(Work{Tasks: 50, Millis: 5000}, nil)
		s, _ := r.Wait(id, time.Hour)
		finished(t, s)
		checks := 0
		for _, x := range f.Runs() {
			switch {
			case x.Check && x.Worker != "r":
				t.Errorf("a check of %s ran at %s", x.Label, x.Worker)
			case x.Check:
				checks++
			case x.Worker == "r":
				t.Errorf("task %s ran at the requester", x.Label)
			}
		}
		if checks == 0 {
			t.Error("nothing was checked")
		}
	})
}

func TestARequesterThatWorksToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := New(t)
		r := f.Requester("r", RequesterOptions{Works: true, Rate: .2, Dispatch: dispatch.Options{BeatEvery: 5 * time.Second}})
		f.Worker("w", WorkerOptions{})
		id, out := r.Submit(Work{Tasks: 60, Millis: 10_000}, nil)
		s, took := r.Wait(id, time.Hour)
		finished(t, s)
		whole(t, out, 60, nil)
		if n := work(f, "r"); n < 15 {
			t.Errorf("did %d of its own tasks", n)
		}
		t.Logf("600 s of work took %v", took)
	})
}
