package ai

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/onnx"
)

// seedInput is the input of a model that takes a seed.
const seedInput = "seed"

// maxItemElements bounds what one item makes of itself.
const maxItemElements = 1 << 26

// item is one of a batch.
type item struct {
	number int
	id     string
	inputs map[string]onnx.Tensor // without the dimension of the batch
	err    error                  // it cannot be given to the model
}

// source gives items one after the other; io.EOF ends them.
type source interface {
	next() (item, error)
}

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

// lines are the items of a JSONL file.
type lines struct {
	r      *bufio.Reader
	model  *onnx.Model
	tokens *tokens
	first  bool
}

func (l *lines) next() (item, error) {
	for {
		b, err := readLine(l.r)
		if len(b) == 0 && err != nil {
			return item{}, err
		}
		if err != nil && err != io.EOF {
			return item{}, err
		}
		text := bytes.TrimSpace(b)
		if l.first {
			text, l.first = bytes.TrimPrefix(text, []byte("\ufeff")), false
		}
		if len(text) > 0 {
			return itemOf(text, l.model, l.tokens), nil
		}
		if err == io.EOF {
			return item{}, io.EOF
		}
	}
}

// wanted are the inputs that an item has to bring.
func wanted(m *onnx.Model) []onnx.Value {
	var out []onnx.Value
	for _, v := range m.Inputs {
		if v.Name != seedInput {
			out = append(out, v)
		}
	}
	return out
}

// ownInputs are those of them that do not follow from others.
func ownInputs(m *onnx.Model) []onnx.Value {
	want := wanted(m)
	if slices.ContainsFunc(want, func(v onnx.Value) bool { return v.Name == tokenInput }) {
		want = slices.DeleteFunc(want, func(v onnx.Value) bool { _, follows := derived[v.Name]; return follows })
	}
	return want
}

// itemOf reads an item: an object with a value for each input of the model, by
// its name, and "custom_id" or "id" if it is called something. Where the model
// has one input, the value alone will do, or one under "input". A model of tokens
// is also given a text; what follows from its tokens need not be given.
func itemOf(text []byte, m *onnx.Model, tok *tokens) (x item) {
	want := ownInputs(m)
	values := map[string]json.RawMessage{}
	if text[0] == '{' {
		if err := json.Unmarshal(text, &values); err != nil {
			x.err = err
			return x
		}
		for _, k := range []string{"custom_id", "id"} {
			if raw, ok := values[k]; ok && x.id == "" {
				if json.Unmarshal(raw, &x.id) != nil {
					x.id = string(raw[:min(len(raw), job.MaxNameBytes)])
				}
			}
		}
		if len(x.id) > job.MaxNameBytes {
			x.id, x.err = "", fmt.Errorf("its custom_id has %d bytes", len(x.id))
			return x
		}
		if _, named := values["input"]; named && len(want) == 1 && values[want[0].Name] == nil {
			values[want[0].Name] = values["input"]
		}
	} else if len(want) == 1 {
		values[want[0].Name] = text
	}
	x.inputs = map[string]onnx.Tensor{}
	for _, v := range want {
		raw := values[v.Name]
		if raw == nil {
			x.err = fmt.Errorf("input %s is not given", v.Name)
			return x
		}
		var t media.Tensor
		if err := t.UnmarshalJSON(raw); err != nil {
			x.err = fmt.Errorf("input %s: %w", v.Name, err)
			return x
		}
		if v.Name == tokenInput && v.Type != onnx.String && t.Text != nil && len(t.Text) == 1 {
			if t, x.err = tok.of(t.Text[0]); x.err != nil {
				return x
			}
		}
		if x.inputs[v.Name], x.err = given(v, t); x.err != nil {
			return x
		}
		if v.Name == tokenInput {
			if x.err = follow(x.inputs, m, t, values); x.err != nil {
				return x
			}
		}
	}
	if raw := values[seedInput]; raw != nil && len(want) < len(m.Inputs) {
		var t media.Tensor
		if err := t.UnmarshalJSON(raw); err == nil {
			for _, v := range m.Inputs {
				if v.Name == seedInput {
					x.inputs[seedInput], x.err = given(v, t)
				}
			}
		}
	}
	return x
}

// tokenized are the inputs of a cell for a model of tokens: an array of them, or a
// text.
func (r *rows) tokenized(v onnx.Value, cell string) (map[string]onnx.Tensor, error) {
	var t media.Tensor
	if err := t.UnmarshalJSON([]byte(cell)); err != nil || t.Text != nil || len(t.Shape) != 1 {
		if t, err = r.tokens.of(cell); err != nil {
			return nil, err
		}
	}
	in, err := given(v, t)
	if err != nil {
		return nil, err
	}
	inputs := map[string]onnx.Tensor{v.Name: in}
	return inputs, follow(inputs, r.model, t, nil)
}

// follow adds the inputs that follow from an item's tokens, unless they are given.
func follow(inputs map[string]onnx.Tensor, m *onnx.Model, tokens media.Tensor, values map[string]json.RawMessage) error {
	for _, v := range m.Inputs {
		fill, follows := derived[v.Name]
		if !follows {
			continue
		}
		t := media.Tensor{Shape: tokens.Shape, Data: slices.Repeat([]float64{fill}, len(tokens.Data))}
		if raw := values[v.Name]; raw != nil {
			t = media.Tensor{}
			if err := t.UnmarshalJSON(raw); err != nil {
				return fmt.Errorf("input %s: %w", v.Name, err)
			}
		}
		var err error
		if inputs[v.Name], err = given(v, t); err != nil {
			return err
		}
	}
	return nil
}

// given is a value as an input takes it, without the dimension of the batch.
func given(v onnx.Value, t media.Tensor) (onnx.Tensor, error) {
	var out onnx.Tensor
	for _, d := range t.Shape {
		out.Shape = append(out.Shape, int64(d))
	}
	if (v.Type == onnx.String) != (t.Text != nil) {
		return out, fmt.Errorf("input %s is %s", v.Name, v.Type)
	}
	if n := max(len(t.Data), len(t.Text)); n == 0 {
		return out, fmt.Errorf("input %s is empty", v.Name)
	} else if n > maxItemElements {
		return out, fmt.Errorf("input %s has %d elements, at most %d are taken", v.Name, n, maxItemElements)
	}
	// A model that takes [n 1] is content with a number.
	if len(v.Dims) > 0 && len(out.Shape)+2 == len(v.Dims) && v.Dims[len(v.Dims)-1].N == 1 {
		out.Shape = append(out.Shape, 1)
	}
	whole := len(out.Shape) == len(v.Dims) && len(v.Dims) > 0 && v.Dims[0].N != 0
	if !whole && len(v.Dims) > 0 && len(out.Shape)+1 != len(v.Dims) {
		return out, fmt.Errorf("input %s has the shape %v where the model takes %s", v.Name, out.Shape, onnx.Shape(v.Dims[1:]))
	}
	for i, d := range v.Dims {
		at := i - 1
		if whole {
			at = i
		}
		if at >= 0 && d.N > 0 && d.N != out.Shape[at] {
			return out, fmt.Errorf("input %s has the shape %v where the model takes %s", v.Name, out.Shape, onnx.Shape(v.Dims[1:]))
		}
	}
	switch v.Type {
	case onnx.String:
		out.Text = t.Text
	case onnx.Float32:
		out.F32 = make([]float32, len(t.Data))
		for i, x := range t.Data {
			out.F32[i] = float32(x)
		}
	default:
		for _, x := range t.Data {
			if v.Type != onnx.Float64 && x != math.Trunc(x) {
				return out, fmt.Errorf("input %s takes whole numbers, not %v", v.Name, x)
			}
		}
		out.Data = t.Data
	}
	return out, nil
}

// rows are the items of a CSV file.
type rows struct {
	csv interface {
		Read() ([]string, error)
	}
	column int
	model  *onnx.Model
	tokens *tokens
}

func (r *rows) next() (item, error) {
	row, err := r.csv.Read()
	if err != nil {
		return item{}, err
	}
	var x item
	want := ownInputs(r.model)
	switch {
	case r.column >= len(row):
		x.err = fmt.Errorf("the row has %d columns", len(row))
	case len(want) != 1:
		x.err = fmt.Errorf("the model takes %d inputs and a column gives one; use a .jsonl", len(want))
	case want[0].Name == tokenInput && want[0].Type != onnx.String:
		x.inputs, x.err = r.tokenized(want[0], row[r.column])
	case want[0].Type == onnx.String:
		t := media.Tensor{Text: []string{row[r.column]}}
		t2, err := given(want[0], t)
		x.inputs, x.err = map[string]onnx.Tensor{want[0].Name: t2}, err
	default:
		var t media.Tensor
		cell := bytes.TrimSpace([]byte(row[r.column]))
		if v, err := strconv.ParseFloat(string(cell), 64); err == nil {
			t.Data = []float64{v}
		} else if err := t.UnmarshalJSON(cell); err != nil {
			x.err = fmt.Errorf("%.40q is neither a number nor an array of them", cell)
			return x, nil
		}
		t2, err := given(want[0], t)
		x.inputs, x.err = map[string]onnx.Tensor{want[0].Name: t2}, err
	}
	return x, nil
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
