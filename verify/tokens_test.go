package verify

import (
	"fmt"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/media"
)

// claimedAnswer is a record of an answer of n tokens, and what reading it again
// gives where all logarithms are off by so much.
func claimedAnswer(t *testing.T, n int, off float64) (media.Record, media.Replay) {
	t.Helper()
	w := media.Writing{}
	r := media.Replay{Short: 0}
	var places [][]media.NextToken
	for i := range n {
		w.Tokens = append(w.Tokens, 10*i)
		var said, seen []media.NextToken
		for k := range media.TopCommitted {
			said = append(said, media.NextToken{Token: 10*i + k, Logprob: -0.5 - float64(k)})
			seen = append(seen, media.NextToken{Token: 10*i + k, Logprob: -0.5 - float64(k) - off})
		}
		places = append(places, said)
		r.Places, r.Likely, r.Chosen = append(r.Places, i), append(r.Likely, seen), append(r.Chosen, seen[0].Logprob)
	}
	for i := 0; i < n; i += media.TokensCommitted {
		c, err := media.CommitTokens(places[i:min(i+media.TokensCommitted, n)])
		if err != nil {
			t.Fatal(err)
		}
		w.Commitments = append(w.Commitments, c)
	}
	rec := media.Record{Item: 1, ID: "a", Outputs: map[string]media.Tensor{"body": {Text: []string{"{}"}}}}
	w.Put(rec.Outputs, 0)
	return rec, r
}

// replayed is a record of what was read of an answer's choices.
func replayed(choices ...media.Replay) media.Record {
	rec := media.Record{Item: 1, ID: "a", Outputs: map[string]media.Tensor{}}
	for i, r := range choices {
		r.Put(rec.Outputs, i)
	}
	return rec
}

func TestAnswersThatWereReadAgain(t *testing.T) {
	for name, c := range map[string]struct {
		off    float64
		change func(claim *media.Record, r *media.Replay)
		want   job.Ruling
		says   string
	}{
		"the same":           {0, nil, job.Accepted, "agree"},
		"as other machines":  {0.02, nil, job.Accepted, "agree"},
		"more than usual":    {0.06, nil, job.Unsure, "more than usual"},
		"another model":      {0.3, nil, job.Rejected, "another model"},
		"a noisy model":      {0.06, func(_ *media.Record, r *media.Replay) { r.Noise = 0.02 }, job.Accepted, "agree"},
		"noisy beyond sense": {0, func(_ *media.Record, r *media.Replay) { r.Noise = 0.5 }, job.Unsure, "own answers"},
		"not drawn": {0, func(_ *media.Record, r *media.Replay) { r.Chosen[5] -= 1 }, job.Rejected,
			"token 6 of it is not one"},
		"hardly drawn":           {0, func(_ *media.Record, r *media.Replay) { r.Chosen[5] -= 0.3 }, job.Unsure, "hardly"},
		"nobody knows":           {0, func(_ *media.Record, r *media.Replay) { r.Chosen[5], r.Short = -9, -1 }, job.Accepted, "agree"},
		"drawn by min_p":         {0, func(_ *media.Record, r *media.Replay) { r.Chosen[5], r.Short = -3, 3 }, job.Accepted, "agree"},
		"wrong":                  {0, func(_ *media.Record, r *media.Replay) { r.Wrong = "it ends" }, job.Rejected, "it ends"},
		"doubtful":               {0, func(_ *media.Record, r *media.Replay) { r.Doubt = "it may end" }, job.Unsure, "it may end"},
		"another name":           {0, func(c *media.Record, _ *media.Replay) { c.ID = "b" }, job.Rejected, "said to be"},
		"no commitments":         {0, func(c *media.Record, _ *media.Replay) { delete(c.Outputs, "committed") }, job.Rejected, "commitments"},
		"no tokens":              {0, func(c *media.Record, _ *media.Replay) { delete(c.Outputs, "written") }, job.Rejected, "no list of its tokens"},
		"half a token":           {0, func(c *media.Record, _ *media.Replay) { c.Outputs["written"].Data[0] = 0.5 }, job.Rejected, "0.5"},
		"a place it has not":     {0, func(_ *media.Record, r *media.Replay) { r.Places[3] = 99 }, job.Unsure, "places that it has not"},
		"ended by the likeliest": {0, func(_ *media.Record, r *media.Replay) { r.End = 0 }, job.Accepted, "agree"},
		"ended by force":         {0, func(_ *media.Record, r *media.Replay) { r.End = 1 }, job.Rejected, "it ends where"},
		"hardly ended":           {0, func(_ *media.Record, r *media.Replay) { r.End = 0.3 }, job.Unsure, "hardly ends"},
		"ended, and drawn":       {0, func(_ *media.Record, r *media.Replay) { r.End, r.Short = 3.5, -1 }, job.Accepted, "agree"},
		"ended by nothing":       {0, func(_ *media.Record, r *media.Replay) { r.End, r.Short = 5, -1 }, job.Unsure, "hardly ends"},
		"another at one place": {0, func(_ *media.Record, r *media.Replay) {
			r.Likely[3][3].Token = 7777 // the last of the likeliest changes places with the next
		}, job.Accepted, "agree"},
	} {
		t.Run(name, func(t *testing.T) {
			claim, replay := claimedAnswer(t, 40, c.off)
			if c.change != nil {
				c.change(&claim, &replay)
			}
			again := replayed(replay)
			v := CompareTokens(Records{ByItem: map[int]media.Record{1: claim}}, []media.Record{again})
			if v.Ruling != c.want || !strings.Contains(v.Reason, c.says) {
				t.Errorf("%s: %s %v", v.Ruling, v.Reason, v.Numbers)
			}
		})
	}
}

func TestClaimsOfNoAnswers(t *testing.T) {
	claim, replay := claimedAnswer(t, 8, 0)
	again := []media.Record{replayed(replay)}
	if v := CompareTokens(Records{Broken: fmt.Errorf("cut off")}, again); v.Ruling != job.Rejected {
		t.Errorf("broken: %v", v)
	}
	of := Records{ByItem: map[int]media.Record{1: claim}}
	if v := CompareTokens(of, nil); v.Ruling != job.Unsure {
		t.Errorf("no evidence: %v", v)
	}
	// An item that is said to be impossible was written again.
	wrote := media.Record{Item: 1, ID: "a", Outputs: map[string]media.Tensor{"body": {Text: []string{"{}"}}}}
	impossible := Records{ByItem: map[int]media.Record{1: {Item: 1, ID: "a", Error: "too long"}}}
	if v := CompareTokens(impossible, []media.Record{wrote}); v.Ruling != job.Rejected || !strings.Contains(v.Reason, "and it is not") {
		t.Errorf("impossible: %v", v)
	}
	if v := CompareTokens(of, []media.Record{wrote}); v.Ruling != job.Accepted {
		t.Errorf("written again: %v", v)
	}
}

// TestOneChoiceOfSeveral: each is judged, and what is wrong with one is wrong with
// the answer.
func TestOneChoiceOfSeveral(t *testing.T) {
	claim, first := claimedAnswer(t, 40, 0)
	w, err := media.WritingOf(claim, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 3; i++ {
		w.Put(claim.Outputs, i)
	}
	_, other := claimedAnswer(t, 40, 0.3)
	_, hardly := claimedAnswer(t, 40, 0.06)
	of := Records{ByItem: map[int]media.Record{1: claim}}
	for name, c := range map[string]struct {
		choices []media.Replay
		want    job.Ruling
		says    string
	}{
		"honest":          {[]media.Replay{first, first, first}, job.Accepted, "120 places"},
		"the last":        {[]media.Replay{first, first, other}, job.Rejected, "choice 2: another model"},
		"after an unsure": {[]media.Replay{hardly, other, first}, job.Rejected, "choice 1: another model"},
		"unsure":          {[]media.Replay{first, hardly, first}, job.Unsure, "choice 1:"},
		"one too many":    {[]media.Replay{first, first, first, first}, job.Rejected, "choice 3: its commitments"},
	} {
		v := CompareTokens(of, []media.Record{replayed(c.choices...)})
		if v.Ruling != c.want || !strings.Contains(v.Reason, c.says) {
			t.Errorf("%s: %s: %s", name, v.Ruling, v.Reason)
		}
	}
	// What it committed to is no part of the answer.
	if left := claim.WithoutWriting(); len(left.Outputs) != 1 || len(claim.Outputs) != 7 {
		t.Errorf("%d of %d outputs are left", len(left.Outputs), len(claim.Outputs))
	}
}
