//go:build linux

package render_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/echo"
)

func TestMain(m *testing.M) {
	echo.RunnerMain()
	testRunner()
	os.Exit(m.Run())
}

const testKindName job.Kind = "test"

var cpu = job.Device{Name: "cpu", Type: "cpu"}

// testKind runs the test runner. A task's parameters are an ask.
type testKind struct {
	env     []string
	memory  int64
	start   time.Duration
	session func(t render.Task) string // its key; nil: one for all
}

func (k testKind) Probe(context.Context) (map[string][]string, []string, error) { return nil, nil, nil }

func (k testKind) Session(t render.Task, _ render.Dirs) (string, render.Command, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", render.Command{}, err
	}
	key := "one"
	if k.session != nil {
		key = k.session(t)
	}
	return key, render.Command{
		Path: exe, ReadOnly: []string{exe},
		Env:         append([]string{"IDLEWILD_RUNNER=test", "FOLDERS={in} {work}"}, k.env...),
		MemoryBytes: k.memory, StartTimeout: k.start,
	}, nil
}

func (k testKind) Request(t render.Task, at render.Mount) (render.Request, error) {
	var a ask
	if err := json.Unmarshal(t.Params, &a); err != nil {
		return render.Request{}, err
	}
	a.In, a.Out, a.Prior = at.In, at.Out, at.Prior
	for _, x := range at.Trees {
		a.Trees = append(a.Trees, x.Dir)
	}
	b, err := json.MarshalIndent(a, "", "  ") // over several lines, which the session mends
	return render.Request{JSON: b}, err
}

// waiting is a testKind of which there can be spares.
type waiting struct {
	testKind
	key func(t render.Task) string // of its spare; nil: one for all
	env []string                   // of a spare
}

func (k waiting) Session(t render.Task, dirs render.Dirs) (string, render.Command, error) {
	key, cmd, err := k.testKind.Session(t, dirs)
	return t.Content + key, cmd, err
}

func (k waiting) Spare(t render.Task) (string, render.Command, bool) {
	_, cmd, err := k.testKind.Session(t, render.Dirs{})
	cmd.Env = append(slices.Clip(append(cmd.Env, "TEST_START=wait")), k.env...)
	key := "spare"
	if k.key != nil {
		key = k.key(t)
	}
	return key, cmd, err == nil && key != ""
}

// processes are the two implementations of Process.
func processes(t testing.TB) map[string]render.Process {
	t.Helper()
	all := map[string]render.Process{"local": render.NewLocalProcess(nil)}
	if s := sandbox(t, 0); s != nil {
		all["sandbox"] = s
	}
	return all
}

// sandbox is nil where there is none and none is required.
func sandbox(t testing.TB, memory int64) render.Process {
	t.Helper()
	s, err := render.NewSandbox(t.Context(), nil, render.Limits{MemoryBytes: memory})
	if err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "sandbox") {
			t.Fatal(err)
		}
		t.Logf("NOT RUN: in a sandbox: %v", err)
		return nil
	}
	return s
}

// eachProcess runs a test with every implementation of Process.
func eachProcess(t *testing.T, f func(t *testing.T, p render.Process)) {
	for name, p := range processes(t) {
		t.Run(name, func(t *testing.T) { f(t, p) })
	}
}

// bench is an executor of test tasks, and what it runs them with.
type bench struct {
	t testing.TB
	*render.Runner
	in      string
	scratch string
}

func newBench(t testing.TB, k render.Kind, p render.Process, o render.Options) *bench {
	t.Helper()
	if o.Scratch == "" {
		o.Scratch = filepath.Join(t.TempDir(), "scratch")
	}
	b := &bench{t: t, in: t.TempDir(), scratch: o.Scratch, Runner: render.NewExecutor(map[job.Kind]render.Kind{testKindName: k}, p, o)}
	t.Cleanup(func() {
		b.Close()
		left, err := os.ReadDir(b.scratch)
		if err == nil && len(left) > 0 {
			t.Errorf("%d folders left in scratch", len(left))
		}
	})
	return b
}

// task makes a task of a.
func (b *bench) task(a ask) render.Task {
	params, err := json.Marshal(a)
	if err != nil {
		b.t.Fatal(err)
	}
	return render.Task{
		Task:      job.Task{Kind: testKindName, Params: params, Label: a.Do, Outputs: []job.OutputRule{{Name: "out.txt", Media: job.MediaFile}}},
		Requester: "peer", Content: "content", Device: cpu,
	}
}

// run runs a and returns the result and the folder of its outputs.
func (b *bench) run(ctx context.Context, a ask) (render.Result, string) {
	b.t.Helper()
	return b.runTask(ctx, b, b.task(a))
}

func (b *bench) runTask(ctx context.Context, e render.Executor, t render.Task) (render.Result, string) {
	b.t.Helper()
	out := b.t.TempDir()
	r := e.Execute(ctx, t, render.Dirs{In: b.in, Out: out}, nil)
	if r.Outcome != job.Succeeded {
		if left, _ := os.ReadDir(out); len(left) > 0 {
			b.t.Errorf("%s, but %d files delivered", r.Outcome, len(left))
		}
	}
	if !r.Outcome.Valid() || (r.Outcome == job.Succeeded) != (r.Reason == "") {
		b.t.Errorf("outcome %q with reason %q", r.Outcome, r.Reason)
	}
	return r, out
}

// want runs a, which must end in this outcome with words in its reason.
func (b *bench) want(a ask, outcome job.Outcome, words string) (render.Result, string) {
	b.t.Helper()
	r, out := b.run(b.t.Context(), a)
	if r.Outcome != outcome || !strings.Contains(r.Reason, words) {
		b.t.Fatalf("%s: %s (%s), want %s (%s)\n%.2000s", a.Do, r.Outcome, r.Reason, outcome, words, r.Log)
	}
	return r, out
}

// read returns the output of a task that succeeded.
func (b *bench) read(a ask) string {
	b.t.Helper()
	_, out := b.want(a, job.Succeeded, "")
	text, err := os.ReadFile(filepath.Join(out, "out.txt"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// running counts the processes of this machine with text in their command line.
func running(t testing.TB, text string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), text) {
			n++
		}
	}
	return n
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(3 * time.Minute)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

// kill ends a process of ours by its number, from outside.
func kill(t testing.TB, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
