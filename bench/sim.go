package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
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
	table := fs.String("table", "", "published scenarios, with commas: hundred, liar, thousand, many; empty: the one that the other flags describe")
	seeds := fs.Int("seeds", 3, "how many; the figure is the median")
	heavy := fs.Bool("weigh", false, "weigh the board in memory, too")
	profile := fs.String("profile", "", "write where the time goes to this file")
	heapTo := fs.String("heap", "", "with --weigh: write what the memory holds to this file")
	minutes := fs.Bool("minutes", false, "print what machines did, minute by minute, and which steps cost what")
	fifo := fs.Bool("fifo", true, "run FIFO in the same worlds")
	fs.Uint64Var(&p.Seed, "seed", p.Seed, "the first")
	fs.IntVar(&p.Nodes, "nodes", p.Nodes, "machines, 70 % of them there")
	fs.Float64Var(&p.Churn, "churn", p.Churn, "leavings per machine and hour")
	fs.IntVar(&p.Jobs, "jobs", p.Jobs, "")
	fs.IntVar(&p.Frames, "frames", p.Frames, "of each job")
	fs.IntVar(&p.Parts, "parts", p.Parts, "tasks of each frame")
	fs.Float64Var(&p.Base, "base", p.Base, "median work of a frame, seconds of a device of speed 1")
	fs.Float64Var(&p.SceneGB, "scene", p.SceneGB, "GB")
	fs.BoolVar(&p.Spread, "spread", p.Spread, "scenes between a fifth and five times that")
	fs.Float64Var(&p.Uplink, "uplink", p.Uplink, "of the requester, Mbit/s")
	fs.Float64Var(&p.Begin, "begin", p.Begin, "what a new frame costs a warm device, seconds")
	fs.BoolVar(&p.Warm, "warm", p.Warm, "everybody has the scene")
	fs.IntVar(&p.Liars, "liars", 0, "machines that say they are ten times as fast as they are")
	trace := fs.String("trace", "", "play a real job again: a trace, or what `idlewild status JOB --json` said of a finished job")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *trace != "" {
		return replayTrace(ctx, *trace, p, *seeds)
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
	if *heapTo != "" {
		runtime.MemProfileRate = 4096
	}
	if *table == "" {
		goal := want{heapTo: *heapTo, minutes: *minutes}
		if *heavy {
			goal.memory = 64
		}
		return scenario(ctx, "as asked", p, *seeds, *fifo, goal)
	}
	var out []Figure
	for _, name := range strings.Split(*table, ",") {
		rows, ok := tables[name]
		if !ok {
			return nil, fmt.Errorf("there is no table %q; known are %s", name, strings.Join(slices.Sorted(maps.Keys(tables)), ", "))
		}
		for _, r := range rows {
			q := swarm.Defaults()
			q.Seed = p.Seed
			r.change(&q)
			goal := r.want
			goal.heapTo, goal.minutes = *heapTo, *minutes
			figs, err := scenario(ctx, r.name, q, min(*seeds, r.seeds), *fifo && r.fifo, goal)
			if err != nil {
				return out, err
			}
			out = append(out, figs...)
		}
	}
	return out, nil
}

// want is what a scenario is meant to reach; zero: nothing.
type want struct {
	ratio, waste, preview, jain, messages, memory float64
	heapTo                                        string // a profile of the memory goes there; empty: none
	minutes                                       bool   // say what machines did
}

type row struct {
	name   string
	seeds  int
	fifo   bool
	change func(*swarm.Params)
	want   want
}

// tables are the published scenarios. With a thousand machines the frames are
// ten times as long and cut into four times as many parts, so that the job
// takes as long as with a hundred.
var tables = map[string][]row{
	"hundred": {
		{"N=100, churn .05, warm", 9, false, func(p *swarm.Params) { p.Churn, p.Warm = .05, true }, want{ratio: 1.05, preview: 1.15}},
		{"N=100, churn .2, warm", 9, false, func(p *swarm.Params) { p.Warm = true }, want{ratio: 1.05, waste: 1, preview: 1.15}},
		{"N=100, churn .33, warm", 9, false, func(p *swarm.Params) { p.Churn, p.Warm = .33, true }, want{ratio: 1.05, preview: 1.15}},
		{"N=100, churn .05, cold", 9, true, func(p *swarm.Params) { p.Churn = .05 }, want{ratio: 1.08}},
		{"N=100, churn .2, cold", 9, true, func(p *swarm.Params) {}, want{ratio: 1.08, waste: 1}},
		{"N=100, churn .33, cold", 9, true, func(p *swarm.Params) { p.Churn = .33 }, want{ratio: 1.08}},
		{"N=100, churn 1, warm", 9, false, func(p *swarm.Params) { p.Churn, p.Warm = 1, true }, want{waste: 4}},
	},
	"liar": {
		{"N=100, churn .2, warm", 9, false, func(p *swarm.Params) { p.Warm = true }, want{ratio: 1.05}},
		{"N=100, churn .2, warm, one says it is ten times as fast", 9, false, func(p *swarm.Params) { p.Warm, p.Liars = true, 1 }, want{ratio: 1.05 * 1.02}},
	},
	"thousand": {
		{"N=1000, cold", 3, false, func(p *swarm.Params) { p.Nodes, p.Base, p.Parts = 1000, 18000, 64 }, want{ratio: 1.10}},
	},
	"many": {
		{"N=10000, 20 jobs of 5000 whole frames, cold", 1, false, func(p *swarm.Params) {
			p.Nodes, p.Jobs, p.Frames, p.Parts, p.Spread = 10000, 20, 5000, 1, true
		}, want{ratio: 1.10, waste: 1, jain: .99, messages: 500, memory: 64}},
	},
}

// scenario runs a world with several seeds; figures are medians.
func scenario(ctx context.Context, name string, p swarm.Params, seeds int, fifo bool, goal want) ([]Figure, error) {
	var rs, fs []swarm.Result
	var steps []time.Duration
	for i := range seeds {
		q := p
		q.Seed += uint64(i)
		began := time.Now()
		r, err := swarm.Run(ctx, q, newSimulated(), nil)
		if err != nil {
			return nil, err
		}
		slices.Sort(r.StepTook)
		fmt.Fprintf(os.Stderr, "%s, seed %d: %.3f of %.0f s (%.3f can hardly be beaten); waste %.2f %%, beginnings %.2f %%, idle %.2f %%; jain %.4f, preview %.3f; %d messages, peak %.0f/s; scenes %.0f GB; %d steps, p50 %v p99 %v; journal %.0f B/task; unended %d; took %v\n",
			name, q.Seed, r.Ratio, r.Ideal, r.Bound/r.Ideal, 100*r.Waste, 100*r.Begin, 100*r.Idle, r.Jain, r.Preview, r.Messages, r.Peak, r.Traffic,
			len(r.StepTook), took(r.StepTook, .5), took(r.StepTook, .99), float64(r.Journal)/float64(r.Tasks), r.Unended, time.Since(began).Round(time.Millisecond))
		if goal.minutes {
			for i, m := range r.Minutes {
				fmt.Fprintf(os.Stderr, "   minute %d: %.1f %% work, %.1f %% fetch, %.1f %% wait; %.1f %% of the tasks open; %.2f %% wasted; %d slow steps\n", i, 100*m.Works, 100*m.Fetches, 100*m.Waits, 100*m.Open, 100*m.Wasted, m.Slow)
			}
		}
		if goal.minutes {
			for _, why := range slices.Sorted(maps.Keys(r.Wasted)) {
				fmt.Fprintf(os.Stderr, "   wasted, %s: %.2f %%\n", why, 100*r.Wasted[why])
			}
			for _, name := range slices.Sorted(maps.Keys(r.Sorts)) {
				ts := r.Sorts[name]
				slices.Sort(ts)
				sum, slow := time.Duration(0), 0
				for _, t := range ts {
					if sum += t; t > 50*time.Microsecond {
						slow++
					}
				}
				fmt.Fprintf(os.Stderr, "   %s: %d steps, %d slow, %v in all, p50 %v p99 %v most %v\n", name, len(ts), slow, sum.Round(time.Millisecond), took(ts, .5), took(ts, .99), ts[len(ts)-1])
			}
		}
		for _, e := range r.Estimates {
			fmt.Fprintf(os.Stderr, "   at %.2f: said %.0f (%.0f to %.0f), was %.0f\n", e.Done, e.Mid, e.Low, e.High, e.Rest)
		}
		steps = append(steps, r.StepTook...)
		rs = append(rs, r)
		if fifo {
			q.Star = true
			r, err := swarm.Run(ctx, q, swarm.NewFIFO(swarm.Self(), 30*time.Minute), nil)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "   FIFO: %.3f, waste %.2f %%, jain %.4f, scenes %.0f GB, unended %d\n", r.Ratio, 100*r.Waste, r.Jain, r.Traffic, r.Unended)
			fs = append(fs, r)
		}
	}
	mid := func(rs []swarm.Result, f func(swarm.Result) float64) float64 {
		var v []float64
		for _, r := range rs {
			v = append(v, f(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	var out []Figure
	add := func(what, unit string, goal float64, least bool, f func(swarm.Result) float64) {
		var peers []Peer
		if len(fs) > 0 {
			peers = []Peer{{"FIFO", mid(fs, f)}}
		}
		x := Figure{Name: name + ": " + what, Value: mid(rs, f), Unit: unit, Holds: true, Peers: peers}
		switch {
		case goal != 0 && least:
			x = atLeast(x.Name, x.Value, unit, goal, peers...)
		case goal != 0:
			x = atMost(x.Name, x.Value, unit, goal, peers...)
		}
		out = append(out, x)
	}
	add("time over the ideal", "", goal.ratio, false, func(r swarm.Result) float64 { return r.Ratio })
	add("wasted work", "%", goal.waste, false, func(r swarm.Result) float64 { return 100 * r.Waste })
	if p.Jobs == 1 {
		add("preview over the earliest", "", goal.preview, false, func(r swarm.Result) float64 { return r.Preview })
	} else {
		add("fairness (Jain)", "", goal.jain, true, func(r swarm.Result) float64 { return r.Jain })
		add("scenes moved", "GB", 0, false, func(r swarm.Result) float64 { return r.Traffic })
	}
	add("control messages", "/s", goal.messages, false, func(r swarm.Result) float64 { return float64(r.Messages) / r.Makespan })
	worst, within, n := 0.0, 0, 0
	for _, r := range rs {
		for _, e := range r.Estimates {
			if e.Done == .1 && e.Rest > 0 {
				worst = max(worst, math.Abs(e.Mid/e.Rest-1))
				if n++; e.Low <= e.Rest && e.Rest <= e.High {
					within++
				}
			}
		}
	}
	if n > 0 {
		out = append(out, atMost(name+": time left said at a tenth, worst error", 100*worst, "%", 20),
			plain(name+": the same, inside of its range", 100*float64(within)/float64(n), "% of jobs"))
	}
	var efforts []int
	for _, r := range rs {
		efforts = append(efforts, r.Efforts...)
	}
	if slices.Sort(efforts); len(efforts) > 0 {
		out = append(out, plain(name+": looked at by a step, p99", float64(efforts[len(efforts)*99/100]), "devices, leases, tasks"))
	}
	slices.Sort(steps)
	out = append(out, atMost(name+": a step of the board, p99", float64(took(steps, .99).Nanoseconds())/1000, "µs", 50))
	if goal.memory > 0 {
		m, err := weigh(ctx, p, goal.heapTo)
		if err != nil {
			return out, err
		}
		out = append(out, atMost(name+": the board's memory, half of the tasks done", m, "MB", goal.memory),
			plain(name+": the same, of each task, workers and all", m*1e6/float64(p.Jobs*p.Frames*p.Parts), "bytes"))
	}
	return out, nil
}

// weigh is what the board alone holds in memory in the middle of a run.
func weigh(ctx context.Context, p swarm.Params, heapTo string) (float64, error) {
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / 1e6
	}
	before := heap()
	half, stop := context.WithCancel(ctx)
	defer stop()
	b := newSimulated()
	if _, err := swarm.Run(half, p, b, stop); err != nil && half.Err() == nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	after := heap()
	if heapTo != "" {
		f, err := os.Create(heapTo)
		if err != nil {
			return 0, err
		}
		if err := errors.Join(pprof.WriteHeapProfile(f), f.Close()); err != nil {
			return 0, err
		}
	}
	runtime.KeepAlive(b)
	return after - before, nil
}

func newSimulated() simulated {
	return simulated{dispatch.NewBoard(swarm.Self(), 1, dispatch.Options{})}
}

func took(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
