package ai

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"idlewild/media"
)

// probed is a token of an answer as llama.cpp's server tells of it where it is
// asked for the likeliest tokens: Bytes are what was sent with it, Top the
// likeliest, before anything was drawn.
type probed struct {
	ID    int   `json:"id"`
	Bytes []int `json:"bytes"`
	Top   []struct {
		ID      int     `json:"id"`
		Bytes   []int   `json:"bytes"`
		Logprob float64 `json:"logprob"`
	} `json:"top_logprobs"`
}

// spoken is what the server says of itself beside an answer.
type spoken struct {
	Tokens    []int    `json:"tokens"`
	Slot      int      `json:"id_slot"`
	Evaluated int      `json:"tokens_evaluated"` // of the prompt
	Predicted int      `json:"tokens_predicted"`
	Stop      string   `json:"stop_type"` // "eos", "word" or "limit"
	Probed    []probed `json:"completion_probabilities"`
	// streamed: it came in pieces, which hold back more than letters.
	streamed bool
}

// asks are what a request says of logarithms.
type asks struct {
	Logprobs *bool `json:"logprobs"`
	Top      *int  `json:"top_logprobs"`
}

// committing has a request's answer come with what a commitment is made of.
// ok is false for requests whose answers have none.
func committing(body map[string]json.RawMessage) (a asks, ok bool) {
	raw, err := json.Marshal(body)
	if err != nil || json.Unmarshal(raw, &a) != nil {
		return a, false // the server says what is wrong with it
	}
	wanted := a.Logprobs != nil && *a.Logprobs
	if choicesOf(body) != 1 || a.Top != nil && (!wanted || *a.Top < 0) {
		return a, false
	}
	n := media.TopCommitted
	if wanted {
		n = max(n, a.top())
		delete(body, "logprobs")
		delete(body, "top_logprobs")
	}
	body["n_probs"] = fmt.Appendf(nil, "%d", n)
	body["verbose"], body["return_tokens"] = json.RawMessage("true"), json.RawMessage("true")
	return a, true
}

// choicesOf is how many answers a request asks for; 0 where that is not sure.
func choicesOf(body map[string]json.RawMessage) int {
	n := 1
	if v := body["n"]; len(v) > 0 && string(v) != "null" {
		if json.Unmarshal(v, &n) != nil || n < 1 {
			return 0
		}
	}
	if len(body["n_cmpl"]) > 0 {
		return 0 // the server's own name for it
	}
	return n
}

// top is how many logarithms of each place somebody wants to see.
func (a asks) top() int {
	switch {
	case a.Logprobs == nil || !*a.Logprobs:
		return 0
	case a.Top == nil:
		return 20 // the server's own
	}
	return *a.Top
}

// silence takes out of an answer, or of a piece of one, what its request did not
// ask for.
func (a asks) silence(answer []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(answer, &all); err != nil {
		return nil, err
	}
	delete(all, "__verbose")
	var choices []map[string]json.RawMessage
	if err := json.Unmarshal(all["choices"], &choices); err != nil {
		return nil, err
	}
	for _, c := range choices {
		if a.Logprobs == nil || !*a.Logprobs {
			delete(c, "logprobs")
			continue
		}
		var l struct {
			Content []map[string]json.RawMessage `json:"content"`
		}
		if json.Unmarshal(c["logprobs"], &l) != nil || l.Content == nil {
			continue
		}
		for _, t := range l.Content {
			var top []json.RawMessage
			if json.Unmarshal(t["top_logprobs"], &top) == nil && len(top) > a.top() {
				t["top_logprobs"], _ = json.Marshal(top[:a.top()]) // of what was read, it always encodes
			}
		}
		var err error
		if c["logprobs"], err = json.Marshal(l); err != nil {
			return nil, err
		}
	}
	var err error
	if all["choices"], err = json.Marshal(choices); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// writing makes commitments of what the server says.
func (s spoken) writing() (media.Writing, error) {
	w := media.Writing{Tokens: s.Tokens}
	if len(w.Tokens) == 0 {
		return w, errors.New("there are none")
	}
	at, err := s.places(w.Tokens)
	if err != nil {
		return w, err
	}
	likely := make([][]media.NextToken, len(w.Tokens))
	for i, p := range s.Probed {
		if at[i] < 0 {
			continue
		}
		for _, n := range p.Top[:min(len(p.Top), media.TopCommitted)] {
			likely[at[i]] = append(likely[at[i]], media.NextToken{Token: n.ID, Logprob: n.Logprob})
		}
	}
	for i, l := range likely {
		if len(l) == 0 {
			w.Open = append(w.Open, i)
		}
	}
	for group := range slices.Chunk(likely, media.TokensCommitted) {
		var c []byte
		if slices.ContainsFunc(group, func(l []media.NextToken) bool { return len(l) > 0 }) {
			if c, err = media.CommitTokens(group); err != nil {
				return w, err
			}
		}
		w.Commitments = append(w.Commitments, c)
	}
	return w, nil
}

// mostPieces is how many tokens the server holds back at most before one that
// completes a letter of theirs, where they are one.
const mostPieces = 7

// places says which of an answer's tokens each of those is that the server told
// of, -1 where that is not sure. It tells of no token in the middle of a letter,
// of the token after it with the bytes of all of them.
func (s spoken) places(tokens []int) ([]int, error) {
	left := len(tokens) - len(s.Probed) // of tokens it did not tell of
	if left < 0 {
		return nil, errors.New("the server tells of more tokens than there are")
	}
	n := len(s.Probed)
	// ahead[i] has the numbers of untold tokens that may stand before told token i,
	// going from the beginning, and then those of them that also lead to the end.
	ahead := make([][]bool, n)
	for i, p := range s.Probed {
		ahead[i] = make([]bool, left+1)
		for skipped := range left + 1 {
			if tokens[i+skipped] != p.ID {
				continue
			}
			for g := range min(s.held(i), skipped) + 1 {
				if i == 0 && skipped == g || i > 0 && ahead[i-1][skipped-g] {
					ahead[i][skipped] = true
					break
				}
			}
		}
	}
	for i := n - 1; i >= 0; i-- {
		for skipped := range left + 1 {
			if !ahead[i][skipped] {
				continue
			}
			// What follows the last one is a word that ends it, or a letter that does not
			// end: of bytes that are none, any number.
			leads := i == n-1
			for g := 0; i < n-1 && g <= s.held(i+1) && skipped+g <= left; g++ {
				leads = leads || ahead[i+1][skipped+g]
			}
			ahead[i][skipped] = leads
		}
	}
	at := make([]int, n)
	for i, may := range ahead {
		at[i] = -1
		ways := 0
		for skipped, ok := range may {
			if ok {
				at[i], ways = i+skipped, ways+1
			}
		}
		switch {
		case ways == 0:
			return nil, errors.New("the server tells of other tokens than it wrote")
		case ways > 1:
			at[i] = -1
		}
	}
	return at, nil
}

// held is how many tokens may have been held back before a told one. Pieces also hold
// back what may become a word that ends the answer, or a mark around what was
// thought. Before the last that they told of they hold back what they sent with it.
func (s spoken) held(told int) int {
	p := s.Probed[told]
	switch {
	case !s.streamed:
		return p.held()
	case told < len(s.Probed)-1:
		return max(mostPieces, p.held())
	case p.alone():
		return 0
	}
	own := 0 // bytes of its own, where that is known
	for _, t := range p.Top {
		if t.ID == p.ID {
			own = len(t.Bytes)
		}
	}
	return max(0, len(p.Bytes)-own) // a token of text has a byte at least
}

// held is how many tokens may have been held back before p.
func (p probed) held() int {
	for _, t := range p.Top {
		if t.ID == p.ID && slices.Equal(t.Bytes, p.Bytes) {
			return 0
		}
	}
	if slices.ContainsFunc(p.Bytes, func(b int) bool { return b >= 0x80 }) {
		// Bytes that are no letter are held back longer; each is of one token at most.
		return max(mostPieces, len(p.Bytes))
	}
	return 0
}

// alone reports whether it is sure that nothing was held back and sent with p.
func (p probed) alone() bool {
	for _, t := range p.Top {
		if t.ID == p.ID {
			return slices.Equal(t.Bytes, p.Bytes)
		}
	}
	return false
}

// recall finds the tokens of an answer that came in pieces: all, or all but the
// last. Where no piece told of some, written are those that the server computed
// something after, which is not the last.
func (s *spoken) recall(written func() ([]int, error)) error {
	s.streamed, s.Tokens = true, nil
	for _, p := range s.Probed {
		s.Tokens = append(s.Tokens, p.ID)
	}
	n := len(s.Probed)
	switch hidden := s.Predicted - n; {
	case n == 0 || hidden < 0:
		return fmt.Errorf("its pieces tell of %d tokens where there are %d", n, s.Predicted)
	case hidden == 0, hidden == 1 && s.Stop == "eos" && s.Probed[n-1].alone():
		return nil // no piece tells of the token that ends it
	}
	but, err := written()
	if err != nil {
		return err
	}
	all := append(slices.Clone(but), s.Probed[n-1].ID)
	with, werr := s.places(all)
	_, err = s.places(but)
	if s.Stop == "eos" {
		// The token that ends it stands nowhere else.
		if slices.Contains(but, s.Probed[n-1].ID) {
			s.Tokens = but
			return err
		}
		s.Tokens = all
		return werr
	}
	switch {
	case werr == nil && with[n-1] == len(but) && err != nil:
		s.Tokens, err = all, nil
	case err == nil && (werr != nil || with[n-1] >= 0 && with[n-1] < len(but)):
		s.Tokens = but
	case err == nil:
		err = errors.New("its pieces may tell of its last token, or not")
	}
	return err
}
