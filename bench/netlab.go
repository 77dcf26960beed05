package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"idlewild/internal/netlab"
	"idlewild/job"
	"idlewild/node/localapi"
)

func init() {
	benchmarks["netlab"] = benchmark{"daemons behind routers, over slow, cut and changing networks (needs root)", netlabRun}
}

// netlabScenario is one experiment in a lab of its own.
type netlabScenario struct {
	name string
	run  func(ctx context.Context, b *netlabBed) ([]Figure, error)
}

var netlabScenarios = []netlabScenario{
	{"punch", netlabPunch},
	{"relay", netlabRelay},
	{"restart", netlabRestart},
	{"cut", netlabCut},
	{"change", netlabChange},
	{"bootstrap", netlabBootstrap},
	{"reach", netlabReach},
}

// netlabRun runs all scenarios, or those that are asked for.
func netlabRun(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("netlab", flag.ContinueOnError)
	only := fs.String("only", "", "scenarios, separated by commas; empty: all")
	cut := fs.Duration("cut", 40*time.Second, "how long a link is cut; the goal is for 3m")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if err := netlab.Allowed(); err != nil {
		return nil, err
	}
	wanted := strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	for _, name := range wanted {
		if !slices.ContainsFunc(netlabScenarios, func(s netlabScenario) bool { return s.name == name }) {
			return nil, fmt.Errorf("no scenario is called %q", name)
		}
	}
	var all []Figure
	for _, s := range netlabScenarios {
		if len(wanted) > 0 && !slices.Contains(wanted, s.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "netlab: %s\n", s.name)
		figures, err := netlabOne(ctx, s, *cut)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		for _, f := range figures { // a later scenario may fail
			fmt.Fprintf(os.Stderr, "netlab: %s: %s %s\n", strings.TrimSpace(f.Name), number(f.Value), f.Unit)
		}
		all = append(all, figures...)
	}
	return all, nil
}

// netlabOne runs one scenario in a fresh lab with a fresh farm.
func netlabOne(ctx context.Context, s netlabScenario, cut time.Duration) ([]Figure, error) {
	b, err := newNetlabBed(ctx)
	if err != nil {
		return nil, err
	}
	defer b.close()
	b.cut = cut
	figures, err := s.run(ctx, b)
	if err != nil {
		var logs []string
		for _, d := range b.nodes {
			if s, err := d.client.Peers(ctx); err == nil {
				b, _ := json.Marshal(s)
				logs = append(logs, "--- peers of "+d.name+"\n"+string(b))
			}
			logs = append(logs, "--- "+d.name+"\n"+b.tail(d.name))
		}
		return nil, fmt.Errorf("%w\n%s", err, strings.Join(logs, "\n"))
	}
	return figures, nil
}

// netlabBed is a farm in a lab.
type netlabBed struct {
	*farm
	lab      *netlab.Lab
	internet *netlab.Site
	cut      time.Duration
	hosts    map[*daemon]*netlab.Host
}

// newNetlabBed makes a fresh farm in a fresh lab that has nothing but a public network.
func newNetlabBed(ctx context.Context) (*netlabBed, error) {
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	b := &netlabBed{farm: f, lab: netlab.New(), hosts: map[*daemon]*netlab.Host{}}
	b.internet = b.lab.Site(netlab.None)
	return b, nil
}

// close ends the daemons, and then their network.
func (b *netlabBed) close() {
	b.farm.close()
	b.lab.Close()
}

// up starts a daemon on a new host, for echo tasks.
func (b *netlabBed) up(ctx context.Context, name string, at *netlab.Site, o netlab.LinkOptions, noWork bool, env ...string) (*daemon, error) {
	return b.put(ctx, name, at, o, nodeOptions{noWork: noWork, env: append([]string{
		"IDLEWILD_LOG_LEVEL=debug",
		"IDLEWILD_BLENDER_PATH=/nowhere/blender", // looking at one takes longer than the scenario
	}, env...)})
}

// put starts a daemon on a new host.
func (b *netlabBed) put(ctx context.Context, name string, at *netlab.Site, link netlab.LinkOptions, o nodeOptions) (*daemon, error) {
	h, err := at.Host(name, link)
	if err != nil {
		return nil, err
	}
	o.before = append(h.Enter(), o.before...)
	o.env = append([]string{"IDLEWILD_NETWORK_LISTEN="}, o.env...)
	d, err := b.start(ctx, name, o)
	if err != nil {
		return nil, err
	}
	b.hosts[d] = h
	return d, nil
}

// peer is how d sees other.
func (d *daemon) peer(ctx context.Context, other string) (localapi.PeerView, error) {
	v, err := d.client.Peers(ctx)
	if err != nil {
		return localapi.PeerView{}, err
	}
	for _, m := range v.Members {
		if m.Name == other {
			return m, nil
		}
	}
	return localapi.PeerView{}, fmt.Errorf("%s knows no member %s", d.name, other)
}

// reaches waits until d is connected with other by one of the paths; without
// any, by whichever. It returns what d sees then, and how long it took.
func (d *daemon) reaches(ctx context.Context, limit time.Duration, other string, paths ...string) (localapi.PeerView, time.Duration, error) {
	var seen localapi.PeerView
	start := time.Now()
	err := poll(ctx, limit, fmt.Sprintf("%s reaches %s %v", d.name, other, paths), func() error {
		m, err := d.peer(ctx, other)
		if err != nil {
			return err
		}
		if !m.Connected || len(paths) > 0 && !slices.Contains(paths, m.Path) {
			return fmt.Errorf("connected %v, path %q, hole punch %q", m.Connected, m.Path, m.PunchFail)
		}
		seen = m
		return nil
	})
	return seen, time.Since(start), err
}

// whole waits until every daemon is connected with every other.
func (b *netlabBed) whole(ctx context.Context, limit time.Duration, all ...*daemon) (time.Duration, error) {
	start := time.Now()
	for _, d := range all {
		for _, other := range all {
			if d == other {
				continue
			}
			if _, _, err := d.reaches(ctx, limit-time.Since(start), other.name); err != nil {
				return 0, err
			}
		}
	}
	return time.Since(start), nil
}

// echo sends a job of count tasks.
func (b *netlabBed) echo(ctx context.Context, d *daemon, name string, count, sleepMillis int, bytes int64) (job.ID, error) {
	params, err := json.Marshal(map[string]any{"count": count, "text": name, "sleep_ms": sleepMillis, "bytes": bytes})
	if err != nil {
		return "", err
	}
	return d.client.Submit(ctx, job.Spec{Kind: "echo", Title: name, Output: filepath.Join(b.dir, "out-"+name), Params: params})
}

// delivered waits until the job has delivered n more than it had.
func (d *daemon) progresses(ctx context.Context, limit time.Duration, id job.ID, by string, n int) (time.Duration, error) {
	start, before := time.Now(), -1
	err := poll(ctx, limit, "work going on", func() error {
		s, err := d.client.Job(ctx, id)
		if err != nil {
			return err
		}
		now := 0
		for _, t := range s.Frames {
			if t.State == "delivered" && (by == "" || t.Worker == by) {
				now++
			}
		}
		if before < 0 {
			before = now
		}
		if now < before+n {
			if s.State.Ended() {
				return fatal{fmt.Errorf("the job ended %s with %d delivered: too small for this machine", s.State, s.Delivered)}
			}
			return fmt.Errorf("%d delivered, %s", now, s.Reason)
		}
		return nil
	})
	return time.Since(start), err
}

// end waits for the job's end and looks for files that are missing and tasks
// that were done twice.
func (b *netlabBed) end(ctx context.Context, d *daemon, id job.ID, count int, workers ...*daemon) (lost, twice int, err error) {
	s, err := d.wait(ctx, id, nil)
	if err != nil {
		return 0, 0, err
	}
	if s.State != job.StateFinished {
		return 0, 0, fmt.Errorf("the job ended %s: %s", s.State, s.Reason)
	}
	lost = count - s.Delivered
	for _, t := range s.Frames {
		for _, file := range t.Files {
			if fi, err := os.Stat(file); err != nil || fi.Size() == 0 {
				lost++
			}
		}
	}
	for _, w := range workers {
		log, err := os.ReadFile(filepath.Join(b.dir, w.name+".log"))
		if err != nil {
			return 0, 0, err
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, `msg="task ended"`) && strings.Contains(line, "outcome=succeeded") {
				twice++
			}
		}
	}
	return lost, twice - count, nil
}

// again ends a daemon and starts it anew on the same data.
func (b *netlabBed) again(ctx context.Context, s syscall.Signal, all ...*daemon) error {
	for _, d := range all {
		d.signal(s)
	}
	for _, d := range all {
		select {
		case <-d.exited:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// Together: the last one up is what the others wait for.
	done := make(chan error, len(all))
	for _, d := range all {
		go func() { done <- b.farm.restart(ctx, d) }()
	}
	var errs []error
	for range all {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}
