package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"idlewild/internal/netlab"
	"idlewild/job"
	"idlewild/render/ai/onnx"
	kinds "idlewild/render/blender"
)

func init() {
	benchmarks["evening"] = benchmark{"an evening's use of a farm behind routers, everything together: films, a laptop that is closed, a cheat, a game (needs root)", eveningBench}
}

// eveningPhase is one thing that happens in the evening. Its figures and
// failures have its name.
type eveningPhase struct {
	name string
	run  func(e *evening, ctx context.Context) error
}

// eveningPhases are in the order of the evening. A later one makes do where
// those before it were left out.
var eveningPhases = []eveningPhase{
	{"house", (*evening).house},
	{"animation", (*evening).animate},
	{"project", (*evening).project},
	{"edits", (*evening).edits},
	{"larger", (*evening).larger},
	{"still", (*evening).still},
	{"batch", (*evening).batch},
	{"delivery", (*evening).projectEnd},
	{"account", (*evening).lookBack},
}

// eveningLimit is how long an evening may take on two cores.
const eveningLimit = 40 * time.Minute

// evening is a farm of seven machines, and the people at three of them.
type evening struct {
	*netlabBed
	began time.Time
	phase string
	out   string // what is kept: frames, films, logs
	scale float64
	first int    // frames of the first submission
	model string // that makes pictures twice as large

	// The machines. The first five are the farm; the others ask it.
	relay, slow, desk, cheat, nas *daemon
	artist, second                *daemon

	groups  *groups // nil: quotas of processor time cannot be made here
	owner   *desk   // where the owner of desk sits
	screen  *desk   // the artist's
	blender *artistBlender
	peers   map[string]*daemon // by peer id

	peaks map[*daemon]peak // of memory, so far

	scene, other string
	animation    job.ID       // of the newest submission of scene
	jobs         []eveningJob // that ended
	large        *largeJob    // nil: it was not submitted
	quietGame    gameReport   // while nobody works

	figures []eveningFigure
	runs    []run // what the single benchmarks found
}

// largeJob is the large project's submission. The rest is set once planned is
// closed.
type largeJob struct {
	planned chan struct{}
	id      job.ID
	err     error
}

// eveningJob is one that ended.
type eveningJob struct {
	name   string
	of     *daemon
	status job.Status
}

func eveningBench(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("evening", flag.ContinueOnError)
	only := fs.String("only", "", "phases, separated by commas; empty: all. The farm is founded in any case")
	out := fs.String("out", filepath.Join("out", "evening"), "folder for frames, films and logs; the large project is made in it once")
	scale := fs.Float64("scale", 1, "share of the large project's 2 GB")
	frames := fs.Int("frames", eveningFrames, "of the first submission: fewer for a try on a busy machine")
	model := fs.String("model", os.Getenv("IDLEWILD_UPSCALER"), "an ONNX model that makes pictures twice as large; empty: one of random weights")
	library := fs.String("library", os.Getenv("IDLEWILD_ONNX_LIBRARY"), "onnxruntime, or its folder")
	kept := fs.String("kept", filepath.Join("bench", "figures.json"), "what the single benchmarks found")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *frames < 6 || *frames > eveningFrames {
		return nil, fmt.Errorf("--frames %d: say 6 to %d", *frames, eveningFrames)
	}
	wanted, err := eveningWanted(*only)
	if err != nil {
		return nil, err
	}
	lib, err := eveningNeeds(*library)
	if err != nil {
		return nil, err
	}
	os.Setenv("IDLEWILD_ONNX_LIBRARY", lib) // of the daemons
	e := &evening{began: time.Now(), scale: *scale, first: *frames, peers: map[string]*daemon{}, peaks: map[*daemon]peak{}}
	if e.out, err = filepath.Abs(*out); err != nil {
		return nil, err
	}
	if e.runs, err = readRuns(*kept); err != nil {
		return nil, err
	}
	if *model != "" {
		if e.model, err = filepath.Abs(*model); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, eveningLimit, fmt.Errorf("the evening is over: it may take %v", eveningLimit))
	defer cancel()
	err = e.spend(ctx, wanted)
	e.table()
	var figures []Figure
	for _, f := range e.figures {
		figures = append(figures, f.Figure)
	}
	return figures, err
}

// eveningWanted are the phases to run.
func eveningWanted(only string) ([]eveningPhase, error) {
	names := strings.FieldsFunc(only, func(r rune) bool { return r == ',' })
	for _, n := range names {
		if !slices.ContainsFunc(eveningPhases, func(p eveningPhase) bool { return p.name == n }) {
			return nil, fmt.Errorf("no phase is called %q", n)
		}
	}
	if len(names) == 0 {
		return eveningPhases, nil
	}
	var out []eveningPhase
	for i, p := range eveningPhases {
		// What was begun is brought to its end.
		if i == 0 || slices.Contains(names, p.name) || p.name == "delivery" && slices.Contains(names, "project") {
			out = append(out, p)
		}
	}
	return out, nil
}

// eveningNeeds says in one line all that is missing, and where onnxruntime is.
func eveningNeeds(library string) (string, error) {
	var missing []string
	if err := netlab.Allowed(); err != nil {
		missing = append(missing, err.Error())
	}
	for program, of := range map[string]string{
		kinds.OnPath: "make setup", "Xvfb": "apt-get install xvfb", "ffprobe": "apt-get install ffmpeg", "taskset": "apt-get install util-linux", "python3": "apt-get install python3",
	} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program+" ("+of+")")
		}
	}
	l, err := onnx.Find(library)
	if err != nil {
		missing = append(missing, "onnxruntime (idlewild runtime add onnx, or IDLEWILD_ONNX_LIBRARY)")
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		return "", errors.New("missing: " + strings.Join(missing, "; "))
	}
	return l.Path, nil
}

// spend runs the phases, and cleans up whatever becomes of them.
func (e *evening) spend(ctx context.Context, wanted []eveningPhase) (err error) {
	if err := netlab.Sweep(); err != nil {
		return err
	}
	if err := e.prepare(ctx, wanted); err != nil {
		return err
	}
	if e.netlabBed, err = newNetlabBed(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.leave()) }()
	for _, p := range wanted {
		e.phase = p.name
		start := time.Now()
		e.say("begins")
		if err := p.run(e, ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("%s: %w; the daemons' logs are in %s", p.name, err, filepath.Join(e.out, "logs"))
		}
		if err := e.weigh(); err != nil {
			return err
		}
		e.say("took %.0f s", time.Since(start).Seconds())
	}
	return nil
}

// say tells how the evening goes.
func (e *evening) say(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "%6.0f s  %-13s %s\n", time.Since(e.began).Seconds(), e.phase, fmt.Sprintf(format, a...))
}

// leave ends all that runs and looks whether that is so.
func (e *evening) leave() error {
	e.phase = "going home"
	if e.blender != nil {
		e.blender.close()
	}
	for _, d := range e.nodes {
		e.woken(d) // a process that was stopped does not hear that it shall end
	}
	if err := e.keepLogs(); err != nil {
		e.say("the logs are lost: %v", err)
	}
	e.netlabBed.close()
	if e.large != nil {
		<-e.large.planned // its daemon is gone
	}
	left := e.leftovers()
	for _, d := range []*desk{e.owner, e.screen} {
		if d != nil {
			d.close()
		}
	}
	if e.groups != nil {
		e.groups.close()
	}
	e.add(atMost("processes left behind by the daemons", float64(len(left)), "", 0), alone{}, "")
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, "; "))
	}
	return nil
}

// keepLogs puts the daemons' logs beside the frames.
func (e *evening) keepLogs() error {
	to := filepath.Join(e.out, "logs")
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o777); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(e.dir, "*.log"))
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range logs {
		errs = append(errs, copyFile(filepath.Join(to, filepath.Base(l)), l))
	}
	return errors.Join(errs...)
}

// leftovers are processes that have to do with the farm's folder some seconds
// after the daemons are gone: there should be none. They are ended.
func (e *evening) leftovers() (out []string) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if len(e.ofFolder(false)) == 0 {
			return nil
		}
	}
	return e.ofFolder(true)
}

func (e *evening) ofFolder(kill bool) (out []string) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		line, err := os.ReadFile(filepath.Join(p, "cmdline"))
		if err != nil || len(line) == 0 || filepath.Base(p) == fmt.Sprint(os.Getpid()) {
			continue
		}
		env, _ := os.ReadFile(filepath.Join(p, "environ"))
		if !strings.Contains(string(line), e.dir) && !strings.Contains(string(env), "IDLEWILD_DATA_DIR="+e.dir) {
			continue
		}
		text := strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " ")
		out = append(out, text[:min(len(text), 200)])
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && kill {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return out
}
