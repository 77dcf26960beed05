package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/internal/ondisk"
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
	c, err := newOnce(ctx, cfg, o)
	if err != nil {
		return job.Verdict{}, err
	}
	defer c.close()
	if c.task.Kind == "" {
		return job.Verdict{Ruling: job.Unsure, Method: "none", Reason: "frames of this engine cannot be checked by rendering parts of them again"}, nil
	}
	claim := filepath.Join(c.dir, "claim", filepath.FromSlash(c.task.Check.Output))
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
	if c.task.Check, err = guidedBy(c.task, img); err != nil {
		return job.Verdict{}, err
	}
	leaf, evidence, err := c.evidence(ctx, img, filepath.Dir(claim))
	if err != nil {
		return job.Verdict{}, err
	}
	v := c.judge.Judge(ctx, c.task, leaf, filepath.Dir(claim), evidence)
	if o.Heatmap != "" {
		err = writeHeatmap(o.Heatmap, c.task, leaf, img, evidence)
	}
	return v, err
}

// once is a frame that is checked without a daemon.
type once struct {
	kit   *kit
	judge *judge
	task  job.Task // that renders the frame; empty where it cannot be checked by crops
	tree  string   // the job's files, as tasks see them
	root  cid.Cid  // of them
	dir   string
	close func()
}

// newOnce plans the frame of o. The caller closes it.
func newOnce(ctx context.Context, cfg Config, o CheckOptions) (*once, error) {
	k, done, err := onceKit(ctx, cfg)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "idlewild-check-*")
	if err != nil {
		done()
		return nil, err
	}
	c := &once{kit: k, judge: &judge{croppers: k.croppers, limits: verify.DefaultThresholds()}, tree: filepath.Join(dir, "tree"), dir: dir, close: func() {
		done()
		os.RemoveAll(dir)
	}}
	if err := c.plan(ctx, o); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *once) plan(ctx context.Context, o CheckOptions) error {
	o.Spec.Frames = fmt.Sprint(o.Frame)
	spec, err := SpecFor(o.File, o.Spec)
	if err != nil {
		return err
	}
	planner := c.kit.planners[spec.Kind]
	in, err := planner.Inspect(ctx, spec)
	if err != nil {
		return err
	}
	if r := in.Refused(); len(r) > 0 {
		return &job.RefusedError{Problems: r}
	}
	files := make([]diffupload.File, len(in.Deps))
	for i, d := range in.Deps {
		files[i] = diffupload.File{Path: d.Path, Name: d.Name}
	}
	mem := &diffupload.Memory{}
	snap, err := diffupload.Snapshot(ctx, mem, files, diffupload.Options{})
	if err != nil {
		return err
	}
	c.root = snap.Root
	if err := diffupload.Materialize(ctx, mem, snap.Root, c.tree, nil); err != nil {
		return err
	}
	tasks, err := planner.Plan(spec, in, snap.Root)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.Check.Method == job.CheckCrop {
			c.task = t
			break
		}
	}
	return nil
}

// evidence runs what a claim in the folder claimed, which shows img, is compared
// with. The leaf is what its worker would have signed.
func (c *once) evidence(ctx context.Context, img *media.Image, claimed string) (job.Leaf, []dispatch.Evidence, error) {
	root, _, err := media.TileRoot(img)
	if err != nil {
		return job.Leaf{}, nil, err
	}
	leaf := job.Leaf{Task: c.task.Key(), Outcome: job.Succeeded, DeviceClass: "cpu/" + runtime.GOARCH, Outputs: []job.Output{{
		Name: c.task.Check.Output, Media: job.MediaEXR, File: job.RefOf(c.root), Pixels: root[:],
	}}}
	secret := make([]byte, 32)
	rand.Read(secret)
	challenges, err := c.judge.Challenge(c.task, leaf, secret, 1)
	if err != nil {
		return leaf, nil, err
	}
	var evidence []dispatch.Evidence
	left := map[job.TaskKey]string{c.task.Key(): claimed}
	for i, t := range challenges {
		out := filepath.Join(c.dir, fmt.Sprintf("evidence%d", i))
		if err := os.MkdirAll(out, 0o700); err != nil {
			return leaf, nil, err
		}
		left[t.Key()] = out
		var prior []string
		for _, after := range t.After {
			prior = append(prior, left[after])
		}
		start := time.Now()
		r := c.kit.exec.Execute(ctx, render.Task{
			Task: t, Requester: "self", Content: c.root.String(), Device: job.Device{Name: job.HomeDevice, Type: "cpu"},
		}, render.Dirs{In: c.tree, Out: out, Prior: prior}, func(render.Progress) {})
		if ctx.Err() != nil {
			return leaf, nil, context.Cause(ctx)
		}
		r.Meter.Wall = time.Since(start)
		evidence = append(evidence, dispatch.Evidence{Task: t, Dir: out, Leaf: job.Leaf{Outcome: r.Outcome, Reason: r.Reason, Build: r.Build, Meter: r.Meter}})
	}
	return leaf, evidence, nil
}

// guidedBy is the check of task for a file that anybody may have rendered: one
// that does not keep what its denoiser was guided by cannot be denoised again.
func guidedBy(task job.Task, img *media.Image) (job.Check, error) {
	c, err := cropCheck(task)
	if err != nil || !c.Guided {
		return task.Check, err
	}
	for _, layer := range append([]string{c.Layer}, c.Others...) {
		if _, ok := img.Pass(layer, "Denoising Albedo"); !ok {
			c.Guided = false
		}
	}
	task.Check.Params, err = job.Encode(c)
	return task.Check, err
}

// writeHeatmap draws where the claim and the evidence differ.
func writeHeatmap(path string, task job.Task, leaf job.Leaf, img *media.Image, evidence []dispatch.Evidence) error {
	c, err := cropCheck(task)
	if err != nil {
		return err
	}
	seen, claim := seen{}, verify.Claim{Image: img, Part: task.Part}
	if err := seen.all(c, task.Check, leaf, &claim, evidence); err != nil {
		return errors.Join(errors.New("no heat map: the evidence is incomplete"), err)
	}
	first := seen.of(c.Layer)
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
	return ondisk.WriteFile(path, b, 0o644)
}
