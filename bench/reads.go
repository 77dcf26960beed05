package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"idlewild/diffupload"
	"idlewild/internal/scenes"
	"idlewild/job"
	"idlewild/node"
	kinds "idlewild/render/blender"
)

func init() {
	benchmarks["reads"] = benchmark{"what a worker fetches of a scene of sequences for ten of its frames, beside all of it", reads}
}

// reads makes a scene of sequences, plans it, and makes of its content what a
// lease reads, and all of it.
func reads(ctx context.Context, args []string) ([]Figure, error) {
	flags := flag.NewFlagSet("reads", flag.ContinueOnError)
	count := flags.Int("frames", 250, "frames of the scene")
	lease := flags.Int("lease", 10, "frames of the lease: the first ones")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if *lease < 1 || *count < *lease {
		return nil, fmt.Errorf("a lease of %d of %d frames", *lease, *count)
	}
	dir, err := os.MkdirTemp("", "bench-reads-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	scene := filepath.Join(dir, "scene.blend")
	fmt.Fprintf(os.Stderr, "baking %d frames\n", *count)
	if err := (scenes.Program{Path: kinds.OnPath}).Make(ctx, "reads", scene, strconv.Itoa(*count), "256", "32"); err != nil {
		return nil, err
	}
	kind, err := kinds.New(kinds.Options{Scratch: filepath.Join(dir, "scratch")})
	if err != nil {
		return nil, err
	}
	spec, err := node.SpecFor(scene, node.SpecOptions{Output: filepath.Join(dir, "out")})
	if err != nil {
		return nil, err
	}
	in, err := kind.Inspect(ctx, spec)
	if err != nil {
		return nil, err
	}
	var files []diffupload.File
	for _, d := range in.Deps {
		files = append(files, diffupload.File{Path: d.Path, Name: d.Name})
	}
	store := &diffupload.Memory{}
	snap, err := diffupload.Snapshot(ctx, store, files, diffupload.Options{})
	if err != nil {
		return nil, err
	}
	tasks, err := kind.Plan(spec, in, snap.Root)
	if err != nil {
		return nil, err
	}
	var l job.Lease
	for _, t := range tasks {
		p, err := kinds.DecodeParams(t.Params)
		if err == nil && t.Kind == kinds.Name && t.Place != job.AtRequester && p.Frame <= *lease {
			l.Tasks = append(l.Tasks, job.Granted{Task: t})
		}
	}
	if len(l.Tasks) != *lease {
		return nil, fmt.Errorf("%d tasks of %d frames", len(l.Tasks), *lease)
	}
	made := func(name string, limits diffupload.Limits) (float64, error) {
		c := &diffupload.Counting{Store: store}
		if err := diffupload.MaterializeWithin(ctx, c, snap.Root, filepath.Join(dir, name), limits, nil); err != nil {
			return 0, err
		}
		_, bytes := c.Fetched()
		return float64(bytes), nil
	}
	all, err := made("all", diffupload.Limits{})
	if err != nil {
		return nil, err
	}
	some, err := made("some", diffupload.Limits{Only: l.Wants(job.RefOf(snap.Root)).Has})
	if err != nil {
		return nil, err
	}
	ratio := some / all
	return []Figure{
		{Name: fmt.Sprintf("content that frames 1-%d of %d read", *lease, *count), Value: some / 1e6, Unit: "MB", Peers: []Peer{{"all of it, as without read sets", all / 1e6}}},
		{Name: "of all of it", Value: ratio, Unit: "share", Goal: "<= 0.15", Holds: ratio <= 0.15},
	}, nil
}
