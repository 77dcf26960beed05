package ai

import (
	"encoding/json"
	"errors"
	"slices"
)

// gathered makes the body of a streamed answer out of its pieces.
type gathered struct {
	choices []choice
	usage   json.RawMessage
	spoken  spoken
	broken  error
}

type choice struct {
	Index    int             `json:"index"`
	Message  message         `json:"message"`
	Logprobs *logprobs       `json:"logprobs"`
	Finish   json.RawMessage `json:"finish_reason"`
}

type message struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content,omitempty"`
	Calls     []call `json:"tool_calls,omitempty"`
}

type logprobs struct {
	Content []json.RawMessage `json:"content"`
}

type call struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// maxChoices bounds the answers to one request, and the tools that one calls.
const maxChoices = 128

func (g *gathered) add(chunk []byte) {
	var c struct {
		Choices []struct {
			Index    int             `json:"index"`
			Delta    message         `json:"delta"`
			Logprobs *logprobs       `json:"logprobs"`
			Finish   json.RawMessage `json:"finish_reason"`
		} `json:"choices"`
		Usage  json.RawMessage `json:"usage"`
		Spoken spoken          `json:"__verbose"`
	}
	if err := json.Unmarshal(chunk, &c); err != nil {
		g.broken = err
		return
	}
	if len(c.Usage) > 0 && string(c.Usage) != "null" {
		g.usage = c.Usage
	}
	if c.Spoken.Stop != "" && c.Spoken.Stop != "none" {
		g.spoken.Stop, g.spoken.Predicted = c.Spoken.Stop, c.Spoken.Predicted
		g.spoken.Slot, g.spoken.Evaluated = c.Spoken.Slot, c.Spoken.Evaluated
	}
	for _, d := range c.Choices {
		if d.Logprobs != nil {
			for _, raw := range d.Logprobs.Content {
				var p probed
				if err := json.Unmarshal(raw, &p); err == nil {
					g.spoken.Probed = append(g.spoken.Probed, p)
				}
			}
		}
		if d.Index < 0 || d.Index >= maxChoices {
			g.broken = errors.New("a choice of an impossible number")
			return
		}
		for len(g.choices) <= d.Index {
			g.choices = append(g.choices, choice{Index: len(g.choices), Message: message{Role: "assistant"}})
		}
		to := &g.choices[d.Index]
		to.Message.Content += d.Delta.Content
		to.Message.Reasoning += d.Delta.Reasoning
		if len(d.Finish) > 0 && string(d.Finish) != "null" {
			to.Finish = d.Finish
		}
		if d.Logprobs != nil {
			if to.Logprobs == nil {
				to.Logprobs = &logprobs{}
			}
			to.Logprobs.Content = append(to.Logprobs.Content, d.Logprobs.Content...)
		}
		for _, t := range d.Delta.Calls {
			if t.Index == nil || *t.Index < 0 || *t.Index >= maxChoices {
				g.broken = errors.New("a call of an impossible number")
				return
			}
			for len(to.Message.Calls) <= *t.Index {
				to.Message.Calls = append(to.Message.Calls, call{})
			}
			into := &to.Message.Calls[*t.Index]
			into.ID, into.Type = into.ID+t.ID, into.Type+t.Type
			into.Function.Name += t.Function.Name
			into.Function.Arguments += t.Function.Arguments
		}
	}
}

func (g *gathered) body() ([]byte, error) {
	if g.broken != nil {
		return nil, g.broken
	}
	usage := g.usage
	if usage == nil {
		usage = json.RawMessage("null")
	}
	choices := slices.Clone(g.choices)
	if choices == nil {
		choices = []choice{}
	}
	return json.Marshal(struct {
		Choices []choice        `json:"choices"`
		Usage   json.RawMessage `json:"usage"`
		Spoken  spoken          `json:"__verbose"`
	}{choices, usage, g.spoken})
}
