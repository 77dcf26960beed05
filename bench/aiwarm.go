package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
	"golang.org/x/sync/errgroup"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/ai"
)

const aiKind = ai.Name

// program runs idlewild to its end, with the runtime that is measured.
func (b *aiBench) program(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, b.farm.bin, args...)
	c.Env = append(os.Environ(), "IDLEWILD_DATA_DIR="+filepath.Join(b.farm.dir, "alone"))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("idlewild %s: %w: %s", args[0], err, out)
	}
	return nil
}

// sessions is how long two sessions take that run at once, each on a core of its
// own, for a folder each. Cores that are threads of one are slower together.
func (b *aiBench) sessions(ctx context.Context, dirs [2]string) (time.Duration, error) {
	var took [2]time.Duration
	g, ctx := errgroup.WithContext(ctx)
	for core, dir := range dirs {
		g.Go(func() (err error) {
			_, took[core], err = b.session(ctx, dir, core)
			return err
		})
	}
	err := g.Wait()
	return max(took[0], took[1]), err
}

// session runs the tasks of a folder of pictures one after the other in one
// warm process on a core, and returns the most memory that one had and the
// time without the first, which loads the model.
func (b *aiBench) session(ctx context.Context, dir string, core int) (peak int64, wall time.Duration, err error) {
	wrapper := filepath.Join(b.farm.dir, fmt.Sprintf("on-core-%d", core))
	if err := os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec taskset -c %d %q \"$@\"\n", core, b.farm.bin), 0o700); err != nil {
		return 0, 0, err
	}
	k := ai.New(ai.Options{Exe: wrapper, Library: b.library, Threads: 1})
	params, err := json.Marshal(ai.Spec{Model: b.model, Inputs: dir})
	if err != nil {
		return 0, 0, err
	}
	spec := job.Spec{Kind: ai.Name, Params: params, Policy: job.Policy{Parts: "no"}}
	in, err := k.Inspect(ctx, spec)
	if err != nil {
		return 0, 0, err
	}
	if bad := in.Refused(); len(bad) > 0 {
		return 0, 0, fmt.Errorf("%s", bad[0])
	}
	sum, err := mh.Sum([]byte(dir), mh.SHA2_256, -1)
	if err != nil {
		return 0, 0, err
	}
	tasks, err := k.Plan(spec, in, cid.NewCidV1(cid.DagCBOR, sum))
	if err != nil {
		return 0, 0, err
	}
	tree := filepath.Join(b.farm.dir, fmt.Sprintf("tree-%s-%d", filepath.Base(dir), core))
	for _, d := range in.Deps {
		at := filepath.Join(tree, filepath.FromSlash(d.Name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return 0, 0, err
		}
		if err := os.Link(d.Path, at); err != nil {
			text, rerr := os.ReadFile(d.Path)
			if rerr != nil {
				return 0, 0, rerr
			}
			if err := os.WriteFile(at, text, 0o644); err != nil {
				return 0, 0, err
			}
		}
	}
	exec := render.NewExecutor(map[job.Kind]render.Kind{ai.Name: k}, render.NewLocalProcess(nil), render.Options{Scratch: filepath.Join(b.farm.dir, fmt.Sprintf("scratch-%s-%d", filepath.Base(dir), core))})
	defer exec.Close()
	run := func(t job.Task) error {
		out, err := os.MkdirTemp(b.farm.dir, "out-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(out)
		r := exec.Execute(ctx, render.Task{Task: t, Requester: "bench", Content: dir, Device: job.Device{Name: "cpu", Type: "cpu"}},
			render.Dirs{In: tree, Out: out}, nil)
		peak = max(peak, r.Meter.Peak)
		if r.Outcome != job.Succeeded {
			return fmt.Errorf("%s: %s\n%s", t.Label, r.Reason, strings.TrimSpace(string(r.Log)))
		}
		return nil
	}
	if err := run(tasks[0]); err != nil {
		return 0, 0, err
	}
	start := time.Now()
	for _, t := range tasks {
		if err := run(t); err != nil {
			return 0, 0, err
		}
	}
	return peak, time.Since(start), nil
}
