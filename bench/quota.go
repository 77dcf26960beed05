package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"idlewild/bench/swarm"
	"idlewild/job"
)

func init() {
	benchmarks["quota"] = benchmark{"real workers under CPU quotas of 1:2:4:8, one leaves and one joins: time over the ideal, and what the simulator says", quota}
}

// quota renders real frames on four workers with quotas of processor time. When
// a third is delivered the one of 4 leaves, and another of 4 comes when half is.
// Workers have the scene, and their Blenders run, before quotas and job begin. The work is
// what the frames took of the quotas; the ideal is that over the quotas that
// were there.
func quota(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("quota", flag.ContinueOnError)
	n := fs.Int("frames", 160, "frames")
	unit := fs.Float64("unit", .1, "cores of the smallest worker; 15 times as much must be there, and some for the requester")
	file := fs.String("file", "", "a .blend of yours instead of the demo scene")
	size := fs.String("resolution", "400x225", "of frames")
	save := fs.String("trace", "", "write the trace of the job to this file")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *n < 30 || !(*unit > 0 && *unit <= 1) {
		return nil, fmt.Errorf("%d frames, a unit of %v cores: needs at least 30, and more than 0 and at most 1", *n, *unit)
	}
	cg, err := newGroups()
	if err != nil {
		return nil, err
	}
	defer cg.close()
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	scene, err := sceneOrDemo(ctx, f, *file)
	if err != nil {
		return nil, err
	}
	requester, err := f.start(ctx, "requester", nodeOptions{noWork: true})
	if err != nil {
		return nil, err
	}
	shares := []float64{1, 2, 4, 8, 4} // the last one joins
	var workers []*daemon
	for i := range shares {
		name := fmt.Sprintf("worker%d", i+1)
		group, err := cg.add(name)
		if err != nil {
			return nil, err
		}
		w, err := f.start(ctx, name, nodeOptions{
			before: []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(group, "cgroup.procs")},
			env:    []string{"IDLEWILD_WORKER_THREADS=1", "IDLEWILD_WORKER_ENV=CYCLES_CPU_NO_AVX2=1"},
		})
		if err != nil {
			return nil, err
		}
		workers = append(workers, w)
	}
	if err := f.found(ctx, requester, workers...); err != nil {
		return nil, err
	}

	// Everybody renders something, one after the other: scene and Blender are there then.
	common := []string{"--resolution", *size, "--parts", "no", "--recheck", "0"}
	for i := range workers {
		for k, w := range workers {
			if _, err := w.client.SetPaused(ctx, k != i, "another warms up"); err != nil {
				return nil, err
			}
		}
		if _, err := f.render(ctx, requester, scene, "warm"+strconv.Itoa(i), append([]string{"-f", strconv.Itoa(i + 1)}, common...)...); err != nil {
			return nil, fmt.Errorf("warm %s: %w", workers[i].name, err)
		}
		fmt.Fprintf(os.Stderr, "%s is warm\n", workers[i].name)
	}
	for i, w := range workers {
		if _, err := w.client.SetPaused(ctx, i == len(workers)-1, "it joins later"); err != nil {
			return nil, err
		}
	}
	share := map[string]float64{}
	for i, w := range workers {
		s, err := w.client.Status(ctx)
		if err != nil {
			return nil, err
		}
		share[s.Machine.Peer] = shares[i] * *unit
		if err := cg.limit(w.name, shares[i]**unit); err != nil {
			return nil, err
		}
	}

	params := append([]string{"submit", scene, "-o", filepath.Join(f.dir, "out"), "--json", "-f", fmt.Sprintf("1-%d", *n)}, common...)
	id, err := f.submit(ctx, requester, params...)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if s, err := requester.client.Job(ctx, id); err == nil {
		began = s.Submitted
	}
	ms := []swarm.Machine{}
	for _, s := range shares {
		ms = append(ms, swarm.Machine{Speed: s * *unit, Here: [][2]float64{{0, 0}}})
	}
	delivered := func(k int) error {
		return poll(ctx, 10*time.Minute, fmt.Sprintf("%d frames", k), func() error {
			s, err := requester.client.Job(ctx, id)
			if err == nil && s.Delivered < k {
				err = fmt.Errorf("%d of %d delivered, %s", s.Delivered, *n, s.Reason)
			}
			return err
		})
	}
	if err := delivered(*n / 3); err != nil {
		return nil, err
	}
	workers[2].signal(syscall.SIGTERM)
	ms[2].Here[0][1] = time.Since(began).Seconds()
	fmt.Fprintf(os.Stderr, "%s leaves after %.0f s\n", workers[2].name, ms[2].Here[0][1])
	if err := delivered(*n / 2); err != nil {
		return nil, err
	}
	if _, err := workers[4].client.SetPaused(ctx, false, ""); err != nil {
		return nil, err
	}
	ms[4].Here[0][0] = time.Since(began).Seconds()
	fmt.Fprintf(os.Stderr, "%s joins after %.0f s\n", workers[4].name, ms[4].Here[0][0])
	s, err := requester.wait(ctx, id, nil)
	if err != nil {
		return nil, err
	}
	if s.State != job.StateFinished || s.Delivered != *n {
		return nil, fmt.Errorf("the job ended %s, %d of %d delivered: %s", s.State, s.Delivered, *n, s.Reason)
	}
	t := swarm.Trace{Machines: ms, Took: s.WallSeconds}
	work := 0.0
	for _, x := range s.Frames {
		c := x.RenderSeconds * share[x.Worker]
		if !(c > 0) {
			return nil, fmt.Errorf("frame %s took %v s on %s, of which no quota is known", x.Label, x.RenderSeconds, x.Worker)
		}
		t.Frames = append(t.Frames, c)
		work += c
	}
	if *save != "" {
		b, err := json.Marshal(t)
		if err == nil {
			err = os.WriteFile(*save, b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	p := swarm.Defaults()
	p.Warm, p.Begin, p.Load, p.Delay = true, .02, .05, 5*time.Millisecond
	said, _, err := playTrace(ctx, t, p, 5)
	if err != nil {
		return nil, err
	}
	ideal := swarm.IdealOf(work, ms)
	fmt.Fprintf(os.Stderr, "%d frames, %.0f core-seconds, %.2f a frame: took %.1f s, ideal %.1f s, simulated %.1f s\n", *n, work, work/float64(*n), s.WallSeconds, ideal, said)
	return []Figure{
		plain("frames", float64(*n), ""),
		plain("the job", s.WallSeconds, "s"),
		plain("its ideal", ideal, "s"),
		atMost("time over the ideal", s.WallSeconds/ideal, "", 1.10),
		plain("the same, as the simulator says", said/ideal, ""),
		atMost("the simulator is off by", 100*math.Abs(said/s.WallSeconds-1), "%", 5),
	}, nil
}

// submit gives a job from the command line and returns once it is planned.
func (f *farm) submit(ctx context.Context, requester *daemon, args ...string) (job.ID, error) {
	c := exec.CommandContext(ctx, f.bin, args...)
	c.Env, c.Stderr = requester.env, os.Stderr
	b, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("submit: %w", err)
	}
	var id struct {
		Job job.ID `json:"job"`
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return "", fmt.Errorf("submit printed %q: %w", b, err)
	}
	return id.Job, nil
}

// groups are control groups with quotas of processor time.
type groups struct {
	dir string
	v2  bool
	all []string
}

// newGroups finds where control groups can be made.
func newGroups() (*groups, error) {
	name := "idlewild-bench-" + strconv.Itoa(os.Getpid())
	var why error
	for _, at := range []struct {
		root string
		v2   bool
	}{{"/sys/fs/cgroup/cpu", false}, {"/sys/fs/cgroup", true}} {
		g := &groups{dir: filepath.Join(at.root, name), v2: at.v2}
		if at.v2 {
			b, err := os.ReadFile(filepath.Join(at.root, "cgroup.subtree_control"))
			if err != nil || !strings.Contains(string(b), "cpu") {
				continue
			}
		} else if _, err := os.Stat(filepath.Join(at.root, "cpu.cfs_quota_us")); err != nil {
			continue
		}
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			why = err
			continue
		}
		if at.v2 {
			if err := os.WriteFile(filepath.Join(g.dir, "cgroup.subtree_control"), []byte("+cpu"), 0o600); err != nil {
				os.Remove(g.dir)
				why = err
				continue
			}
		}
		return g, nil
	}
	return nil, fmt.Errorf("this machine has no control groups for processor time that may be written (as root there are): NOT RUN: %w", errors.Join(why, errors.ErrUnsupported))
}

// add makes a group, without a quota yet.
func (g *groups) add(name string) (string, error) {
	dir := filepath.Join(g.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	g.all = append(g.all, dir)
	return dir, nil
}

// limit gives a group so many cores.
func (g *groups) limit(name string, cores float64) error {
	const period = 20_000 // microseconds: short against a frame
	dir := filepath.Join(g.dir, name)
	set := map[string]string{"cpu.max": fmt.Sprintf("%d %d", int(cores*period), period)}
	if !g.v2 {
		set = map[string]string{"cpu.cfs_period_us": strconv.Itoa(period), "cpu.cfs_quota_us": strconv.Itoa(int(cores * period))}
	}
	for f, v := range set {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(v), 0o600); err != nil {
			return fmt.Errorf("a quota of %v cores: %w", cores, err)
		}
	}
	return nil
}

// close removes the groups; their processes are gone.
func (g *groups) close() {
	for _, dir := range append(g.all, g.dir) {
		for range 50 {
			if err := os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}
