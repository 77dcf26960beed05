package main

import (
	"context"
	_ "embed"
	"encoding/json"
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
	scene := *file
	if scene == "" {
		scene = filepath.Join(f.dir, "project", "scene.blend")
		c := exec.CommandContext(ctx, "blender", "-b", "--factory-startup", "--python-exit-code", "1",
			"-P", filepath.Join("render", "blender", "demo", "scene.py"), "--", "--out", filepath.Dir(scene))
		if b, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the scene: %w: %s", err, b[max(0, len(b)-2000):])
		}
	} else if scene, err = filepath.Abs(scene); err != nil {
		return nil, err
	}
	// The requester keeps off the first worker's core: it is another machine.
	requester, err := f.start(ctx, "requester", nodeOptions{noWork: true, cores: fmt.Sprintf("%d-%d", min(1, runtime.NumCPU()-1), runtime.NumCPU()-1)})
	if err != nil {
		return nil, err
	}
	var others []*daemon
	for i := range *maxWorkers {
		w, err := f.start(ctx, fmt.Sprintf("worker%d", i+1), workerOn(i))
		if err != nil {
			return nil, err
		}
		others = append(others, w)
	}
	if err := f.found(ctx, requester, others...); err != nil {
		return nil, err
	}

	// Light frames take about 2 CPU-seconds, ordinary ones about 7.
	loads := []struct {
		name          string
		width, height int
		samples       int // 0: the file's
		goal          float64
	}{
		{"light", 480, 270, 0, 0.85},
		{"mid", 480, 270, 28, 0.92},
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
			for i, w := range others {
				if _, err := w.client.SetPaused(ctx, i >= workers, "measuring with fewer workers"); err != nil {
					return nil, err
				}
			}
			out := filepath.Join(f.dir, fmt.Sprintf("out-%s-%d", l.name, workers))
			cmd := []string{"submit", scene, "-o", out, "-f", fmt.Sprintf("1-%d", *n), "--resolution", fmt.Sprintf("%dx%d", l.width, l.height), "--json"}
			if l.samples > 0 {
				cmd = append(cmd, "--samples", fmt.Sprint(l.samples))
			}
			c := exec.CommandContext(ctx, f.bin, cmd...)
			c.Env, c.Stderr = requester.env, os.Stderr
			b, err := c.Output()
			if err != nil {
				return nil, fmt.Errorf("submit: %w", err)
			}
			var id struct {
				Job job.ID `json:"job"`
			}
			if err := json.Unmarshal(b, &id); err != nil {
				return nil, fmt.Errorf("submit printed %q: %w", b, err)
			}
			s, err := requester.wait(ctx, id.Job, nil)
			if err != nil {
				return nil, err
			}
			if s.State != job.StateFinished || s.Delivered != *n {
				return nil, fmt.Errorf("%s: %s, %d of %d delivered: %s", l.name, s.State, s.Delivered, *n, s.Reason)
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
