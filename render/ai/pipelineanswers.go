package ai

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"math"
	"time"

	"idlewild/media"
)

// answer implements answerer: requests of OpenAI's API to a model of a pipeline.
func (run *pipelineRun) answer(qs []query, tell func(int, []byte)) ([]media.Record, error) {
	out := make([]media.Record, len(qs))
	var things []thing
	spans := make([][2]int, len(qs))
	for i, q := range qs {
		out[i] = media.Record{Item: q.number, ID: q.id}
		var some []thing
		err := q.err
		if err == nil {
			some, err = run.r.Params.thingsOf(q.body)
		}
		if err != nil {
			out[i].Error = err.Error()
			continue
		}
		spans[i] = [2]int{len(things), len(things) + len(some)}
		things = append(things, some...)
	}
	if len(things) == 0 {
		return out, nil
	}
	results, err := run.do(things, func(float64) {})
	if err != nil {
		return nil, settle(err)
	}
	for i, s := range spans {
		if s[0] == s[1] {
			continue
		}
		var err error
		if out[i].Outputs, err = run.r.Params.outputsOf(results[s[0]:s[1]]); err != nil {
			out[i].Error, out[i].Outputs = err.Error(), nil
			continue
		}
		if qs[i].stream {
			if b, err := chunkOf(out[i].Outputs[outBody]); err == nil {
				tell(qs[i].number, b)
			}
		}
	}
	return out, nil
}

// thingsOf are the items of one request.
func (p Params) thingsOf(body map[string]json.RawMessage) ([]thing, error) {
	switch p.Endpoint {
	case Embeddings:
		return p.textsOf(body)
	case Images:
		return p.promptsOf(body)
	}
	return p.chatOf(body)
}

// settings reads some fields of a request; what is null is left out.
func settings(body map[string]json.RawMessage, into any) error {
	kept := map[string]json.RawMessage{}
	for k, v := range body {
		if string(v) != "null" {
			kept[k] = v
		}
	}
	b, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (p Params) textsOf(body map[string]json.RawMessage) (out []thing, err error) {
	if why := unanswerable(Embeddings, body); why != "" {
		return nil, errors.New(why)
	}
	raw := body["input"]
	var many []json.RawMessage
	var tokens []int
	if raw[0] != '[' || json.Unmarshal(raw, &tokens) == nil {
		many = []json.RawMessage{raw}
	} else if err := json.Unmarshal(raw, &many); err != nil {
		return nil, err
	}
	if len(many) > maxTexts {
		return nil, fmt.Errorf("%d texts, at most %d are taken at once", len(many), maxTexts)
	}
	for i, one := range many {
		var w wording
		err := json.Unmarshal(one, &w.Prompt)
		if err != nil {
			err = json.Unmarshal(one, &w.Tokens)
		}
		x := thing{number: i + 1}
		if err == nil {
			x.item, err = p.words(w)
		}
		if err != nil {
			return nil, fmt.Errorf("text %d: %w", i, err)
		}
		out = append(out, x)
	}
	return out, nil
}

func (p Params) chatOf(body map[string]json.RawMessage) ([]thing, error) {
	if why := unanswerable(Chat, body); why != "" {
		return nil, errors.New(why)
	}
	var w struct {
		wording
		N         int             `json:"n"`
		Completed int             `json:"max_completion_tokens"`
		Tools     json.RawMessage `json:"tools"`
		Format    *struct {
			Type string `json:"type"`
		} `json:"response_format"`
		Logprobs bool `json:"logprobs"`
	}
	if err := settings(body, &w); err != nil {
		return nil, err
	}
	switch {
	case w.N > 1:
		return nil, errors.New("n: a model of the runtime torch gives one answer")
	case len(w.Tools) > 2 || w.Logprobs || w.Format != nil && w.Format.Type != "text":
		return nil, errors.New("tools, logprobs and response_format need a model in the GGUF format")
	}
	if w.Completed > 0 {
		w.MaxTokens = w.Completed
	}
	w.Prompt = ""
	x := thing{number: 1}
	var err error
	if x.item, err = p.words(w.wording); err != nil {
		return nil, err
	}
	p.finish(&x)
	return []thing{x}, nil
}

// maxPicturesAsked is how many pictures a request may ask for, as OpenAI has it.
const maxPicturesAsked = 10

// drawing is a request for pictures.
type drawing struct {
	wording
	N       int    `json:"n"`
	Size    string `json:"size"`
	Format  string `json:"response_format"`
	Output  string `json:"output_format"`
	Stream  bool   `json:"stream"`
	Partial int    `json:"partial_images"`
}

func (p Params) promptsOf(body map[string]json.RawMessage) (out []thing, err error) {
	var d drawing
	if err := settings(body, &d); err != nil {
		return nil, err
	}
	switch {
	case d.Prompt == "":
		return nil, errors.New("it has no prompt")
	case d.N < 0 || d.N > maxPicturesAsked:
		return nil, fmt.Errorf("n: %d pictures are not within 1 and %d", d.N, maxPicturesAsked)
	case d.Format != "" && d.Format != "b64_json":
		return nil, fmt.Errorf("response_format %.40q: a farm has no address to fetch a picture from; say b64_json", d.Format)
	case d.Output != "" && d.Output != "png":
		return nil, fmt.Errorf("output_format %.40q: pictures are PNG", d.Output)
	case d.Stream:
		return nil, errors.New("stream: pictures come whole")
	}
	d.N = max(d.N, 1)
	if p.Width, p.Height, err = sizeOf(d.Size); err != nil {
		return nil, err
	}
	if d.N*p.Width*p.Height > maxAtOnceDrawn {
		return nil, fmt.Errorf("%d pictures of %dx%d have more pixels than one answer carries (%d): ask for fewer, or submit a job", d.N, p.Width, p.Height, maxAtOnceDrawn)
	}
	var seed int64
	if d.Seed != nil {
		seed = *d.Seed
	}
	for i := range d.N {
		// Each has a seed of its own that the request says.
		own := (seed + int64(i)) & math.MaxInt64
		d.Seed = &own
		x := thing{number: i + 1}
		if x.item, err = p.words(d.wording); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// outputsOf are a record's of what came of a request's items.
func (p Params) outputsOf(results []made) (map[string]media.Tensor, error) {
	for i, m := range results {
		if m.err == nil {
			continue
		}
		if len(results) == 1 {
			return nil, m.err
		}
		return nil, fmt.Errorf("item %d: %w", i, m.err)
	}
	var all media.Tensor
	switch p.Endpoint {
	case Chat:
		return chatOutputs(results[0].outputs)
	case Embeddings:
		tokens := 0.0
		for i, m := range results {
			e := m.outputs["embedding"]
			if len(e.Shape) != 1 || i > 0 && e.Shape[0] != all.Shape[1] {
				return nil, errors.New("embeddings of different lengths")
			}
			all.Shape, all.Data = []int{i + 1, e.Shape[0]}, append(all.Data, e.Data...)
			for _, n := range m.outputs["tokens"].Data {
				tokens += n
			}
		}
		return embedded(all, int(tokens)), nil
	}
	for i, m := range results {
		t := m.outputs["image"]
		if len(t.Shape) != 3 {
			return nil, fmt.Errorf("a picture of the shape %v", t.Shape)
		}
		all.Shape = append([]int{i + 1}, t.Shape...)
		for _, v := range t.Data {
			// An answer is bounded, and this is a sixtieth of a step of its file.
			all.Data = append(all.Data, math.Round(min(max(v, 0), 1)*1e4)/1e4)
		}
	}
	return map[string]media.Tensor{outImages: all}, nil
}

// chatOutputs is what a model wrote as the body of an answer.
func chatOutputs(o map[string]media.Tensor) (map[string]media.Tensor, error) {
	text, finish, tokens := o["text"].Text, o["finish"].Text, o["tokens"].Data
	if len(text) != 1 || len(finish) != 1 || len(tokens) != 2 {
		return nil, errors.New("the model wrote nothing")
	}
	reason, err := json.Marshal(finish[0])
	if err != nil {
		return nil, err
	}
	type usage struct {
		Prompt     int `json:"prompt_tokens"`
		Completion int `json:"completion_tokens"`
		Total      int `json:"total_tokens"`
	}
	b, err := json.Marshal(struct {
		Choices []choice `json:"choices"`
		Usage   usage    `json:"usage"`
	}{
		[]choice{{Message: message{Role: "assistant", Content: text[0]}, Finish: reason}},
		usage{int(tokens[0]), int(tokens[1]), int(tokens[0] + tokens[1])},
	})
	return map[string]media.Tensor{outBody: {Text: []string{string(b)}}}, err
}

// chunkOf is a whole answer as the one piece of a stream.
func chunkOf(body media.Tensor) ([]byte, error) {
	if len(body.Text) != 1 {
		return nil, errors.New("no answer")
	}
	var b struct {
		Choices []choice        `json:"choices"`
		Usage   json.RawMessage `json:"usage"`
	}
	if err := json.Unmarshal([]byte(body.Text[0]), &b); err != nil {
		return nil, err
	}
	type piece struct {
		Index  int             `json:"index"`
		Delta  message         `json:"delta"`
		Finish json.RawMessage `json:"finish_reason"`
	}
	var out struct {
		Choices []piece         `json:"choices"`
		Usage   json.RawMessage `json:"usage"`
	}
	for _, c := range b.Choices {
		out.Choices = append(out.Choices, piece{c.Index, c.Message, c.Finish})
	}
	out.Usage = b.Usage
	return json.Marshal(out)
}

// imagesBody makes the body of an answer of pictures.
func imagesBody(asked json.RawMessage, rec media.Record, now time.Time) (json.RawMessage, error) {
	t := rec.Outputs[outImages]
	if len(t.Shape) != 4 || t.Shape[0] < 1 || t.Shape[0] > maxPicturesAsked || t.Shape[3] != 3 || t.Shape[1] < 1 || t.Shape[2] < 1 {
		return nil, errors.New("the answer has no pictures")
	}
	n, h, w := t.Shape[0], t.Shape[1], t.Shape[2]
	if w > maxDrawnSide || h > maxDrawnSide || len(t.Data) != n*h*w*3 {
		return nil, errors.New("the answer has no pictures")
	}
	type one struct {
		B64 string `json:"b64_json"`
	}
	body := struct {
		Created int64           `json:"created"`
		Data    []one           `json:"data"`
		Format  string          `json:"output_format"`
		Size    string          `json:"size"`
		Seed    json.RawMessage `json:"seed,omitempty"` // of the first; each after it has the next number
	}{Created: now.Unix(), Format: "png", Size: fmt.Sprintf("%dx%d", w, h)}
	if len(asked) > 0 {
		var said struct {
			Seed json.RawMessage `json:"seed"`
		}
		if err := json.Unmarshal(asked, &said); err != nil {
			return nil, err
		}
		body.Seed = said.Seed
	}
	for i := range n {
		m := image.NewNRGBA(image.Rect(0, 0, w, h))
		for k := range h * w {
			for c := range 3 {
				m.Pix[4*k+c] = byte(min(max(t.Data[(i*h*w+k)*3+c], 0), 1)*255 + 0.5)
			}
			m.Pix[4*k+3] = 255
		}
		b, err := media.EncodePNG(m)
		if err != nil {
			return nil, err
		}
		body.Data = append(body.Data, one{base64.StdEncoding.EncodeToString(bytes.Clone(b))})
	}
	return json.Marshal(body)
}

var _ answerer = (*pipelineRun)(nil)
