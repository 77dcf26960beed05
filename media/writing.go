package media

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Writing is what the record of an answer of tokens has beside the answer, so
// that it can be checked without writing it again.
type Writing struct {
	// Tokens are the answer's, and the one that ended it. Of an answer that came in
	// pieces the last one may not be there: no piece told of it.
	Tokens []int
	// Commitments, one to each TokensCommitted of the tokens: what was likely at
	// the places where they were drawn. One may be empty.
	Commitments [][]byte
	// Open are the places, in ascending order, of which no commitment speaks.
	Open []int
}

// Replay is what a checker found who read an answer instead of writing it again.
type Replay struct {
	// Places are those of the answer's tokens that were looked at. Likely are the
	// likeliest tokens at each, the first the likeliest, and Chosen the logarithm
	// of how likely the token is that stands there.
	Places []int
	Likely [][]NextToken
	Chosen []float64
	// Short is how much less likely than the likeliest, in logarithms, a token may
	// be that the request draws; negative: nobody knows.
	Short float64
	// Noise is how far the checker's own writing is from its reading of the same, as
	// the mean of PlaceApart.
	Noise float64
	// End is how much less likely than the likeliest, in logarithms, a token is
	// that would end the answer where it ends, if it is not one of its tokens.
	End float64
	// Wrong is what needs no numbers: the tokens are not those of the answer, or
	// the answer ends where it does not end. Doubt is what may be so.
	Wrong, Doubt string
}

// LikelyKept is how many tokens a Replay has of a place, at most.
const LikelyKept = 8

// Names of outputs.
const (
	outWritten   = "written"
	outCommitted = "committed"
	outOpen      = "uncommitted"
	outPlaces    = "places"
	outLikely    = "likely"
	outChosen    = "chosen"
	outShort     = "short"
	outNoise     = "noise"
	outEnd       = "end"
	outWrong     = "wrong"
	outDoubt     = "doubt"
)

// MaxTokens bounds the tokens of an answer.
const MaxTokens = 1 << 20

// of is the name of an output that is about one choice of an answer: those about
// all but the first have its number behind them.
func of(choice int, output string) string {
	if choice == 0 {
		return output
	}
	return fmt.Sprintf("%s.%d", output, choice)
}

// Put adds w, which is about one choice of an answer, to a record's outputs.
func (w Writing) Put(outputs map[string]Tensor, choice int) {
	texts := make([]string, len(w.Commitments))
	for i, c := range w.Commitments {
		texts[i] = base64.StdEncoding.EncodeToString(c)
	}
	outputs[of(choice, outWritten)] = vector(w.Tokens)
	outputs[of(choice, outCommitted)] = Tensor{Shape: []int{len(texts)}, Text: texts}
	if len(w.Open) > 0 {
		outputs[of(choice, outOpen)] = vector(w.Open)
	}
}

// HasWriting reports whether a record says that it has a writing of a choice.
func (r Record) HasWriting(choice int) bool {
	_, ok := r.Outputs[of(choice, outWritten)]
	return ok
}

// WritingOf reads what a stranger's record has beside one choice of its answer.
func WritingOf(r Record, choice int) (w Writing, err error) {
	t, ok := r.Outputs[of(choice, outWritten)]
	if !ok {
		return w, errors.New("there is no list of its tokens")
	}
	if w.Tokens, err = whole(t, MaxTokens, MaxToken); err != nil || len(w.Tokens) == 0 {
		return w, fmt.Errorf("its tokens: %d, %w", len(w.Tokens), err)
	}
	if w.Open, err = whole(r.Outputs[of(choice, outOpen)], len(w.Tokens), len(w.Tokens)-1); err != nil {
		return w, fmt.Errorf("places without a commitment: %w", err)
	}
	for i := 1; i < len(w.Open); i++ {
		if w.Open[i] <= w.Open[i-1] {
			return w, errors.New("places without a commitment are out of order")
		}
	}
	texts := r.Outputs[of(choice, outCommitted)].Text
	if want := (len(w.Tokens) + TokensCommitted - 1) / TokensCommitted; len(texts) != want {
		return w, fmt.Errorf("%d commitments to %d tokens", len(texts), len(w.Tokens))
	}
	for _, s := range texts {
		c, err := base64.StdEncoding.DecodeString(s)
		if err == nil && len(c) > 0 {
			_, err = openTokens(c)
		}
		if err != nil {
			return w, err
		}
		w.Commitments = append(w.Commitments, c)
	}
	return w, nil
}

// WithoutWriting is r without what Writing.Put added.
func (r Record) WithoutWriting() Record {
	base := func(name string) string {
		base, number, numbered := strings.Cut(name, ".")
		if n, err := strconv.Atoi(number); numbered && (err != nil || n < 1 || of(n, base) != name) {
			return ""
		}
		return base
	}
	for name := range r.Outputs {
		if base(name) == outWritten {
			r.Outputs = maps.Clone(r.Outputs)
			maps.DeleteFunc(r.Outputs, func(name string, _ Tensor) bool {
				return slices.Contains([]string{outWritten, outCommitted, outOpen}, base(name))
			})
			return r
		}
	}
	return r
}

// Committed reports whether a commitment speaks of a place.
func (w Writing) Committed(place int) bool {
	if _, open := slices.BinarySearch(w.Open, place); open || place < 0 || place >= len(w.Tokens) {
		return false
	}
	return len(w.Commitments[place/TokensCommitted]) > 0
}

// Logprobs are what is committed to of some tokens at a place.
func (w Writing) Logprobs(place int, tokens []NextToken) ([]float64, error) {
	c, err := openTokens(w.Commitments[place/TokensCommitted])
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(tokens))
	for i, n := range tokens {
		out[i] = c.Logprob(place%TokensCommitted, n.Token)
	}
	return out, nil
}

// mostApart bounds what one place says: a token that one of the two has not among
// its likeliest is no farther away than any other.
const mostApart = 2

// PlaceApart is how far two are apart of what may come at a place: the logarithms
// of the likeliest tokens of the one, and what the other says of them. It is the
// second smallest of the differences, which does not ask whether the last of the
// likeliest are the same.
func PlaceApart(likely []NextToken, said []float64) float64 {
	d := make([]float64, len(likely))
	for i, n := range likely {
		d[i] = min(math.Abs(n.Logprob-said[i]), mostApart)
	}
	slices.Sort(d)
	if len(d) == 0 {
		return mostApart
	}
	return d[min(1, len(d)-1)]
}

// Put adds r, which is about one choice of an answer, to a record's outputs.
func (r Replay) Put(outputs map[string]Tensor, choice int) {
	for name, t := range map[string]Tensor{
		outPlaces: vector(r.Places), outChosen: {Shape: []int{len(r.Chosen)}, Data: r.Chosen},
		outShort: {Data: []float64{r.Short}}, outNoise: {Data: []float64{r.Noise}}, outEnd: {Data: []float64{r.End}},
		outWrong: {Text: []string{r.Wrong}}, outDoubt: {Text: []string{r.Doubt}},
	} {
		outputs[of(choice, name)] = t
	}
	likely := Tensor{Shape: []int{len(r.Likely), LikelyKept, 2}}
	for _, place := range r.Likely {
		for k := range LikelyKept {
			n := NextToken{-1, 0}
			if k < len(place) {
				n = place[k]
			}
			likely.Data = append(likely.Data, float64(n.Token), n.Logprob)
		}
	}
	outputs[of(choice, outLikely)] = likely
}

// ReplayOf reads what Put added about a choice; ok is false where there is nothing.
func ReplayOf(rec Record, choice int) (r Replay, ok bool, err error) {
	t, ok := rec.Outputs[of(choice, outPlaces)]
	if !ok {
		return r, false, nil
	}
	get := func(name string) Tensor { return rec.Outputs[of(choice, name)] }
	likely, chosen, short, noise, end := get(outLikely), get(outChosen).Data, get(outShort).Data, get(outNoise).Data, get(outEnd).Data
	wrong, doubt := get(outWrong).Text, get(outDoubt).Text
	if r.Places, err = whole(t, MaxTokens, MaxTokens); err != nil {
		return r, true, err
	}
	n := len(r.Places)
	if len(chosen) != n || len(short) != 1 || len(noise) != 1 || len(end) != 1 || len(wrong) != 1 || len(doubt) != 1 || len(likely.Data) != n*LikelyKept*2 {
		return r, true, errors.New("a replay of parts that do not fit")
	}
	r.Chosen, r.Short, r.Noise, r.End, r.Wrong, r.Doubt = chosen, short[0], noise[0], end[0], wrong[0], doubt[0]
	for i := range n {
		var place []NextToken
		for k := range LikelyKept {
			if id := likely.Data[2*(i*LikelyKept+k)]; id >= 0 {
				place = append(place, NextToken{int(id), likely.Data[2*(i*LikelyKept+k)+1]})
			}
		}
		r.Likely = append(r.Likely, place)
	}
	return r, true, nil
}

func vector(v []int) Tensor {
	t := Tensor{Shape: []int{len(v)}}
	for _, x := range v {
		t.Data = append(t.Data, float64(x))
	}
	return t
}

// whole are the numbers of t where there are no more than most of them and each is
// from 0 to largest.
func whole(t Tensor, most, largest int) ([]int, error) {
	if len(t.Data) > most || len(t.Text) > 0 {
		return nil, fmt.Errorf("%d numbers and %d texts where at most %d numbers are taken", len(t.Data), len(t.Text), most)
	}
	out := make([]int, len(t.Data))
	for i, x := range t.Data {
		if x != math.Trunc(x) || x < 0 || x > float64(largest) {
			return nil, fmt.Errorf("%v where a number from 0 to %d is taken", x, largest)
		}
		out[i] = int(x)
	}
	return out, nil
}
