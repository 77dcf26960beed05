package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"sort"
	"time"

	"idlewild/job"
)

func init() {
	benchmarks["overhead"] = benchmark{"what a no-op task costs: one requester, one worker, real processes on loopback", overhead}
}

// overhead submits no-op tasks to one worker. Flamenco 3.9 takes 5.14 s per
// such task: 2 s of sleep and 3 s of polling, hard-coded.
func overhead(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("overhead", flag.ContinueOnError)
	n := fs.Int("n", 1000, "tasks")
	singles := fs.Int("singles", 50, "jobs of one task, one after the other")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	requester, err := f.start(ctx, "requester", nodeOptions{noWork: true})
	if err != nil {
		return nil, err
	}
	worker, err := f.start(ctx, "worker", nodeOptions{})
	if err != nil {
		return nil, err
	}
	if err := f.found(ctx, requester, worker); err != nil {
		return nil, err
	}
	submit := func(name string, count int, each func(job.Event)) (job.Status, error) {
		params, err := json.Marshal(map[string]any{"count": count, "text": name})
		if err != nil {
			return job.Status{}, err
		}
		id, err := requester.client.Submit(ctx, job.Spec{Kind: "echo", Title: name, Output: filepath.Join(f.dir, "out", name), Params: params})
		if err != nil {
			return job.Status{}, fmt.Errorf("submit: %w", err)
		}
		s, err := requester.wait(ctx, id, each)
		if err == nil && (s.State != job.StateFinished || s.Delivered != count) {
			err = fmt.Errorf("job %s: %s, %d of %d delivered: %s", id, s.State, s.Delivered, count, s.Reason)
		}
		return s, err
	}
	if _, err := submit("warm-up", 10, nil); err != nil {
		return nil, err
	}

	// Single tasks: from the lease to the file in the output folder, which is
	// what a task adds to the work itself.
	var single []float64
	for i := range *singles {
		var leased time.Time
		if _, err := submit(fmt.Sprintf("single-%03d", i), 1, func(e job.Event) {
			switch e.Type {
			case job.EventLeased:
				leased = e.Time
			case job.EventDelivered:
				single = append(single, e.Time.Sub(leased).Seconds()*1e3)
			}
		}); err != nil {
			return nil, err
		}
	}
	sort.Float64s(single)

	cpu0, err := cpuSeconds(requester.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	var first time.Time
	var at []float64 // ms since the first lease, of each delivery
	s, err := submit("many", *n, func(e job.Event) {
		switch e.Type {
		case job.EventLeased:
			if first.IsZero() {
				first = e.Time
			}
		case job.EventDelivered:
			at = append(at, e.Time.Sub(first).Seconds()*1e3)
		}
	})
	if err != nil {
		return nil, err
	}
	cpu1, err := cpuSeconds(requester.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	if len(at) != *n {
		return nil, fmt.Errorf("saw %d deliveries of %d", len(at), *n)
	}
	sort.Float64s(at)
	total := at[len(at)-1]
	// Drift: the second half must not be slower than the first.
	half := at[len(at)/2]
	flamenco := Peer{"Flamenco 3.9, measured", 5140}
	return []Figure{
		atMost("no-op task, lease to file, p50", quantile(single, .5), "ms", 20, flamenco),
		atMost("no-op task, lease to file, p99", quantile(single, .99), "ms", 100, flamenco),
		atMost(fmt.Sprintf("mean of %d tasks in one job", *n), total/float64(*n), "ms/task", 20, flamenco),
		atMost("messages per task", float64(s.Messages)/float64(*n), "", 2, Peer{"Flamenco 3.9", 5}),
		atMost("coordinator CPU per task", (cpu1-cpu0)*1e3/float64(*n), "ms", 2, Peer{"Flamenco 3.9", 26}),
		atMost("second half against first half of the time", (total-half)/half, "", 1.25),
	}, nil
}
