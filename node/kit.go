package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/render"
	"idlewild/render/ai"
	"idlewild/render/assemble"
	"idlewild/render/blender"
	"idlewild/render/echo"
	"idlewild/render/gpu"
)

// kit is what this machine can do: kinds of work, devices, and the stack that
// runs a task. A daemon has one, and so has a farm inside one process.
type kit struct {
	planners map[job.Kind]dispatch.Kind
	croppers map[job.Kind]cropper
	samplers map[job.Kind]sampler
	models   *ai.Kind
	blenders []*blender.Kind
	mu       sync.Mutex
	machine  job.Machine // its facts may be replaced: guarded by mu once it runs
	// cpu is this machine's, also where it is disabled and not among the devices
	// of machine, as those of disabled are. unmatched are entries of devices in
	// the settings that are about no device.
	cpu       job.Device
	disabled  []job.Device
	unmatched []string
	memory    map[string]int64 // that work may use of a device, where the settings say so for it alone
	warnings  []string
	// specimens are files of which much is in every file that a program here
	// writes.
	specimens []string
	// sandbox says which layers there are, or why there are none.
	sandbox   string
	sandboxed bool
	trusted   map[string]bool // peers whose jobs run here without a sandbox
	confined  bool            // tasks run in a sandbox, where what they are given cannot be written to
	shows     bool            // tasks can be shown single files that lie elsewhere
	exec      render.Executor
	yielding  *yielding
	work      []*render.Runner // to close
	// attended reports whether somebody sits at this machine, or may; nil:
	// nobody says.
	attended func() bool
}

// newKit finds out what this machine can do. scratch is a folder for what
// running tasks write. What it learns of installed programs is remembered in
// cfg.DataDir if that can be written, else in scratch.
func newKit(ctx context.Context, cfg Config, scratch string, log *slog.Logger) (*kit, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	memory := cfg.workMemory()
	runners := filepath.Join(cfg.DataDir, "runners")
	if err := writable(runners); err != nil {
		log.Info("what is learnt of programs is forgotten at the end", "reason", err)
		runners = filepath.Join(scratch, "runners")
	}
	more, err := morePrograms(cfg)
	if err != nil {
		return nil, err
	}
	userHome, _ := os.UserHomeDir() // without one there is less to keep private
	roots := blender.Roots{Allowed: cfg.Paths.Roots, Private: append(blender.PrivatePaths(userHome), cfg.DataDir)}
	models := ai.New(ai.Options{
		Exe: exe, Library: cfg.ONNX.Library, Installed: installedRuntimes(cfg.DataDir), Threads: cfg.Worker.Threads,
		Server: cfg.LLM.Server, Servers: installedServers(cfg.DataDir), Python: cfg.Torch.Python, Pythons: installedPythons(cfg.DataDir),
		Allowed: allowedModels(cfg), MemoryBytes: memory, Log: log,
	})
	var known []blender.Disk
	for _, m := range cfg.Paths.Map {
		known = append(known, blender.Disk{From: m.From, To: m.here()})
	}
	blend := func(threads int, env []string) (*blender.Kind, error) {
		return blender.New(blender.Options{
			Blender: cfg.Blender.Path, Programs: more, Threads: threads, Scratch: runners, Private: []string{cfg.DataDir},
			Env: env, MemoryBytes: memory, Roots: roots, Disks: known, Outline: outline, Compare: compareBlends, Enlarger: models, Log: log,
		})
	}
	away, err := blend(cfg.Worker.Threads, cfg.Worker.Env)
	if err != nil {
		return nil, err
	}
	homeThreads := cfg.Worker.HomeThreads
	if homeThreads == 0 {
		homeThreads = cfg.Worker.Threads
	}
	home, err := blend(homeThreads, nil)
	if err != nil {
		return nil, err
	}
	echoes := echo.New(exe)
	k := &kit{
		planners: map[job.Kind]dispatch.Kind{blender.Name: away, echo.Name: echoes, ai.Name: models},
		croppers: map[job.Kind]cropper{blender.Name: away},
		samplers: map[job.Kind]sampler{ai.Name: models},
		models:   models,
		blenders: []*blender.Kind{away, home},
		machine:  job.Machine{Facts: map[string][]string{}},
	}
	process, err := k.process(ctx, cfg, memory, log)
	if err != nil {
		return nil, err
	}
	kinds := map[job.Kind]render.Kind{blender.Name: away, echo.Name: echoes, assemble.Name: assemble.New(exe), ai.Name: models}
	k.probe(ctx, kinds, log)
	if reason := k.devices(ctx, cfg); reason != "" {
		log.Info("no GPU", "reason", reason)
	}

	priority, err := render.ParsePriority(cfg.Limits.Priority)
	if err != nil {
		return nil, fmt.Errorf("limits.priority: %w", err)
	}
	runner := func(dir string, b *blender.Kind, p func() render.Priority, available func() int64) *render.Runner {
		kinds := maps.Clone(kinds)
		kinds[blender.Name] = b
		// The setting of a GPU is about memory of its own, not about this.
		mem := map[string]int64{k.cpu.Name: k.memory[k.cpu.Name]}
		r := render.NewExecutor(kinds, process, render.Options{
			Scratch: filepath.Join(scratch, dir), Priority: p, Available: available, Memory: mem, GPUs: newProber(), Log: log,
		})
		k.work = append(k.work, r)
		return r
	}
	var spares func() int64
	if cfg.Worker.Spare {
		spares = availableMemory
	}
	var exec render.Executor = render.WithHealth(render.WithRetry(runner("work", away, func() render.Priority { return priority }, spares)), brokenInARow, restAfterBroken)
	if mode := cfg.Worker.Saboteur; mode != "" {
		log.Warn("this node delivers wrong results on purpose", "mode", mode)
		cheat := func(t job.Task) job.Task {
			if t.Kind == echo.Name {
				return echo.Cheat(t)
			}
			return away.Cheat(t)
		}
		if exec, err = render.NewSaboteur(exec, render.SabotageMode(mode), cheat, filepath.Join(scratch, "stale")); err != nil {
			return nil, err
		}
	}
	k.yielding = &yielding{Executor: exec, free: func(device string) {
		for _, r := range k.work {
			r.EndIdle(device)
		}
	}}
	k.exec = render.WithLog(byPlace{k.yielding, render.WithRetry(runner("home", home, k.homePriority, nil))}, log)
	return k, nil
}

// homePriority is that of finishing and checking own jobs: nobody waits for a
// check, and whoever sits here goes on working meanwhile.
func (k *kit) homePriority() render.Priority {
	if k.attended != nil && k.attended() {
		return render.Least
	}
	return render.Normal
}

// workMemory is how much of the machine's memory a task may use, in bytes; 0:
// that is not known.
func (c Config) workMemory() int64 { return cmp.Or(c.Worker.MemoryBytes, physicalMemory()/10*8) }

// writable makes dir where it is not there, and reports whether a file can be
// put into it.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "try-*")
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

// A machine whose tasks break this often in a row stops asking for work for a
// while: a bad driver must not eat a farm's frames.
const (
	brokenInARow    = 5
	restAfterBroken = 10 * time.Minute
)

// close ends every warm process.
func (k *kit) close() {
	k.yielding.wait.Wait()
	for _, r := range k.work {
		r.Close()
	}
}

// process chooses how programs are started, and says whether strangers' files
// are safe with it.
func (k *kit) process(ctx context.Context, cfg Config, memory int64, log *slog.Logger) (render.Process, error) {
	plain := render.NewLocalProcess(log)
	limits := cfg.Sandbox.limits(memory)
	plain.Limits = limits
	k.trusted = make(map[string]bool)
	for _, id := range cfg.Sandbox.Trusted {
		k.trusted[id] = true
	}
	if cfg.Sandbox.Mode == "off" {
		k.sandbox, k.sandboxed = "switched off: members' files run with this user's rights", true
		return plain, nil
	}
	s, err := render.NewSandbox(ctx, log, limits)
	if err == nil {
		k.sandbox, k.sandboxed, k.confined, k.shows = s.Layers(), s.Proven(), true, s.Shows()
		if !k.sandboxed {
			k.sandbox += "; so only this machine's own jobs and those of the peers in sandbox.trusted run here"
		}
		return s, nil
	}
	if cfg.Sandbox.Mode == "required" {
		return nil, fmt.Errorf("sandbox.mode is required, but %w", err)
	}
	others := "only this machine's own jobs run here"
	if n := len(k.trusted); n > 0 {
		others = fmt.Sprintf("only this machine's own jobs and those of %d trusted peers run here, with this user's rights", n)
	}
	k.sandbox = fmt.Sprintf("none, so %s: %v", others, err)
	k.warnings = append(k.warnings, "no sandbox: "+err.Error())
	return plain, nil
}

// accepts reports whether a requester's files may run here.
func (k *kit) accepts(requester peer.ID) bool { return k.sandboxed || k.trusted[requester.String()] }

// probe gathers the kinds' facts. A kind that cannot work here is a warning.
func (k *kit) probe(ctx context.Context, kinds map[job.Kind]render.Kind, log *slog.Logger) {
	for _, name := range slices.Sorted(func(yield func(job.Kind) bool) {
		for n := range kinds {
			if !yield(n) {
				return
			}
		}
	}) {
		facts, warnings, err := kinds[name].Probe(ctx)
		if err != nil {
			warnings = append(warnings, err.Error())
		}
		if s, ok := kinds[name].(interface{ Specimens() []string }); ok {
			k.specimens = append(k.specimens, s.Specimens()...)
		}
		for f, values := range facts {
			k.machine.Facts[f] = append(k.machine.Facts[f], values...)
		}
		for _, w := range warnings {
			log.Warn("ability missing", "kind", name, "reason", w)
			k.warnings = append(k.warnings, w)
		}
	}
}

// now is this machine as it is now.
func (k *kit) now() job.Machine {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.machine
}

// takeBlender takes up a Blender that was added while the daemon runs.
func (k *kit) takeBlender(ctx context.Context, path string) error {
	for _, b := range k.blenders {
		if err := b.Add(path); err != nil {
			return err
		}
	}
	return k.askBlenders(ctx)
}

// askBlenders takes up what the Blenders of this machine can do now.
func (k *kit) askBlenders(ctx context.Context) error {
	facts, _, err := k.blenders[0].Probe(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	all := maps.Clone(k.machine.Facts)
	maps.Copy(all, facts)
	k.machine.Facts = all
	return nil
}

// newProber is another in tests.
var newProber = gpu.NewProber

// devices finds the accelerators and the CPU. It says why there is no GPU
// where there is none. A GPU has no more memory than others may use.
func (k *kit) devices(ctx context.Context, cfg Config) (reason string) {
	var found []job.Device
	gpus, err := newProber().Devices(ctx)
	if err != nil {
		reason = err.Error()
	}
	for _, d := range gpus {
		major, _, _ := strings.Cut(d.Driver, ".")
		found = append(found, job.Device{
			Name: d.UUID, Type: "gpu", Model: d.Name, Class: "gpu/" + d.Model + "/" + major, MemoryBytes: d.MemoryBytes,
		})
	}
	k.cpu = job.Device{
		Name: "cpu", Type: "cpu", Model: cpuModel(), Class: "cpu/" + runtime.GOARCH, MemoryBytes: cfg.workMemory(),
	}
	k.takeDevices(append(found, k.cpu), cfg.Devices, cfg.Limits.VRAMBytes)
	return reason
}

// byPlace runs a requester's own finishing and checks apart from the work:
// with its own processes, threads and kernels.
type byPlace struct {
	render.Executor
	home render.Executor
}

func (b byPlace) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) render.Result {
	if t.Device.Name == job.HomeDevice {
		return b.home.Execute(ctx, t, dirs, progress)
	}
	return b.Executor.Execute(ctx, t, dirs, progress)
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
