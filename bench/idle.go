package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"encoding/json"

	"idlewild/job"
)

func init() {
	benchmarks["idle"] = benchmark{"what a daemon costs its owner while it has nothing to do, and beside a worker that renders", idleCost}
}

// idleCost looks at a worker that has joined a farm, on a desk with an X
// server: first with nothing to do, then beside a Blender that it runs.
func idleCost(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("idle", flag.ContinueOnError)
	settle := fs.Duration("settle", 60*time.Second, "before the idle daemon is looked at")
	span := fs.Duration("for", 90*time.Second, "how long it is looked at")
	skipBusy := fs.Bool("no-busy", false, "leave out the daemon at work, which needs Blender")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	desk, err := newDesk(ctx)
	if err != nil {
		return nil, err
	}
	defer desk.close()
	requester, err := f.start(ctx, "requester", nodeOptions{noWork: true})
	if err != nil {
		return nil, err
	}
	worker, err := f.start(ctx, "worker", nodeOptions{env: deskEnv(desk.display, 5)})
	if err != nil {
		return nil, err
	}
	if err := f.found(ctx, requester, worker); err != nil {
		return nil, err
	}
	pass := func(d time.Duration) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		}
	}
	pid := worker.cmd.Process.Pid
	look := func() (costs, error) {
		before, err := costOf(pid)
		if err != nil {
			return costs{}, err
		}
		if err := pass(*span); err != nil {
			return costs{}, err
		}
		after, err := costOf(pid)
		return after.minus(before), err
	}
	if err := pass(*settle); err != nil {
		return nil, err
	}
	quiet, err := look()
	if err != nil {
		return nil, err
	}
	seconds := span.Seconds()
	figures := []Figure{
		atMost("idle, joined to a farm: share of a core", 100*quiet.cpu/seconds, "%", 0.3),
		atMost("idle: resident memory", quiet.rss/(1<<20), "MB", 60),
		plain("idle: of it anonymous, the rest is the program itself", quiet.anon/(1<<20), "MB"),
		atMost("idle: wake-ups, of all threads", quiet.wakes/seconds, "1/s", 5),
		plain("idle: without the naps of Go's own watch thread", (quiet.wakes-quiet.naps)/seconds, "1/s"),
		atMost("idle: bytes written to the disk", quiet.written, "B", 0),
	}
	if *skipBusy {
		return figures, nil
	}
	scene, err := sceneOrDemo(ctx, f, "")
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, f.bin, "submit", scene, "-o", filepath.Join(f.dir, "out"), "-f", "1-250",
		"--resolution", "480x270", "--samples", "64", "--json")
	c.Env, c.Stderr = requester.env, os.Stderr
	b, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	var id struct {
		Job job.ID `json:"job"`
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return nil, err
	}
	if _, err := rendering(ctx, worker); err != nil {
		return nil, err
	}
	busy, err := look()
	if err != nil {
		return nil, err
	}
	return append(figures,
		atMost("beside its worker: share of a core", 100*busy.cpu/seconds, "%", 2),
		plain("beside its worker: resident memory", busy.rss/(1<<20), "MB"),
		plain("beside its worker: wake-ups", busy.wakes/seconds, "1/s"),
	), nil
}

// costs of one process, its children's not in them.
type costs struct {
	cpu     float64 // seconds
	rss     float64 // bytes, now
	anon    float64
	wakes   float64 // times that a thread of it waited and was woken
	naps    float64 // of them by the thread that Go starts first: it watches the others while any runs, in naps of 20 µs
	written float64 // bytes, to the disk
}

func (c costs) minus(d costs) costs {
	c.cpu -= d.cpu
	c.wakes -= d.wakes
	c.naps -= d.naps
	c.written -= d.written
	return c
}

func costOf(pid int) (c costs, err error) {
	if c.cpu, err = cpuSeconds(pid); err != nil {
		return c, err
	}
	number := func(file, key string) float64 {
		b, _ := os.ReadFile(file)
		for line := range bytes.Lines(b) {
			if k, v, ok := strings.Cut(string(line), ":"); ok && k == key {
				n, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
				return n
			}
		}
		return 0
	}
	dir := fmt.Sprintf("/proc/%d", pid)
	c.rss, c.anon = 1024*number(dir+"/status", "VmRSS"), 1024*number(dir+"/status", "RssAnon")
	c.written = number(dir+"/io", "write_bytes")
	threads, err := filepath.Glob(dir + "/task/*/status")
	lowest := -1
	for _, t := range threads {
		n := number(t, "voluntary_ctxt_switches")
		c.wakes += n
		tid, _ := strconv.Atoi(filepath.Base(filepath.Dir(t)))
		if tid != pid && (lowest < 0 || tid < lowest) {
			lowest, c.naps = tid, n
		}
	}
	return c, err
}
