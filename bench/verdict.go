package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"idlewild/job"
)

func init() {
	benchmarks["verdict"] = benchmark{"how long after a result is here its verdict is, beyond what its check renders", verdict}
}

// verdict has one worker render frames that are all checked, and takes from the
// job's events when each result was here and when it was judged. What the check
// itself took, which is the rendering of crops and of the look, is taken off.
func verdict(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("verdict", flag.ContinueOnError)
	n := fs.Int("frames", 8, "frames")
	samples := fs.Int("samples", 8, "of each: a frame and its check take some seconds then")
	file := fs.String("file", "", "a .blend of yours instead of the demo scene")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	scene, err := sceneOrDemo(ctx, f, *file)
	if err != nil {
		return nil, err
	}
	requester, _, err := f.cores(ctx, 1)
	if err != nil {
		return nil, err
	}
	id, err := f.submit(ctx, requester, "submit", scene, "-o", filepath.Join(f.dir, "out"), "--json",
		"-f", fmt.Sprintf("1-%d", *n), "--resolution", "640x360", "--samples", fmt.Sprint(*samples), "--recheck", "1", "--parts", "no")
	if err != nil {
		return nil, err
	}
	here := map[string]time.Time{}
	var whole, beyond []float64
	s, err := requester.wait(ctx, id, func(e job.Event) {
		switch {
		case e.Type == job.EventReturned:
			here[e.Task] = e.Time
		case e.Type == job.EventJudged && e.Verdict != nil && e.Verdict.CostSeconds > 0 && !here[e.Task].IsZero():
			took := e.Time.Sub(here[e.Task]).Seconds()
			whole = append(whole, took)
			beyond = append(beyond, took-e.Verdict.CostSeconds)
		}
	})
	if err != nil {
		return nil, err
	}
	if s.State != job.StateFinished || s.Rejected > 0 || len(beyond) == 0 {
		return nil, fmt.Errorf("the job ended %s, %d rejected, %d judged: %s", s.State, s.Rejected, len(beyond), s.Reason)
	}
	slices.Sort(whole)
	slices.Sort(beyond)
	return []Figure{
		plain("results checked", float64(len(beyond)), ""),
		plain("from the result to its verdict, median", quantile(whole, .5), "s"),
		atMost("beyond the check itself, median", quantile(beyond, .5), "s", 2),
		atMost("beyond the check itself, slowest", beyond[len(beyond)-1], "s", 2),
	}, nil
}
