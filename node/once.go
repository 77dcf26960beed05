package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/node/localapi"
	"idlewild/render"
	"idlewild/verify"
)

// What the command line does without a daemon.

// Inspect looks at what a spec asks for, with this machine's own programs.
func Inspect(ctx context.Context, cfg Config, s job.Spec) (job.Inspection, error) {
	k, done, err := onceKit(ctx, cfg)
	if err != nil {
		return job.Inspection{}, err
	}
	defer done()
	p, ok := k.planners[s.Kind]
	if !ok {
		return job.Inspection{}, fmt.Errorf("there is no kind %q", s.Kind)
	}
	in, err := p.Inspect(ctx, s)
	in.Problems = append(in.Problems, in.Doubts([]job.Machine{k.machine})...)
	return in, err
}

// onceKit is a kit for one command, in a folder that goes with it.
func onceKit(ctx context.Context, cfg Config) (*kit, func(), error) {
	dir, err := os.MkdirTemp("", "idlewild-once-*")
	if err != nil {
		return nil, nil, err
	}
	cfg.Worker.Spare = false // nothing comes after it
	k, err := newKit(ctx, cfg, filepath.Join(dir, "scratch"), slog.New(slog.DiscardHandler))
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	return k, func() {
		k.close()
		os.RemoveAll(dir)
	}, nil
}

// Gpus lists the devices of this machine that can work, and says why there is
// no GPU where there is none. Those that the settings disable come last.
func Gpus(ctx context.Context, cfg Config) ([]localapi.DeviceView, string, error) {
	k := &kit{}
	reason := k.devices(ctx, cfg)
	var out []localapi.DeviceView
	for _, d := range k.machine.Devices {
		out = append(out, deviceView(d, ""))
	}
	return append(out, k.disabledViews()...), reason, nil
}

// CheckOptions of Check.
type CheckOptions struct {
	File    string
	Frame   int
	Claim   string // EXR that somebody says they rendered
	Heatmap string // where to write a picture of the differences; empty: nowhere
	Spec    SpecOptions
}

// Check judges a frame that somebody says they rendered: random parts of it
// are rendered again here and compared.
func Check(ctx context.Context, cfg Config, o CheckOptions) (job.Verdict, error) {
	k, done, err := onceKit(ctx, cfg)
	if err != nil {
		return job.Verdict{}, err
	}
	defer done()
	dir, err := os.MkdirTemp("", "idlewild-check-*")
	if err != nil {
		return job.Verdict{}, err
	}
	defer os.RemoveAll(dir)

	o.Spec.Frames = fmt.Sprint(o.Frame)
	spec, err := SpecFor(o.File, o.Spec)
	if err != nil {
		return job.Verdict{}, err
	}
	planner := k.planners[spec.Kind]
	in, err := planner.Inspect(ctx, spec)
	if err != nil {
		return job.Verdict{}, err
	}
	if r := in.Refused(); len(r) > 0 {
		return job.Verdict{}, &job.RefusedError{Problems: r}
	}
	files := make([]diffupload.File, len(in.Deps))
	for i, d := range in.Deps {
		files[i] = diffupload.File{Path: d.Path, Name: d.Name}
	}
	mem := &diffupload.Memory{}
	snap, err := diffupload.Snapshot(ctx, mem, files, diffupload.Options{})
	if err != nil {
		return job.Verdict{}, err
	}
	tree := filepath.Join(dir, "tree")
	if err := diffupload.Materialize(ctx, mem, snap.Root, tree, nil); err != nil {
		return job.Verdict{}, err
	}
	tasks, err := planner.Plan(spec, in, snap.Root)
	if err != nil {
		return job.Verdict{}, err
	}
	var task job.Task
	for _, t := range tasks {
		if t.Check.Method == job.CheckCrop {
			task = t
			break
		}
	}
	if task.Kind == "" {
		return job.Verdict{Ruling: job.Unsure, Method: "none", Reason: "frames of this engine cannot be checked by rendering parts of them again"}, nil
	}
	claim := filepath.Join(dir, "claim", filepath.FromSlash(task.Check.Output))
	if err := os.MkdirAll(filepath.Dir(claim), 0o700); err != nil {
		return job.Verdict{}, err
	}
	if err := copyDurably(o.Claim, claim); err != nil {
		return job.Verdict{}, fmt.Errorf("claim %s: %s", o.Claim, rootCause(err))
	}
	img, err := decode(claim)
	if err != nil {
		return verify.Undecodable(err), nil
	}
	root, _, err := media.TileRoot(img)
	if err != nil {
		return verify.Undecodable(err), nil
	}
	leaf := job.Leaf{Task: task.Key(), Outcome: job.Succeeded, Outputs: []job.Output{{
		Name: task.Check.Output, Media: job.MediaEXR, File: job.RefOf(snap.Root), Pixels: root[:],
	}}}
	secret := make([]byte, 32)
	rand.Read(secret)
	judge := &judge{croppers: k.croppers, limits: verify.DefaultThresholds()}
	challenges, err := judge.Challenge(task, leaf, secret, 1)
	if err != nil {
		return job.Verdict{}, err
	}
	var evidence []dispatch.Evidence
	for i, c := range challenges {
		out := filepath.Join(dir, fmt.Sprintf("evidence%d", i))
		if err := os.MkdirAll(out, 0o700); err != nil {
			return job.Verdict{}, err
		}
		start := time.Now()
		r := k.exec.Execute(ctx, render.Task{
			Task: c, Requester: "self", Content: snap.Root.String(), Device: job.Device{Name: job.HomeDevice, Type: "cpu"},
		}, render.Dirs{In: tree, Out: out}, func(render.Progress) {})
		if ctx.Err() != nil {
			return job.Verdict{}, context.Cause(ctx)
		}
		r.Meter.Wall = time.Since(start)
		evidence = append(evidence, dispatch.Evidence{Task: c, Dir: out, Leaf: job.Leaf{Outcome: r.Outcome, Reason: r.Reason, Meter: r.Meter}})
	}
	v := judge.Judge(ctx, task, leaf, filepath.Dir(claim), evidence)
	if o.Heatmap != "" {
		err = writeHeatmap(o.Heatmap, task, img, evidence)
	}
	return v, err
}

// writeHeatmap draws where the claim and the evidence differ.
func writeHeatmap(path string, task job.Task, img *media.Image, evidence []dispatch.Evidence) error {
	c, err := cropCheck(task)
	if err != nil {
		return err
	}
	seen := seen{}
	for _, e := range evidence {
		if err := seen.read(c, e.Task, task.Check, e.Dir); err != nil {
			return errors.Join(errors.New("no heat map: the evidence is incomplete"), err)
		}
	}
	claim, first := verify.Claim{Image: img, Part: task.Part}, seen.of(c.Layer)
	var odd []job.Rect
	if first.look != nil {
		if look, err := verify.LookAt(c, claim, first.look, verify.DefaultThresholds()); err == nil {
			odd = look.Odd
		}
	}
	m, err := verify.Heatmap(c, claim, first.crops, odd)
	if err != nil {
		return fmt.Errorf("heat map: %w", err)
	}
	b, err := media.EncodePNG(m)
	if err != nil {
		return fmt.Errorf("heat map: %w", err)
	}
	return writeFileAtomic(path, b, 0o644)
}
