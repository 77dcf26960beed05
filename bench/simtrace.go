package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"

	"idlewild/bench/swarm"
	"idlewild/job"
)

// replayTrace plays a real job again and says how far the simulator is off.
func replayTrace(ctx context.Context, path string, p swarm.Params, seeds int) ([]Figure, error) {
	t, err := readTrace(path)
	if err != nil {
		return nil, err
	}
	p.Warm, p.Begin, p.Load = true, min(p.Begin, .2), min(p.Load, 5)
	took, ideal, err := playTrace(ctx, t, p, seeds)
	if err != nil {
		return nil, err
	}
	out := []Figure{
		plain("simulated", took, "s"),
		plain("simulated, time over the ideal", took/ideal, ""),
	}
	if t.Took > 0 {
		out = append(out, plain("the job itself", t.Took, "s"), plain("the same, over the ideal", t.Took/ideal, ""),
			atMost("the simulator is off by", 100*math.Abs(took/t.Took-1), "%", 5))
	}
	return out, nil
}

// readTrace reads a trace, or makes one of a job's status.
func readTrace(path string) (swarm.Trace, error) {
	const most = 256 << 20
	fi, err := os.Stat(path)
	if err == nil && fi.Size() > most {
		err = job.Refuse(path, fmt.Sprintf("has %d bytes", fi.Size()), fmt.Sprintf("give a trace of at most %d", most))
	}
	if err != nil {
		return swarm.Trace{}, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return swarm.Trace{}, err
	}
	var t swarm.Trace
	if err := json.Unmarshal(b, &t); err != nil {
		return t, job.Refuse(path, err.Error(), "give a trace, or what `idlewild status JOB --json` said")
	}
	if len(t.Frames) > 0 {
		return t, t.Validate()
	}
	var s job.Status
	if err := json.Unmarshal(b, &s); err != nil {
		return t, job.Refuse(path, err.Error(), "give a trace, or what `idlewild status JOB --json` said")
	}
	return swarm.TraceOf(s)
}

// playTrace is how long a trace takes in the simulator, the median of some
// seeds, and its ideal.
func playTrace(ctx context.Context, t swarm.Trace, p swarm.Params, seeds int) (took, ideal float64, err error) {
	p.Trace, p.Nodes, p.Churn, p.Jobs, p.Frames, p.Parts = &t, len(t.Machines), 0, 1, len(t.Frames), 1
	var all []float64
	for i := range max(seeds, 1) {
		q := p
		q.Seed += uint64(i)
		r, err := swarm.Run(ctx, q, newSimulated(), nil)
		if err != nil {
			return 0, 0, err
		}
		if r.Unended > 0 {
			return 0, 0, fmt.Errorf("the job did not end: nobody was there any more")
		}
		all = append(all, r.Makespan)
		ideal = r.Ideal
	}
	slices.Sort(all)
	return all[len(all)/2], ideal, nil
}
