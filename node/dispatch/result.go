package dispatch

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// attempt is one that ended without a result.
type attempt struct {
	peer    peer.ID
	outcome job.Outcome
	reason  string
	fence   uint64
	lease   job.LeaseID
}

// ret is a leaf that a worker returned. There are as many as tasks, so it is kept
// small.
type ret struct {
	t       *task
	fence   uint64
	peer    peer.ID
	*trial  // never nil; quiet once it is judged
	verdict *job.Verdict
	moved   int64
	elapsed time.Duration // by this machine's clock, with the content's way; 0: not known

	// What its leaf says, for those who ask later.
	wall, render, load time.Duration
	*maker             // never nil

	lease   int32 // index among the job's leases, -1: see leaseOf
	receipt int32 // index among the job's receipts, -1 before it is recorded
	leafNo  uint16
	state   retState
	taken   bool // verdict made it the task's result
	// recheck: it was accepted unseen from a peer that was caught since.
	recheck bool
	suspect bool // it was looked at again, or is being
	struck  bool // something it did is booked against its worker
	first   bool // of its worker's for the job: elapsed says little of the work
}

// maker is what made a result. A job has each once.
type maker struct{ device, deviceClass string }

// maker returns the one of these names.
func (j *jobState) maker(device, class string) *maker {
	m := maker{device, class}
	p := j.makers[m]
	if p == nil {
		if j.makers == nil {
			j.makers = map[maker]*maker{}
		}
		p = &m
		j.makers[m] = p
	}
	return p
}

// doubtable reports whether suspicion can fall on a judged result later.
func (x *ret) doubtable() bool {
	s := isStandard(*x.verdict)
	return x.verdict.Method == "trusted" && s != verdictSelf && s != verdictNoCheck
}

// trial is what is known of a result while it is judged.
type trial struct {
	live     *arrival     // until it is judged
	lost     job.LeaseID  // its lease, where the journal does not have that
	force    bool         // check it whatever the rate says
	settled  string       // what a late or useless one was told
	pending  *job.Verdict // found, being booked
	checks   []*task
	evidence []evidence

	// The looks at it, see looks.go.
	want     by
	draw     int
	checker  peer.ID   // of the present look
	spared   []peer.ID // could not run its checks
	replicas []peer.ID // that ran one, or run it
	runs     []*grant  // of its checks
	looks    []Look
	found    []job.Verdict // the rejections among them
	audit    peer.ID       // whose check is done again now
	kept     job.Verdict   // what came of that
	doubtful []peer.ID     // accepted what others did not
	cost     float64       // seconds, of all looks
	share    float64       // of the peer's results that are checked
}

// quiet is the trial of all that are judged: nothing is written to it.
var quiet = &trial{}

// arrival is what is kept of a result until it is judged.
type arrival struct {
	leaf    job.Leaf
	receipt OpenedReceipt // that it came in
	inline  []job.Block
	tries   int
	via     peer.ID // a steward that has its outputs; empty: its worker
}

// forgetInline lets go of blocks that came with the receipt.
func (x *ret) forgetInline() {
	if x.live != nil {
		x.live.inline = nil
	}
}

type evidence struct {
	task  job.Task
	leaf  job.Leaf
	fence uint64
}

type retState uint8

const (
	retHeld     retState = iota // another result of the task is ahead
	retFetching                 // on its way
	retSafe                     // here and on disk; judgement follows
	retJudged
	retEnded // an attempt without a result, or one that is not needed
)
