package ai

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/torch"
	"idlewild/render/gorunner"
)

// loadTorch starts PyTorch's process and has it load the model, unless that is so.
func (w *warm) loadTorch(r request, log io.Writer) error {
	p := r.Params
	if w.torch != nil && w.sha256 == p.SHA256 {
		return nil
	}
	w.drop()
	folder := torch.Path(r.models(), p.Model)
	m, err := torch.ReadFolder(folder)
	if err != nil {
		return absent(p.Model, err, job.Failed)
	}
	if m.Pipeline != p.Pipeline {
		return fmt.Errorf("the model is %s, not one for %s", m.Is(), p.Pipeline)
	}
	sum, err := m.Sum(folder)
	if err != nil {
		return absent(p.Model, err, job.Broken)
	}
	if sum != p.SHA256 {
		return fmt.Errorf("the model is not the one that was planned with: its hash is %.12s, not %.12s", sum, p.SHA256)
	}
	dir, err := os.MkdirTemp("", "torch-")
	if err != nil {
		return trouble{job.Broken, err}
	}
	w.torch, err = torch.Start(torch.Options{Python: r.Library, Dir: dir, Threads: threads(), Log: log})
	if err != nil {
		return trouble{job.Broken, err}
	}
	device := "cpu"
	if r.GPU {
		device = "gpu"
	}
	said, err := w.torch.Do(map[string]any{"op": "load", "pipeline": p.Pipeline, "folder": folder, "device": device, "threads": threads()}, nil, func(float64) {})
	if err != nil {
		w.drop()
		var asked *torch.AskedError
		if errors.As(err, &asked) && !ownFault(asked.Reason) {
			return fmt.Errorf("the model does not load: %w", err)
		}
		return trouble{job.Broken, err}
	}
	w.sha256, w.build, w.device = sum, said.Build, said.Device
	return nil
}

// ownFault reports whether trouble is this machine's and not the model's.
func ownFault(reason string) bool {
	reason = strings.ToLower(reason)
	for _, sign := range []string{"memory", "finds no gpu", "no space", "cuda error", "modulenotfound"} {
		if strings.Contains(reason, sign) {
			return true
		}
	}
	return false
}

// pipeline does a task of a pipeline, whose model is loaded.
func (w *warm) pipeline(r request, asked gorunner.Request) error {
	run := &pipelineRun{w: w, r: r, log: asked.Log}
	switch r.Params.Op {
	case opRequests:
		return r.requests(run, asked.Tell)
	case opPicture:
		return run.picture(asked.Progress)
	}
	return run.items(asked.Progress)
}

// pipelineRun is a task of a pipeline.
type pipelineRun struct {
	w   *warm
	r   request
	log io.Writer
}

// made is what came of one.
type made struct {
	outputs map[string]media.Tensor
	err     error
}

// do has the program do some things, each by itself. Where the process ends, nobody
// knows which thing it was: each is tried alone, and one that ends a process of its
// own has that as its error. Where all do, it is this machine that is wrong.
func (run *pipelineRun) do(things []thing, progress func(float64)) ([]made, error) {
	out, err := run.once(things, progress)
	var asked *torch.AskedError
	if err == nil || errors.As(err, &asked) {
		return out, err
	}
	out = make([]made, len(things))
	asks, ended := 0, 0
	for i, x := range things {
		if out[i].err = x.err; x.err != nil {
			continue
		}
		asks++
		if err := run.fresh(); err != nil {
			return nil, err
		}
		one, err := run.once([]thing{x}, func(share float64) { progress((float64(i) + share) / float64(len(things))) })
		switch {
		case errors.As(err, &asked):
			return nil, err
		case err != nil:
			ended++
			out[i].err = fmt.Errorf("PyTorch's process ends whenever it is given this: %w", err)
			run.w.drop()
		default:
			out[i] = one[0]
		}
	}
	if ended > 0 && ended == asks {
		return nil, trouble{job.Broken, err}
	}
	return out, nil
}

// fresh sees to a process that has the model.
func (run *pipelineRun) fresh() error {
	run.w.drop()
	return run.w.loadTorch(run.r, run.log)
}

func (run *pipelineRun) once(things []thing, progress func(float64)) ([]made, error) {
	out := make([]made, len(things))
	items, blobs := []map[string]any{}, [][]byte(nil)
	var at []int
	for i, x := range things {
		if out[i].err = x.err; x.err != nil {
			continue
		}
		if _, picture := x.item["image"]; picture {
			x.item["image"] = len(blobs)
		}
		items, blobs, at = append(items, x.item), append(blobs, x.blobs...), append(at, i)
	}
	if len(items) == 0 {
		return out, nil
	}
	if run.w.torch == nil {
		return nil, errors.New("PyTorch's process is gone")
	}
	said, err := run.w.torch.Do(map[string]any{"op": "run", "items": items}, blobs, progress)
	if err != nil {
		return nil, err
	}
	if len(said.Results) != len(items) {
		return nil, fmt.Errorf("%d results of %d items", len(said.Results), len(items))
	}
	for k, res := range said.Results {
		m := &out[at[k]]
		if res.Error != "" {
			if ownFault(res.Error) {
				return nil, &torch.AskedError{Reason: res.Error}
			}
			m.err = errors.New(res.Error)
			continue
		}
		if m.outputs, m.err = tensors(said, res); m.err != nil {
			continue
		}
	}
	return out, nil
}

// tensors are the outputs of an item.
func tensors(said *torch.Said, res torch.Result) (map[string]media.Tensor, error) {
	out := map[string]media.Tensor{}
	for name, v := range res.Outputs {
		if len(v.Text) > 0 {
			texts, err := v.Texts()
			if err != nil {
				return nil, fmt.Errorf("output %s: %w", name, err)
			}
			t := media.Tensor{Text: texts}
			if v.Text[0] == '[' {
				t.Shape = []int{len(texts)}
			}
			out[name] = t
			continue
		}
		f, err := said.Numbers(v)
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", name, err)
		}
		t := media.Tensor{Shape: v.Shape, Data: make([]float64, len(f))}
		for i, x := range f {
			t.Data[i] = float64(x)
		}
		out[name] = t
	}
	return out, nil
}

// settle says what an error of do is: the program's own words about a whole task
// are this machine's trouble.
func settle(err error) error {
	var asked *torch.AskedError
	if errors.As(err, &asked) {
		return trouble{job.Broken, err}
	}
	return err
}

// items runs the pipeline on the task's items and writes a record of each.
func (run *pipelineRun) items(progress func(string, float64)) (err error) {
	p := run.r.Params
	next, shut, err := run.r.things()
	if err != nil {
		return err
	}
	defer shut()
	w, end, err := run.r.records()
	if err != nil {
		return err
	}
	defer func() { err = end(err) }()
	done := 0
	total := float64(cmp.Or(len(p.Only), p.Count))
	var batch []thing
	flush := func() error {
		results, err := run.do(batch, func(share float64) { progress("rendering", (float64(done)+share*float64(len(batch)))/total) })
		if err != nil {
			return settle(err)
		}
		for i, x := range batch {
			rec := media.Record{Item: x.number, ID: x.id, Outputs: results[i].outputs}
			if results[i].err != nil {
				rec.Error, rec.Outputs = results[i].err.Error(), nil
			}
			if len(p.Outputs) > 0 {
				for name := range rec.Outputs {
					if !slices.Contains(p.Outputs, name) {
						delete(rec.Outputs, name)
					}
				}
			}
			b, err := json.Marshal(rec)
			if err != nil {
				return err
			}
			w.Write(b)
			if err := w.WriteByte('\n'); err != nil {
				return trouble{job.Broken, err}
			}
		}
		done += len(batch)
		progress("rendering", float64(done)/total)
		batch = batch[:0]
		return nil
	}
	only := p.Only
	for n := 0; ; n++ {
		x, err := next()
		if err == io.EOF {
			if n != p.Count {
				return fmt.Errorf("%d items where %d were planned", n, p.Count)
			}
			return flush()
		}
		if err != nil {
			return err
		}
		if n >= p.Count {
			return fmt.Errorf("there are more items than the %d that were planned", p.Count)
		}
		x.number = p.First + n
		if len(p.Only) > 0 {
			if len(only) == 0 || only[0] != x.number {
				continue
			}
			only = only[1:]
		}
		run.r.Params.finish(&x)
		if batch = append(batch, x); len(batch) == p.Batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}
