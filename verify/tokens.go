package verify

import (
	"fmt"

	"idlewild/job"
	"idlewild/media"
)

// methodTokens is what a verdict says of reading an answer again.
const methodTokens = "replay"

// TokenMargin says how far an honest worker's logarithms may be from those that
// the checker computes over the same text. What differs is the order of sums: the
// worker had one token after the other, the checker many at once, and each their
// own instructions. Of an answer it is the mean over the places that were looked
// at.
type TokenMargin struct {
	Accept float64 // up to here it is accepted
	Reject float64 // from here it is rejected, between it is unsure
}

// Bounds of TokenMargins. Of models whose sums come out nearly the same the least
// is allowed; a model that differs from itself by more than the most is not checked
// this way (bench tokens).
const (
	leastTokens, mostTokens = 0.03, 0.08
	// tokensSlack is how far other instructions may be, in what the checker's own
	// writing differs from its reading; tokensSure how far what is wrong has to be,
	// in what is accepted.
	tokensSlack, tokensSure = 4, 3
)

// marginOf is the margin for a model of which the checker's own writing is so far
// from its reading of the same.
func marginOf(noise float64) TokenMargin {
	accept := min(max(tokensSlack*noise, leastTokens), mostTokens)
	return TokenMargin{Accept: accept, Reject: tokensSure * accept}
}

// seldomEnds is how much less likely than the likeliest a token is, in logarithms,
// that usual settings do not draw: llama.cpp's own leave out what is below 3.
const seldomEnds = 4

// onePlace is how much farther one place may be than the mean of several.
const onePlace = 5

// CompareTokens judges a claim of answers by reading some of them again.
func CompareTokens(claim Records, evidence []media.Record) job.Verdict {
	v := job.Verdict{Ruling: job.Accepted, Method: methodTokens}
	if claim.Broken != nil {
		v.Ruling, v.Reason = job.Rejected, "the result is not what was asked for: "+claim.Broken.Error()
		return v
	}
	if len(evidence) == 0 {
		v.Ruling, v.Reason = job.Unsure, "there is nothing to compare with"
		return v
	}
	places, most, unsure := 0, 0.0, ""
	for _, e := range evidence {
		ruling, why, apart, n := compareAnswer(claim.ByItem[e.Item], e)
		places, most = places+n, max(most, apart)
		if ruling == job.Rejected {
			v.Ruling, v.Reason = job.Rejected, fmt.Sprintf("item %d: %s", e.Item, why)
			most = apart
			break
		}
		if ruling == job.Unsure && unsure == "" {
			unsure = fmt.Sprintf("item %d: %s", e.Item, why)
		}
	}
	v.Numbers = map[string]float64{"items": float64(len(evidence)), "places": float64(places), "apart": most}
	switch {
	case v.Ruling == job.Rejected:
	case unsure != "":
		v.Ruling, v.Reason = job.Unsure, unsure
	default:
		v.Reason = fmt.Sprintf("%d places of %d answers were read again, and agree within %.3f", places, len(evidence), most)
	}
	return v
}

// compareAnswer judges one answer. apart is the mean over the places of a choice,
// the largest of them, and places how many there are.
func compareAnswer(c, e media.Record) (r job.Ruling, why string, apart float64, places int) {
	if _, read, err := media.ReplayOf(e, 0); err == nil && !read {
		// It was written again.
		_, why, sure := compareRecord(c, e, Margin{Loose: true})
		switch {
		case why == "":
			return job.Accepted, "", 0, 0
		case sure:
			return job.Rejected, why, 0, 0
		}
		return job.Unsure, why, 0, 0
	}
	if c.ID != e.ID {
		return job.Rejected, fmt.Sprintf("it is said to be %q and is %q", c.ID, e.ID), 0, 0
	}
	r = job.Accepted
	for choice := 0; ; choice++ {
		replay, read, err := media.ReplayOf(e, choice)
		if err != nil {
			return job.Unsure, "reading it again failed: " + err.Error(), 0, 0
		}
		if !read {
			return r, why, apart, places
		}
		ruling, says, far, n := compareChoice(c, replay, choice)
		if choice > 0 && says != "" {
			says = fmt.Sprintf("choice %d: %s", choice, says)
		}
		places, apart = places+n, max(apart, far)
		if ruling == job.Rejected {
			return ruling, says, far, places
		}
		if ruling == job.Unsure && r == job.Accepted {
			r, why = ruling, says
		}
	}
}

// compareChoice judges one choice of an answer.
func compareChoice(c media.Record, replay media.Replay, choice int) (r job.Ruling, why string, apart float64, places int) {
	if replay.Wrong != "" {
		return job.Rejected, replay.Wrong, 0, 0
	}
	w, err := media.WritingOf(c, choice)
	if err != nil {
		return job.Rejected, "its commitments: " + err.Error(), 0, 0
	}
	m := marginOf(replay.Noise)
	r, why = job.Accepted, ""
	doubt := func(format string, a ...any) {
		if r == job.Accepted {
			r, why = job.Unsure, fmt.Sprintf(format, a...)
		}
	}
	if replay.Noise > mostTokens {
		return job.Unsure, fmt.Sprintf("this machine's own answers are %.3f from what it reads of them", replay.Noise), 0, 0
	}
	if replay.Doubt != "" {
		doubt("%s", replay.Doubt)
	}
	worst, at := 0.0, 0 // how much less likely a token is than the likeliest
	for i, place := range replay.Places {
		if place >= len(w.Tokens) || !w.Committed(place) || len(replay.Likely[i]) == 0 {
			return job.Unsure, "reading it again looked at places that it has not", 0, 0
		}
		likely := replay.Likely[i][:min(len(replay.Likely[i]), media.TopCommitted)]
		said, err := w.Logprobs(place, likely)
		if err != nil {
			return job.Rejected, "its commitments: " + err.Error(), 0, 0
		}
		apart += media.PlaceApart(likely, said)
		if short := likely[0].Logprob - replay.Chosen[i]; short > worst {
			worst, at = short, place
		}
	}
	places = len(replay.Places)
	if places == 0 {
		return job.Unsure, "nothing of it could be read again", 0, 0
	}
	switch apart /= float64(places); {
	case apart > m.Reject:
		return job.Rejected, fmt.Sprintf("another model or another prompt: its logarithms are %.3f from those that were read again, up to %.3f is usual", apart, m.Accept), apart, places
	case apart > m.Accept:
		doubt("its logarithms are %.3f from those that were read again, which is more than usual and no proof", apart)
	}
	switch {
	case replay.Short < 0 || worst <= replay.Short+onePlace*m.Accept:
	case worst > replay.Short+onePlace*m.Reject:
		return job.Rejected, fmt.Sprintf("token %d of it is not one that its request draws: its logarithm is %.2f below the likeliest", at+1, worst), apart, places
	default:
		doubt("token %d of it is hardly one that its request draws: its logarithm is %.2f below the likeliest", at+1, worst)
	}
	switch {
	case replay.End <= max(replay.Short, 0)+onePlace*m.Accept || replay.Short < 0 && replay.End < seldomEnds:
	case replay.Short >= 0 && replay.End > replay.Short+onePlace*m.Reject:
		return job.Rejected, fmt.Sprintf("it ends where its request does not: a token that ends it is %.2f below the likeliest", replay.End), apart, places
	default:
		doubt("it hardly ends there: a token that ends it is %.2f below the likeliest", replay.End)
	}
	return r, why, apart, places
}
