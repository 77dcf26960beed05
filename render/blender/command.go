package blender

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"idlewild/job"
	"idlewild/render"
)

var (
	_ render.Kind      = (*Kind)(nil)
	_ render.Sparer    = (*Kind)(nil)
	_ render.Explainer = (*Kind)(nil)
)

// exitScript is the exit code of a Blender whose script raised.
const exitScript = "97"

// Session implements render.Kind. Renders and crops of one scene share a
// session; finishing has its own, because it takes the render out of the
// compositor.
func (k *Kind) Session(t render.Task, dirs render.Dirs) (string, render.Command, error) {
	p, err := DecodeParams(t.Params)
	if err != nil {
		return "", render.Command{}, err
	}
	// It was probed long ago, but for a daemon that others started beside us.
	program, err := k.pick(context.Background(), p.Build)
	if err != nil {
		return "", render.Command{}, err
	}
	class := "render"
	if p.Op == opFinish || p.Op == opDenoise {
		class = "finish " + p.ViewLayer // the compositor is rebuilt once
	}
	if p.Op == opFilm {
		class = "film" // it lays strips over the scene's own
	}
	if p.Op == opBake || p.Op == opStrips {
		class = p.Op
	}
	if p.Baked && len(t.After) > 0 {
		class = "render " + t.After[0].String() // of what that task baked
	}
	env := k.environment("{in}")
	if p.OCIO != "" {
		env = append(env, "OCIO="+mountedOCIO(p.OCIO))
	}
	if p.Op == opFilm {
		env = append(env, "OCIO=") // its frames have their final colours, and Blender's own configuration shows them
	}
	if p.late() {
		env = append(env, "IDLEWILD_LATE=1")
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q", []string{t.Requester, t.Content, program.stamp(), p.Build, k.runners, t.Device.Name, p.Main, p.Scene, p.OCIO, class})
	return hex.EncodeToString(h.Sum(nil)), k.command(program, t.Device, env, k.arguments(p, false)), nil
}

// Spare implements render.Sparer: Blender's command line with one script more,
// which waits, before the file. So the file is opened by the same means as
// otherwise, at the same point of the start, and only one of that name.
func (k *Kind) Spare(t render.Task) (string, render.Command, bool) {
	p, err := DecodeParams(t.Params)
	if err != nil || p.OCIO != "" || p.Op == opFilm || p.late() { // OCIO is read at the very start
		return "", render.Command{}, false
	}
	program, err := k.pick(context.Background(), p.Build)
	if err != nil {
		return "", render.Command{}, false
	}
	cmd := k.command(program, t.Device, k.environment("{in}"), k.arguments(p, true))
	h := sha256.New()
	fmt.Fprintf(h, "%q", append([]string{program.stamp(), k.runners, t.Device.Name}, cmd.Args...))
	return hex.EncodeToString(h.Sum(nil)), cmd, true
}

// command starts a warm Blender.
func (k *Kind) command(program able, on job.Device, env, args []string) render.Command {
	if on.Type == "gpu" && strings.HasPrefix(on.Name, "GPU-") {
		env = append(env, "CUDA_VISIBLE_DEVICES="+on.Name)
	}
	cmd := render.Command{
		Path:         program.path,
		Args:         program.arguments("{runner}", args...),
		Env:          env,
		Runner:       k.runner,
		ReadOnly:     program.needs(program.probe),
		MemoryBytes:  k.opts.MemoryBytes,
		StartTimeout: k.opts.StartTimeout,
	}
	if on.Type == "gpu" {
		cmd.Devices = []job.Device{on}
	}
	return cmd
}

// arguments of a warm Blender, or of one that waits before it opens the file.
// Their order matters: the exit code has to be set before the script, the scene
// and the script after the file.
func (k *Kind) arguments(p Params, waits bool) []string {
	args := []string{"-b", "-Y", "--factory-startup", "--python-exit-code", exitScript}
	if k.opts.Threads > 0 {
		args = append(args, "-t", strconv.Itoa(k.opts.Threads))
	}
	if waits {
		args = append(args, "-P", "{runner}/wait.py")
	}
	if !p.late() {
		args = append(args, "{in}/"+p.Main)
		if p.Scene != "" {
			args = append(args, "-S", p.Scene)
		}
	}
	return append(args, "-P", "{runner}/main.py")
}

// environment is all that a Blender sees of ours: nothing of the owner's, so
// that neither add-ons nor PYTHONPATH change a picture. in is where the input
// tree is mounted, empty outside sessions.
func (k *Kind) environment(in string) []string {
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME={work}",
		"TMPDIR={work}",
		"XDG_CACHE_HOME={work}",
		"XDG_RUNTIME_DIR={work}",
		"LANG=C.UTF-8",
		"BLENDER_USER_RESOURCES={work}",
		"BLENDER_USER_CONFIG={work}",
		"BLENDER_USER_SCRIPTS={work}",
		"BLENDER_USER_DATAFILES={work}",
		"IDLEWILD_EVENTS=/dev/fd/3",
	}
	if in != "" {
		env = append(env, "IDLEWILD_IN="+in)
	}
	return append(env, k.opts.Env...)
}

// starved are words of a Blender that was refused memory and ends by that: of its
// allocator, of C++, of the kernel.
var starved = regexp.MustCompile(`(?m)^(?:(?:Error: )?[A-Z][a-z]*alloc returns null|.*std::bad_alloc)`)

// Explain implements render.Explainer.
func (k *Kind) Explain(log []byte) job.Outcome {
	if starved.Match(log[max(0, len(log)-tailBytes):]) {
		return job.OutOfMemory
	}
	return ""
}

// line is one request for the runner.
type line struct {
	Params
	Out    string         `json:"out"`
	Prior  []string       `json:"prior,omitempty"`
	Tile   *job.Rect      `json:"tile,omitempty"`
	Range  *job.Range     `json:"sample_range,omitempty"`
	Device map[string]any `json:"device"`
	// Reads are what the task has of numbered files: one that is not there,
	// though the frame reads it, would be missing in the picture in silence.
	Reads []job.Reads `json:"reads,omitempty"`
	// Bake is the folder that the bake left, and BakeFrames of which frames the task
	// has the files in it; none: of all.
	Bake       string   `json:"bake,omitempty"`
	BakeFrames [][2]int `json:"bake_frames,omitempty"`
}

// Request implements render.Kind.
func (k *Kind) Request(t render.Task, at render.Mount) (render.Request, error) {
	p, err := DecodeParams(t.Params)
	if err != nil {
		return render.Request{}, err
	}
	if (p.Op == opFinish || p.Op == opDenoise || p.Op == opFilm) && len(at.Prior) == 0 {
		return render.Request{}, fmt.Errorf("blender task: nothing rendered to %s", p.Op)
	}
	if p.Baked && len(at.Prior) == 0 {
		return render.Request{}, errors.New("blender task: nothing baked to render")
	}
	l := line{Params: p, Out: at.Out, Prior: at.Prior, Device: map[string]any{"type": t.Device.Type, "name": t.Device.Name}}
	for _, r := range t.Reads {
		if r.OfInput() {
			l.Reads = append(l.Reads, r)
		} else if r.Head == job.Within(bakeTree)+bakeFrames {
			l.BakeFrames = r.Own
		}
	}
	for _, x := range at.Trees {
		if p.Baked && x.Prior == 0 && x.Name == bakeTree {
			l.Bake = x.Dir
		}
	}
	if r := t.Part.Tile; r != (job.Rect{}) {
		l.Tile = &r
	}
	if r := t.Part.Samples; r != (job.Range{}) {
		l.Range = &r
	}
	if t.Part.Layer != "" {
		l.ViewLayer = t.Part.Layer
	}
	b, err := json.Marshal(l)
	if err != nil {
		return render.Request{}, fmt.Errorf("blender request: %w", err)
	}
	timeout := t.Timeout
	if timeout == 0 {
		timeout = k.opts.Timeout
	}
	return render.Request{JSON: b, Timeout: timeout}, nil
}
