package verify

import (
	"math"

	"idlewild/job"
)

// Doubt is how many of a peer's newest judged results Doubted wants to see.
const Doubt = 200

// What Doubted tells apart: how often results of an honest peer are rejected and
// unsure, and those of one that cheats at every third and is caught at it in
// most.
const (
	honestRejected, honestUnsure = 1e-5, 1e-3
	cheatRejected, cheatUnsure   = 0.25, 0.05
)

// surely and hardly bound the evidence by Wald's sequential probability ratio
// test: an honest peer that is ever as suspect, one in a million; a cheat that
// ever looks as good, one in a thousand. (A. Wald, Sequential Tests of
// Statistical Hypotheses, 1945.)
var (
	surely = math.Log((1 - 1e-3) / 1e-6)
	hardly = math.Log(1e-3 / (1 - 1e-6))
)

// Doubted is Rate for a peer whose judged results, oldest first, are likelier a
// cheat's than an honest peer's: all of its results are checked until they are
// not. It sees who stays just below what is rejected. Nobody is banned by it:
// see decision 0015. evidence is the logarithm of how much likelier.
func Doubted(rate float64, history []job.Ruling) (changed, evidence float64) {
	evidence = suspicion(history)
	if evidence > 0 {
		return 1, evidence
	}
	return rate, evidence
}

// suspicion goes through rulings, oldest first. Good results are no credit:
// it stays at hardly, so that a peer that turns bad later is judged by what it
// does then. Once it is at surely, no good results take it away.
func suspicion(history []job.Ruling) (evidence float64) {
	rejected, unsure := math.Log(cheatRejected/honestRejected), math.Log(cheatUnsure/honestUnsure)
	accepted := math.Log((1 - cheatRejected - cheatUnsure) / (1 - honestRejected - honestUnsure))
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
		if evidence >= surely {
			return evidence
		}
		evidence = max(evidence, hardly)
	}
	return evidence
}
