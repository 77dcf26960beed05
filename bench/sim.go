package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"

	"idlewild/bench/swarm"
	"idlewild/job"
	"idlewild/node/dispatch"
)

func init() {
	benchmarks["sim"] = benchmark{"the board in simulated swarms: time over the ideal, waste, fairness, what a step costs; FIFO beside it", sim}
}

// simulated is the real board, with what the simulator asks it for.
type simulated struct{ *dispatch.Board }

func (b simulated) Estimate(now time.Time, id job.ID) (low, mid, high float64) {
	s, _ := b.Status(now, id, 0, false)
	return s.LeftLow, s.LeftSeconds, s.LeftHigh
}

// sim plays a table of scenarios, or the one that flags describe.
func sim(ctx context.Context, args []string) ([]Figure, error) {
	p := swarm.Defaults()
	fs := flag.NewFlagSet("sim", flag.ContinueOnError)
	table := fs.String("table", "", "scenarios by name, with commas: hundred, thousand, many, liar; empty: the one that the other flags describe")
	seeds := fs.Int("seeds", 3, "how many; the figure is the median")
	profile := fs.String("profile", "", "write where the time goes to this file")
	fifo := fs.Bool("fifo", true, "run FIFO in the same worlds")
	fs.Uint64Var(&p.Seed, "seed", p.Seed, "the first")
	fs.IntVar(&p.Nodes, "nodes", p.Nodes, "machines, 70 % of them there")
	fs.Float64Var(&p.Churn, "churn", p.Churn, "leavings per machine and hour")
	fs.IntVar(&p.Jobs, "jobs", p.Jobs, "")
	fs.IntVar(&p.Frames, "frames", p.Frames, "of each job")
	fs.IntVar(&p.Parts, "parts", p.Parts, "tasks of each frame")
	fs.Float64Var(&p.Base, "base", p.Base, "median work of a frame, seconds of a device of speed 1")
	fs.Float64Var(&p.SceneGB, "scene", p.SceneGB, "GB")
	fs.Float64Var(&p.Uplink, "uplink", p.Uplink, "of the requester, Mbit/s")
	fs.Float64Var(&p.Begin, "begin", p.Begin, "what a new frame costs a warm device, seconds")
	fs.BoolVar(&p.Warm, "warm", p.Warm, "everybody has the scene")
	fs.IntVar(&p.Liars, "liars", 0, "machines that say they are ten times as fast as they are")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, err
		}
		defer pprof.StopCPUProfile()
	}
	if *table == "" {
		_, figs, err := scenario(ctx, "", p, *seeds, *fifo, 0)
		return figs, err
	}
	return nil, fmt.Errorf("no table yet")
}

// scenario runs a world with several seeds.
func scenario(ctx context.Context, name string, p swarm.Params, seeds int, fifo bool, goal float64) ([]swarm.Result, []Figure, error) {
	var rs, fs []swarm.Result
	for i := range seeds {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		q := p
		q.Seed += uint64(i)
		began := time.Now()
		r, err := runBoard(ctx, q)
		if err != nil {
			return nil, nil, err
		}
		slices.Sort(r.StepTook)
		fmt.Fprintf(os.Stderr, "%s seed %d: %.3f of %.0f s, waste %.2f %%, begin %.2f %%, idle %.2f %%, jain %.4f, preview %.3f, %d messages (peak %.0f/s), %.0f GB, %d steps p50 %v p99 %v, board %.0f MB, journal %.0f B/task, took %v\n",
			name, q.Seed, r.Ratio, r.Ideal, 100*r.Waste, 100*r.Begin, 100*r.Idle, r.Jain, r.Preview, r.Messages, r.Peak, r.Traffic, len(r.StepTook),
			took(r.StepTook, .5), took(r.StepTook, .99), r.Board/1e6, float64(r.Journal)/float64(r.Tasks), time.Since(began).Round(time.Millisecond))
		for _, e := range r.Estimates {
			fmt.Fprintf(os.Stderr, "   at %.2f: said %.0f (%.0f to %.0f), was %.0f\n", e.Done, e.Mid, e.Low, e.High, e.Rest)
		}
		rs = append(rs, r)
		if fifo {
			q.Star = true
			r, err := swarm.Run(ctx, q, swarm.NewFIFO(swarm.Self(), 30*time.Minute), nil)
			if err != nil {
				return nil, nil, err
			}
			fmt.Fprintf(os.Stderr, "%s seed %d FIFO: %.3f, waste %.2f %%, jain %.4f, %.0f GB, unended %d\n", name, q.Seed, r.Ratio, 100*r.Waste, r.Jain, r.Traffic, r.Unended)
			fs = append(fs, r)
		}
	}
	mid := func(rs []swarm.Result, f func(swarm.Result) float64) float64 {
		var v []float64
		for _, r := range rs {
			v = append(v, f(r))
		}
		if len(v) == 0 {
			return math.NaN()
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	ratio := func(r swarm.Result) float64 { return r.Ratio }
	var peers []Peer
	if fifo {
		peers = []Peer{{"FIFO", mid(fs, ratio)}}
	}
	return rs, []Figure{atMost(name+" makespan / ideal", mid(rs, ratio), "", goal, peers...)}, nil
}

func runBoard(ctx context.Context, p swarm.Params) (swarm.Result, error) {
	b := dispatch.NewBoard(swarm.Self(), 1, dispatch.Options{})
	return swarm.Run(ctx, p, simulated{b}, nil)
}

func took(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

var _ = runtime.GC
