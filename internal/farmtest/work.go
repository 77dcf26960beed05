package farmtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/job"
	"idlewild/render"
)

// Kind is the name of this package's sort of work.
const Kind = "farmtest"

// Work is the Params of a Spec of Kind: Tasks tasks of Millis each on a device
// of speed 1. The output of each is a function of its number, and of the job's
// input file if it has one.
type Work struct {
	Tasks  int  `json:"tasks"`
	Millis int  `json:"millis"`
	Join   bool `json:"join,omitempty"` // a last task at the requester concatenates all outputs
	Fail   int  `json:"fail,omitempty"` // the number of a task that fails everywhere; 0: none
}

// step is the Params of one task.
type step struct {
	N      int  `json:"n"` // counted from 1
	Millis int  `json:"millis"`
	Join   bool `json:"join,omitempty"`
	Fail   bool `json:"fail,omitempty"`
	Check  bool `json:"check,omitempty"`
}

// planner implements dispatch.Kind.
type planner struct{}

func (planner) Inspect(_ context.Context, s job.Spec) (in job.Inspection, err error) {
	if s.Input != "" {
		if _, err := os.Stat(s.Input); err != nil {
			return in, job.Refuse(s.Input, "is not there", "")
		}
		in.Deps = []job.Dep{{Path: s.Input, Name: filepath.Base(s.Input)}}
	}
	return in, nil
}

func (planner) Plan(s job.Spec, _ job.Inspection, input cid.Cid) (out []job.Task, err error) {
	var w Work
	if err := json.Unmarshal(s.Params, &w); err != nil {
		return nil, err
	}
	for n := 1; n <= w.Tasks; n++ {
		t := job.Task{
			Kind: Kind, Input: job.RefOf(input), Params: encode(step{N: n, Millis: w.Millis, Fail: n == w.Fail}),
			Outputs: []job.OutputRule{{Name: "out.txt", Media: job.MediaFile, Final: fmt.Sprintf("%04d.txt", n)}},
			Label:   fmt.Sprint(n), Rank: n, Check: job.Check{Method: job.CheckExact, Output: "out.txt"},
			Needs: job.Needs{Require: map[string]string{Kind: "1"}},
		}
		out = append(out, t)
	}
	if w.Join {
		t := job.Task{
			Kind: Kind, Params: encode(step{Millis: w.Millis, Join: true}), Place: job.AtRequester, Label: "join", Rank: w.Tasks + 1,
			Outputs: []job.OutputRule{{Name: "out.txt", Media: job.MediaFile, Final: "all.txt"}},
			Needs:   job.Needs{Require: map[string]string{Kind: "1"}},
		}
		for _, p := range out {
			t.After = append(t.After, p.Key())
		}
		out = append(out, t)
	}
	return out, nil
}

func encode(s step) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // its fields always encode
	}
	return b
}

// Output is what a task of that number leaves, given the bytes of the job's
// input file.
func Output(n int, input []byte) []byte {
	return fmt.Appendf(nil, "task %d of %x\n", n, sha256.Sum256(input))
}

// runner implements render.Executor.
type runner struct {
	h     *host
	speed float64
	cheat func(n int) bool
}

func (*runner) Ready(context.Context) error { return nil }

func (r *runner) Execute(ctx context.Context, t render.Task, dirs render.Dirs, progress func(render.Progress)) (res render.Result) {
	start := time.Now()
	var s step
	if err := json.Unmarshal(t.Params, &s); err != nil {
		return render.Result{Outcome: job.Failed, Reason: err.Error()}
	}
	defer func() {
		if !r.h.isOff() {
			r.h.farm.ran(Run{Worker: r.h.name, Label: t.Label, Check: s.Check, Outcome: res.Outcome, Start: start, Wall: time.Since(start)})
		}
	}()
	took := time.Duration(float64(s.Millis) / r.speed * float64(time.Millisecond))
	progress(render.Progress{Phase: "rendering", Fraction: 0})
	for i := range 4 {
		if err := wait(ctx, took/4); err != nil {
			return render.Result{Outcome: job.Cancelled, Reason: err.Error()}
		}
		progress(render.Progress{Phase: "rendering", Fraction: float64(i+1) / 4})
	}
	if s.Fail {
		return render.Result{Outcome: job.Failed, Reason: "this task fails everywhere", Log: []byte("it said so")}
	}
	out, err := r.output(s, dirs)
	if err == nil {
		err = os.WriteFile(filepath.Join(dirs.Out, "out.txt"), out, 0o600)
	}
	if err != nil {
		return render.Result{Outcome: job.Broken, Reason: err.Error()}
	}
	return render.Result{Outcome: job.Succeeded, Device: t.Device.Name, Build: "farmtest 1", Meter: job.Meter{Wall: took, Render: took}}
}

func (r *runner) output(s step, dirs render.Dirs) ([]byte, error) {
	if s.Join {
		var all []byte
		for _, p := range dirs.Prior {
			b, err := os.ReadFile(filepath.Join(p, "out.txt"))
			if err != nil {
				return nil, err
			}
			all = append(all, b...)
		}
		return all, nil
	}
	var input []byte
	files, err := os.ReadDir(dirs.In)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dirs.In, f.Name()))
		if err != nil {
			return nil, err
		}
		input = append(input, b...)
	}
	if r.cheat != nil && !s.Check && r.cheat(s.N) {
		return []byte("something that took no time to make\n"), nil
	}
	return Output(s.N, input), nil
}

// judge implements dispatch.Judge: it runs the whole task again and compares
// bytes.
type judge struct{}

func (judge) Challenge(t job.Task, leaf job.Leaf, secret []byte, rate float64) ([]job.Task, error) {
	if t.Check.Method == job.CheckNone {
		return nil, nil
	}
	root := leaf.Root()
	h := sha256.Sum256(append(append([]byte(nil), secret...), root[:]...))
	if float64(binary.BigEndian.Uint64(h[:8])>>11)/(1<<53) >= rate {
		return nil, nil
	}
	var s step
	if err := json.Unmarshal(t.Params, &s); err != nil {
		return nil, err
	}
	s.Check = true
	t.Params, t.Check = encode(s), job.Check{}
	return []job.Task{t}, nil
}

func (judge) Judge(_ context.Context, _ job.Task, leaf job.Leaf, dir string, evidence []dispatchEvidence) job.Verdict {
	claim, err := os.ReadFile(filepath.Join(dir, "out.txt"))
	if err != nil {
		return job.Verdict{Ruling: job.Unsure, Method: "exact", Reason: err.Error()}
	}
	for _, e := range evidence {
		truth, err := os.ReadFile(filepath.Join(e.Dir, "out.txt"))
		if err != nil {
			return job.Verdict{Ruling: job.Unsure, Method: "exact", Reason: err.Error()}
		}
		if !bytes.Equal(claim, truth) {
			return job.Verdict{Ruling: job.Rejected, Method: "exact", Reason: "not the same bytes as when it is run here"}
		}
	}
	return job.Verdict{Ruling: job.Accepted, Method: "exact", Reason: "the same bytes"}
}

// Learn has nothing to learn: bytes are equal or not.
func (judge) Learn(job.Task, dispatchVouched) {}
