package ai

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/onnx"
)

// seedInput is the input of a model that takes a seed.
const seedInput = "seed"

// maxItemElements bounds what one item makes of itself.
const maxItemElements = 1 << 26

// records opens the file of the task's records. end writes what is left: it
// returns the error that there was, or else its own.
func (r request) records() (w *bufio.Writer, end func(error) error, err error) {
	f, err := os.Create(filepath.Join(r.Out, recordsFile))
	if err != nil {
		return nil, nil, trouble{job.Broken, err}
	}
	w = bufio.NewWriterSize(f, 1<<20)
	return w, func(err error) error {
		for _, e := range []error{w.Flush(), f.Close()} {
			if err == nil && e != nil {
				err = trouble{job.Broken, e}
			}
		}
		return err
	}, nil
}

// items runs the model on the task's items and writes a record of each, in
// their order. What is wrong with an item is in its record; an error is about
// the whole task.
func (r request) items(s *onnx.Session, tok *tokens, progress func(string, float64)) (err error) {
	src, shut, err := r.open(s.Model, tok)
	if err != nil {
		return err
	}
	defer shut()
	w, end, err := r.records()
	if err != nil {
		return err
	}
	defer func() { err = end(err) }()
	p := r.Params
	var batch []item
	only, done := p.Only, 0
	flush := func() error {
		for _, rec := range run(s, p, batch) {
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
		progress("rendering", float64(done)/float64(p.Count))
		batch = batch[:0]
		return nil
	}
	for n := 0; ; n++ {
		x, err := src.next()
		if err == io.EOF {
			if n != p.Count {
				return fmt.Errorf("%s has %d items where %d were planned", p.Input, n, p.Count)
			}
			return flush()
		}
		if err != nil {
			return err
		}
		if n >= p.Count {
			return fmt.Errorf("%s has more items than the %d that were planned", p.Input, p.Count)
		}
		x.number = p.First + n
		if len(p.Only) > 0 {
			if len(only) == 0 || only[0] != x.number {
				continue
			}
			only = only[1:]
		}
		if batch = append(batch, x); len(batch) == p.Batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// open opens the task's items.
func (r request) open(m *onnx.Model, tok *tokens) (source, func(), error) {
	p := r.Params
	if p.Format == formatPictures {
		v, err := pictureInput(m)
		return &pictures{dir: r.In, params: p, input: v}, func() {}, err
	}
	f, err := os.Open(filepath.Join(r.In, "input", filepath.FromSlash(p.Input)))
	if err != nil {
		return nil, nil, trouble{job.Broken, err}
	}
	part := io.NewSectionReader(f, p.Offset, p.Length)
	shut := func() { f.Close() }
	if p.Format == formatCSV {
		return &rows{csv: newCSV(part), column: p.Column, model: m, tokens: tok}, shut, nil
	}
	return &lines{r: bufio.NewReaderSize(part, 1<<20), model: m, tokens: tok, first: p.Offset == 0}, shut, nil
}

// run gives the model a batch: items whose inputs have the same shapes at
// once. Where that goes wrong, one by one, so that an item spoils no other's.
func run(s *onnx.Session, p Params, batch []item) []media.Record {
	out := make([]media.Record, len(batch))
	groups := map[string][]int{}
	var order []string
	for i, x := range batch {
		out[i] = media.Record{Item: x.number, ID: x.id}
		if x.err != nil {
			out[i].Error = x.err.Error()
			continue
		}
		k := shapes(x.inputs)
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], i)
	}
	for _, k := range order {
		group := groups[k]
		results, err := together(s, p, batch, group)
		if err != nil && len(group) > 1 {
			for _, i := range group {
				alone, err := together(s, p, batch, []int{i})
				fill(&out[i], alone, 0, err)
			}
			continue
		}
		for n, i := range group {
			fill(&out[i], results, n, err)
		}
	}
	return out
}

func fill(rec *media.Record, results []map[string]media.Tensor, n int, err error) {
	if err != nil {
		rec.Error = err.Error()
		return
	}
	for name, t := range results[n] {
		bad := 0
		for _, v := range t.Data {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				bad++
			}
		}
		if bad > 0 {
			rec.Error = fmt.Sprintf("%d of %d values of output %s are no numbers", bad, len(t.Data), name)
			return
		}
	}
	rec.Outputs = results[n]
}

func shapes(in map[string]onnx.Tensor) string {
	var names []string
	for n := range in {
		names = append(names, n)
	}
	slices.Sort(names)
	k := ""
	for _, n := range names {
		k += fmt.Sprint(n, in[n].Shape)
	}
	return k
}

// together runs the model on some items of a batch, whose inputs have the same
// shapes.
func together(s *onnx.Session, p Params, batch []item, group []int) ([]map[string]media.Tensor, error) {
	many := batches(s.Model)
	if !many && len(group) > 1 {
		return nil, errors.New("the model takes one item at a time")
	}
	inputs := map[string]onnx.Tensor{}
	for _, v := range s.Model.Inputs {
		if v.Name == seedInput {
			if _, given := batch[group[0]].inputs[v.Name]; !given {
				inputs[v.Name] = seeds(v, p, batch, group)
				continue
			}
		}
		var t onnx.Tensor
		for i, at := range group {
			x, ok := batch[at].inputs[v.Name]
			if !ok {
				return nil, fmt.Errorf("input %s is not given", v.Name)
			}
			if i == 0 {
				t.Shape = withBatch(v, x.Shape, len(group))
			}
			t.Data, t.F32, t.Text = append(t.Data, x.Data...), append(t.F32, x.F32...), append(t.Text, x.Text...)
		}
		inputs[v.Name] = t
	}
	names := p.Outputs
	if len(names) == 0 {
		for _, v := range s.Model.Outputs {
			names = append(names, v.Name)
		}
	}
	results, err := s.Run(inputs, names)
	if err != nil {
		return nil, err
	}
	out := make([]map[string]media.Tensor, len(group))
	for i := range out {
		out[i] = map[string]media.Tensor{}
	}
	for k, t := range results {
		all := media.Tensor{Data: t.Floats(), Text: t.Text}
		for _, d := range t.Shape {
			all.Shape = append(all.Shape, int(d))
		}
		if len(all.Data)+len(all.Text) > maxItemElements {
			return nil, fmt.Errorf("output %s has %d elements, at most %d are kept", names[k], len(all.Data), maxItemElements)
		}
		if !many {
			if len(all.Shape) > 0 && all.Shape[0] == 1 {
				all.Shape = all.Shape[1:]
			}
			out[0][names[k]] = all
			continue
		}
		if len(all.Shape) == 0 || all.Shape[0] != len(group) {
			return nil, fmt.Errorf("output %s has the shape %v for %d items", names[k], t.Shape, len(group))
		}
		step := len(all.Data) / len(group)
		words := len(all.Text) / len(group)
		for i := range group {
			one := media.Tensor{Shape: all.Shape[1:], Data: all.Data[i*step : (i+1)*step]}
			if words > 0 {
				one.Text = all.Text[i*words : (i+1)*words]
			}
			out[i][names[k]] = one
		}
	}
	return out, nil
}

// withBatch is an item's shape with the dimension of the batch before it,
// where the model has one.
func withBatch(v onnx.Value, shape []int64, n int) []int64 {
	if len(v.Dims) == len(shape) && n == 1 && v.Dims[0].N != 0 {
		return shape // all of it is the item's own
	}
	return append([]int64{int64(n)}, shape...)
}

// seeds are the job's seed plus the item's number, so that each has its own.
func seeds(v onnx.Value, p Params, batch []item, group []int) onnx.Tensor {
	var seed int64
	if p.Seed != nil {
		seed = *p.Seed
	}
	var t onnx.Tensor
	for _, at := range group {
		t.Data = append(t.Data, float64(seed+int64(batch[at].number)))
	}
	for range v.Dims {
		t.Shape = append(t.Shape, 1)
	}
	if len(t.Shape) > 0 {
		t.Shape[0] = int64(len(group))
	} else {
		t.Data = t.Data[:1]
	}
	if v.Type == onnx.Float32 {
		for _, x := range t.Data {
			t.F32 = append(t.F32, float32(x))
		}
		t.Data = nil
	}
	return t
}

// join writes the records of the predecessors one after the other.
func (r request) join(progress func(string, float64)) error {
	out, err := os.Create(filepath.Join(r.Out, recordsFile))
	if err != nil {
		return trouble{job.Broken, err}
	}
	defer out.Close()
	for i, dir := range r.Prior {
		f, err := os.Open(filepath.Join(dir, recordsFile))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, f)
		f.Close()
		if err != nil {
			return trouble{job.Broken, err}
		}
		progress("saving", float64(i+1)/float64(len(r.Prior)))
	}
	if err := out.Close(); err != nil {
		return trouble{job.Broken, err}
	}
	return nil
}
