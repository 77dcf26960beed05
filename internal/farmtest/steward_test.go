package farmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

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

// bounded checks that at most so many tasks were done twice.
func (s *studio) bounded(most int) {
	s.T.Helper()
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
				time.Sleep(10 * time.Second)
				var first time.Duration
				for _, l := range s.RunsSince(cut.Add(took - time.Second)) {
					if d := l.Start.Sub(cut); first == 0 || d < first {
						first = d
					}
				}
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
				t.Logf("given back after %v", time.Since(at))
				end, _ := s.laptop.Wait(id, time.Hour)
				finished(t, end)
				whole(t, out, tasks, []byte("the scene"))
				s.forgotten(s.nas[0], id, 2*time.Minute)
				s.bounded(3 * 4) // a piece for each of three workers at the cut; pieces are of 25 s
			})
		})
	}
}
