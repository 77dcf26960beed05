package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"idlewild/job"
	"idlewild/render/gpu"
)

// Options of a Runner. The zero value works, but for Scratch.
type Options struct {
	// Scratch is the folder for what running tasks write. It is made if it is
	// not there; what an earlier process left in it is removed.
	Scratch string
	// Warm is how many sessions one device keeps; 0: 2.
	Warm int
	// Idle is after how long an unused session is ended; 0: 10 minutes.
	Idle time.Duration
	// Timeout of a request where neither the task nor its kind sets one; 0: an hour.
	Timeout time.Duration
	// MaxOutputBytes and MaxOutputFiles bound what one task may leave, and
	// what its predecessors left; 0: 8 GiB and 256.
	MaxOutputBytes int64
	MaxOutputFiles int
	// Available is how much memory programs can still have, in bytes; 0: that
	// is not known. Where there is enough of it, a device that has worked keeps
	// one spare process (Sparer) until Idle after its last task. nil: none.
	Available func() int64
	// Memory bounds, by the name of a device, what a process of it may take of
	// this machine's memory, in place of the Process's own limit.
	Memory map[string]int64
	// GPUs are asked, now and then while a task runs on one, how much of its memory
	// the task takes. nil: nobody is.
	GPUs gpu.Prober
	// Priority of a process that is started now; nil: Normal.
	Priority func() Priority
	Log      *slog.Logger // nil: silent
}

func (o Options) withDefaults() Options {
	def := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	def((*int64)(&o.Idle), int64(10*time.Minute))
	def((*int64)(&o.Timeout), int64(time.Hour))
	def(&o.MaxOutputBytes, 8<<30)
	if o.Warm <= 0 {
		o.Warm = 2
	}
	if o.MaxOutputFiles <= 0 {
		o.MaxOutputFiles = 256
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Runner is the Executor that does the work: it finds or starts the warm
// session that a task needs, gives the request folders of its own, and brings
// back outputs and outcome.
type Runner struct {
	kinds map[job.Kind]Kind
	opts  Options
	pool  *pool
}

// NewExecutor returns a Runner for these kinds. Close it after its users.
func NewExecutor(kinds map[job.Kind]Kind, p Process, opts Options) *Runner {
	opts = opts.withDefaults()
	sweep(opts.Scratch)
	return &Runner{kinds: kinds, opts: opts, pool: newPool(p, opts)}
}

// Ready implements Executor.
func (r *Runner) Ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	r.pool.mu.Lock()
	closed := r.pool.closed
	r.pool.mu.Unlock()
	if closed {
		return errPoolClosed
	}
	if err := os.MkdirAll(r.opts.Scratch, 0o700); err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	return nil
}

// EndIdle ends the warm sessions of a device that run nothing, and its spare, or of all
// devices where the name is empty, and returns when their memory is free: the
// machine's owner is back. A task may start a new one at any time.
func (r *Runner) EndIdle(device string) { r.pool.endIdle(device) }

// Close ends all sessions. Tasks that run are waited for: end their contexts
// first.
func (r *Runner) Close() error {
	r.pool.close()
	return nil
}

// Execute implements Executor.
func (r *Runner) Execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) Result {
	start := time.Now()
	res := r.execute(ctx, t, dirs, progress)
	res.Meter.Wall = time.Since(start)
	res.Meter.Render = min(res.Meter.Render, res.Meter.Wall)
	res.Meter.Load = min(res.Meter.Load, res.Meter.Wall)
	if len(res.Log) > MaxLogBytes {
		res.Log = res.Log[len(res.Log)-MaxLogBytes:]
	}
	return res
}

func (r *Runner) execute(ctx context.Context, t Task, dirs Dirs, progress func(Progress)) (res Result) {
	kind := r.kinds[t.Kind]
	if kind == nil {
		return res.end(fmt.Errorf("kind %q is not run here", t.Kind), job.Broken)
	}
	key, cmd, err := kind.Session(t, dirs)
	if err != nil {
		return res.end(err, job.Failed)
	}
	r.bound(&cmd, t.Device.Name)
	// What a session may see and what it has seen are one requester's.
	parts := []string{t.Requester, string(t.Kind), t.Content, t.Device.Name, dirs.In}
	var trees []string
	for _, x := range dirs.Trees {
		trees = append(trees, x.Dir)
	}
	key = strings.Join(append(append(parts, trees...), key), "\x00")
	s, err := r.pool.acquire(ctx, key, t.Device.Name)
	if err != nil {
		if errors.Is(err, errPoolClosed) {
			return res.end(err, job.Cancelled)
		}
		return res.end(err, r.stopped(ctx))
	}
	keep := false
	defer func() { r.pool.release(s, keep) }()
	if sp, ok := kind.(Sparer); ok && r.opts.Available != nil && s.session == nil {
		s.spareKind = nil
		if key, cmd, ok := sp.Spare(t); ok {
			r.bound(&cmd, t.Device.Name)
			s.spareKind = &spareKind{strings.Join([]string{string(t.Kind), key}, "\x00"), cmd}
		}
	}
	if err := r.pool.open(ctx, s, cmd, dirs.In, dirs.Shown, trees); err != nil {
		return res.end(err, r.stopped(ctx))
	}
	vram := r.watch(s.session, t.Device)
	defer func() { res.Meter.VRAM = max(res.Meter.VRAM, vram()) }()
	res.Runner = s.runner
	res, keep = r.request(ctx, s, kind, cmd, t, dirs, progress, res)
	return res
}

// bound gives a command what this machine says of processes of a device.
func (r *Runner) bound(cmd *Command, device string) {
	if r.opts.Priority != nil {
		cmd.Priority = r.opts.Priority()
	}
	if most := r.opts.Memory[device]; most > 0 {
		cmd.MemoryLimit = most
		if cmd.MemoryBytes > 0 {
			cmd.MemoryBytes = min(cmd.MemoryBytes, most)
		}
	}
}

// stopped is the outcome of trouble on this machine: ours if we stopped it.
func (r *Runner) stopped(ctx context.Context) job.Outcome {
	if ctx.Err() != nil {
		return job.Cancelled
	}
	return job.Broken
}

// request runs t in a live session; keep says whether the session may go on.
func (r *Runner) request(ctx context.Context, s *slot, kind Kind, cmd Command, t Task, dirs Dirs, progress func(Progress), res Result) (_ Result, keep bool) {
	at, name, err := r.prepare(s, dirs)
	if name != "" {
		defer func() {
			if err := s.clear(name, keep); err != nil {
				r.opts.Log.Warn("request folder stays", "err", err)
				keep = false
			}
		}()
	}
	if err != nil {
		return res.end(err, job.Broken), false
	}
	req, err := kind.Request(t, at)
	if err != nil {
		return res.end(err, job.Failed), true // the session never heard of it
	}
	req.Timeout = r.timeout(req.Timeout, t.Timeout)

	var listener Listener
	if f, ok := kind.(Follower); ok && progress != nil {
		listener = f.Follow(progress)
		req.Lines = listener.Line
	}

	var said *event // the runner's last word before it died
	warm := s.served > 0
	exit := s.session.Do(ctx, req, func(ev Event) {
		e, err := parseEvent(ev.JSON)
		if err != nil {
			return
		}
		if listener != nil {
			listener.Event(ev)
		}
		switch {
		case e.Event == "progress" && progress != nil:
			progress(e.progress())
		case e.Event == "error":
			said = &e
		}
	})
	res.Log, res.Meter = exit.Log, exit.Meter
	if m, ok := listener.(Measurer); ok && t.Device.Type == "gpu" {
		res.Meter.VRAM = max(m.Peak(), 0)
		if most := t.Device.MemoryBytes; most > 0 {
			res.Meter.VRAM = min(res.Meter.VRAM, most)
		}
	}
	if exit.Err != nil {
		res = r.died(ctx, kind, res, exit, said)
		res.reused = warm && (errors.Is(exit.Err, ErrDied) || res.Outcome.Short())
		return res, false
	}
	s.served++
	done, err := parseEvent(exit.Done)
	if err != nil {
		return res.end(fmt.Errorf("%w: %v", ErrContract, err), job.Broken), false
	}
	res.Device, res.Build = sentence(done.Device, maxBuildBytes), sentence(done.Build, maxBuildBytes)
	res.Meter.Render = seconds(done.RenderS, exit.Meter.Wall)
	res.Meter.Load += seconds(done.LoadS, exit.Meter.Wall)
	if res.Outcome, res.Reason = done.outcome(); res.Outcome != job.Succeeded {
		res.reused = warm && res.Outcome.Short()
		return res, false
	}
	if reason := wrongDevice(t.Device.Type, res.Device); reason != "" {
		return res.end(errors.New(reason), job.Broken), false
	}
	if err := r.collect(s, name, t, dirs.Out); err != nil {
		otherwise := job.Broken
		if errors.Is(err, errUnsafe) {
			otherwise = job.Failed // the task's own doing, so everywhere
		}
		return res.end(err, otherwise), false
	}
	if rs, ok := s.session.(interface{ recycle() bool }); ok && rs.recycle() {
		r.opts.Log.Info("session recycled: over its memory", "device", t.Device.Name, "peak_bytes", exit.Meter.Peak, "limit_bytes", cmd.MemoryBytes)
		return res, false
	}
	return res, true
}

// timeout is the strictest of what kind, task and machine say.
func (r *Runner) timeout(limits ...time.Duration) time.Duration {
	least := time.Duration(0)
	for _, l := range limits {
		if l > 0 && (least == 0 || l < least) {
			least = l
		}
	}
	if least == 0 {
		return r.opts.Timeout
	}
	return least
}

// prepare makes the folders of one request: name/out, empty, and
// name/prior/<i> with copies of the predecessors' outputs. They are copies
// because the process can write wherever it works.
func (r *Runner) prepare(s *slot, dirs Dirs) (at Mount, name string, err error) {
	in, work := s.session.Mounts()
	s.requests++
	name = strconv.Itoa(s.requests)
	if err := s.makeFolder(name); err != nil {
		return Mount{}, name, fmt.Errorf("request folder: %w", err)
	}
	at = Mount{In: in, Out: path.Join(work, name, "out")}
	give := func(what string, fill func(sub string) error) error {
		sub := path.Join(name, "prior", strconv.Itoa(len(at.Prior)))
		if err := s.work.MkdirAll(sub, 0o755); err != nil {
			return fmt.Errorf("request folder: %w", err)
		}
		if err := fill(sub); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		at.Prior = append(at.Prior, path.Join(work, sub))
		return nil
	}
	for i, prior := range dirs.Prior {
		if err := give(fmt.Sprintf("outputs of predecessor %d", i), func(sub string) error { return r.give(s, prior, sub) }); err != nil {
			return Mount{}, name, err
		}
	}
	if dirs.Given != nil {
		if err := give("what was given", func(sub string) error { return s.write(sub, dirs.Given) }); err != nil {
			return Mount{}, name, err
		}
	}
	seen := s.session.Trees()
	if len(seen) != len(dirs.Trees) {
		return Mount{}, name, fmt.Errorf("the process sees %d folders of predecessors where there are %d", len(seen), len(dirs.Trees))
	}
	for i, x := range dirs.Trees {
		x.Dir = seen[i]
		at.Trees = append(at.Trees, x)
	}
	return at, name, nil
}

// write writes files into sub of the session's work folder.
func (s *slot) write(sub string, files map[string][]byte) error {
	for name, data := range files {
		if err := job.SafeName(name); err != nil {
			return err
		}
		to := path.Join(sub, name)
		if err := s.work.MkdirAll(path.Dir(to), 0o755); err != nil {
			return err
		}
		// A new file: the process runs, and may have put a pipe or a link there.
		f, err := s.work.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// give copies the folder from into sub of the session's work folder.
func (r *Runner) give(s *slot, from, sub string) error {
	src, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer src.Close()
	return copyTree(src, ".", s.work, sub, r.limits())
}

// maxTreeFiles bounds what a task leaves whose output is a folder: some files for
// each frame.
const maxTreeFiles = 1 << 17

func (r *Runner) limits() copyLimits {
	return copyLimits{files: r.opts.MaxOutputFiles, bytes: r.opts.MaxOutputBytes}
}

// collect brings the files that the request left into out. After an error out
// is as empty as before.
func (r *Runner) collect(s *slot, name string, t Task, out string) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, empty(out))
		}
	}()
	dst, err := os.OpenRoot(out)
	if err != nil {
		return fmt.Errorf("collect outputs: %w", err)
	}
	defer dst.Close()
	limits := r.limits()
	if slices.ContainsFunc(t.Outputs, func(o job.OutputRule) bool { return o.Media == job.MediaTree }) {
		limits.files = max(limits.files, maxTreeFiles)
	}
	if err := copyTree(s.work, path.Join(name, "out"), dst, ".", limits); err != nil {
		return fmt.Errorf("collect outputs: %w", err)
	}
	for _, o := range t.Outputs {
		fi, err := os.Lstat(filepath.Join(out, filepath.FromSlash(o.Name)))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the runner reported success but left no %s", o.Name)
		}
		if err != nil {
			return err
		}
		if o.Media == job.MediaTree {
			if !fi.IsDir() {
				return fmt.Errorf("%s is no folder: %w", o.Name, errUnsafe)
			}
		} else if !fi.Mode().IsRegular() {
			return fmt.Errorf("%s is no file: %w", o.Name, errUnsafe)
		}
	}
	return nil
}

// died is how an attempt ended whose process gave no closing event.
func (r *Runner) died(ctx context.Context, kind Kind, res Result, exit Exit, said *event) Result {
	switch {
	case ctx.Err() != nil && !errors.Is(exit.Err, ErrDied):
		res.Outcome, res.Reason = job.Cancelled, sentence(context.Cause(ctx).Error(), job.MaxReasonBytes)
		return res
	case said != nil && said.Outcome == string(job.Failed):
		res.Outcome, res.Reason = said.outcome()
		return res
	case said != nil:
		outcome, reason := said.outcome()
		if !outcome.Short() {
			outcome = ofDeath(exit.Err)
		}
		return res.end(fmt.Errorf("%w: %s", exit.Err, reason), outcome)
	}
	outcome := ofDeath(exit.Err)
	if x, ok := kind.(Explainer); ok && errors.Is(exit.Err, ErrDied) {
		if o := x.Explain(exit.Log); o != "" {
			outcome = o
		}
	}
	return res.end(lastWords(exit.Err, exit.Log), outcome)
}

// wrongDevice says in words that another sort of device did the work than the
// task was given, or "".
func wrongDevice(asked, did string) string {
	sort := "gpu"
	switch d := strings.ToLower(did); {
	case d == "":
		sort = ""
	case d == "cpu" || strings.HasPrefix(d, "cpu ") || strings.HasPrefix(d, "cpu:") || strings.HasPrefix(d, "cpu-"):
		sort = "cpu"
	}
	switch {
	case asked == "gpu" && sort == "":
		return "the runner did not say which device did the work"
	case asked != "" && sort != "" && sort != asked:
		return fmt.Sprintf("a %s was asked for and %q did the work", asked, did)
	}
	return ""
}
