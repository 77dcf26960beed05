package ai

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"idlewild/media"
)

// told is a token as the server tells of it: piece are its own bytes, sent those
// that went out with it.
func told(id int, piece, sent string) probed {
	ints := func(s string) (v []int) {
		for _, b := range []byte(s) {
			v = append(v, int(b))
		}
		return v
	}
	p := probed{ID: id, Bytes: ints(sent)}
	p.Top = append(p.Top, struct {
		ID      int     `json:"id"`
		Bytes   []int   `json:"bytes"`
		Logprob float64 `json:"logprob"`
	}{id, ints(piece), -0.1})
	return p
}

func TestTokensWithinALetterAreFound(t *testing.T) {
	letter := "🙂" // four bytes: three tokens that are not told of
	for name, c := range map[string]struct {
		s    spoken
		want []int
		says string
	}{
		"all are told of": {spoken{Tokens: []int{1, 2}, Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, []int{0, 1}, ""},
		"a letter":        {spoken{Tokens: []int{1, 7, 8, 9, 10, 2}, Probed: []probed{told(1, "a", "a"), told(10, "\x82", letter), told(2, "b", "b")}}, []int{0, 4, 5}, ""},
		// Either of the two may be the one: nobody says.
		"the same token twice":       {spoken{Tokens: []int{9, 9, 1, 9, 9, 9}, Probed: []probed{told(9, "\x82", letter), told(1, "a", "a"), told(9, "\x82", letter)}}, []int{1, 2, -1}, ""},
		"a letter that does not end": {spoken{Tokens: []int{1, 7, 8}, Probed: []probed{told(1, "a", "a")}}, []int{0}, ""},
		"bytes that are no letter":   {spoken{Tokens: []int{1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 10}, Probed: []probed{told(1, "a", "a"), told(10, "\x82", strings.Repeat("\xf0", 9)+"\x82")}}, []int{0, 10}, ""},
		"many that do not end":       {spoken{Tokens: []int{1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7}, Stop: "limit", Probed: []probed{told(1, "a", "a")}}, []int{0}, ""},
		"a word that ends it":        {spoken{Tokens: []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, Stop: "word", Probed: []probed{told(1, "a", "a")}}, []int{0}, ""},
		"others":                     {spoken{Tokens: []int{1, 2}, Probed: []probed{told(3, "a", "a")}}, nil, "other tokens"},
		"too many":                   {spoken{Tokens: []int{1}, Probed: []probed{told(1, "a", "a"), told(1, "a", "a")}}, nil, "more tokens"},
		"left out":                   {spoken{Tokens: []int{1, 5, 2}, Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, nil, "other tokens"},
	} {
		at, err := c.s.places(c.s.Tokens)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v %v", name, at, err)
			}
			continue
		}
		if err != nil || !slices.Equal(at, c.want) {
			t.Errorf("%s: %v %v, want %v", name, at, err, c.want)
		}
	}
}

func TestTokensThatAStreamHides(t *testing.T) {
	letter := "🙂"
	dot := "\u3000" // a letter of which two bytes are the same
	tail := func(p probed, top ...probed) probed { p.Top = nil; return p }
	for name, c := range map[string]struct {
		s    spoken
		but  []int // that the server computed something after; nil: it is not asked
		want []int
		open []int
		says string
	}{
		"none":              {spoken{Predicted: 2, Stop: "limit", Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, nil, []int{1, 2}, nil, ""},
		"the end":           {spoken{Predicted: 3, Stop: "eos", Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, nil, []int{1, 2}, nil, ""},
		"a letter":          {spoken{Predicted: 5, Stop: "limit", Probed: []probed{told(1, "a", "a"), told(10, "\x82", letter)}}, []int{1, 7, 8, 9}, []int{1, 7, 8, 9, 10}, []int{1, 2, 3}, ""},
		"and what follows":  {spoken{Predicted: 6, Stop: "limit", Probed: []probed{told(10, "\x82", letter), told(1, "a", "a")}}, []int{7, 8, 9, 10, 5}, nil, nil, "other tokens"},
		"a letter, the end": {spoken{Predicted: 6, Stop: "eos", Probed: []probed{told(10, "\x82", letter), told(1, "a", "a")}}, []int{7, 8, 9, 10, 1}, []int{7, 8, 9, 10, 1}, []int{0, 1, 2}, ""},
		"half a letter":     {spoken{Predicted: 4, Stop: "limit", Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, []int{1, 2, 7}, []int{1, 2, 7}, []int{2}, ""},
		"a mark":            {spoken{Predicted: 5, Stop: "eos", Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, []int{90, 91, 1, 2}, []int{90, 91, 1, 2}, []int{0, 1}, ""},
		// The end was told of with what was held back before it.
		"a word that was none":           {spoken{Predicted: 3, Stop: "eos", Probed: []probed{told(1, "a", "a"), told(2, "", "c")}}, []int{1, 12}, []int{1, 12, 2}, []int{1}, ""},
		"the end, of what is not likely": {spoken{Predicted: 4, Stop: "eos", Probed: []probed{told(1, "a", "a"), tail(told(2, "b", "b"))}}, []int{1, 7, 2}, []int{1, 7, 2}, []int{1, 2}, ""},
		"forced tokens, the end":         {spoken{Predicted: 3, Stop: "eos", Probed: []probed{tail(told(1, "a", "a")), tail(told(2, "b", "b"))}}, []int{1, 2}, []int{1, 2}, []int{0, 1}, ""},
		// Either of the two bytes may be the one that was told of.
		"one of two":     {spoken{Predicted: 3, Stop: "limit", Probed: []probed{told(9, "\x80", dot)}}, []int{8, 9}, nil, nil, "may tell of its last"},
		"others":         {spoken{Predicted: 5, Stop: "limit", Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, []int{3, 4, 5, 6}, nil, nil, "other tokens"},
		"nothing":        {spoken{Predicted: 2, Stop: "limit"}, nil, nil, nil, "tell of 0"},
		"more than all":  {spoken{Predicted: 1, Probed: []probed{told(1, "a", "a"), told(2, "b", "b")}}, nil, nil, nil, "tell of 2"},
		"unknown at all": {spoken{Predicted: 3, Stop: "eos", Probed: []probed{told(1, "a", "a"), tail(told(2, "b", "b"))}}, []int{}, nil, nil, ""},
	} {
		asked := false
		err := c.s.recall(func() ([]int, error) {
			asked = true
			if c.but == nil {
				return nil, errors.New("it was asked")
			}
			return c.but, nil
		})
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v %v", name, c.s.Tokens, err)
			}
			continue
		}
		w, werr := c.s.writing()
		if err != nil || werr != nil || !slices.Equal(w.Tokens, c.want) || !slices.Equal(w.Open, c.open) || asked != (c.but != nil) {
			t.Errorf("%s: %+v %v %v", name, w, err, werr)
		}
	}
}

func TestOnlyWhatWasAskedForIsAnswered(t *testing.T) {
	const answer = `{"choices":[{"index":0,"logprobs":{"content":[{"id":1,"top_logprobs":[{"id":1},{"id":2},{"id":3},{"id":4}]}]}}],"__verbose":{"tokens":[1]}}`
	for body, want := range map[string]string{
		`{}`:                                 `{"choices":[{"index":0}]}`,
		`{"logprobs":false}`:                 `{"choices":[{"index":0}]}`,
		`{"logprobs":true,"top_logprobs":2}`: `{"choices":[{"index":0,"logprobs":{"content":[{"id":1,"top_logprobs":[{"id":1},{"id":2}]}]}}]}`,
	} {
		var b map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &b); err != nil {
			t.Fatal(err)
		}
		a, ok := committing(b)
		got, err := a.silence([]byte(answer))
		if !ok || err != nil || string(got) != want || string(b["n_probs"]) != fmt.Sprint(media.TopCommitted) || b["logprobs"] != nil && body != `{"logprobs":false}` {
			t.Errorf("%s: %s %v, asked %s", body, got, err, b["n_probs"])
		}
	}
	for _, body := range []string{`{"n":2}`, `{"n_cmpl":1}`, `{"n":"two"}`, `{"top_logprobs":2}`, `{"logprobs":"yes"}`} {
		var b map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &b); err != nil {
			t.Fatal(err)
		}
		if _, ok := committing(b); ok || len(b) != 1 {
			t.Errorf("%s: %v", body, b)
		}
	}
}

func TestWhatARequestDraws(t *testing.T) {
	for body, want := range map[string]float64{
		`{"temperature":0}`: 0, `{"top_k":1}`: 0, `{}`: -1, `{"temperature":0,"grammar":"x"}`: -1, `{"temperature":null}`: -1,
	} {
		var b map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &b); err != nil {
			t.Fatal(err)
		}
		if got := short(b); got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}

// TestChoicesAskedForOneByOne: they have the server's own seeds, and come together
// as one answer.
func TestChoicesAskedForOneByOne(t *testing.T) {
	for body, want := range map[string]string{
		`{"n":3}`:                   `{}`,
		`{"n":3,"seed":5}`:          `{"seed":7}`,
		`{"n":3,"seed":5.0}`:        `{"seed":7}`,
		`{"n":3,"seed":-1}`:         `{"seed":-1}`,
		`{"n":3,"seed":4294967295}`: `{"seed":4294967295}`,
		`{"n":3,"seed":-3}`:         `{"seed":4294967295}`,
		`{"n":3,"seed":null}`:       `{"seed":null}`,
		`{"n":3,"seed":1e300}`:      `{"seed":1e300}`,
		`{"n":3,"seed":"x","a":1}`:  `{"a":1,"seed":"x"}`,
	} {
		var b map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &b); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(choice1(b, 2))
		if err != nil || string(got) != want || choicesOf(b) != 3 {
			t.Errorf("%s: %s", body, got)
		}
	}
	if c, ok := numbered([]byte(`{"choices":[{"index":0,"delta":{"content":"a"}}]}`), 2); !ok || string(c) != `{"choices":[{"delta":{"content":"a"},"index":2}]}` {
		t.Errorf("%s", c)
	}
	for _, none := range []string{`{"choices":[],"usage":{"total_tokens":3}}`, `{"usage":{}}`, `[]`, ``} {
		if c, ok := numbered([]byte(none), 2); ok {
			t.Errorf("%s: %s", none, c)
		}
	}
	of := func(text string, completion int) reply {
		return reply{body: fmt.Appendf(nil, `{"choices":[{"index":0,"message":{"content":%q}}],"usage":{"completion_tokens":%d,"prompt_tokens":9,"total_tokens":%d}}`, text, completion, 9+completion), writings: make([]*media.Writing, 1)}
	}
	x, usage, err := joined([]reply{of("a", 3), of("b", 4)})
	want := `{"choices":[{"index":0,"message":{"content":"a"}},{"index":1,"message":{"content":"b"}}],"usage":{"completion_tokens":7,"prompt_tokens":9,"total_tokens":16}}`
	if err != nil || string(x.body) != want || len(x.writings) != 2 || usage.Total != 16 {
		t.Errorf("%s %v", x.body, err)
	}
	if x, _, err := joined([]reply{of("a", 3), {refused: "too long"}}); err != nil || x.refused != "too long" {
		t.Errorf("%+v %v", x, err)
	}
	if _, _, err := joined([]reply{of("a", 3), {body: []byte(`{"choices":[]}`)}}); err == nil {
		t.Error("an answer without a choice is one")
	}
}
