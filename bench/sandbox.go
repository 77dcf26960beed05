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
	"slices"
	"strings"
	"syscall"
	"time"

	"idlewild/render"
)

func init() {
	benchmarks["sandbox"] = benchmark{"CPU of a frame inside the sandbox against outside, frame by frame in turn", sandbox}
}

//go:embed sandbox.py
var sandboxScript []byte

// confinedBlender is a warm Blender with the demo scene, inside or outside.
type confinedBlender struct {
	session render.Session
	work    string
	ready   time.Duration
	cpu     []float64 // seconds of each frame
}

// sandbox renders the same frames in two warm Blenders of one thread each, one
// inside the sandbox with all its layers and limits and one outside. They take
// turns, and who goes first changes from frame to frame. What the guard costs
// this process is counted for the sandbox alone, although it watches both.
func sandbox(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("sandbox", flag.ContinueOnError)
	n := fs.Int("frames", 24, "frames")
	starts := fs.Int("starts", 5, "starts of each")
	file := fs.String("file", "", "a .blend of yours instead of the demo scene")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	program, err := exec.LookPath("blender")
	if err != nil {
		return nil, fmt.Errorf("blender is missing: make setup: %w", err)
	}
	dir, err := os.MkdirTemp("", "idlewild-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	scene, err := sceneOrDemo(ctx, &farm{dir: dir}, *file)
	if err != nil {
		return nil, err
	}
	runner := filepath.Join(dir, "runner")
	if err := os.Mkdir(runner, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(runner, "sandbox.py"), sandboxScript, 0o644); err != nil {
		return nil, err
	}
	limits := render.DefaultLimits(8 << 30)
	inside, err := render.NewSandbox(ctx, nil, limits)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "%s\nload before: %s\n", inside.Layers(), load())
	outside := render.NewLocalProcess(nil)
	cmd := render.Command{
		Path: program, Runner: runner, Env: []string{"PATH=/usr/bin:/bin", "HOME={work}"},
		Args: []string{"-b", "-Y", "--factory-startup", "--python-exit-code", "9", "-t", "1", "{in}/" + filepath.Base(scene), "-P", "{runner}/sandbox.py"},
	}
	begin := func(p render.Process) (*confinedBlender, error) {
		work, err := os.MkdirTemp(dir, "work-")
		if err != nil {
			return nil, err
		}
		start := time.Now()
		s, err := p.Start(ctx, cmd, render.SessionRoot{In: filepath.Dir(scene), Work: work})
		if err != nil {
			return nil, err
		}
		return &confinedBlender{session: s, work: work, ready: time.Since(start)}, nil
	}
	processes := []render.Process{inside, outside}
	ready := make([][]float64, 2)
	for range *starts {
		for i, p := range processes {
			b, err := begin(p)
			if err != nil {
				return nil, err
			}
			ready[i] = append(ready[i], b.ready.Seconds())
			b.session.Close()
		}
	}
	var both [2]*confinedBlender
	for i, p := range processes {
		if both[i], err = begin(p); err != nil {
			return nil, err
		}
		defer both[i].session.Close()
		if err := both[i].frame(ctx, 1, false); err != nil { // the scene is built once
			return nil, err
		}
	}
	own := cpuOfThisProcess()
	for f := 1; f <= *n; f++ {
		for i := range both {
			if err := both[(i+f)%2].frame(ctx, f, true); err != nil {
				return nil, err
			}
		}
	}
	guard := (cpuOfThisProcess() - own).Seconds() / float64(*n)
	var ratios []float64
	for i := range both[0].cpu {
		ratios = append(ratios, (both[0].cpu[i]+guard)/both[1].cpu[i])
	}
	fmt.Fprintf(os.Stderr, "load after: %s; frame by frame: least %.4f, most %.4f\n", load(), slices.Min(ratios), slices.Max(ratios))
	return []Figure{
		atMost("sandbox: more CPU of a frame", 100*(median(ratios)-1), "%", 3),
		beside("sandbox: CPU of a frame inside", median(both[0].cpu), "s", median(both[1].cpu)),
		plain("sandbox: CPU of the guard for each frame", 1000*guard, "ms"),
		beside("sandbox: start of a warm Blender inside", median(ready[0]), "s", median(ready[1])),
	}, nil
}

// beside is a figure with the same outside of the sandbox.
func beside(name string, value float64, unit string, outside float64) Figure {
	f := plain(name, value, unit)
	f.Peers = []Peer{{"outside", outside}}
	return f
}

// frame renders one; keep says whether it counts.
func (b *confinedBlender) frame(ctx context.Context, n int, keep bool) error {
	_, work := b.session.Mounts()
	line, err := json.Marshal(map[string]any{"frame": n, "out": work})
	if err != nil {
		return err
	}
	exit := b.session.Do(ctx, render.Request{JSON: line}, nil)
	if exit.Err != nil {
		return fmt.Errorf("frame %d: %w", n, exit.Err)
	}
	var done struct {
		CPU float64 `json:"cpu_s"`
	}
	if err := json.Unmarshal(exit.Done, &done); err != nil {
		return fmt.Errorf("frame %d: %w", n, err)
	}
	if fi, err := os.Stat(filepath.Join(b.work, "frame.png")); err != nil || fi.Size() == 0 || done.CPU <= 0 {
		return fmt.Errorf("frame %d was not rendered", n)
	}
	if keep {
		b.cpu = append(b.cpu, done.CPU)
	}
	return os.Remove(filepath.Join(b.work, "frame.png"))
}

func cpuOfThisProcess() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// load of the machine: what others do on it disturbs the figures.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}
