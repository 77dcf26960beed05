package ai

import (
	"encoding/json"
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

func TestAStreamThatHidesTokensIsNotCommittedTo(t *testing.T) {
	s := spoken{Predicted: 2, Probed: []probed{told(1, "a", "a")}}
	if w, err := s.writing(); err == nil {
		t.Errorf("%+v", w)
	}
	s.Predicted = 1
	w, err := s.writing()
	if err != nil || !slices.Equal(w.Tokens, []int{1}) || len(w.Commitments) != 1 || !w.Committed(0) {
		t.Errorf("%+v %v", w, err)
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
	for _, body := range []string{`{"n":2}`, `{"top_logprobs":2}`, `{"logprobs":"yes"}`} {
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
