package ai

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
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

// thing is an item as the program takes it, or what is wrong with it.
type thing struct {
	number int
	id     string
	item   map[string]any
	blobs  [][]byte // that the item counts from 0
	err    error
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

// things gives the task's items one after the other; io.EOF ends them.
func (r request) things() (next func() (thing, error), shut func(), err error) {
	p := r.Params
	switch p.Format {
	case formatAudio:
		n := 0
		return func() (thing, error) {
			if n == len(p.Files) {
				return thing{}, io.EOF
			}
			name := p.Files[n]
			at := p.inputFile(name, p.First+n)
			n++
			return thing{id: name, item: map[string]any{"audio": filepath.Join(r.In, filepath.FromSlash(at)), "language": p.Generate.Language}}, nil
		}, func() {}, nil
	case formatCSV:
		f, err := os.Open(filepath.Join(r.In, "input", filepath.FromSlash(p.Input)))
		if err != nil {
			return nil, nil, absent(p.Input, err, job.Broken)
		}
		rows := newCSV(io.NewSectionReader(f, p.Offset, p.Length))
		return func() (thing, error) {
			row, err := rows.Read()
			if err != nil {
				return thing{}, err
			}
			if p.Column >= len(row) {
				return thing{err: fmt.Errorf("the row has %d columns", len(row))}, nil
			}
			b, err := json.Marshal(row[p.Column])
			if err != nil {
				return thing{}, err
			}
			return p.thingOf(b), nil
		}, func() { f.Close() }, nil
	}
	f, err := os.Open(filepath.Join(r.In, "input", filepath.FromSlash(p.Input)))
	if err != nil {
		return nil, nil, absent(p.Input, err, job.Broken)
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(f, p.Offset, p.Length), 1<<16)
	first := p.Offset == 0
	return func() (thing, error) {
		for {
			b, err := readLine(lines)
			if len(b) == 0 && err != nil {
				return thing{}, err
			}
			if err != nil && err != io.EOF {
				return thing{}, err
			}
			text := bytes.TrimSpace(b)
			if first {
				text, first = bytes.TrimPrefix(text, []byte("\ufeff")), false
			}
			if len(text) > 0 {
				return p.thingOf(text), nil
			}
		}
	}, func() { f.Close() }, nil
}

// wording is what an item of words may say.
type wording struct {
	Prompt      string            `json:"prompt"`
	Negative    string            `json:"negative_prompt"`
	Messages    []json.RawMessage `json:"messages"`
	Tokens      []int             `json:"-"`
	Seed        *int64            `json:"seed"`
	Steps       int               `json:"steps"`
	Guidance    *float64          `json:"guidance"`
	MaxTokens   int               `json:"max_tokens"`
	Temperature *float64          `json:"temperature"`
	TopP        *float64          `json:"top_p"`
}

// thingOf reads an item: an object, or the text alone.
func (p Params) thingOf(text []byte) (x thing) {
	var v struct {
		wording
		CustomID json.RawMessage `json:"custom_id"`
		ID       json.RawMessage `json:"id"`
		Text     *string         `json:"text"`
		Input    *string         `json:"input"`
	}
	if text[0] == '"' {
		x.err = json.Unmarshal(text, &v.Prompt)
	} else if x.err = json.Unmarshal(text, &v); x.err != nil {
		x.err = fmt.Errorf("it is neither a text nor an object that is understood: %w", x.err)
	}
	for _, raw := range []json.RawMessage{v.CustomID, v.ID} {
		if len(raw) > 0 && x.id == "" && json.Unmarshal(raw, &x.id) != nil {
			x.id = string(raw[:min(len(raw), job.MaxNameBytes)])
		}
	}
	if len(x.id) > job.MaxNameBytes && x.err == nil {
		x.id, x.err = "", fmt.Errorf("its custom_id has %d bytes", len(x.id))
	}
	for _, s := range []*string{v.Text, v.Input} {
		if s != nil && v.Prompt == "" {
			v.Prompt = *s
		}
	}
	if x.err == nil {
		x.item, x.err = p.words(v.wording)
	}
	return x
}

// words is an item of words as the program takes it, within bounds.
func (p Params) words(v wording) (map[string]any, error) {
	g := p.Generate
	if len(v.Prompt)+len(v.Negative) > maxPrompt {
		return nil, fmt.Errorf("a text of %d bytes, at most %d are taken", len(v.Prompt)+len(v.Negative), maxPrompt)
	}
	if v.Prompt == "" && len(v.Messages) == 0 && len(v.Tokens) == 0 {
		return nil, errors.New("it has no text: give it a prompt")
	}
	item := map[string]any{}
	if v.Seed != nil {
		item["seed"] = *v.Seed
	}
	switch p.Pipeline {
	case torch.Embed:
		if len(v.Tokens) > 0 {
			return map[string]any{"tokens": v.Tokens}, nil
		}
		return map[string]any{"text": v.Prompt}, nil
	case torch.Write:
		if len(v.Messages) > 0 {
			item["messages"] = v.Messages
		} else {
			item["prompt"] = v.Prompt
		}
		g.MaxTokens = cmp.Or(v.MaxTokens, g.MaxTokens, usualTokens)
		g.Temperature = cmp.Or(v.Temperature, g.Temperature, new(1.0))
		top := 1.0
		if v.TopP != nil {
			top = *v.TopP
		}
		if !(top > 0 && top <= 1) {
			return nil, fmt.Errorf("top_p of %v is not above 0 and at most 1", top)
		}
		item["max_tokens"], item["temperature"], item["top_p"] = g.MaxTokens, *g.Temperature, top
	case torch.Draw:
		g.Steps = cmp.Or(v.Steps, g.Steps, usualSteps)
		g.Guidance = cmp.Or(v.Guidance, g.Guidance)
		item["prompt"], item["steps"], item["width"], item["height"] = v.Prompt, g.Steps, p.Width, p.Height
		if v.Negative != "" {
			item["negative_prompt"] = v.Negative
		}
		if g.Guidance != nil {
			item["guidance"] = *g.Guidance
		}
	}
	return item, g.validate()
}

// finish gives an item the seed that it has not: the job's plus its number.
func (p Params) finish(x *thing) {
	if x.err != nil || x.item == nil || p.Pipeline == torch.Transcribe || p.Pipeline == torch.Embed {
		return
	}
	seed, ok := x.item["seed"].(int64)
	if !ok {
		if p.Seed != nil {
			seed = *p.Seed
		}
		seed += int64(x.number)
	}
	x.item["seed"] = seed & math.MaxInt64
}

// picture makes a picture of words, or the depth of one, or crops for a check.
func (run *pipelineRun) picture(progress func(string, float64)) error {
	r, p := run.r, run.r.Params
	var x thing
	var err error
	output := "depth"
	if p.Pipeline == torch.Draw {
		output = "image"
		x, err = r.chosen()
	} else {
		x, err = r.pictured()
	}
	if err != nil {
		return err
	}
	results, err := run.do([]thing{x}, func(share float64) { progress("rendering", 0.95*share) })
	if err != nil {
		return settle(err)
	}
	if results[0].err != nil {
		return results[0].err
	}
	planes, err := planesMade(results[0].outputs[output], p.Width, p.Height)
	if err != nil {
		return err
	}
	progress("saving", 0.95)
	if len(p.Crops) == 0 {
		out := newCanvas(p.Width, p.Height, p.Deep, false)
		out.put(0, 0, p.Width, planes)
		return out.write(filepath.Join(r.Out, pictureFile))
	}
	for i, c := range p.Crops {
		if err := media.WriteEXR(filepath.Join(r.Out, cropFile(i)), cropOf(planes, p.Width, p.Height, c), false); err != nil {
			return trouble{job.Broken, err}
		}
	}
	return nil
}

// chosen is the item that the task's picture is made of.
func (r request) chosen() (thing, error) {
	p := r.Params
	next, shut, err := r.things()
	if err != nil {
		return thing{}, err
	}
	defer shut()
	for n := p.First; ; n++ {
		x, err := next()
		if err == io.EOF {
			return x, fmt.Errorf("there is no item %d", p.Only[0])
		}
		if err != nil || n == p.Only[0] {
			x.number = n
			p.finish(&x)
			return x, errors.Join(err, x.err)
		}
	}
}

// pictured is the picture that the task makes another of: bytes of red, green
// and blue.
func (r request) pictured() (thing, error) {
	p := r.Params
	src, err := media.DecodeFile(r.source(), media.Limits{})
	if err != nil {
		return thing{}, absent(p.Input, err, job.Failed)
	}
	if src.Width != p.Width || src.Height != p.Height {
		return thing{}, fmt.Errorf("%s has %dx%d pixels, which is not what was planned with", p.Input, src.Width, src.Height)
	}
	planes, err := planesOf(src)
	if err != nil {
		return thing{}, err
	}
	b := make([]byte, 3*src.Width*src.Height)
	for c := range 3 {
		for i, v := range planes[c] {
			b[3*i+c] = byte(min(max(v, 0), 1)*255 + 0.5)
		}
	}
	return thing{id: p.Input, item: map[string]any{"image": 0, "width": src.Width, "height": src.Height}, blobs: [][]byte{b}}, nil
}

// planesMade are red, green and blue of an output: [rows columns 3], or [rows
// columns] of grey.
func planesMade(t media.Tensor, width, height int) ([][]float32, error) {
	n := width * height
	if len(t.Shape) < 2 || t.Shape[0] != height || t.Shape[1] != width || len(t.Data) != n && len(t.Data) != 3*n {
		return nil, fmt.Errorf("the model makes %v, where a picture of %dx%d was planned", t.Shape, width, height)
	}
	step := len(t.Data) / n
	planes := make([][]float32, 3)
	for c := range planes {
		planes[c] = make([]float32, n)
		for i := range n {
			planes[c][i] = float32(t.Data[i*step+c%step])
		}
	}
	return planes, nil
}

// cropOf is a rectangle of planes whose rows run from the top; its own origin is
// the bottom left.
func cropOf(planes [][]float32, width, height int, c job.Rect) *media.Image {
	m := media.New(c.Dx(), c.Dy())
	for k, name := range []string{"R", "G", "B"} {
		to := m.Add(name, media.Float)
		for y := range c.Dy() {
			from := (height-c.Y1+y)*width + c.X0
			copy(to[y*c.Dx():(y+1)*c.Dx()], planes[k][from:from+c.Dx()])
		}
	}
	return m
}
