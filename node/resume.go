package node

import (
	"encoding/json"
	"strings"
	"time"

	"idlewild/node/localapi"
)

// resumed is a streamed answer that may begin again on another machine: who
// reads it gets each word once.
type resumed struct {
	started time.Time
	sent    map[int]string // texts that were passed on, by choice
	now     map[int]string // texts of the attempt that runs
	ended   map[int]bool   // choices whose end was passed on
	role    map[int]bool
}

func (r *resumed) begin() { r.now = map[int]string{} }

// piece passes on a piece of an answer, without what was passed on before.
func (w *waiting) piece(chunk []byte, v localapi.AnswerVerdict) error {
	var c map[string]json.RawMessage
	var choices []map[string]json.RawMessage
	if err := json.Unmarshal(chunk, &c); err != nil {
		return err
	}
	if err := json.Unmarshal(c["choices"], &choices); err != nil {
		return err
	}
	r := w.stream
	if r.sent == nil {
		r.started, r.sent, r.ended, r.role = time.Now(), map[int]string{}, map[int]bool{}, map[int]bool{}
	}
	var keep []map[string]json.RawMessage
	for _, ch := range choices {
		ok, err := r.choice(ch)
		if err != nil {
			return err
		}
		if ok {
			keep = append(keep, ch)
		}
	}
	if len(keep) == 0 && len(choices) > 0 {
		return nil
	}
	out := map[string]any{
		"id": "chatcmpl-" + w.name, "object": "chat.completion.chunk", "created": r.started.Unix(), "model": w.called,
		"choices": keep, "idlewild": v,
	}
	if keep == nil {
		out["choices"] = []any{}
	}
	if u, ok := c["usage"]; ok {
		out["usage"] = u
	}
	b, err := json.Marshal(out)
	if err != nil {
		return err
	}
	return w.say(b)
}

// choice cuts off what was passed on, and reports whether anything is left.
func (r *resumed) choice(ch map[string]json.RawMessage) (bool, error) {
	var index int
	var delta map[string]json.RawMessage
	var text string
	if err := json.Unmarshal(ch["index"], &index); err != nil {
		return false, err
	}
	if raw := ch["delta"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &delta); err != nil {
			return false, err
		}
	}
	if raw := delta["content"]; len(raw) > 0 && string(raw) != "null" {
		if err := json.Unmarshal(raw, &text); err != nil {
			return false, err
		}
	}
	whole := r.now[index] + text
	r.now[index] = whole
	sent := r.sent[index]
	finish := string(ch["finish_reason"])
	ends := finish != "" && finish != "null"
	switch {
	case strings.HasPrefix(sent, whole) && len(whole) < len(sent):
		if ends {
			return false, errOtherAnswer
		}
		return false, nil // all of it was read before
	case !strings.HasPrefix(whole, sent):
		return false, errOtherAnswer
	}
	fresh := whole[len(sent):]
	r.sent[index] = whole
	other := len(delta) > 1 || len(delta) == 1 && delta["content"] == nil
	if fresh != text {
		b, err := json.Marshal(fresh)
		if err != nil {
			return false, err
		}
		delta["content"] = b
		if ch["delta"], err = json.Marshal(delta); err != nil {
			return false, err
		}
	}
	if delta["role"] != nil {
		if r.role[index] && fresh == "" && !ends {
			return false, nil
		}
		r.role[index] = true
	}
	if ends {
		if r.ended[index] {
			return false, nil
		}
		r.ended[index] = true
	}
	return fresh != "" || ends || other, nil
}

var errOtherAnswer = &localapi.AskError{Status: 502, Type: "server_error",
	Message: "the machine that answered was lost, and the next one answers otherwise; ask again, with a seed or with temperature 0 if it must not"}
