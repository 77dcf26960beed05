package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"idlewild/bench/swarm"
	"idlewild/job"
	"idlewild/node/dispatch"
)

func init() {
	benchmarks["journal"] = benchmark{"what a job's journal costs: bytes of a task, time to read it at a start", journal}
}

// keeping is a board whose records are kept.
type keeping struct {
	simulated
	id    job.ID
	rec   *dispatch.Recorder
	after func() error // each step
	err   error
}

func (k *keeping) Step(now time.Time, e dispatch.Event) []dispatch.Effect {
	if s, ok := e.(dispatch.Submitted); ok {
		k.id = s.ID
	}
	out := k.simulated.Step(now, e)
	if k.err == nil {
		k.err = k.rec.Record(out)
	}
	if k.err == nil {
		k.err = k.after()
	}
	return out
}

// journal plays a job of a simulated swarm, writes its journal and reads it.
func journal(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("journal", flag.ContinueOnError)
	frames := fs.Int("frames", 2600, "of the job, in 16 parts each")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "idlewild-bench-journal-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	rec, err := dispatch.NewRecorder(dir)
	if err != nil {
		return nil, err
	}
	p := swarm.Defaults()
	p.Frames, p.Warm, p.Nodes = *frames, true, 300
	k := &keeping{simulated: simulated{dispatch.NewBoard(swarm.Self(), 1, dispatch.Options{})}, rec: rec}
	// The longest that it gets, and how long a start in the middle takes.
	var most int64
	var start replayed
	tasks, steps := float64(*frames*(p.Parts+1)), 0
	k.after = func() error {
		if n := rec.Bytes(k.id); n > most {
			most = n
		}
		if steps++; steps%4096 != 0 || start.records > 0 {
			return nil
		}
		s, _ := k.Board.Status(time.Time{}, k.id, 0, false)
		if s.Delivered*10 < 9**frames {
			return nil
		}
		start, err = replay(dir, k.id)
		return err
	}
	r, err := swarm.Run(ctx, p, k, nil)
	if err == nil {
		err = k.err
	}
	if err != nil {
		return nil, err
	}
	over := rec.Bytes(k.id)
	if err := rec.Close(); err != nil {
		return nil, err
	}
	end, err := replay(dir, k.id)
	if err != nil {
		return nil, err
	}
	if r.Unended > 0 {
		return nil, fmt.Errorf("the job did not end")
	}
	return []Figure{
		plain("records written, a task", float64(rec.Written)/tasks, "bytes"),
		plain("journal of a task at its longest, while the job runs", float64(most)/tasks, "bytes"),
		atMost("journal of a task, the job over", float64(over)/tasks, "bytes", 100),
		plain("records read at a start, nine tenths delivered", float64(start.records), ""),
		atMost("reading them, for 200 000 records", start.each(200_000), "ms", 100),
		plain("records read at a start, the job over", float64(end.records), ""),
		plain("reading all of them", end.each(end.records), "ms"),
	}, nil
}

// replayed is how long reading a journal took.
type replayed struct {
	records int
	took    time.Duration
}

func (r replayed) each(n int) float64 {
	return r.took.Seconds() * 1000 * float64(n) / float64(max(r.records, 1))
}

// replay reads a journal as a start does, the best of five times.
func replay(dir string, id job.ID) (best replayed, err error) {
	for range 5 {
		began := time.Now()
		n, err := dispatch.Replay(dir, id)
		if err != nil {
			return best, err
		}
		if d := time.Since(began); best.took == 0 || d < best.took {
			best = replayed{n, d}
		}
	}
	return best, nil
}
