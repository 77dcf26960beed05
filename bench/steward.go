package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"idlewild/job"
)

func init() {
	benchmarks["steward"] = benchmark{"kill -9 of a requester whose job has a steward: how soon work goes on, and what is lost", stewardBench}
}

// stewardBench kills a requester for good in the middle of a job, as a laptop
// that is closed, with the times that people have, and starts it again later.
func stewardBench(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("steward", flag.ContinueOnError)
	away := fs.Duration("away", 2*time.Minute, "how long the requester is away")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	laptop, err := f.start(ctx, "laptop", nodeOptions{noWork: true})
	if err != nil {
		return nil, err
	}
	nas, err := f.start(ctx, "nas", nodeOptions{noWork: true})
	if err != nil {
		return nil, err
	}
	var workers []*daemon
	for i := range 2 {
		w, err := f.start(ctx, fmt.Sprintf("worker%d", i+1), nodeOptions{})
		if err != nil {
			return nil, err
		}
		workers = append(workers, w)
	}
	if err := f.found(ctx, nas, append([]*daemon{laptop}, workers...)...); err != nil {
		return nil, err
	}
	const taskMillis, count = 1000, 600
	out := filepath.Join(f.dir, "out")
	params, err := json.Marshal(map[string]any{"count": count, "text": "steward", "sleep_ms": taskMillis})
	if err != nil {
		return nil, err
	}
	id, err := laptop.client.Submit(ctx, job.Spec{Kind: "echo", Title: "steward", Output: out, Params: params, Policy: job.Policy{Stewards: []string{"nas"}}})
	if err != nil {
		return nil, err
	}
	if err := poll(ctx, 2*time.Minute, "the steward ready and work under way", func() error {
		s, err := laptop.client.Job(ctx, id)
		if err == nil && (len(s.Stewards) != 1 || s.Stewards[0].State != "ready" || s.Delivered < 20) {
			err = fmt.Errorf("%d delivered, stewards %+v", s.Delivered, s.Stewards)
		}
		return err
	}); err != nil {
		return nil, err
	}
	laptop.kill9()
	cut := time.Now()
	acknowledged, err := os.ReadDir(out)
	if err != nil {
		return nil, err
	}
	first := time.Duration(0)
	if err := poll(ctx, 5*time.Minute, "the steward going on", func() error {
		s, err := nas.client.Job(ctx, id)
		if err != nil {
			return err
		}
		for _, t := range s.Frames {
			if t.State == "leased" || t.State == "delivered" {
				first = time.Since(cut)
				return nil
			}
		}
		return errors.New("nothing is granted yet")
	}); err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "first grant %v after the kill\n", first.Round(time.Millisecond))
	rest := time.NewTimer(max(0, *away-time.Since(cut)))
	select {
	case <-rest.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, err := nas.client.Job(ctx, id)
	if err != nil {
		return nil, err
	}
	meanwhile := s.Delivered
	if err := f.restart(ctx, laptop); err != nil {
		return nil, err
	}
	at := time.Now()
	back := time.Duration(0)
	if err := poll(ctx, 2*time.Minute, "the job back", func() error {
		s, err := laptop.client.Job(ctx, id)
		if err == nil && (s.Holder != "" || s.Delivered < len(acknowledged)+meanwhile/2) {
			err = fmt.Errorf("%d delivered, held by %q", s.Delivered, s.Holder)
		}
		back = time.Since(at)
		return err
	}); err != nil {
		return nil, err
	}
	if s, err = laptop.wait(ctx, id, nil); err != nil {
		return nil, err
	}
	lost := 0
	for _, e := range acknowledged {
		if fi, err := os.Stat(filepath.Join(out, e.Name())); err != nil || fi.Size() == 0 {
			lost++
		}
	}
	runs := map[string]int{}
	for _, w := range workers {
		b, err := os.ReadFile(filepath.Join(f.dir, w.name+".log"))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			_, label, ok := strings.Cut(line, " task=")
			if ok && strings.Contains(line, `msg="task ended"`) && strings.Contains(line, "outcome=succeeded") {
				label, _, _ = strings.Cut(label, " ")
				runs[label]++
			}
		}
	}
	twice := 0
	for _, n := range runs {
		if n > 1 {
			twice++
		}
	}
	return []Figure{
		atMost("first grant after the cut", first.Seconds(), "s", 90),
		plain("done while the requester was away", float64(meanwhile), "tasks"),
		plain("job back after the requester's start", back.Seconds(), "s"),
		atMost("acknowledged frames lost", float64(lost), "", 0),
		atLeast("frames delivered in the end", float64(s.Delivered), "", count),
		// A piece is of 25 s at least, where the rest is as long.
		atMost("tasks done twice, in pieces of 25 s for each worker", float64(twice)/25/float64(len(workers)), "", 1),
	}, nil
}
