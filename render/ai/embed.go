package ai

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"idlewild/media"
	"idlewild/render/ai/onnx"
)

// embedder is an ONNX model whose output is taken as an embedding.
type embedder struct {
	session *onnx.Session
	tokens  *tokens
	params  Params
}

// maxTexts bounds the texts of one request, as OpenAI does.
const maxTexts = 2048

// Inputs of a model of tokens that follow from them.
const (
	tokenInput = "input_ids"
	maskInput  = "attention_mask"
	kindInput  = "token_type_ids"
)

// answer embeds the texts of all requests, as many at once as have the same
// length.
func (m embedder) answer(qs []query, _ func(int, []byte)) ([]media.Record, error) {
	out := make([]media.Record, len(qs))
	var items []item
	type span struct{ from, to, tokens int }
	spans := make([]span, len(qs))
	for i, q := range qs {
		out[i] = media.Record{Item: q.number, ID: q.id}
		if q.err != nil {
			out[i].Error = q.err.Error()
			continue
		}
		if why := unanswerable(Embeddings, q.body); why != "" {
			out[i].Error = why
			continue
		}
		texts, tokens, err := m.texts(q.body["input"])
		if err != nil {
			out[i].Error = err.Error()
			continue
		}
		spans[i] = span{len(items), len(items) + len(texts), tokens}
		items = append(items, texts...)
	}
	output, err := m.output()
	if err != nil {
		return nil, err
	}
	p := m.params
	p.Outputs = []string{output}
	results := make([]media.Record, 0, len(items))
	size := maxBatch
	if !batches(m.session.Model) {
		size = 1
	}
	for some := range slices.Chunk(items, size) {
		results = append(results, run(m.session, p, some)...)
	}
	for i, s := range spans {
		if s.from == s.to {
			continue
		}
		var t media.Tensor
		for n, r := range results[s.from:s.to] {
			v, err := pooled(r.Outputs[output])
			if r.Error != "" {
				err = errors.New(r.Error)
			}
			if err == nil && n > 0 && len(v) != t.Shape[1] {
				err = errors.New("embeddings of different lengths")
			}
			if err != nil {
				out[i].Error = fmt.Sprintf("text %d: %v", n, err)
				break
			}
			t.Shape, t.Data = []int{n + 1, len(v)}, append(t.Data, v...)
		}
		if out[i].Error == "" {
			out[i].Outputs = embedded(t, s.tokens)
		}
	}
	return out, nil
}

// texts reads the input of a request: a text, several, an array of tokens, or
// several.
func (m embedder) texts(raw json.RawMessage) (out []item, tokens int, err error) {
	var many []json.RawMessage
	if raw[0] != '[' {
		many = []json.RawMessage{raw}
	} else if err := json.Unmarshal(raw, &many); err != nil {
		return nil, 0, err
	} else if c := many[0][0]; c != '"' && c != '[' {
		many = []json.RawMessage{raw} // one array of tokens
	}
	if len(many) > maxTexts {
		return nil, 0, fmt.Errorf("%d texts, at most %d are taken at once", len(many), maxTexts)
	}
	in, err := m.input()
	if err != nil {
		return nil, 0, err
	}
	for i, one := range many {
		var t media.Tensor
		if err := t.UnmarshalJSON(one); err != nil {
			return nil, 0, fmt.Errorf("text %d: %w", i, err)
		}
		if t.Text != nil && in.Type != onnx.String {
			if t, err = m.tokens.of(t.Text[0]); err != nil {
				return nil, 0, err
			}
		}
		if t.Text == nil && in.Type == onnx.String {
			return nil, 0, errors.New("the model takes text, not tokens")
		}
		if t.Text != nil {
			tokens += len(strings.Fields(t.Text[0]))
		} else {
			tokens += len(t.Data)
		}
		v, err := given(in, t)
		if err != nil {
			return nil, 0, fmt.Errorf("text %d: %w", i, err)
		}
		inputs := map[string]onnx.Tensor{in.Name: v}
		for name, fill := range derived {
			at := slices.IndexFunc(m.session.Model.Inputs, func(x onnx.Value) bool { return x.Name == name })
			if at < 0 || name == in.Name {
				continue
			}
			same := media.Tensor{Shape: t.Shape, Data: slices.Repeat([]float64{fill}, len(t.Data))}
			if inputs[name], err = given(m.session.Model.Inputs[at], same); err != nil {
				return nil, 0, err
			}
		}
		out = append(out, item{number: i + 1, inputs: inputs})
	}
	return out, tokens, nil
}

// input is where the texts go.
func (m embedder) input() (onnx.Value, error) {
	var found []onnx.Value
	for _, v := range wanted(m.session.Model) {
		if _, follows := derived[v.Name]; !follows {
			found = append(found, v)
		}
	}
	if len(found) != 1 {
		return onnx.Value{}, fmt.Errorf("the model embeds no texts: it takes %s", names(found))
	}
	return found[0], nil
}

// output is what is taken as the embedding: the one that was named, or that is
// called so, or the first.
func (m embedder) output() (string, error) {
	if len(m.params.Outputs) == 1 {
		return m.params.Outputs[0], nil
	}
	for _, v := range m.session.Model.Outputs {
		if strings.Contains(v.Name, "embedding") {
			return v.Name, nil
		}
	}
	if len(m.session.Model.Outputs) == 0 {
		return "", errors.New("the model has no output")
	}
	return m.session.Model.Outputs[0].Name, nil
}

// pooled is an embedding of length one: of one for each token, their mean.
func pooled(t media.Tensor) ([]float64, error) {
	if len(t.Shape) == 0 || len(t.Shape) > 2 || len(t.Data) == 0 {
		return nil, fmt.Errorf("an output of the shape %v is no embedding", t.Shape)
	}
	d := t.Shape[len(t.Shape)-1]
	v := make([]float64, d)
	for i, x := range t.Data {
		v[i%d] += x
	}
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	if sum > 0 {
		for i := range v {
			v[i] = float64(float32(v[i] / math.Sqrt(sum)))
		}
	}
	return v, nil
}
