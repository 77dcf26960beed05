package blender

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"idlewild/job"
	"idlewild/render"
)

var _ render.Kind = (*Kind)(nil)

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
	env := k.environment("{in}")
	if p.OCIO != "" {
		env = append(env, "OCIO="+mountedOCIO(p.OCIO))
	}
	if p.Op == opFilm {
		env = append(env, "OCIO=") // its frames have their final colours, and Blender's own configuration shows them
	}
	if t.Device.Type == "gpu" && strings.HasPrefix(t.Device.Name, "GPU-") {
		env = append(env, "CUDA_VISIBLE_DEVICES="+t.Device.Name)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q", []string{t.Requester, t.Content, program.stamp(), p.Build, k.runners, t.Device.Name, p.Main, p.Scene, p.OCIO, class})
	cmd := render.Command{
		Path:         program.path,
		Args:         program.arguments("{runner}", k.arguments(p)...),
		Env:          env,
		Runner:       k.runner,
		ReadOnly:     program.needs(program.probe),
		MemoryBytes:  k.opts.MemoryBytes,
		StartTimeout: k.opts.StartTimeout,
	}
	if t.Device.Type == "gpu" {
		cmd.Devices = []job.Device{t.Device}
	}
	return hex.EncodeToString(h.Sum(nil)), cmd, nil
}

// arguments of a warm Blender. Their order matters: the exit code has to be
// set before the script, the scene and the script after the file.
func (k *Kind) arguments(p Params) []string {
	args := []string{"-b", "-Y", "--factory-startup", "--python-exit-code", exitScript}
	if k.opts.Threads > 0 {
		args = append(args, "-t", strconv.Itoa(k.opts.Threads))
	}
	args = append(args, "{in}/"+p.Main)
	if p.Scene != "" {
		args = append(args, "-S", p.Scene)
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

// line is one request for the runner.
type line struct {
	Params
	Out    string         `json:"out"`
	Prior  []string       `json:"prior,omitempty"`
	Tile   *job.Rect      `json:"tile,omitempty"`
	Range  *job.Range     `json:"sample_range,omitempty"`
	Device map[string]any `json:"device"`
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
	l := line{Params: p, Out: at.Out, Prior: at.Prior, Device: map[string]any{"type": t.Device.Type, "name": t.Device.Name}}
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
