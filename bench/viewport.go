package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"idlewild/job"
)

func init() {
	benchmarks["viewport"] = benchmark{"what the artist's own Blender loses while the same machine checks the farm's results", viewport}
}

//go:embed viewport.py
var viewportScript []byte

// viewport plays an animation in a Blender with a window while the requester on
// the same machine checks, and while it does not, in turns. Results wait to be
// checked all the while: more workers cannot make it check more, since what it
// does not keep up with goes to members.
func viewport(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("viewport", flag.ContinueOnError)
	rounds := fs.Int("rounds", 6, "turns of each")
	block := fs.Duration("block", 8*time.Second, "how long one is")
	frames := fs.Int("frames", 100, "of a job: so many results wait")
	capMB := fs.Int64("memory", 1500, "MB that the requester's Blender may have (worker.memory_bytes)")
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
	v := &viewportBench{farm: f, scene: scene, rounds: *rounds, block: *block, frames: *frames, drawings: filepath.Join(f.dir, "drawings")}
	artist, err := v.blender(ctx, desk)
	if err != nil {
		return nil, err
	}
	defer artist()

	memory := *capMB << 20
	common := []string{"IDLEWILD_WORKER_MEMORY_BYTES=" + fmt.Sprint(memory)}
	// What the artist's Blender takes of the processor is the owner's load here.
	own := slices.DeleteFunc(deskEnv(desk.display, 1), func(s string) bool { return strings.HasPrefix(s, "IDLEWILD_IDLE_CPU_LOAD=") })
	at, err := v.measure(ctx, "artist", append(own, common...))
	if err != nil {
		return nil, err
	}
	beside, err := v.measure(ctx, "server", common) // idle.mode = off: nobody sits there
	if err != nil {
		return nil, err
	}
	return []Figure{
		plain("drawings a second without checks", at.quiet, "1/s"),
		atMost("fewer of them while results are checked, median of the turns", 100*at.lost, "%", 5, Peer{"checks at the priority of any program", 100 * beside.lost}),
		plain("results checked meanwhile", float64(at.checked), ""),
		atMost("memory of the Blender that checks", float64(at.memory)/(1<<20), "MB", float64(*capMB)),
	}, nil
}

// fewestTurns are enough for a median, where the checks end early.
const fewestTurns = 3

type viewportBench struct {
	farm     *farm
	scene    string
	rounds   int
	block    time.Duration
	frames   int
	drawings string // a file with the moments at which the viewport was drawn
	artist   *os.Process
}

// viewportFigures are what one requester costs.
type viewportFigures struct {
	quiet   float64 // drawings a second without checks
	lost    float64 // share of them that checks cost
	checked int
	memory  int64 // bytes, of what the requester started, at most
}

// blender opens the scene in a window on the desk and plays it. The function
// that comes back closes it.
func (v *viewportBench) blender(ctx context.Context, d *desk) (func(), error) {
	script := filepath.Join(v.farm.dir, "viewport.py")
	if err := os.WriteFile(script, viewportScript, 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(v.farm.dir, "artist-blender.log"))
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, "blender", "--factory-startup", "-p", "0", "0", "640", "480", v.scene, "-P", script, "--", v.drawings)
	c.Env = append(os.Environ(), "DISPLAY="+d.display, "LIBGL_ALWAYS_SOFTWARE=1")
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // as a program has that was started from a desktop
	if err := c.Start(); err != nil {
		log.Close()
		return nil, err
	}
	v.artist = c.Process
	end := func() {
		c.Process.Kill()
		c.Wait()
		log.Close()
	}
	err = poll(ctx, 90*time.Second, "a window of Blender that draws", func() error {
		n, err := v.drawn(time.Now().Add(-3*time.Second), time.Now())
		if err == nil && n < 10 {
			err = fmt.Errorf("%d drawings", n)
		}
		return err
	})
	if err != nil {
		b, _ := os.ReadFile(log.Name())
		end()
		return nil, fmt.Errorf("%w: %s", err, b[max(0, len(b)-1000):])
	}
	return end, nil
}

// drawn counts the drawings between two moments.
func (v *viewportBench) drawn(from, to time.Time) (int, error) {
	b, err := os.ReadFile(v.drawings)
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		t, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
		if err != nil {
			continue // the last line, half written
		}
		if t >= float64(from.UnixMicro())/1e6 && t < float64(to.UnixMicro())/1e6 {
			n++
		}
	}
	return n, nil
}

// measure has a requester with these settings check, in turns.
func (v *viewportBench) measure(ctx context.Context, name string, env []string) (m viewportFigures, err error) {
	d, err := v.farm.start(ctx, name, nodeOptions{noWork: true, env: env, apart: true})
	if err != nil {
		return m, err
	}
	defer d.kill9()
	worker, err := v.farm.start(ctx, name+"-worker", nodeOptions{apart: true})
	if err != nil {
		return m, err
	}
	defer worker.kill9()
	if err := v.farm.found(ctx, d, worker); err != nil {
		return m, err
	}
	say("%s: %d frames are rendered by a member", name, v.frames)
	v.artist.Signal(syscall.SIGSTOP) // it need not wait long for them
	defer v.artist.Signal(syscall.SIGCONT)
	id, err := v.farm.submit(ctx, d, "submit", v.scene, "-o", filepath.Join(v.farm.dir, name+"-out"), "--json",
		"-f", fmt.Sprintf("1-%d", v.frames), "--resolution", "640x360", "--samples", "4", "--recheck", "1", "--parts", "no")
	if err != nil {
		return m, err
	}
	var returned, judged atomic.Int64
	watching, stop := context.WithCancel(ctx)
	var watch errgroup.Group
	watch.Go(func() error {
		_, err := d.wait(watching, id, func(e job.Event) {
			switch e.Type {
			case job.EventReturned:
				returned.Add(1)
			case job.EventJudged:
				judged.Add(1)
			}
		})
		if watching.Err() != nil {
			return nil
		}
		return err
	})
	defer func() {
		stop()
		err = errors.Join(err, watch.Wait())
	}()
	// Where nobody sits the requester could keep up with the member, and nothing
	// would be left: what checks stands still until all is there.
	err = poll(ctx, 15*time.Minute, "every frame rendered", func() error {
		signalChildren(d, syscall.SIGSTOP)
		if n := int(returned.Load()); n < v.frames {
			return fmt.Errorf("%d of %d", n, v.frames)
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	signalChildren(d, syscall.SIGCONT)
	v.artist.Signal(syscall.SIGCONT)
	if _, err := worker.client.SetPaused(ctx, true, "only the requester is to work"); err != nil {
		return m, err
	}
	var quiet, ratios []float64
	before := judged.Load()
	for i := range v.rounds {
		if int(judged.Load()) >= v.frames {
			if i < fewestTurns {
				return m, fmt.Errorf("all %d frames were checked within %d turns; give more of them: --frames", v.frames, i)
			}
			break
		}
		if _, err := d.client.Steer(ctx, id, job.Pause); err != nil {
			return m, err
		}
		if err := v.settled(ctx, d, false); err != nil {
			return m, err
		}
		without, err := v.turn(ctx, d, nil)
		if err != nil {
			return m, err
		}
		if _, err := d.client.Steer(ctx, id, job.Resume); err != nil {
			return m, err
		}
		if err := v.settled(ctx, d, true); err != nil {
			return m, fmt.Errorf("turn %d: %w", i+1, err)
		}
		with, err := v.turn(ctx, d, &m.memory)
		if err != nil {
			return m, err
		}
		say("%s, turn %d: %.1f drawings a second, %.1f while it checks", name, i+1, without, with)
		quiet, ratios = append(quiet, without), append(ratios, with/without)
	}
	slices.Sort(quiet)
	slices.Sort(ratios)
	m.quiet, m.lost, m.checked = quantile(quiet, .5), 1-quantile(ratios, .5), int(judged.Load()-before)
	_, err = d.client.Steer(ctx, id, job.Cancel)
	return m, err
}

// settled waits until what the daemon started works, or does not.
func (v *viewportBench) settled(ctx context.Context, d *daemon, works bool) error {
	what := "the checks pause"
	if works {
		what = "a check is under way"
	}
	return poll(ctx, 5*time.Minute, what, func() error { // they rest for four times as long as one takes
		before := childrensCPU(d)
		time.Sleep(500 * time.Millisecond)
		if used := childrensCPU(d) - before; (used > 0) != works {
			return fmt.Errorf("%.2f s of processor time in half a second", used)
		}
		return nil
	})
}

// childrensCPU is the processor time of what a daemon started and still runs, in seconds.
func childrensCPU(d *daemon) (sum float64) {
	for _, pid := range descendants(d.cmd.Process.Pid) {
		s, err := cpuSeconds(pid)
		if err == nil {
			sum += s
		}
	}
	return sum
}

func signalChildren(d *daemon, s syscall.Signal) {
	for _, pid := range descendants(d.cmd.Process.Pid) {
		syscall.Kill(pid, s)
	}
}

// turn is the rate of drawings over one block; memory, if there is one, takes in
// the most that any process of the daemon's had.
func (v *viewportBench) turn(ctx context.Context, d *daemon, memory *int64) (float64, error) {
	from := time.Now()
	for time.Since(from) < v.block {
		if memory != nil {
			for _, pid := range descendants(d.cmd.Process.Pid) {
				if c, err := costOf(pid); err == nil { // else it just ended
					*memory = max(*memory, int64(c.rss))
				}
			}
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	to := time.Now()
	time.Sleep(time.Second) // until it is written
	n, err := v.drawn(from, to)
	return float64(n) / to.Sub(from).Seconds(), err
}
