package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"idlewild/job"
	"idlewild/node/dispatch"
)

func init() {
	benchmarks["chaos"] = benchmark{"random kill -9 of requester and workers during a job, and a worker that is cut off", chaos}
}

// chaos runs one job while daemons are killed and come back. Acknowledged means
// that the requester said "delivered": the file must be there ever after, and
// the same bytes.
func chaos(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	kills := fs.Int("kills", 50, "how many kill -9")
	seed := fs.Uint64("seed", 1, "of the order of kills")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(*seed, 0))
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	requester, err := f.start(ctx, "requester", nodeOptions{noWork: true})
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
	if err := f.found(ctx, requester, workers...); err != nil {
		return nil, err
	}

	// Tasks are long enough that a kill hits one in the middle, and enough of
	// them that the job outlives the kills.
	const taskMillis = 200
	count := *kills * 20
	out := filepath.Join(f.dir, "out")
	params, err := json.Marshal(map[string]any{"count": count, "text": "chaos", "sleep_ms": taskMillis})
	if err != nil {
		return nil, err
	}
	id, err := requester.client.Submit(ctx, job.Spec{Kind: "echo", Title: "chaos", Output: out, Params: params})
	if err != nil {
		return nil, err
	}
	acknowledged := map[string]bool{} // delivered, by the requester's word
	var history dispatch.History      // of what it said, and of what its journal says after each kill
	journals := filepath.Join(requester.dir, "dispatch")
	told := func(what job.EventType, task, text string) {
		history.Did(dispatch.Emit{Event: job.Event{Job: id, Type: what, Task: task, Text: text}})
	}
	told(job.EventState, "", string(job.StateAccepted))
	look := func() error {
		s, err := requester.client.Job(ctx, id)
		if err != nil {
			return err
		}
		for _, t := range s.Frames {
			if t.State == "delivered" && !acknowledged[t.Label] {
				acknowledged[t.Label] = true
				told(job.EventDelivered, t.Label, "")
			}
		}
		return nil
	}
	// settled waits until work goes on after a fault: some more is delivered.
	progressed := func(limit time.Duration) (time.Duration, error) {
		start, before := time.Now(), -1
		err := poll(ctx, limit, "work going on", func() error {
			s, err := requester.client.Job(ctx, id)
			if err != nil {
				return err
			}
			if s.State.Ended() {
				return nil
			}
			if before < 0 {
				before = s.Delivered
			}
			if s.Delivered <= before+1 {
				return fmt.Errorf("%d delivered, %s", s.Delivered, s.Reason)
			}
			return nil
		})
		return time.Since(start), err
	}
	lost, ended := 0, false
	killed := map[string]int{}
	for k := 0; k < *kills && !ended; k++ {
		if _, err := progressed(90 * time.Second); err != nil {
			return nil, fmt.Errorf("after %d kills: %w", k, err)
		}
		// Let a random part of a task pass, so that the kill hits any step.
		pause := time.NewTimer(time.Duration(rng.IntN(2*taskMillis)) * time.Millisecond)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-pause.C:
		}
		if err := look(); err != nil {
			return nil, err
		}
		victim := append([]*daemon{requester}, workers...)[rng.IntN(1+len(workers))]
		victim.kill9()
		killed[victim.name]++
		if victim == requester {
			if err := history.Read(nil, journals); err != nil {
				return nil, fmt.Errorf("after kill %d: %w", k+1, err)
			}
		}
		if err := f.restart(ctx, victim); err != nil {
			return nil, fmt.Errorf("after kill %d: %w", k+1, err)
		}
		if victim == requester {
			s, err := requester.client.Job(ctx, id)
			if err != nil {
				return nil, err
			}
			now := map[string]bool{}
			for _, t := range s.Frames {
				now[t.Label] = t.State == "delivered"
			}
			for label := range acknowledged {
				if !now[label] {
					lost++
				}
			}
			ended = s.State.Ended()
		}
		fmt.Fprintf(os.Stderr, "kill %d: %s; %d delivered\n", k+1, victim.name, len(acknowledged))
	}

	// A worker that hangs without a word (a suspended laptop, a cut cable).
	cut := workers[0]
	status, err := cut.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	cutPeer := status.Machine.Peer
	cut.signal(syscall.SIGSTOP)
	defer cut.signal(syscall.SIGCONT) // or it could not be ended
	if err := poll(ctx, 90*time.Second, "the cut-off worker is missed", func() error {
		v, err := requester.client.Peers(ctx)
		if err != nil {
			return err
		}
		for _, m := range v.Members {
			if m.Name == cut.name && m.Connected {
				return fmt.Errorf("%s still counts as connected", cut.name)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if _, err := progressed(120 * time.Second); err != nil {
		return nil, fmt.Errorf("while a worker was cut off: %w", err)
	}
	by := func() (int, error) { // what the cut-off worker has delivered
		s, err := requester.client.Job(ctx, id)
		n := 0
		for _, t := range s.Frames {
			if t.State == "delivered" && t.Worker == cutPeer {
				n++
			}
		}
		return n, err
	}
	before, err := by()
	cut.signal(syscall.SIGCONT)
	healed := time.Now()
	if err != nil {
		return nil, err
	}
	if err := poll(ctx, 60*time.Second, "the cut-off worker back", func() error {
		n, err := by()
		if err == nil && n <= before {
			err = fmt.Errorf("%s has delivered nothing since", cut.name)
		}
		return err
	}); err != nil {
		return nil, err
	}
	back := time.Since(healed)

	s, err := requester.wait(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	if s.State != job.StateFinished {
		return nil, fmt.Errorf("the job ended %s: %s", s.State, s.Reason)
	}
	if err := look(); err != nil {
		return nil, err
	}
	told(job.EventState, "", string(s.State))
	requester.kill9()
	if err := history.Read(nil, journals); err != nil {
		return nil, err
	}
	history.End()
	wrong := map[dispatch.Wrong]int{}
	for _, f := range history.Faults() {
		fmt.Fprintln(os.Stderr, f)
		wrong[f.What]++
	}
	missing := 0
	for _, t := range s.Frames {
		for _, file := range t.Files {
			if fi, err := os.Stat(file); err != nil || fi.Size() == 0 {
				missing++
			}
		}
	}
	runs := 0 // that came to their end, by the workers' own logs
	for _, w := range workers {
		b, err := os.ReadFile(filepath.Join(f.dir, w.name+".log"))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, `msg="task ended"`) && strings.Contains(line, "outcome=succeeded") {
				runs++
			}
		}
	}
	total := 0
	for _, n := range killed {
		total += n
	}
	return []Figure{
		plain("kills of the requester", float64(killed["requester"]), ""),
		plain("kills of workers", float64(total-killed["requester"]), ""),
		atLeast("kills", float64(total), "", float64(*kills)),
		atMost("acknowledged frames lost", float64(lost+missing), "", 0),
		atMost("by the journals: acknowledged, then lost", float64(wrong[dispatch.WrongLost]), "", 0),
		atMost("by the journals: counted twice", float64(wrong[dispatch.WrongTwice]), "", 0),
		atMost("by the journals: granted twice in one epoch", float64(wrong[dispatch.WrongGrant]), "", 0),
		atMost("by the journals: jobs that never end", float64(wrong[dispatch.WrongEndless]), "", 0),
		atLeast("frames delivered of those asked for", float64(s.Delivered)/float64(count), "", 1),
		plain("tasks done twice", float64(runs-count), ""),
		// A kill of a worker also loses the task that was running, once.
		atMost("pieces redone per kill", float64(runs-count+total-killed["requester"])/float64(total), "", 1),
		atMost("cut-off worker back after the link healed", back.Seconds(), "s", 10),
	}, nil
}
