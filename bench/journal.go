package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"idlewild/bench/swarm"
	"idlewild/internal/recordlog"
	"idlewild/job"
	"idlewild/node/dispatch"
)

func init() {
	benchmarks["journal"] = benchmark{"what a job's journal costs: bytes of a task, time to read it at a start", journal}
}

// keeping is a board whose records are kept.
type keeping struct {
	simulated
	id   job.ID
	recs [][]byte
	err  error
}

func (k *keeping) Step(now time.Time, e dispatch.Event) []dispatch.Effect {
	out := k.simulated.Step(now, e)
	for _, x := range out {
		if w, ok := x.(dispatch.Write); ok {
			b, err := w.Encode()
			if err != nil {
				k.err = err
			}
			k.id, k.recs = w.ID, append(k.recs, b)
		}
	}
	return out
}

// journal plays a job of a simulated swarm, writes its journal and reads it.
func journal(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("journal", flag.ContinueOnError)
	frames := fs.Int("frames", 2600, "of the job, in 16 parts each: about 77 records of a frame")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	p := swarm.Defaults()
	p.Frames, p.Warm, p.Nodes = *frames, true, 300
	k := &keeping{simulated: simulated{dispatch.NewBoard(swarm.Self(), 1, dispatch.Options{})}}
	r, err := swarm.Run(ctx, p, k, nil)
	if err != nil {
		return nil, err
	}
	if k.err != nil {
		return nil, k.err
	}
	dir, err := os.MkdirTemp("", "idlewild-bench-journal-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "jobs", string(k.id), "journal")
	l, err := recordlog.Open(path, dispatch.JournalOptions(), func([]byte) error { return nil })
	if err != nil {
		return nil, err
	}
	if err := l.Append(k.recs...); err != nil {
		return nil, err
	}
	bytes := l.Bytes()
	if err := l.Close(); err != nil {
		return nil, err
	}
	best := time.Duration(0)
	n := 0
	for range 3 {
		began := time.Now()
		if n, err = dispatch.Replay(dir, k.id); err != nil {
			return nil, err
		}
		if d := time.Since(began); best == 0 || d < best {
			best = d
		}
	}
	if n != len(k.recs) {
		return nil, fmt.Errorf("%d records were read of %d", n, len(k.recs))
	}
	return []Figure{
		atMost("journal of a task", float64(bytes)/float64(r.Tasks), "bytes", 100),
		plain("records", float64(n), ""),
		atMost("reading them, for 200 000 records", best.Seconds()*1000*200_000/float64(n), "ms", 100),
	}, nil
}
