// Package ai is the kind of work that puts a model to use on many items: it
// upscales pictures and makes them of words, embeds texts, classifies rows,
// transcribes, estimates depth, answers requests. Models are data, files of the
// job like any other, and run inside of the sandbox: in onnxruntime, in
// llama.cpp's server or in PyTorch.
//
// Spec is what a job asks for; Inspect looks at model and inputs; Plan cuts
// the items into tasks, or pictures into tiles that render/assemble joins.
// RunnerMain is the process that a session starts, which is this very program
// and keeps its model loaded.
package ai

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/ai/llm"
	"idlewild/render/ai/onnx"
	"idlewild/render/ai/torch"
	"idlewild/render/gorunner"
)

// Name is the kind's name.
const Name job.Kind = "ai"

// Facts of a machine: it runs tasks of this package's version, and has a
// runtime for ONNX models on devices of a type.
const (
	version = "1"
	// versionPrior knows models and pictures that are predecessors' outputs.
	versionPrior = "2"
	// versionCommit knows commitments to tokens.
	versionCommit = "3"
	// versionDay knows Params.Day.
	versionDay = "4"
	// versionChoices knows Params.Choices.
	versionChoices = "5"
	// versionNumbered knows Params.Numbered.
	versionNumbered = "6"

	runtimeFact  = "onnx"
	runtimeVer   = "1"
	runtimeLLM   = "llm"
	runtimeTorch = "torch"
)

// Remedy says how a machine comes to have a fact that tasks need, "" where it is
// none of these.
func Remedy(fact string) string {
	switch fact {
	case runtimeFact, runtimeLLM, runtimeTorch:
		return "on a machine that shall take it: idlewild runtime add " + fact
	}
	return ""
}

// Options of New.
type Options struct {
	Exe string // absolute path of a program whose main function calls RunnerMain first
	// Library is where the machine's owner says onnxruntime is: a library or a
	// folder. Installed are folders to look in before the usual ones.
	Library   string
	Installed []string
	// Server and Servers are the same for llama.cpp's server.
	Server  string
	Servers []string
	// Python and Pythons are the same for PyTorch: an interpreter or an
	// environment's folder, and environments.
	Python  string
	Pythons []string
	Threads int // of the CPU; 0: all
	// Allowed, where it is not nil, says whether a model may run here, by its
	// sha2-256 in hexadecimal.
	Allowed func(sha256 string) bool
	// MemoryBytes above which a process is started afresh.
	MemoryBytes int64
	Log         *slog.Logger // nil: silent
}

// Kind plans and runs the tasks. It is a render.Kind and a dispatch.Kind.
type Kind struct {
	opts Options

	once    sync.Once
	library onnx.Library
	missing error // why there is no library
	sorts   []string
	build   string

	onceLLM    sync.Once
	server     string
	serverOf   string // its version
	missingLLM error

	onceTorch    sync.Once
	python       torch.Python
	torchBuild   string
	torchOn      []string // the sorts of devices
	missingTorch error
}

var _ render.Kind = (*Kind)(nil)

// New returns the kind.
func New(o Options) *Kind {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Kind{opts: o}
}

// Probe implements render.Kind. A machine without onnxruntime still joins and
// finishes.
func (k *Kind) Probe(ctx context.Context) (map[string][]string, []string, error) {
	facts := map[string][]string{string(Name): {version, versionPrior, versionCommit, versionDay, versionChoices, versionNumbered}}
	var warnings []string
	switch k.findLLM(ctx); {
	case k.missingLLM == nil:
		facts[runtimeLLM+"@cpu"] = []string{runtimeVer}
	case errors.Is(k.missingLLM, llm.ErrNoServer):
		k.opts.Log.Info("no language models are run here", "reason", k.missingLLM)
	default:
		warnings = append(warnings, "language models are not run here: "+k.missingLLM.Error())
	}
	switch k.findTorch(ctx); {
	case k.missingTorch == nil:
		for _, sort := range k.torchOn {
			facts[runtimeTorch+"@"+sort] = []string{runtimeVer}
		}
	case errors.Is(k.missingTorch, torch.ErrNone):
		k.opts.Log.Info("no pipelines are run here", "reason", k.missingTorch)
	default:
		warnings = append(warnings, "pipelines are not run here: "+k.missingTorch.Error())
	}
	k.find(ctx)
	if errors.Is(k.missing, onnx.ErrNoLibrary) {
		k.opts.Log.Info("no AI models are run here", "reason", k.missing)
		return facts, warnings, nil
	}
	if k.missing != nil {
		return facts, append(warnings, "AI models are not run here: "+k.missing.Error()), nil
	}
	for _, sort := range k.sorts {
		device := "gpu"
		if sort == "cpu" {
			device = "cpu"
		}
		facts[runtimeFact+"@"+device] = []string{runtimeVer}
	}
	return facts, warnings, nil
}

// LLM says which llama.cpp is used here, or why there is none.
func (k *Kind) LLM(ctx context.Context) (path, version string, err error) {
	k.findLLM(ctx)
	return k.server, k.serverOf, k.missingLLM
}

func (k *Kind) findLLM(ctx context.Context) {
	k.onceLLM.Do(func() {
		if k.server, k.missingLLM = llm.Find(k.opts.Server, k.opts.Servers...); k.missingLLM != nil {
			return
		}
		if k.serverOf, k.missingLLM = llm.Version(ctx, k.server); k.missingLLM == nil {
			k.opts.Log.Info("language models are run here", "version", k.serverOf, "server", k.server)
		}
	})
}

// Runtime says which onnxruntime is used here, or why there is none.
func (k *Kind) Runtime(ctx context.Context) (path, build string, err error) {
	k.find(ctx)
	return k.library.Path, k.build, k.missing
}

// find looks for the library once, and has a process of its own load it: a
// broken one must not take the daemon with it.
func (k *Kind) find(ctx context.Context) {
	k.once.Do(func() {
		if k.library, k.missing = onnx.Find(k.opts.Library, k.opts.Installed...); k.missing != nil {
			return
		}
		build, sorts, err := k.ask(ctx, request{Op: opLook, Library: k.library.Path})
		if err != nil {
			k.missing = err
			return
		}
		k.build, k.sorts = build, strings.Split(sorts, ",")
		k.opts.Log.Info("AI models are run here", "runtime", build, "devices", sorts, "library", k.library.Path)
	})
}

// ask has a process without a sandbox answer one request about files of this
// machine's own user.
func (k *Kind) ask(ctx context.Context, r request) (build, device string, err error) {
	dir, err := os.MkdirTemp("", "idlewild-ai-")
	if err != nil {
		return "", "", err
	}
	defer os.RemoveAll(dir)
	root := render.SessionRoot{In: filepath.Join(dir, "in"), Work: filepath.Join(dir, "work")}
	for _, d := range []string{root.In, root.Work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return "", "", err
		}
	}
	s, err := render.NewLocalProcess(k.opts.Log).Start(ctx, k.command(false), root)
	if err != nil {
		return "", "", err
	}
	defer s.Close()
	b, err := json.Marshal(r)
	if err != nil {
		return "", "", err
	}
	exit := s.Do(ctx, render.Request{JSON: b, Timeout: 10 * time.Minute}, func(render.Event) {})
	if exit.Err != nil {
		return "", "", fmt.Errorf("onnxruntime in %s: %w: %s", k.library.Path, exit.Err, lastLine(exit.Log))
	}
	var done struct{ Outcome, Reason, Device, Build string }
	if err := json.Unmarshal(exit.Done, &done); err != nil {
		return "", "", err
	}
	if done.Outcome != string(job.Succeeded) {
		return "", "", errors.New(done.Reason)
	}
	return done.Build, done.Device, nil
}

func lastLine(log []byte) string {
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return lines[len(lines)-1]
}

// command starts a runner.
func (k *Kind) command(gpu bool) render.Command {
	cmd := gorunner.Command(k.opts.Exe, string(Name))
	read, search := k.library.Folders()
	if k.library.Path != "" {
		cmd.ReadOnly = append(cmd.ReadOnly, read...)
		if gpu {
			cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+search)
		}
	}
	cmd.Env = append(cmd.Env, envThreads+"="+strconv.Itoa(k.opts.Threads))
	cmd.MemoryBytes = k.opts.MemoryBytes
	return cmd
}

// Session implements render.Kind: one process per device serves all tasks of a
// content, and another joins.
func (k *Kind) Session(t render.Task, _ render.Dirs) (string, render.Command, error) {
	p, err := decode(t.Params)
	if err != nil {
		return "", render.Command{}, err
	}
	if !p.models() {
		return "join", k.command(false), nil
	}
	var missing error
	switch p.Runtime {
	case runtimeLLM:
		k.findLLM(context.Background())
		missing = k.missingLLM
	case runtimeTorch:
		k.findTorch(context.Background())
		missing = k.missingTorch
	default:
		k.find(context.Background())
		missing = k.missing
	}
	if missing != nil {
		return "", render.Command{}, render.BrokenError("%v", missing)
	}
	if k.opts.Allowed != nil && !k.opts.Allowed(p.SHA256) {
		// Elsewhere it may be welcome, and nobody did wrong.
		return "", render.Command{}, &render.OutcomeError{Outcome: job.Cancelled,
			Reason: fmt.Sprintf("the model %.12s is not on this machine's list (idlewild model add)", p.SHA256)}
	}
	gpu := t.Device.Type == "gpu"
	cmd := k.command(gpu)
	if gpu {
		cmd.Devices = []job.Device{t.Device}
		if strings.HasPrefix(t.Device.Name, "GPU-") {
			cmd.Env = append(cmd.Env, "CUDA_VISIBLE_DEVICES="+t.Device.Name)
		}
	}
	if p.Runtime == runtimeTorch {
		cmd.ReadOnly = append(cmd.ReadOnly, k.python.Folders...)
		return runtimeTorch + " " + p.SHA256, cmd, nil
	}
	if p.Runtime == runtimeLLM {
		cmd.ReadOnly = append(cmd.ReadOnly, filepath.Dir(k.server))
		return runtimeLLM + " " + p.SHA256 + p.Endpoint, cmd, nil
	}
	return "onnx " + p.SHA256, cmd, nil
}

// Request implements render.Kind.
func (k *Kind) Request(t render.Task, at render.Mount) (render.Request, error) {
	p, err := decode(t.Params)
	if err != nil {
		return render.Request{}, err
	}
	if err := p.checkPart(t.Part); err != nil {
		return render.Request{}, err
	}
	if want := len(t.After); len(at.Prior) != want {
		return render.Request{}, fmt.Errorf("ai task: outputs of %d predecessors where there are %d", len(at.Prior), want)
	}
	if p.Prior != "" && len(t.After) != 2 {
		return render.Request{}, fmt.Errorf("ai task: a picture and its model are two predecessors, not %d", len(t.After))
	}
	r := request{
		Op: opTask, Params: p, Part: t.Part, Library: k.library.Path, GPU: t.Device.Type == "gpu",
		In: at.In, Prior: at.Prior, Out: at.Out,
	}
	switch p.Runtime {
	case runtimeLLM:
		r.Library = k.server
	case runtimeTorch:
		r.Library = k.python.Path
	}
	b, err := json.Marshal(r)
	if err != nil {
		return render.Request{}, err
	}
	return render.Request{JSON: b, Timeout: t.Timeout}, nil
}

// sha256File is the hash of a file, in hexadecimal.
func sha256File(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
