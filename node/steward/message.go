package steward

import (
	"idlewild/job"
	"idlewild/node/dispatch"
)

// maxMessage bounds a question and an answer; p2p.MaxStewardMessage is as much.
const maxMessage = 8 << 20

// Rooms of messages for what comes piece by piece.
const (
	roomPlan    = 4 << 20
	roomFacts   = 2 << 20
	roomResults = 512 << 10 // they are checked again and again until they are safe
)

// A question is one of Follow, from a requester to its steward, and Claim, from
// a steward to any member. Docs/formats.md has the fields.
type question struct {
	Delegation job.Signed `cbor:"delegation"`
	Follow     *follow    `cbor:"follow,omitempty"`
	Claim      *claim     `cbor:"claim,omitempty"`
}

// follow tells that the requester lives, and what is new of the job.
type follow struct {
	State string     `cbor:"state"`           // see the constants
	Read  job.Signed `cbor:"read"`            // right to read the job's content
	Spent float64    `cbor:"spent,omitempty"` // of its budget, seconds of devices
	// Begin describes the job where the steward does not know it.
	Begin *begin `cbor:"begin,omitempty"`
	// Plan are blocks of it from number Block on.
	Block int      `cbor:"block,omitempty"`
	Plan  [][]byte `cbor:"plan,omitempty"`
	// Facts and Gone count if Seq is the steward's; with Reset they are all.
	Seq   uint64          `cbor:"seq"`
	Reset bool            `cbor:"reset,omitempty"`
	Facts []dispatch.Fact `cbor:"facts,omitempty"`
	Gone  []int           `cbor:"gone,omitempty"`
	// From is the task from which on results are wanted; Release says that the
	// requester has them all.
	From    int  `cbor:"from,omitempty"`
	Release bool `cbor:"release,omitempty"`
}

// begin is a dispatch.Copy without its plan.
type begin struct {
	Copy   dispatch.Copy `cbor:"copy"`
	Blocks int           `cbor:"blocks"`
}

// What a requester says of its job.
const (
	stateLive   = "live"
	statePaused = "paused"
	stateOver   = "over"
)

// claim says that a steward goes on with a job; with Probe only whether that
// would be heeded.
type claim struct {
	Epoch uint64 `cbor:"epoch"`
	Probe bool   `cbor:"probe,omitempty"`
}

type answer struct {
	Refused string `cbor:"refused,omitempty"`

	// Of a follow.
	Known   bool              `cbor:"known,omitempty"` // Begin came
	Blocks  int               `cbor:"blocks,omitempty"`
	Seq     uint64            `cbor:"seq,omitempty"`
	Whole   bool              `cbor:"whole,omitempty"` // the content is there
	Why     string            `cbor:"why,omitempty"`   // it is not
	Held    uint64            `cbor:"held,omitempty"`  // epoch in which the steward went on; 0: it did not
	Results []dispatch.Result `cbor:"results,omitempty"`
	Next    int               `cbor:"next,omitempty"` // task to go on with; -1: no more

	// Of a claim: "", or one of the constants.
	Stand string `cbor:"stand,omitempty"`
}

// How a member stands to a claim. Empty: it heeds it.
const (
	standHeard  = "heard"  // it hears the requester
	standBetter = "better" // another steward's claim is higher
)
