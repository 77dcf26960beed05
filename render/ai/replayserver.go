package ai

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"idlewild/media"
)

// ask has the server answer something of its own API.
func (m *replayer) ask(path string, body, into any) (why string, err error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	status, answer, err := m.server.Do(context.Background(), path, raw, func([]byte) {})
	if err != nil {
		return "", err
	}
	if status != 200 {
		return errorOf(answer), nil
	}
	return "", json.Unmarshal(answer, into)
}

// prompt is the request's, in tokens; why says what is wrong with the request.
func (m *replayer) prompt(q query) (tokens []int, why string, err error) {
	body := map[string]json.RawMessage{}
	for k, v := range q.body {
		body[k] = v
	}
	for _, k := range serverOnly {
		delete(body, k)
	}
	if err := m.dated.put(body, m.day); err != nil {
		return nil, "", err
	}
	var templated struct{ Prompt string }
	if why, err = m.ask("/apply-template", body, &templated); why != "" || err != nil {
		return nil, why, err
	}
	var split struct{ Tokens []int }
	why, err = m.ask("/tokenize", map[string]any{"content": templated.Prompt, "add_special": true, "parse_special": true}, &split)
	return split.Tokens, why, err
}

// next has the server say what may come after some tokens. The one that it then
// writes is forced, since it tells nothing of one in the middle of a letter.
func (m *replayer) next(tokens []int, force, slot int) (spoken, error) {
	var s spoken
	why, err := m.ask("/completion", map[string]any{
		"prompt": tokens, "n_predict": 1, "n_probs": askedLikely, "temperature": 0, "logit_bias": [][2]int{{force, 100000}},
		"cache_prompt": true, "id_slot": slot,
	}, &s)
	if why != "" {
		err = fmt.Errorf("llama.cpp does not go on with %d tokens: %s", len(tokens), why)
	}
	if err == nil && len(s.Probed) != 1 {
		err = fmt.Errorf("llama.cpp tells of %d tokens where it is asked for one", len(s.Probed))
	}
	return s, err
}

// measured is how many tokens the checker writes itself, once for a check.
const measured = 24

// measure writes something and reads it again.
func (m *replayer) measure(prompt []int) (noise float64, err error) {
	var s spoken
	why, err := m.ask("/completion", map[string]any{
		"prompt": prompt, "n_predict": min(measured, max(1, m.context-len(prompt)-1)), "n_probs": media.LikelyKept, "temperature": 1, "seed": 1,
		"return_tokens": true, "cache_prompt": false, "id_slot": 1,
	}, &s)
	if why != "" {
		err = fmt.Errorf("llama.cpp does not go on with a prompt: %s", why)
	}
	if err != nil {
		return 0, err
	}
	at, err := s.places(s.Tokens)
	if err != nil {
		return 0, err
	}
	n := 0
	for i, place := range at {
		if place < measured/2 || place%4 != 3 {
			continue // many at once are read, as of a claim
		}
		read, err := m.next(append(slices.Clone(prompt), s.Tokens[:place]...), m.letter, 0)
		if err != nil {
			return 0, err
		}
		likely, said := nextOf(read.Probed[0], media.TopCommitted), make([]float64, 0, media.TopCommitted)
		for _, l := range likely {
			wrote := unlikely
			for _, t := range s.Probed[i].Top {
				if t.ID == l.Token {
					wrote = t.Logprob
				}
			}
			said = append(said, wrote)
		}
		noise, n = noise+media.PlaceApart(likely, said), n+1
	}
	return noise / float64(max(n, 1)), nil
}

// nextOf are the likeliest tokens of a place, so many of them.
func nextOf(p probed, most int) (out []media.NextToken) {
	for _, t := range p.Top[:min(len(p.Top), most)] {
		out = append(out, media.NextToken{Token: t.ID, Logprob: t.Logprob})
	}
	return out
}
