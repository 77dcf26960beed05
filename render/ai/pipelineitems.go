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

	"idlewild/job"
	"idlewild/render/ai/torch"
)

// thing is an item as the program takes it, or what is wrong with it.
type thing struct {
	number int
	id     string
	item   map[string]any
	blobs  [][]byte // that the item counts from 0
	err    error
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
	n, most := len(v.Prompt)+len(v.Negative), maxPrompt
	if p.Pipeline == torch.Draw {
		most = maxDrawnPrompt
	}
	if n > most {
		return nil, fmt.Errorf("a text of %d bytes, at most %d are taken", n, most)
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
