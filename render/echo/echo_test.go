package echo_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/echo"
)

// planner is dispatch.Kind, spelt out: this package may not import dispatch.
type planner interface {
	Inspect(ctx context.Context, s job.Spec) (job.Inspection, error)
	Plan(s job.Spec, in job.Inspection, input cid.Cid) ([]job.Task, error)
}

var _ planner = (*echo.Kind)(nil)

func newKind(t testing.TB) *echo.Kind {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return echo.New(exe)
}

func plan(t testing.TB, k *echo.Kind, params string) []job.Task {
	t.Helper()
	s := job.Spec{Kind: echo.Name, Params: json.RawMessage(params)}
	in, err := k.Inspect(t.Context(), s)
	if err != nil || len(in.Problems) > 0 {
		t.Fatalf("inspect: %v %v", err, in.Problems)
	}
	tasks, err := k.Plan(s, in, cid.Undef)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

func TestPlanGivesDistinctValidTasks(t *testing.T) {
	tasks := plan(t, newKind(t), `{"count": 1000, "text": "hello", "check": true, "fail": "failed", "fail_tasks": [7]}`)
	if len(tasks) != 1000 {
		t.Fatalf("%d tasks", len(tasks))
	}
	keys := map[job.TaskKey]bool{}
	failing := 0
	for _, x := range tasks {
		if err := x.Validate(); err != nil {
			t.Fatal(err)
		}
		keys[x.Key()] = true
		if strings.Contains(string(x.Params), `"fail"`) {
			failing++
		}
		if x.Check.Method != job.CheckExact || x.Outputs[0].Name != x.Check.Output {
			t.Fatalf("check %+v", x.Check)
		}
	}
	if len(keys) != 1000 || failing != 1 {
		t.Errorf("%d distinct keys, %d tasks that fail", len(keys), failing)
	}
	if tasks[0].Outputs[0].Final != "echo-000001.txt" {
		t.Error(tasks[0].Outputs[0].Final)
	}
}

func TestInspectNamesWhatIsWrong(t *testing.T) {
	k := newKind(t)
	for _, s := range []job.Spec{
		{Params: json.RawMessage(`{"cuont": 1}`)},
		{Params: json.RawMessage(`{"count": 2000000}`)},
		{Params: json.RawMessage(`{"fail": "oops"}`)},
		{Params: json.RawMessage(`{} {}`)},
		{Input: filepath.Join(t.TempDir(), "missing.txt")},
		{Input: t.TempDir()},
	} {
		in, err := k.Inspect(t.Context(), s)
		if err != nil || len(in.Refused()) != 1 || in.Problems[0].Remedy == "" {
			t.Errorf("%s %s: %v %v", s.Params, s.Input, in.Problems, err)
		}
	}
	file := filepath.Join(t.TempDir(), "in.txt")
	os.WriteFile(file, []byte("x"), 0o600)
	in, err := k.Inspect(t.Context(), job.Spec{Input: file})
	if err != nil || len(in.Deps) != 1 || in.Deps[0] != (job.Dep{Path: file, Name: "in.txt"}) {
		t.Errorf("%+v %v", in, err)
	}
}

// A task's output is determined by the task alone, and depends on what it read.
func TestOutputIsDeterminedByTheTask(t *testing.T) {
	k := newKind(t)
	tasks := plan(t, k, `{"count": 2, "text": "hello", "bytes": 100000}`)
	in := t.TempDir()
	os.WriteFile(filepath.Join(in, "a.txt"), []byte("a"), 0o600)
	run := func(x job.Task, in string, prior ...string) string {
		t.Helper()
		e := render.NewExecutor(map[job.Kind]render.Kind{echo.Name: k}, render.NewLocalProcess(nil), render.Options{Scratch: t.TempDir()})
		defer e.Close()
		out := t.TempDir()
		r := e.Execute(t.Context(), render.Task{Task: x, Device: job.Device{Name: "cpu", Type: "cpu"}}, render.Dirs{In: in, Prior: prior, Out: out}, nil)
		if r.Outcome != job.Succeeded {
			t.Fatalf("%s: %s\n%s", r.Outcome, r.Reason, r.Log)
		}
		b, err := os.ReadFile(filepath.Join(out, "out.txt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	first := run(tasks[0], in)
	if len(first) != 100000 || !strings.HasPrefix(first, "hello 1\nin/a.txt ca978112") {
		t.Errorf("%d bytes: %.80q", len(first), first)
	}
	if run(tasks[0], in) != first {
		t.Error("not the same twice")
	}
	if run(tasks[1], in) == first {
		t.Error("two tasks, one output")
	}
	if run(echo.Cheat(tasks[0]), in) == first {
		t.Error("a cheat that is none")
	}
	if s := run(tasks[0], "", in); !strings.Contains(s[:200], "prior/0/a.txt ca978112") {
		t.Errorf("%.200q", s)
	}
}
