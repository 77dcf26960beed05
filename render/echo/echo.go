// Package echo is the kind of work that costs nothing: each task writes its
// text into a file. Tests, benchmarks and demonstrations of the farm itself
// use it, because everything around the task is real: the plan, the lease,
// the sandboxed process, the outputs.
//
// Kind plans and runs; RunnerMain is the process that a session starts, which
// is this very program with IDLEWILD_RUNNER=echo in its environment.
package echo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/gorunner"
)

// Name is the kind's name.
const Name job.Kind = "echo"

// version of what a task's parameters mean: a fact that a machine has.
const version = "1"

// outName is the one file that a task leaves.
const outName = "out.txt"

// Bounds of what a task may ask for.
const (
	maxBytes = 1 << 30
	maxMS    = 3600_000
)

// Params are a job's parameters, and with Index set those of a task.
type Params struct {
	Count   int    `json:"count,omitempty"` // tasks of the job; at least 1
	Index   int    `json:"index,omitempty"` // of a task, from 1
	Text    string `json:"text"`            // what the output begins with
	Bytes   int64  `json:"bytes,omitempty"` // the output's size, filled up with noise
	SleepMS int64  `json:"sleep_ms,omitempty"`
	CPUMS   int64  `json:"cpu_ms,omitempty"` // time on one core

	// Fail makes tasks go wrong: "failed", "broken", "crash" (the process
	// ends), "hang" (it does not answer) or "nodone" (it ends as if all were
	// well). FailTasks are the indices concerned; empty: all.
	Fail      string `json:"fail,omitempty"`
	FailTasks []int  `json:"fail_tasks,omitempty"`

	Check   bool `json:"check,omitempty"`   // results are verified by running them again
	Replica bool `json:"replica,omitempty"` // … on other machines of the worker's device class
}

// failures are the values of Params.Fail.
var failures = []string{"", "failed", "broken", "crash", "hang", "nodone"}

// parse reads parameters strictly.
func parse(b []byte) (Params, error) {
	var p Params
	if len(b) == 0 {
		b = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Params{}, fmt.Errorf("echo parameters: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Params{}, errors.New("echo parameters: more than one value")
	}
	switch {
	case p.Count < 0 || p.Count > job.MaxTasksPerJob:
		return Params{}, fmt.Errorf("echo parameters: count %d is not within 1 and %d", p.Count, job.MaxTasksPerJob)
	case p.Bytes < 0 || p.Bytes > maxBytes:
		return Params{}, fmt.Errorf("echo parameters: bytes %d is not within 0 and %d", p.Bytes, maxBytes)
	case p.SleepMS < 0 || p.SleepMS > maxMS || p.CPUMS < 0 || p.CPUMS > maxMS:
		return Params{}, fmt.Errorf("echo parameters: a time is not within 0 and %d ms", maxMS)
	case !slices.Contains(failures, p.Fail):
		return Params{}, fmt.Errorf("echo parameters: fail %q is none of %q", p.Fail, failures[1:])
	case len(p.Text) > job.MaxTaskBytes/2:
		return Params{}, fmt.Errorf("echo parameters: text of %d bytes", len(p.Text))
	}
	return p, nil
}

// Kind plans and runs echo tasks. It is a render.Kind and a dispatch.Kind.
type Kind struct{ exe string }

// New returns the kind. exe is the absolute path of a program whose main
// function calls RunnerMain first: this one, usually.
func New(exe string) *Kind { return &Kind{exe: exe} }

var _ render.Kind = (*Kind)(nil)

// Inspect implements dispatch.Kind.
func (k *Kind) Inspect(_ context.Context, s job.Spec) (job.Inspection, error) {
	problem := func(where, message, remedy string) job.Inspection {
		return job.Inspection{Problems: []job.Problem{{Severity: job.SeverityError, Where: where, Message: message, Remedy: remedy}}}
	}
	if _, err := parse(s.Params); err != nil {
		return problem("params", err.Error(), "correct the job's parameters"), nil
	}
	if c, err := job.ParseCut(s.Policy.Parts); err != nil || c.Columns*c.Rows*c.Ranges > 1 {
		return problem("parts "+s.Policy.Parts, "tasks of this kind are not cut", "leave --parts out"), nil
	}
	if s.Input == "" {
		return job.Inspection{}, nil
	}
	fi, err := os.Stat(s.Input)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return problem(filepath.Base(s.Input), "there is no such file", "check the path"), nil
	case err != nil:
		return job.Inspection{}, fmt.Errorf("inspect input: %w", err)
	case !fi.Mode().IsRegular():
		return problem(filepath.Base(s.Input), "not a file", "name a file"), nil
	}
	return job.Inspection{Deps: []job.Dep{{Path: s.Input, Name: filepath.Base(s.Input)}}}, nil
}

// Plan implements dispatch.Kind.
func (k *Kind) Plan(s job.Spec, _ job.Inspection, input cid.Cid) ([]job.Task, error) {
	p, err := parse(s.Params)
	if err != nil {
		return nil, err
	}
	count := max(p.Count, 1)
	fail, failTasks, check := p.Fail, p.FailTasks, job.Check{}
	switch {
	case p.Replica:
		check = job.Check{Method: job.CheckReplica, Output: outName}
	case p.Check:
		check = job.Check{Method: job.CheckExact, Output: outName}
	}
	p.Count, p.FailTasks, p.Check, p.Replica = 0, nil, false, false // no task's concern
	tasks := make([]job.Task, 0, count)
	for i := 1; i <= count; i++ {
		p.Index, p.Fail = i, ""
		if len(failTasks) == 0 || slices.Contains(failTasks, i) {
			p.Fail = fail
		}
		params, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("plan task %d: %w", i, err)
		}
		t := job.Task{
			Kind: Name, Params: params, Label: strconv.Itoa(i), Rank: i,
			Outputs: []job.OutputRule{{Name: outName, Media: job.MediaFile, Final: fmt.Sprintf("echo-%06d.txt", i)}},
			Needs:   job.Needs{Require: map[string]string{string(Name): version}},
		}
		if input.Defined() {
			t.Input = job.RefOf(input)
		}
		t.Check = check
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// Probe implements render.Kind.
func (k *Kind) Probe(context.Context) (map[string][]string, []string, error) {
	return map[string][]string{string(Name): {version}}, nil, nil
}

// Session implements render.Kind: one process serves all tasks.
func (k *Kind) Session(render.Task, render.Dirs) (string, render.Command, error) {
	cmd := gorunner.Command(k.exe, string(Name))
	cmd.MemoryBytes = 2 << 30
	return "echo", cmd, nil
}

// Request implements render.Kind.
func (k *Kind) Request(t render.Task, at render.Mount) (render.Request, error) {
	p, err := parse(t.Params)
	if err != nil {
		return render.Request{}, err
	}
	b, err := json.Marshal(request{Params: p, Device: t.Device.Type, In: at.In, Prior: at.Prior, Out: at.Out})
	if err != nil {
		return render.Request{}, err
	}
	return render.Request{JSON: b, Timeout: t.Timeout}, nil
}

// Cheat returns a task that is cheaper to run than t and does not do what t
// asks for: how a saboteur's worker treats it.
func Cheat(t job.Task) job.Task {
	p, err := parse(t.Params)
	if err != nil {
		return t
	}
	p.CPUMS, p.SleepMS = p.CPUMS/2, p.SleepMS/2
	p.Text += " (in haste)"
	if b, err := json.Marshal(p); err == nil {
		t.Params = b
	}
	return t
}
