package swarm

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"idlewild/node/dispatch"
)

func small() Params {
	p := Defaults()
	p.Nodes, p.Frames, p.Warm, p.Churn = 30, 100, true, .33
	return p
}

func run(t *testing.T, p Params, c Coordinator) Result {
	t.Helper()
	r, err := Run(t.Context(), p, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Unended > 0 {
		t.Errorf("%d jobs did not end", r.Unended)
	}
	return r
}

func board() *dispatch.Board { return dispatch.NewBoard(Self(), 1, dispatch.Options{}) }

// honest is the run that others are compared with.
var honest = sync.OnceValues(func() (Result, error) { return Run(context.Background(), small(), board(), nil) })

// TestTheBoardStaysNearTheIdeal is a small guard: what is published is measured
// by bench sim.
func TestTheBoardStaysNearTheIdeal(t *testing.T) {
	seeds := uint64(2)
	if os.Getenv("IDLEWILD_SLOW") != "" {
		seeds = 10
	}
	for seed := range seeds {
		p := small()
		p.Seed = seed + 1
		r := run(t, p, board())
		if r.Ratio > 1.15 || r.Waste > .03 {
			t.Errorf("seed %d: %.3f times the ideal of %.0f s, %.1f %% wasted", p.Seed, r.Ratio, r.Ideal, 100*r.Waste)
		}
		f := run(t, p, NewFIFO(Self(), 30*time.Minute))
		if f.Ratio < r.Ratio {
			t.Errorf("seed %d: FIFO is better: %.3f, the board %.3f", p.Seed, f.Ratio, r.Ratio)
		}
	}
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	a, err := honest()
	if err != nil {
		t.Fatal(err)
	}
	b := run(t, small(), board())
	a.StepTook, b.StepTook = nil, nil
	if a.Makespan != b.Makespan || a.Messages != b.Messages || a.Waste != b.Waste || a.Journal != b.Journal {
		t.Errorf("%+v\n%+v", a, b)
	}
}

// TestAPeerThatLiesAboutItsSpeed costs little: speeds come from what the board
// saw, and a peer's own clock is believed within a factor of two.
func TestAPeerThatLiesAboutItsSpeed(t *testing.T) {
	without, err := honest()
	if err != nil || without.Unended > 0 {
		t.Fatal(without.Unended, err)
	}
	p := small()
	p.Liars = 1
	if r := run(t, p, board()); r.Ratio > without.Ratio*1.05 {
		t.Errorf("%.3f times the ideal with a liar, %.3f without", r.Ratio, without.Ratio)
	}
}

// TestWholeFramesOfManyJobs: a frame that is not cut and costs several times the
// usual must not be begun last.
func TestWholeFramesOfManyJobs(t *testing.T) {
	p := Defaults()
	p.Nodes, p.Jobs, p.Frames, p.Parts = 200, 4, 500, 1
	if r := run(t, p, board()); r.Ratio > 1.18 {
		t.Errorf("%.3f times the ideal of %.0f s, %.1f %% wasted", r.Ratio, r.Ideal, 100*r.Waste)
	}
}
