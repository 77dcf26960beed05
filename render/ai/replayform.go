package ai

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	"idlewild/media"
)

// answered is what an answer's body says.
type answered struct {
	Choices []struct {
		Index   int `json:"index"`
		Message struct {
			Content   string `json:"content"`
			Reasoning string `json:"reasoning_content"`
			Calls     []call `json:"tool_calls"`
		} `json:"message"`
		Finish string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Prompt    int `json:"prompt_tokens"`
		Completed int `json:"completion_tokens"`
	} `json:"usage"`
}

// bodyOf reads the body of an answer with n choices.
func bodyOf(claim media.Record, n int) (a answered, err error) {
	t := claim.Outputs[outBody].Text
	if len(t) != 1 {
		return a, fmt.Errorf("it has %d bodies", len(t))
	}
	if err := json.Unmarshal([]byte(t[0]), &a); err != nil {
		return a, err
	}
	if len(a.Choices) != n {
		return a, fmt.Errorf("it has %d choices", len(a.Choices))
	}
	for i, c := range a.Choices {
		if c.Index != i {
			return a, fmt.Errorf("choice %d stands where choice %d belongs", c.Index, i)
		}
	}
	return a, nil
}

// mostAround is how many bytes of an answer's text may be missing in its body:
// marks around what was thought, and blanks.
const mostAround = 64

// form looks at what needs no model: whether the tokens are the answer's, and
// whether there are as many as there should be.
func (m *replayer) form(q query, c claim, choice int, w media.Writing, r *media.Replay) error {
	said := c.Choices[choice]
	if room := m.room(q, len(c.prompt)) - len(w.Tokens); said.Finish == "length" && room > 2 {
		r.Wrong = fmt.Sprintf("it is cut off after %d tokens, and had room for %d more", len(w.Tokens), room)
		return nil
	}
	var text struct{ Content string }
	why, err := m.ask("/detokenize", map[string]any{"tokens": w.Tokens}, &text)
	if err != nil {
		return err
	}
	if why != "" {
		r.Wrong = "its tokens are no text: " + why
		return nil
	}
	rest := letters(text.Content)
	message := said.Message
	for _, part := range []string{message.Reasoning, message.Content} {
		before, after, ok := strings.Cut(rest, letters(part))
		if !ok {
			r.Wrong = "its tokens are those of another text"
			return nil
		}
		rest = before + after
	}
	for _, c := range message.Calls {
		if !strings.Contains(rest, c.Function.Name) || !strings.Contains(blankless(rest), blankless(c.Function.Arguments)) {
			r.Doubt = "it calls a tool otherwise than its tokens say"
		}
	}
	if len(message.Calls) == 0 && len(strings.TrimSpace(rest)) > mostAround+len(q.body["stop"]) {
		r.Wrong = "its tokens say more than it does"
	}
	return nil
}

// letters is a text without what stands for bytes that are no letter: how many of
// those there are says each who looks at another piece of it.
func letters(s string) string { return strings.ReplaceAll(s, "\ufffd", "") }

func blankless(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return -1
		}
		return c
	}, s)
}

// room is how many tokens the answer to a request may have.
func (m *replayer) room(q query, prompt int) int {
	room := m.context - prompt
	for _, k := range []string{"max_completion_tokens", "max_tokens", "n_predict"} {
		var n int
		if json.Unmarshal(q.body[k], &n) == nil && n >= 0 && len(q.body[k]) > 0 && string(q.body[k]) != "null" {
			room = min(room, n)
		}
	}
	for _, k := range []string{"t_max_predict_ms", "n_indent"} {
		if len(q.body[k]) > 0 {
			return 0 // it may end anywhere
		}
	}
	return room
}

// stops are a request's words that end an answer, and the text of the answer's last
// tokens.
func (m *replayer) stops(q query, w media.Writing) (words []string, tail string, err error) {
	var one string
	if json.Unmarshal(q.body["stop"], &words) != nil && json.Unmarshal(q.body["stop"], &one) == nil {
		words = []string{one}
	}
	words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
	if len(words) == 0 {
		return nil, "", nil
	}
	var text struct{ Content string }
	_, err = m.ask("/detokenize", map[string]any{"tokens": w.Tokens[max(0, len(w.Tokens)-maxStopTokens):]}, &text)
	return words, text.Content, err // tokens that are no text were found before
}

// ends reports whether a text has a word that ends it.
func ends(text string, words []string) bool {
	return slices.ContainsFunc(words, func(s string) bool { return strings.Contains(text, s) })
}

// maxStopTokens is in how many of an answer's last tokens its end is looked for.
const maxStopTokens = 64

// short is how much less likely than the likeliest a token may be that the request
// draws: nothing where it asks for the likeliest, as much as min_p says where
// nothing else changes what is drawn of; negative where nobody knows.
func short(body map[string]json.RawMessage) float64 {
	if bent(body) {
		return -1
	}
	number := func(k string) (v float64, ok bool) {
		ok = len(body[k]) > 0 && string(body[k]) != "null" && json.Unmarshal(body[k], &v) == nil
		return v, ok
	}
	if t, ok := number("temperature"); ok && t <= 0 {
		return 0
	}
	if k, ok := number("top_k"); ok && k == 1 {
		return 0
	}
	if p, ok := number("min_p"); ok && p > 0 && p < 1 {
		return -math.Log(p)
	}
	return -1
}

// bent reports whether a request has something else decide what is drawn than how
// likely it is.
func bent(body map[string]json.RawMessage) bool {
	for _, k := range []string{
		"samplers", "mirostat", "grammar", "json_schema", "response_format", "tools", "logit_bias", "repeat_penalty", "presence_penalty",
		"frequency_penalty", "dry_multiplier", "xtc_probability", "adaptive_target", "reasoning_budget_tokens", "thinking_budget_tokens",
	} {
		if len(body[k]) > 0 {
			return true
		}
	}
	return false
}
