package ai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"

	"idlewild/media"
)

// reply is what the server says to a request.
type reply struct {
	body    []byte
	refused string // what is wrong with the request; there is no body then
	// writings are those of the choices; nil: nothing is committed to.
	writings []*media.Writing
}

func notUnderstood(err error) reply {
	return reply{refused: "llama.cpp answers what nobody understands: " + err.Error()}
}

// choices has the server answer a request. The server tells of the tokens of one
// choice only: where each is to be committed to, each of several is asked for by
// itself, with the seeds that the server would have given them.
func (m *writer) choices(body map[string]json.RawMessage, said *saying) (reply, error) {
	n := 1
	if m.several {
		n = choicesOf(body)
	}
	if n < 2 || n > atOnce { // of too many the server says so
		return m.once(body, said)
	}
	if said.parts == nil {
		said.parts = make([]saying, n)
	}
	replies, failed := make([]reply, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		part := &said.parts[i]
		part.tell = func(chunk []byte) {
			if c, ok := numbered(chunk, i); ok {
				said.tell(c)
			}
		}
		one := choice1(body, i)
		all.Go(func() { replies[i], failed[i] = m.once(one, part) })
	}
	all.Wait()
	streamed := false
	for i := range said.parts {
		said.other = said.other || said.parts[i].other
		streamed = streamed || said.parts[i].streamed()
	}
	if err := errors.Join(failed...); err != nil {
		return reply{}, err
	}
	x, usage, err := joined(replies)
	if err != nil {
		return notUnderstood(err), nil
	}
	if x.refused == "" && streamed && usage != nil {
		b, err := json.Marshal(map[string]any{"choices": []any{}, "usage": usage})
		if err != nil {
			return reply{}, err
		}
		said.tell(b)
	}
	return x, nil
}

// choice1 is the request for one choice of several, the one with the number i.
func choice1(body map[string]json.RawMessage, i int) map[string]json.RawMessage {
	one := map[string]json.RawMessage{}
	for k, v := range body {
		one[k] = v
	}
	delete(one, "n")
	var seed float64
	if v := one["seed"]; len(v) == 0 || string(v) == "null" || json.Unmarshal(v, &seed) != nil || seed != math.Trunc(seed) || math.Abs(seed) > math.MaxUint32 {
		return one
	}
	if s := uint32(int64(seed)); s != math.MaxUint32 { // which stands for any
		one["seed"] = fmt.Appendf(nil, "%d", s+uint32(i))
	}
	return one
}

// numbered is a piece of an answer as one of the choice i; ok is false where it is
// about none.
func numbered(chunk []byte, i int) (_ []byte, ok bool) {
	var all map[string]json.RawMessage
	var choices []map[string]json.RawMessage
	if json.Unmarshal(chunk, &all) != nil || json.Unmarshal(all["choices"], &choices) != nil || len(choices) == 0 {
		return nil, false
	}
	delete(all, "usage")
	for _, c := range choices {
		c["index"] = fmt.Appendf(nil, "%d", i)
	}
	var err error
	if all["choices"], err = json.Marshal(choices); err != nil {
		return nil, false
	}
	b, err := json.Marshal(all)
	return b, err == nil
}

// tokensUsed is what an answer says of the work that it was.
type tokensUsed struct {
	Completion int             `json:"completion_tokens"`
	Prompt     int             `json:"prompt_tokens"`
	Total      int             `json:"total_tokens"`
	Details    json.RawMessage `json:"prompt_tokens_details,omitempty"`
}

// joined makes one answer of those to the requests for its choices. usage is nil
// where nobody says it.
func joined(replies []reply) (x reply, usage *tokensUsed, err error) {
	choices := []map[string]json.RawMessage{}
	for i, r := range replies {
		if r.refused != "" {
			return reply{refused: r.refused}, nil, nil
		}
		var a struct {
			Choices []map[string]json.RawMessage `json:"choices"`
			Usage   *tokensUsed                  `json:"usage"`
		}
		if err := json.Unmarshal(r.body, &a); err != nil {
			return x, nil, err
		}
		if len(a.Choices) != 1 || len(r.writings) != 1 {
			return x, nil, fmt.Errorf("%d choices where one was asked for", len(a.Choices))
		}
		a.Choices[0]["index"] = fmt.Appendf(nil, "%d", i)
		choices, x.writings = append(choices, a.Choices[0]), append(x.writings, r.writings[0])
		switch {
		case a.Usage == nil:
		case usage == nil:
			usage = a.Usage
		default: // the prompt counts once
			usage.Completion += a.Usage.Completion
			usage.Total = usage.Prompt + usage.Completion
		}
	}
	x.body, err = json.Marshal(map[string]any{"choices": choices, "usage": usage})
	return x, usage, err
}

// once puts one request to the server.
func (m *writer) once(body map[string]json.RawMessage, said *saying) (reply, error) {
	var a asks
	commits := false
	if m.commit {
		if a, commits = committing(body); commits {
			said.asks = &a
		}
	}
	slot := -1
	if commits && m.slots != nil {
		slot = <-m.slots
		defer func() { m.slots <- slot }()
		body["id_slot"] = fmt.Appendf(nil, "%d", slot)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	said.begin()
	status, answer, err := m.server.Do(context.Background(), m.endpoint, raw, said.hear)
	if said.other = said.other || err == nil && status == 200 && said.seen < said.told; said.other {
		return reply{}, errors.New("llama.cpp does not answer a request as it began to")
	}
	if err != nil {
		return reply{}, err
	}
	if status != 200 {
		return reply{refused: errorOf(answer)}, nil
	}
	streamed := answer == nil
	if streamed {
		if answer, err = said.now.body(); err != nil {
			return notUnderstood(err), nil
		}
	}
	x := reply{body: answer, writings: make([]*media.Writing, 1)}
	if !commits {
		return x, nil
	}
	w, err := m.written(answer, streamed, slot)
	switch {
	case err == nil:
		x.writings[0] = &w
	case !streamed:
		return reply{}, fmt.Errorf("this llama.cpp does not say which tokens it wrote: %w", err)
	}
	if x.body, err = a.silence(answer); err != nil {
		return notUnderstood(err), nil
	}
	return x, nil
}

// written are the commitments to an answer of one choice.
func (m *writer) written(answer []byte, streamed bool, slot int) (media.Writing, error) {
	var a struct {
		Spoken spoken `json:"__verbose"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return media.Writing{}, err
	}
	s := a.Spoken
	if streamed {
		if err := s.recall(func() ([]int, error) {
			if slot < 0 || slot != s.Slot || s.Evaluated < 0 || s.Predicted < 2 {
				return nil, errors.New("nobody knows where its tokens are")
			}
			all, err := m.server.Tokens(context.Background(), slot, s.Evaluated+s.Predicted-1)
			if err != nil {
				return nil, err
			}
			return all[s.Evaluated:], nil
		}); err != nil {
			return media.Writing{}, err
		}
	}
	return s.writing()
}
