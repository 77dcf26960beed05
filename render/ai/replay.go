package ai

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

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
