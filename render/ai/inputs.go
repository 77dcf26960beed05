package ai

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"idlewild/job"
	"idlewild/media"
	"idlewild/render/ai/onnx"
)

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
