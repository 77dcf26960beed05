package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"

	"idlewild/job"
	"idlewild/media"
)

func init() {
	benchmarks["reuse"] = benchmark{"submitting again: frames rendered after images of a sequence, or an object, changed", reuseBench}
}

//go:embed reuse/scene.py
var reuseScene []byte

// reuseBench renders a project, changes something, submits it again, and then
// renders all of it afresh into another folder: every frame, reused or not, has
// to equal the fresh one.
func reuseBench(ctx context.Context, args []string) ([]Figure, error) {
	flags := flag.NewFlagSet("reuse", flag.ContinueOnError)
	frames := flags.Int("frames", 250, "frames of each project")
	changed := flags.Int("changed", 30, "images that change; frames in which the edited object is visible")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if *changed < 1 || *frames < 2**changed || *frames > 10_000 {
		return nil, fmt.Errorf("--changed must be at least 1, --frames twice as many and at most 10000")
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	r := &reuseRun{farm: f, script: filepath.Join(f.dir, "scene.py"), dir: filepath.Join(f.dir, "project"), n: *frames, changed: *changed}
	if err := os.WriteFile(r.script, reuseScene, 0o600); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	if r.requester, err = f.start(ctx, "requester", nodeOptions{noWork: true}); err != nil {
		return nil, err
	}
	worker, err := f.start(ctx, "worker", nodeOptions{})
	if err != nil {
		return nil, err
	}
	if err := f.found(ctx, r.requester, worker); err != nil {
		return nil, err
	}
	sequence, err := r.project(ctx, "sequence", "images", false, float64(*changed), "%d of %d images changed")
	if err != nil {
		return nil, err
	}
	object, err := r.project(ctx, "object", "edit", true, float64(*changed)+10, "an object visible in %d of %d frames edited")
	return append(sequence, object...), err
}

type reuseRun struct {
	*farm
	requester  *daemon
	script     string
	dir        string
	n, changed int
}

// project builds, renders, changes and renders one.
func (r *reuseRun) project(ctx context.Context, name, change string, open bool, goal float64, title string) ([]Figure, error) {
	title = fmt.Sprintf(title, r.changed, r.n)
	scene := filepath.Join(r.dir, name+".blend")
	if err := r.blend(ctx, "", name); err != nil {
		return nil, err
	}
	say("%s: %d frames", name, r.n)
	first, err := r.render(ctx, r.requester, scene, name, "--recheck", "0")
	if err != nil {
		return nil, err
	}
	file := ""
	if open {
		file = scene
	}
	if err := r.blend(ctx, file, change); err != nil {
		return nil, err
	}
	say("%s: again", title)
	again, err := r.resubmit(ctx, first.Job)
	if err != nil {
		return nil, err
	}
	rendered := again.Tasks - again.Skipped
	fmt.Fprintf(os.Stderr, "  %d of %d frames reused, %d rendered, in %.1f s instead of %.1f s\n", again.Reused, again.Tasks, rendered, again.WallSeconds, first.WallSeconds)
	say("all of it, afresh")
	if _, err := r.render(ctx, r.requester, scene, name+"-fresh", "--recheck", "0"); err != nil {
		return nil, err
	}
	unlike := 0
	for n := 1; n <= r.n; n++ {
		file := fmt.Sprintf("%04d.png", n)
		d, err := worstPixel(filepath.Join(r.farm.dir, name, file), filepath.Join(r.farm.dir, name+"-fresh", file))
		if err != nil {
			return nil, err
		}
		if d > 0 {
			unlike++
			fmt.Fprintf(os.Stderr, "  frame %d differs from the fresh one by %g\n", n, d)
		}
	}
	return []Figure{
		atMost(title+": rendered", float64(rendered), "frames", goal),
		atMost(title+": frames unlike fresh ones", float64(unlike), "frames", 0),
		plain(title+": time, of that of all frames", again.WallSeconds/first.WallSeconds, ""),
	}, nil
}

func (r *reuseRun) blend(ctx context.Context, file, what string) error {
	args := []string{"-b", "--factory-startup"}
	if file != "" {
		args = append(args, file)
	}
	return blenderRun(ctx, append(args, "--python-exit-code", "1", "-P", r.script, "--", what, r.dir, fmt.Sprint(r.n), fmt.Sprint(r.changed))...)
}

func (r *reuseRun) resubmit(ctx context.Context, id job.ID) (job.Status, error) {
	c := exec.CommandContext(ctx, r.bin, "resubmit", string(id), "--wait", "--json")
	c.Env, c.Stderr = r.requester.env, os.Stderr
	var s job.Status
	b, err := c.Output()
	if err != nil {
		return s, fmt.Errorf("resubmit: %w: %s", err, b)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("resubmit printed %q: %w", b, err)
	}
	return s, nil
}

// worstPixel is the largest difference between two pictures.
func worstPixel(a, b string) (float64, error) {
	m, err := media.DecodeFile(a, media.Limits{})
	if err != nil {
		return 0, err
	}
	n, err := media.DecodeFile(b, media.Limits{})
	if err != nil {
		return 0, err
	}
	if m.Width != n.Width || m.Height != n.Height || len(m.Channels) != len(n.Channels) {
		return math.Inf(1), nil
	}
	worst := 0.0
	for i := range m.Channels {
		for j, v := range m.Channels[i].Data {
			worst = max(worst, math.Abs(float64(v-n.Channels[i].Data[j])))
		}
	}
	return worst, nil
}
