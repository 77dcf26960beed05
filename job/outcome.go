package job

import "fmt"

// Outcome is how an attempt at a task ended. The question that decides it at
// the edge of a task: would another peer fail too?
type Outcome string

const (
	Succeeded Outcome = "succeeded" // outputs are there
	Failed    Outcome = "failed"    // yes: the task itself is wrong
	Broken    Outcome = "broken"    // no: this machine is; run it elsewhere
	Cancelled Outcome = "cancelled" // we stopped it
)

// Valid reports whether o is one of the four.
func (o Outcome) Valid() bool {
	switch o {
	case Succeeded, Failed, Broken, Cancelled:
		return true
	}
	return false
}

// Ruling is the word of a Verdict.
type Ruling string

const (
	Accepted Ruling = "accepted" // delivered
	Rejected Ruling = "rejected" // shown to be something else than asked for
	Unsure   Ruling = "unsure"   // could not be verified: never means wrong
)

// Verdict is what checking a result found, with the evidence for it.
type Verdict struct {
	Ruling  Ruling             `json:"verdict" cbor:"ruling"`
	Method  string             `json:"method" cbor:"method"` // "sampling", "replication", "exact", "trusted"
	Reason  string             `json:"reason" cbor:"reason"` // one sentence for people
	Numbers map[string]float64 `json:"evidence,omitempty" cbor:"numbers,omitempty"`
	// CostSeconds is the time the check took on the checker's device.
	CostSeconds float64 `json:"cost_s" cbor:"cost_s"`
}

func (v Verdict) String() string { return fmt.Sprintf("%s (%s): %s", v.Ruling, v.Method, v.Reason) }
