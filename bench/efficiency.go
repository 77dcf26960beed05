package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"idlewild/job"
)

func init() {
	benchmarks["efficiency"] = benchmark{"share of the workers' time that becomes frames, against one warm Blender on the same cores", efficiency}
}

//go:embed warm.py
var warmScript []byte

// efficiency renders the demo scene through the farm and in one warm Blender
// that is confined to the cores that one worker has. Efficiency is
// the seconds which that Blender needs for all frames, over wall x workers:
// start-up, sandbox, journal, finishing and checks count as loss.
func efficiency(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("efficiency", flag.ContinueOnError)
	n := fs.Int("frames", 48, "frames")
	only := fs.String("only", "", "light or mid: one load only")
	file := fs.String("file", "", "a .blend of yours instead of the demo scene")
	maxWorkers := fs.Int("workers", min(2, runtime.NumCPU()), "up to how many workers, each on a core of its own")
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
	requester, others, err := f.cores(ctx, *maxWorkers)
	if err != nil {
		return nil, err
	}

	// Light frames take about 2 CPU-seconds, ordinary ones about 7.
	loads := []struct {
		name          string
		width, height int
		samples       int // 0: the file's
		goal          float64
	}{
		{"light", 480, 270, 0, 0.90},
		{"mid", 480, 270, 28, 0.95},
	}
	var figures []Figure
	for _, l := range loads {
		if *only != "" && *only != l.name {
			continue
		}
		warm, err := warmBlender(ctx, f, scene, *n, l.width, l.height, l.samples)
		if err != nil {
			return nil, err
		}
		per := warm / float64(*n)
		fmt.Fprintf(os.Stderr, "%s: one warm Blender on one core: %.1f s, %.2f s a frame\n", l.name, warm, per)
		figures = append(figures, plain(l.name+": one warm Blender, one core", per, "s/frame"))
		for workers := 1; workers <= *maxWorkers; workers++ {
			if err := working(ctx, others, workers); err != nil {
				return nil, err
			}
			cmd := []string{"-f", fmt.Sprintf("1-%d", *n), "--resolution", fmt.Sprintf("%dx%d", l.width, l.height)}
			if l.samples > 0 {
				cmd = append(cmd, "--samples", fmt.Sprint(l.samples))
			}
			s, err := f.render(ctx, requester, scene, fmt.Sprintf("out-%s-%d", l.name, workers), cmd...)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
			if s.Delivered != *n {
				return nil, fmt.Errorf("%s: %d of %d delivered", l.name, s.Delivered, *n)
			}
			e := warm / (s.WallSeconds * float64(workers))
			fmt.Fprintf(os.Stderr, "%s, %d workers: %.1f s, efficiency %.3f, %d rechecked, %d rejected\n", l.name, workers, s.WallSeconds, e, s.Rechecked, s.Rejected)
			figures = append(figures, atLeast(fmt.Sprintf("%s: efficiency, %d worker(s)", l.name, workers), e, "", l.goal,
				Peer{"Flamenco 3.9", map[string]float64{"light": 0.31, "mid": 0.42}[l.name]}))
			if s.Rejected > 0 {
				return figures, fmt.Errorf("%s: %d honest frames were rejected", l.name, s.Rejected)
			}
		}
	}
	return figures, nil
}

// sceneOrDemo is file, or the demo scene, built anew.
func sceneOrDemo(ctx context.Context, f *farm, file string) (string, error) {
	if file != "" {
		return filepath.Abs(file)
	}
	scene := filepath.Join(f.dir, "project", "scene.blend")
	return scene, blenderRun(ctx, "-b", "--factory-startup", "--python-exit-code", "1",
		"-P", filepath.Join("render", "blender", "demo", "scene.py"), "--", "--out", filepath.Dir(scene))
}

// blenderRun runs Blender to its end.
func blenderRun(ctx context.Context, args ...string) error {
	if b, err := exec.CommandContext(ctx, "blender", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("blender: %w: %s", err, b[max(0, len(b)-2000):])
	}
	return nil
}

// cores starts a requester and workers that each have a core of their own.
func (f *farm) cores(ctx context.Context, workers int) (requester *daemon, others []*daemon, err error) {
	// The requester keeps off the first worker's core: it is another machine.
	requester, err = f.start(ctx, "requester", nodeOptions{noWork: true, cores: fmt.Sprintf("%d-%d", min(1, runtime.NumCPU()-1), runtime.NumCPU()-1)})
	if err != nil {
		return nil, nil, err
	}
	for i := range workers {
		w, err := f.start(ctx, fmt.Sprintf("worker%d", i+1), workerOn(i))
		if err != nil {
			return nil, nil, err
		}
		others = append(others, w)
	}
	return requester, others, f.found(ctx, requester, others...)
}

// working lets the first n workers work and pauses the others.
func working(ctx context.Context, workers []*daemon, n int) error {
	for i, w := range workers {
		if _, err := w.client.SetPaused(ctx, i >= n, "measuring with fewer workers"); err != nil {
			return err
		}
	}
	return nil
}

// render submits the scene from the command line, into a folder of the farm,
// and waits until the job has finished.
func (f *farm) render(ctx context.Context, requester *daemon, scene, out string, args ...string) (job.Status, error) {
	id, err := f.submit(ctx, requester, append([]string{"submit", scene, "-o", filepath.Join(f.dir, out), "--json"}, args...)...)
	if err != nil {
		return job.Status{}, err
	}
	s, err := requester.wait(ctx, id, nil)
	if err == nil && s.State != job.StateFinished {
		err = fmt.Errorf("the job ended %s: %s", s.State, s.Reason)
	}
	return s, err
}

// warmBlender returns the seconds that one warm Blender on core 0 needs for
// frames 1 to n, without its start and the loading of the file.
func warmBlender(ctx context.Context, f *farm, scene string, n, width, height, samples int) (float64, error) {
	script := filepath.Join(f.dir, "warm.py")
	if err := os.WriteFile(script, warmScript, 0o600); err != nil {
		return 0, err
	}
	report := filepath.Join(f.dir, "warm.txt")
	c := exec.CommandContext(ctx, "taskset", "-c", "0", "blender", "-b", "-t", "1", "--factory-startup", scene, "--python-exit-code", "1", "-P", script,
		"--", fmt.Sprint(n), fmt.Sprint(width), fmt.Sprint(height), fmt.Sprint(samples), filepath.Join(f.dir, "warm"), report)
	// The same kernels as the workers use.
	c.Env = append(os.Environ(), "CYCLES_CPU_NO_AVX2=1")
	if b, err := c.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("warm Blender: %w: %s", err, b[max(0, len(b)-2000):])
	}
	b, err := os.ReadFile(report)
	if err != nil {
		return 0, err
	}
	var seconds float64
	_, err = fmt.Sscan(strings.TrimSpace(string(b)), &seconds)
	return seconds, err
}
