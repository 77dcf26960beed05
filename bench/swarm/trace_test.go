package swarm

import (
	"context"
	"fmt"
	"math"
	"testing"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// A job whose frames and machines are known is played, its status is what a real
// one would say, and the trace that is made of that plays as long.
func TestATraceOfAJobTakesAsLongAsTheJob(t *testing.T) {
	speeds := []float64{1, 2, 4, 8}
	truth := Trace{}
	for i := range 400 {
		truth.Frames = append(truth.Frames, 60*(1+.5*math.Sin(float64(i)/40)))
	}
	for _, s := range speeds {
		truth.Machines = append(truth.Machines, Machine{Speed: s, Here: [][2]float64{{0, 0}}})
	}
	play := func(tr Trace) float64 {
		p := Defaults()
		p.Trace, p.Nodes, p.Churn, p.Frames, p.Parts, p.Warm = &tr, len(tr.Machines), 0, len(tr.Frames), 1, true
		p.Begin, p.Load = .2, 5
		r, err := Run(context.Background(), p, dispatch.NewBoard(Self(), 1, dispatch.Options{}), nil)
		if err != nil || r.Unended > 0 {
			t.Fatalf("%v, %d unended", err, r.Unended)
		}
		return r.Makespan
	}
	s := job.Status{}
	took := make([]float64, len(speeds))
	for i, c := range truth.Frames {
		w := 0 // the first that is free
		for k := range took {
			if took[k]+c/speeds[k] < took[w]+c/speeds[w] {
				w = k
			}
		}
		took[w] += c / speeds[w]
		s.Frames = append(s.Frames, job.TaskStatus{Label: fmt.Sprint(i + 1), Worker: fmt.Sprint("w", w), RenderSeconds: c / speeds[w]})
		s.WallSeconds = max(s.WallSeconds, took[w])
	}
	for w := range speeds {
		s.Workers = append(s.Workers, job.WorkerStatus{Peer: fmt.Sprint("w", w), JoinedSeconds: s.WallSeconds})
	}
	tr, err := TraceOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := play(truth), play(tr); math.Abs(a/b-1) > .05 {
		t.Errorf("played again it takes %.0f s, the job took %.0f", b, a)
	}
}

func TestTracesThatCannotBe(t *testing.T) {
	here := [][2]float64{{0, 0}}
	for i, tr := range []Trace{
		{},
		{Frames: []float64{1}},
		{Frames: []float64{-1}, Machines: []Machine{{1, here}}},
		{Frames: []float64{math.NaN()}, Machines: []Machine{{1, here}}},
		{Frames: []float64{1e12}, Machines: []Machine{{1, here}}},
		{Frames: []float64{1}, Machines: []Machine{{0, here}}},
		{Frames: []float64{1}, Machines: []Machine{{1, nil}}},
		{Frames: []float64{1}, Machines: []Machine{{1, [][2]float64{{5, 3}}}}},
		{Frames: []float64{1}, Machines: []Machine{{1, [][2]float64{{0, 0}, {5, 6}}}}},
	} {
		if tr.Validate() == nil {
			t.Errorf("trace %d is taken", i)
		}
	}
	if _, err := TraceOf(job.Status{}); err == nil {
		t.Error("a job without frames is a trace")
	}
}

func TestTheIdealOfATrace(t *testing.T) {
	ms := []Machine{{1, [][2]float64{{0, 10}}}, {2, [][2]float64{{5, 0}}}}
	for work, want := range map[float64]float64{5: 5, 8: 6, 20: 10, 24: 12} {
		if got := IdealOf(work, ms); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v of work take %v, want %v", work, got, want)
		}
	}
}
