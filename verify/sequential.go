package verify

import (
	"math"

	"idlewild/job"
)

// Sequential is Wald's sequential probability ratio test over a peer's checked
// results: after each of them it says whether enough is known. (A. Wald,
// Sequential Tests of Statistical Hypotheses, 1945.)
type Sequential struct {
	// Honest and Cheat are how often a result of such a peer is ruled
	// rejected and unsure; what remains is accepted.
	HonestRejected, HonestUnsure float64
	CheatRejected, CheatUnsure   float64
	// Ban and Trust bound the errors: an honest peer that is ever banned, a
	// cheat that is trusted.
	Ban, Trust float64
}

// DefaultSequential takes a peer that cheats at every third result, and is
// caught at it in most, as the cheat to tell from honest ones.
func DefaultSequential() Sequential {
	return Sequential{
		HonestRejected: 1e-5, HonestUnsure: 1e-3, CheatRejected: 0.25, CheatUnsure: 0.05,
		Ban: 1e-6, Trust: 1e-3,
	}
}

// Doubt is how many of a peer's newest judged results Doubted wants to see.
const Doubt = 200

// Doubted is Rate for a peer whose judged results, oldest first, are likelier a
// cheat's than an honest peer's, by DefaultSequential: all of its results are
// checked until they are not. It sees who stays just below what is rejected.
// Nobody is banned by it: see decision 0015. evidence is what Decide returns.
func Doubted(rate float64, history []job.Ruling) (changed, evidence float64) {
	_, evidence = DefaultSequential().Decide(history)
	if evidence > 0 {
		return 1, evidence
	}
	return rate, evidence
}

// Decision is what a peer's history says.
type Decision string

const (
	Undecided Decision = "undecided" // check on
	Trusted   Decision = "trusted"   // as good as honest: checks may be rare
	Banned    Decision = "banned"    // no work for it
)

// Decide goes through the rulings on a peer's results, oldest first, and
// returns the decision and the evidence for it: the logarithm of how much
// likelier the history is of a cheat. Trust is no credit: where the evidence
// says trusted it stays at that bound, so that a peer that turns bad later is
// judged by what it does then. A ban is final.
func (s Sequential) Decide(history []job.Ruling) (Decision, float64) {
	ban, trust := math.Log((1-s.Trust)/s.Ban), math.Log(s.Trust/(1-s.Ban))
	rejected, unsure := math.Log(s.CheatRejected/s.HonestRejected), math.Log(s.CheatUnsure/s.HonestUnsure)
	accepted := math.Log((1 - s.CheatRejected - s.CheatUnsure) / (1 - s.HonestRejected - s.HonestUnsure))
	evidence, decision := 0.0, Undecided
	for _, r := range history {
		switch r {
		case job.Rejected:
			evidence += rejected
		case job.Unsure:
			evidence += unsure
		case job.Accepted:
			evidence += accepted
		default:
			continue
		}
		decision = Undecided
		if evidence >= ban {
			return Banned, evidence
		}
		if evidence <= trust {
			decision, evidence = Trusted, trust
		}
	}
	return decision, evidence
}
