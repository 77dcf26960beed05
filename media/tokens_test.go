package media

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func drawPlaces(t *rapid.T) [][]NextToken {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	places := make([][]NextToken, rapid.IntRange(1, TokensCommitted).Draw(t, "places"))
	for i := range places {
		first := rng.IntN(MaxToken - 8)
		for k := range TopCommitted {
			places[i] = append(places[i], NextToken{first + 2*k, -60 * rng.Float64()})
		}
	}
	return places
}

func TestACommitmentSaysWhatWasCommittedTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		places := drawPlaces(t)
		b, err := CommitTokens(places)
		if err != nil || len(b) != 2+2*TopCommitted*len(places) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		c, err := openTokens(b)
		if err != nil {
			t.Fatal(err)
		}
		for i, place := range places {
			for _, n := range place {
				if d := c.Logprob(i, n.Token) - n.Logprob; math.Abs(d) > logStep {
					t.Fatalf("place %d, token %d: off by %v", i, n.Token, d)
				}
			}
		}
	})
}

func TestACommitmentDoesNotKnowOtherTokens(t *testing.T) {
	places := make([][]NextToken, TokensCommitted)
	for i := range places {
		for k := range TopCommitted {
			places[i] = append(places[i], NextToken{1000*i + k, -0.5 * float64(k)})
		}
	}
	b, err := CommitTokens(places)
	if err != nil || len(b) != 258 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	c, err := openTokens(b)
	if err != nil {
		t.Fatal(err)
	}
	near, asked := 0, 0
	for i := range places {
		for token := 1000*i + 10; token < 1000*i+110; token++ {
			if asked++; c.Logprob(i, token) > -5 {
				near++
			}
		}
	}
	if near > asked/5 { // a number of 64 at random is below 5 in one of 13
		t.Errorf("%d of %d tokens that nobody spoke of look likely", near, asked)
	}
}

func TestCommitmentsThatAreNone(t *testing.T) {
	twice := [][]NextToken{{{1, -1}, {1, -2}}}
	for name, places := range map[string][][]NextToken{
		"nothing": nil, "empty": {nil}, "too many": make([][]NextToken, TokensCommitted+1), "twice": twice,
		"negative": {{{-1, 0}}}, "huge": {{{MaxToken + 1, 0}}}, "no number": {{{1, math.NaN()}}},
	} {
		if b, err := CommitTokens(places); err == nil {
			t.Errorf("%s: %x", name, b)
		}
	}
	for _, b := range [][]byte{nil, {1}, {1, 0}, {1, 0, 0}, {0, 0, 1, 0}, {1, 0, 255, 255}, make([]byte, 2*maxPoints+4), {255, 255, 1, 0}} {
		if _, err := openTokens(b); err == nil {
			t.Errorf("%x is taken", b)
		}
	}
}

func FuzzOpenTokens(f *testing.F) {
	b, err := CommitTokens([][]NextToken{{{5, -0.1}, {9, -3}}, {{7, -math.MaxFloat32}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, 0, 5)
	f.Add([]byte{1, 0, 0, 0}, 40, 1<<30)
	f.Fuzz(func(t *testing.T, b []byte, place, token int) {
		c, err := openTokens(b)
		if err != nil {
			return
		}
		if v := c.Logprob(place, token); !(v <= 0 && v >= -65) {
			t.Errorf("%v", v)
		}
		again, err := openTokens(bytes.Clone(b))
		if err != nil || again.Logprob(place, token) != c.Logprob(place, token) {
			t.Error("the same bytes say something else")
		}
	})
}
