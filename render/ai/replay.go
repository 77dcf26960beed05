package ai

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode"

	"idlewild/job"
	"idlewild/media"
)

const (
	// drawn is how many numbers of the checker's draw a replay is given: no worker
	// can guess them.
	drawn = 8
	// looked is how many places of an answer are looked at.
	looked = 8
	// leastCommitted: of one in so many places at least a commitment speaks. The
	// server tells of no token within a letter, and a letter may have a few. Which
	// places are left out the worker cannot choose by what the model says there,
	// which is what it did not compute.
	leastCommitted = 8
	// askedLikely is how many tokens of a place the server is asked for: the one
	// that was chosen should be among them.
	askedLikely = 64
	// unlikely stands for the logarithm of a token that is not among them.
	unlikely = -64.0
)

// replayer reads claimed answers instead of writing them again: the prompt and the
// answer are one text, of which the model says at some places what it would have
// gone on with. All of a text before a place is computed at once, and what was
// computed for one place is kept for the next.
type replayer struct {
	writer
	claims     map[int]media.Record
	draw       []int
	vocabulary int
	context    int     // tokens that a request has
	letter     int     // a token that is a letter
	noise      float64 // media.Replay.Noise; negative: not measured yet
	measured   func(noise float64)
}

// newReplayer reads the claim that the replay is about, unless it stands beside the
// requests.
func newReplayer(r request, w writer, loaded *warm) (*replayer, error) {
	p := r.Params
	if len(r.Prior) != 1 {
		return nil, fmt.Errorf("%d claims to replay", len(r.Prior))
	}
	m := &replayer{
		writer: w, letter: -1, noise: -1, claims: map[int]media.Record{}, draw: p.Draw, vocabulary: loaded.vocabulary, context: loaded.context,
		measured: func(float64) {},
	}
	if p.Input == "" {
		// Somebody asks every now and then, and of few answers: measuring would be
		// most of the work.
		m.noise, m.measured = loaded.noise, func(noise float64) { loaded.noise = noise }
		return m, nil
	}
	f, err := os.Open(filepath.Join(r.Prior[0], recordsFile))
	if err != nil {
		return nil, trouble{job.Broken, err}
	}
	defer f.Close()
	// What is wrong with the file is found where the claim is judged.
	_ = media.ReadRecords(f, func(rec media.Record) error {
		if _, asked := slices.BinarySearch(p.Only, rec.Item); asked {
			m.claims[rec.Item] = rec
		}
		return nil
	})
	return m, nil
}

// answer implements answerer. As many answers are read side by side as are written
// side by side: each in a place of the server's own, so that what was computed for
// one of an answer's places is there for its next, and the server puts what it is
// asked at the same time into one pass over the weights.
func (m *replayer) answer(qs []query, _ func(int, []byte)) ([]media.Record, error) {
	out := make([]media.Record, len(qs))
	var readable []int
	for i, q := range qs {
		if q.claim != nil {
			m.claims[q.number] = *q.claim
		}
		claim := m.claims[q.number]
		if q.err != nil || unanswerable(m.endpoint, q.body) != "" || claim.Error != "" || !m.commits(q, claim) {
			// There is nothing to read: it is written here, if it can be.
			again, err := m.writer.answer([]query{q}, func(int, []byte) {})
			if err != nil {
				return nil, err
			}
			out[i] = again[0].WithoutWriting()
			continue
		}
		readable = append(readable, i)
	}
	for _, i := range readable {
		if err := m.prepare(qs[i]); err != nil {
			return nil, trouble{job.Broken, err}
		}
	}
	failed := make([]error, atOnce)
	var all sync.WaitGroup
	for slot := range min(atOnce, len(readable)) {
		all.Go(func() {
			for k := slot; k < len(readable) && failed[slot] == nil; k += atOnce {
				i := readable[k]
				out[i], failed[slot] = m.read(qs[i], slot)
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return nil, trouble{job.Broken, err}
		}
	}
	return out, nil
}

// read gives what is found in one claim. An error is about the server.
func (m *replayer) read(q query, slot int) (media.Record, error) {
	out := media.Record{Item: q.number, ID: q.id, Outputs: map[string]media.Tensor{}}
	c, why, err := m.claimOf(q)
	if err != nil {
		return out, err
	}
	if why != "" {
		media.Replay{Wrong: why}.Put(out.Outputs, 0)
		return out, nil
	}
	for i, w := range c.writings {
		r := media.Replay{Short: short(q.body), Noise: max(m.noise, 0)}
		if err := m.replay(q, c, i, w, slot, &r); err != nil {
			return out, err
		}
		r.Put(out.Outputs, i)
	}
	return out, nil
}

// claim is an answer that is read again.
type claim struct {
	answered
	writings []media.Writing
	prompt   []int
}

// claimOf reads the claim of a request. why says what is wrong with all of it.
func (m *replayer) claimOf(q query) (c claim, why string, err error) {
	rec := m.claims[q.number]
	n := choicesOf(q.body)
	var problem error
	if c.answered, problem = bodyOf(rec, n); problem != nil {
		return c, "its body: " + problem.Error(), nil
	}
	tokens := 0
	for i := range n {
		w, problem := media.WritingOf(rec, i)
		if problem != nil {
			return c, "its commitments: " + problem.Error(), nil
		}
		c.writings, tokens = append(c.writings, w), tokens+len(w.Tokens)
	}
	if c.prompt, why, err = m.prompt(q); err != nil || why != "" {
		return c, "its request cannot be answered: " + why, err
	}
	if c.Usage == nil {
		if !q.stream || q.wantsUsage() {
			return c, "it does not say how many tokens it has", nil
		}
		return c, "", nil
	}
	// Of a stream each choice may lack its last token.
	if left := c.Usage.Completed - tokens; c.Usage.Prompt != len(c.prompt) || left < 0 || left > 0 && (!q.stream || left > n) {
		return c, fmt.Sprintf("it says %d tokens for %d, and there are %d for %d", c.Usage.Completed, c.Usage.Prompt, tokens, len(c.prompt)), nil
	}
	return c, "", nil
}

// wantsUsage reports whether a stream shall end with the numbers of tokens.
func (q query) wantsUsage() bool {
	var o struct {
		Usage bool `json:"include_usage"`
	}
	return json.Unmarshal(q.body["stream_options"], &o) == nil && o.Usage
}

// prepare finds out, before claims are read side by side, what is the same for all
// of them. A request that cannot be answered leaves the noise to a later one.
func (m *replayer) prepare(q query) error {
	if m.noise >= 0 {
		return nil
	}
	if m.letter < 0 {
		var split struct{ Tokens []int }
		why, err := m.ask("/tokenize", map[string]any{"content": "a"}, &split)
		if err == nil && (why != "" || len(split.Tokens) == 0) {
			err = fmt.Errorf("llama.cpp makes no tokens of a letter: %s", why)
		}
		if err != nil {
			return err
		}
		m.letter = split.Tokens[len(split.Tokens)-1]
	}
	prompt, why, err := m.prompt(q)
	if err != nil || why != "" || len(prompt) >= m.context {
		return err
	}
	if m.noise, err = m.measure(prompt); err == nil {
		m.measured(m.noise)
	}
	return err
}

// commits reports whether an answer to a request has to have commitments. A stream
// hides tokens: of one without them nobody knows whether it could have some.
func (m *replayer) commits(q query, claim media.Record) bool {
	n := choicesOf(q.body)
	if n < 1 || n > atOnce || n > 1 && !m.several {
		return false
	}
	for i := range n {
		if q.stream && !claim.HasWriting(i) {
			return false
		}
	}
	_, ok := committing(choice1(q.body, 0))
	return ok
}

// replay reads one choice of a claim. An error is about the server.
func (m *replayer) replay(q query, c claim, choice int, w media.Writing, slot int, r *media.Replay) error {
	if i := slices.IndexFunc(w.Tokens, func(t int) bool { return t >= m.vocabulary }); i >= 0 {
		r.Wrong = fmt.Sprintf("token %d of it is %d, and the model has %d", i+1, w.Tokens[i], m.vocabulary)
		return nil
	}
	prompt := c.prompt
	if len(prompt)+len(w.Tokens) > m.context+1 {
		r.Wrong = fmt.Sprintf("it has %d tokens, and a request has %d", len(w.Tokens), m.context-len(prompt))
		return nil
	}
	if err := m.form(q, c, choice, w, r); err != nil || r.Wrong != "" {
		return err
	}
	var open int
	r.Places, open = m.places(q.number, choice, w)
	if leastCommitted*(len(w.Tokens)-open) < len(w.Tokens) {
		r.Doubt = fmt.Sprintf("nothing is committed to at %d of its %d places", open, len(w.Tokens))
	}
	for _, place := range r.Places {
		s, err := m.next(append(slices.Clone(prompt), w.Tokens[:place]...), m.letter, slot)
		if err != nil {
			return err
		}
		chosen := unlikely
		for _, t := range s.Probed[0].Top {
			if t.ID == w.Tokens[place] {
				chosen = t.Logprob
			}
		}
		r.Likely, r.Chosen = append(r.Likely, nextOf(s.Probed[0], media.LikelyKept)), append(r.Chosen, chosen)
	}
	if c.Choices[choice].Finish == "length" {
		return nil
	}
	words, tail, err := m.stops(q, w)
	if err != nil || ends(tail, words) {
		return err
	}
	if q.stream {
		if bent(q.body) {
			return nil
		}
		r.End, err = m.end(append(slices.Clone(prompt), w.Tokens...), tail, words, slot)
		return err
	}
	s, err := m.next(append(slices.Clone(prompt), w.Tokens[:len(w.Tokens)-1]...), w.Tokens[len(w.Tokens)-1], slot)
	if err == nil && s.Stop != "eos" {
		r.Wrong = "it ends with a token that ends nothing"
	}
	return err
}

// mostEnds is how many tokens are tried that may end an answer.
const mostEnds = 8

// end is how much less likely than the likeliest the likeliest token is that ends
// an answer after some tokens: one that completes a word that does, or one that no
// text stands for and after which the server ends.
func (m *replayer) end(tokens []int, tail string, words []string, slot int) (float64, error) {
	if len(tokens) >= m.context {
		return 0, nil // nothing may follow
	}
	s, err := m.next(tokens, m.letter, slot)
	if err != nil {
		return 0, err
	}
	top, tried := s.Probed[0].Top, 0
	if len(top) == 0 {
		return 0, errors.New("llama.cpp tells of no likely token")
	}
	for _, t := range top {
		piece := make([]byte, len(t.Bytes))
		for i, b := range t.Bytes {
			piece[i] = byte(b)
		}
		ended := ends(tail+string(piece), words)
		if !ended && len(piece) == 0 && tried < mostEnds {
			tried++
			forced, err := m.next(tokens, t.ID, slot)
			if err != nil {
				return 0, err
			}
			ended = forced.Stop == "eos"
		}
		if ended {
			return top[0].Logprob - t.Logprob, nil
		}
	}
	return -unlikely, nil
}

// places draws those of an answer that are looked at: the first, the last, and of
// each stretch between them one. open is how many no commitment speaks of.
func (m *replayer) places(item, choice int, w media.Writing) (places []int, open int) {
	seed := sha256.New()
	for _, d := range append(slices.Clone(m.draw), item, choice) {
		seed.Write(binary.LittleEndian.AppendUint64(nil, uint64(d)))
	}
	rng := rand.New(rand.NewChaCha8([32]byte(seed.Sum(nil))))
	var there []int
	for i := range w.Tokens {
		if w.Committed(i) {
			there = append(there, i)
		}
	}
	n := len(there)
	if n <= looked {
		return there, len(w.Tokens) - n
	}
	places = append(places, there[0])
	for k := range looked - 2 {
		from, to := 1+k*(n-2)/(looked-2), 1+(k+1)*(n-2)/(looked-2)
		places = append(places, there[from+rng.IntN(to-from)])
	}
	return append(places, there[n-1]), len(w.Tokens) - n
}

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
