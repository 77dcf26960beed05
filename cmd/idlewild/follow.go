package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
)

const (
	// refreshEvery is how often the status of a followed job is asked for.
	refreshEvery = 500 * time.Millisecond
	// goneFor is how long a daemon may be away, restarting, before whoever
	// waits for it gives up.
	goneFor = time.Minute
)

// follow watches a job until enough says so, across restarts of its daemon,
// and returns its status then. When ctx ends it returns the last one known.
func follow(ctx context.Context, dir string, id job.ID, v view, enough func(job.Status) bool) (job.Status, error) {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan job.Event)
	streamed := make(chan struct{})
	go func() {
		defer close(streamed)
		stream(ctx, dir, id, events)
	}()
	defer func() {
		cancel()
		<-streamed
	}()

	var (
		last   job.Status
		client *localapi.Client
		seen   = time.Now() // the daemon
		told   bool         // the event of the end came by
		tick   = time.NewTimer(0)
	)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return last, context.Cause(ctx)
		case e := <-events:
			v.event(e)
			if e.Type == job.EventState {
				told = job.State(e.Text).Ended()
				tick.Reset(0)
			}
			continue
		case <-tick.C:
		}
		asked := time.Now()
		s, err := ask(ctx, dir, &client, id)
		switch {
		case err == nil:
			last, seen = s, time.Now()
			if enough(s) {
				if s.State.Ended() && !told && v != (noView{}) {
					drain(events, v)
				}
				v.status(s)
				return s, nil
			}
			v.status(s)
		case ctx.Err() != nil:
			return last, context.Cause(ctx)
		case !errors.Is(err, localapi.ErrNoDaemon):
			return last, err
		case time.Since(seen) > goneFor:
			return last, fmt.Errorf("%w; job %s goes on when it is back", err, id)
		}
		// A big job's status takes long: at most a tenth of the time.
		tick.Reset(max(refreshEvery, 10*time.Since(asked)))
	}
}

// ask gets a job's status. A token that is refused is one of a daemon that
// starts or stops right now.
func ask(ctx context.Context, dir string, client **localapi.Client, id job.ID) (job.Status, error) {
	if *client == nil {
		c, err := localapi.Dial(dir)
		if err != nil {
			return job.Status{}, err
		}
		*client = c
	}
	s, err := (*client).Job(ctx, id)
	if errors.Is(err, localapi.ErrToken) {
		err = fmt.Errorf("%w: %w", localapi.ErrNoDaemon, err)
	}
	return s, err
}

// drain shows what happened just before the end, where the status was
// quicker than the events.
func drain(events <-chan job.Event, v view) {
	quiet := time.NewTimer(200 * time.Millisecond)
	defer quiet.Stop()
	for {
		select {
		case e := <-events:
			v.event(e)
			if e.Type == job.EventState && job.State(e.Text).Ended() {
				return
			}
		case <-quiet.C:
			return
		}
	}
}

// stream passes on a job's events until ctx ends, from the oldest that the
// daemon remembers, and again from the last one after a cut.
func stream(ctx context.Context, dir string, id job.ID, to chan<- job.Event) {
	seq := uint64(1)
	pid := 0
	for ctx.Err() == nil {
		if c, err := localapi.Dial(dir); err == nil {
			if now := c.Endpoint().PID; now != pid {
				pid, seq = now, 1 // a new process counts anew
			}
			for e, err := range c.Events(ctx, id, seq) {
				if err != nil {
					break
				}
				seq = e.Seq
				select {
				case to <- e:
				case <-ctx.Done():
				}
			}
			c.Close()
		}
		select {
		case <-time.After(refreshEvery):
		case <-ctx.Done():
		}
	}
}
