package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"

	"idlewild/job"
	"idlewild/node/idle"
)

func init() {
	benchmarks["yield"] = benchmark{"the owner moves the mouse while Blender renders for others: how soon the machine is free, and what is lost", yield}
}

// yield has a worker on a desk of its own, with a real X server. Each trial
// moves the mouse at a random moment of a render and counts until no process
// of the worker's is left, and until the requester may give the tasks to
// another.
func yield(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("yield", flag.ContinueOnError)
	trials := fs.Int("trials", 200, "how often the owner returns")
	limit := fs.Duration("limit", 30*time.Minute, "fewer trials where they take longer than this")
	samples := fs.Int("samples", 64, "of a frame")
	seed := fs.Uint64("seed", 1, "of the moments")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	scene, err := sceneOrDemo(ctx, f, "")
	if err != nil {
		return nil, err
	}
	desk, err := newDesk(ctx)
	if err != nil {
		return nil, err
	}
	defer desk.close()
	requester, err := f.start(ctx, "requester", nodeOptions{noWork: true})
	if err != nil {
		return nil, err
	}
	const after = 1
	worker, err := f.start(ctx, "worker", nodeOptions{env: deskEnv(desk.display, after)})
	if err != nil {
		return nil, err
	}
	if err := f.found(ctx, requester, worker); err != nil {
		return nil, err
	}
	// A requester gives a task that was cancelled twice to somebody else for a
	// while, and here is nobody else: each job is for two trials.
	var current job.ID
	jobs, none := 0, 0
	cancelled := make(chan time.Time, 1) // when the requester heard of a task that came back
	next := func() error {
		if current != "" {
			if _, err := requester.client.Steer(ctx, current, job.Cancel); err != nil {
				return err
			}
		}
		jobs++
		c := exec.CommandContext(ctx, f.bin, "submit", scene, "-o", filepath.Join(f.dir, fmt.Sprintf("out%d", jobs)),
			"-f", fmt.Sprintf("%d-%d", jobs, jobs+20), "--resolution", "480x270", "--samples", fmt.Sprint(*samples), "--json")
		c.Env, c.Stderr = requester.env, os.Stderr
		b, err := c.Output()
		if err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		var id struct {
			Job job.ID `json:"job"`
		}
		if err := json.Unmarshal(b, &id); err != nil {
			return err
		}
		current = id.Job
		go func() {
			for e, err := range requester.client.Events(ctx, id.Job, 1) {
				if err != nil {
					return
				}
				if e.Type == job.EventBroken && strings.HasPrefix(e.Text, string(job.Cancelled)) {
					select {
					case cancelled <- time.Now():
					default:
					}
				}
			}
		}()
		return nil
	}

	rng := rand.New(rand.NewPCG(*seed, 0))
	var free, back, lost []float64
	for end := time.Now().Add(*limit); len(free) < *trials && time.Now().Before(end); {
		if len(free)%2 == 0 {
			if err := next(); err != nil {
				return nil, err
			}
		}
		began, err := rendering(ctx, worker)
		if err != nil {
			return nil, err
		}
		wait := time.NewTimer(time.Duration(rng.IntN(3000)) * time.Millisecond)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait.C:
		}
		if began, err = since(ctx, worker, began); err != nil {
			return nil, err
		}
		select { // what is left of the trial before
		case <-cancelled:
		default:
		}
		moved := time.Now()
		if err := desk.move(rng); err != nil {
			return nil, err
		}
		if err := poll1(ctx, 30*time.Second, "the machine is free", func() bool { return len(descendants(worker.cmd.Process.Pid)) == 0 }); err != nil {
			return nil, err
		}
		free = append(free, time.Since(moved).Seconds())
		lost = append(lost, time.Since(began).Seconds())
		giveUp := time.NewTimer(10 * time.Second)
		select {
		case at := <-cancelled:
			back = append(back, at.Sub(moved).Seconds())
		case <-giveUp.C: // it was between two tasks, and had none
			none++
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		giveUp.Stop()
		if n := len(free); n%10 == 0 {
			fmt.Fprintf(os.Stderr, "%d trials, the slowest %.2f s\n", n, slices.Max(free))
		}
	}
	for _, l := range [][]float64{free, back, lost} {
		sort.Float64s(l)
	}
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(os.Stderr, "%d trials, load of the machine at the end: %s", len(free), load)
	figures := []Figure{
		plain("trials", float64(len(free)), ""),
		atMost("owner returns -> no process of ours, p50", quantile(free, .5), "s", 0.5),
		atMost("owner returns -> no process of ours, p99", quantile(free, .99), "s", 2),
		plain("the slowest", quantile(free, 1), "s"),
		plain("trials in which it had no task to give back", float64(none), ""),
		plain("owner returns -> the requester has the tasks, p50", quantile(back, .5), "s"),
		plain("owner returns -> the requester has the tasks, p99", quantile(back, .99), "s"),
		plain("work lost, p50", quantile(lost, .5), "s"),
		atMost("work lost, p99", quantile(lost, .99), "s", 20),
	}
	return append(figures, ownersDay()...), nil
}

// deskEnv are the settings of a worker on a desk whose X server is display.
func deskEnv(display string, after float64) []string {
	return []string{
		"IDLEWILD_IDLE_MODE=auto", "IDLEWILD_IDLE_CPU_LOAD=0", // this machine's other load is not the owner's
		"IDLEWILD_IDLE_SETTLE_S=0", "IDLEWILD_IDLE_AFTER_S=" + fmt.Sprint(after), "IDLEWILD_LIMITS_PRIORITY=low",
		"DISPLAY=" + display, "WAYLAND_DISPLAY=", "XDG_SESSION_TYPE=",
	}
}

// desk is an X server of its own, and a hand on its mouse.
type desk struct {
	display string
	cmd     *exec.Cmd
	conn    *xgb.Conn
}

func newDesk(ctx context.Context) (*desk, error) {
	path, err := exec.LookPath("Xvfb")
	if err != nil {
		return nil, fmt.Errorf("an X server for the owner's desk is missing (package xvfb): %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	d := &desk{cmd: exec.CommandContext(ctx, path, "-displayfd", "3", "-screen", "0", "640x480x24", "-nolisten", "tcp")}
	d.cmd.ExtraFiles = []*os.File{w}
	if err := d.cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	w.Close()
	number, err := bufio.NewReader(r).ReadString('\n')
	if err == nil {
		d.display = ":" + strings.TrimSpace(number)
		d.conn, err = xgb.NewConnDisplay(d.display)
	}
	if err == nil {
		err = xtest.Init(d.conn)
	}
	if err != nil {
		d.close()
		return nil, fmt.Errorf("Xvfb: %w", err)
	}
	return d, nil
}

// move moves the mouse, as a hand does.
func (d *desk) move(rng *rand.Rand) error {
	const motion = 6 // MotionNotify
	root := xproto.Setup(d.conn).DefaultScreen(d.conn).Root
	return xtest.FakeInputChecked(d.conn, motion, 0, 0, root, int16(1+rng.IntN(600)), int16(1+rng.IntN(400)), 0).Check()
}

func (d *desk) close() {
	if d.conn != nil {
		d.conn.Close()
	}
	d.cmd.Process.Kill()
	d.cmd.Wait()
}

// poll1 looks every two milliseconds.
func poll1(ctx context.Context, limit time.Duration, what string, holds func() bool) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return fmt.Errorf("%s: not within %v", what, limit)
		case <-tick.C:
		}
	}
	return nil
}

// cpuDoing is what the CPU of a daemon does.
func cpuDoing(ctx context.Context, d *daemon) (string, error) {
	v, err := d.client.Status(ctx)
	if err != nil {
		return "", err
	}
	for _, x := range v.Machine.Devices {
		if x.Name == idle.CPU {
			return x.Doing, nil
		}
	}
	return "", fmt.Errorf("%s has no CPU", d.name)
}

// works is the task of a Doing, or "" while it does not render.
func works(doing string) string {
	phase, task, ok := strings.Cut(doing, ": job ")
	if !ok || phase == "fetching" || phase == "waiting" || phase == "starting" || phase == "resting" {
		return ""
	}
	task, _, _ = strings.Cut(task, " (")
	return task
}

// rendering returns once a task renders, and when that began.
func rendering(ctx context.Context, d *daemon) (began time.Time, err error) {
	err = poll(ctx, 5*time.Minute, "a task renders", func() error {
		doing, err := cpuDoing(ctx, d)
		if err == nil && works(doing) == "" {
			err = fmt.Errorf("it does: %s", doing)
		}
		return err
	})
	return time.Now(), err
}

// since is when the task that runs now began, which is later than began if it
// is another one than was seen then.
func since(ctx context.Context, d *daemon, began time.Time) (time.Time, error) {
	doing, err := cpuDoing(ctx, d)
	if err != nil || works(doing) != "" {
		return began, err
	}
	return time.Now(), nil // between two tasks: nothing is lost
}

// descendants are the processes that pid started, as far as they live.
func descendants(pid int) (out []int) {
	queue := []int{pid}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p))
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				continue
			}
			for _, n := range strings.Fields(string(b)) {
				if kid, err := strconv.Atoi(n); err == nil {
					out = append(out, kid)
					queue = append(queue, kid)
				}
			}
		}
	}
	return out
}

// ownersDay plays a working day, written by hand and not recorded, against the
// policy: what of the time without the owner becomes frames, where each start
// loads the scene for a minute and a stop loses the tile that was under way.
func ownersDay() []Figure {
	const (
		load = time.Minute
		tile = 20 * time.Second
		step = time.Second
	)
	// Minutes of the day from and to which somebody types now and then.
	present := [][2]int{{7*60 + 10, 7*60 + 35}, {9 * 60, 10*60 + 20}, {10*60 + 45, 12*60 + 15}, {13 * 60, 13*60 + 55}, {14*60 + 20, 14*60 + 24},
		{15 * 60, 16*60 + 40}, {16*60 + 58, 18*60 + 5}, {20*60 + 15, 22*60 + 50}}
	var state idle.State
	policy := idle.DefaultPolicy()
	midnight := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	var useful, away, running, done time.Duration
	last := -time.Hour // of input
	lost := 0
	for now := time.Duration(0); now < 24*time.Hour; now += step {
		there := false
		for _, p := range present {
			there = there || now >= time.Duration(p[0])*time.Minute && now < time.Duration(p[1])*time.Minute
		}
		if there && now%(40*time.Second) == 0 { // they read, too
			last = now
		}
		if !there {
			away += step
		}
		quiet := (now - last).Seconds()
		s := idle.Signals{Desktop: true, Sessions: []idle.Session{{User: "owner", Graphical: true, Active: true, IdleSeconds: &quiet}}}
		var d map[string]idle.Decision
		d, state = idle.Decide([]string{idle.CPU}, s, policy, state, idle.Instant{Wall: midnight.Add(now), Mono: time.Hour + now})
		if d[idle.CPU].Level.Works() {
			running += step
			if running > load {
				done += step
			}
			continue
		}
		if running > 0 {
			lost++
		}
		useful += done / tile * tile
		running, done = 0, 0
	}
	useful += done / tile * tile
	return []Figure{
		plain("a written day: time without the owner", away.Hours(), "h"),
		plain("of it useful, a minute's load at each start and lost tiles taken off", useful.Hours()/away.Hours(), ""),
		plain("interruptions", float64(lost), ""),
	}
}
