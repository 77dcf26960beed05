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

	// The task needs more than the device has, which is neither's fault: one with
	// more may do it. Only a requester that says so (Lease.Memory) is told these;
	// others are told Broken.
	OutOfMemory Outcome = "out of memory"     // of the machine's
	OutOfVRAM   Outcome = "out of GPU memory" // or it was so full that the driver moved work to the machine's
)

// Valid reports whether o is one of the six.
func (o Outcome) Valid() bool {
	switch o {
	case Succeeded, Failed, Broken, Cancelled, OutOfMemory, OutOfVRAM:
		return true
	}
	return false
}

// Short reports whether memory ran out.
func (o Outcome) Short() bool { return o == OutOfMemory || o == OutOfVRAM }

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
	// Share is the share of the worker's results that were checked when this
	// one was drawn, 0 to 1: a checked result stands for 1/Share of them.
	Share float64 `json:"share,omitempty" cbor:"share,omitempty"`
	// MostSeconds bounds the work that counts, where the worker's clock says
	// more: by the requester's clock. 0: no bound.
	MostSeconds float64 `json:"most_s,omitempty" cbor:"most_s,omitempty"`
	// Confirmed: rejected twice with fresh crops, and by a third peer of the
	// worker's device class. Only that costs the worker its stake.
	Confirmed bool `json:"confirmed,omitempty" cbor:"confirmed,omitempty"`
	// Strike: unsure, and by the worker's own doing as far as can be told: it
	// withheld or changed what it had signed for, or checkers disagreed.
	Strike bool `json:"strike,omitempty" cbor:"strike,omitempty"`
}

// MethodSampling is the method of verdicts on parts that were rendered again.
const MethodSampling = "sampling"

// MethodTrusted is the method of verdicts that rest on no check.
const MethodTrusted = "trusted"

func (v Verdict) String() string { return fmt.Sprintf("%s (%s): %s", v.Ruling, v.Method, v.Reason) }

// Basis says in words what a verdict rests on.
func (v Verdict) Basis() string {
	switch {
	case v.Ruling == Rejected:
		return "rejected"
	case v.Ruling == Unsure || v.Method == MethodTrusted:
		return "unverified, trusted peer"
	}
	return "verified by " + v.Method
}
