package dispatch

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// jobState is one job: what the journal says, and what follows from it.
type jobState struct {
	id        job.ID
	spec      job.Spec
	secret    []byte
	submitted time.Time
	state     job.State // accepted, planned or an end; see paused
	paused    bool
	reason    string
	at        time.Time // of the end
	problems  []job.Problem
	facts     []byte
	snapshot  Snapshot // but for its Disks
	disks     job.Ref
	reuse     *reused // of an earlier job; nil: nothing
	cleaned   bool
	served    int64
	begun     bool // something was delivered since it last began
	proved    int  // tasks of which it was looked whether this machine alone can check them
	provable  bool // it can, see forStrangers
	estate

	tasks    []*task
	decoder  decoder
	records  int               // read from the journal
	unplaned []job.Task        // of format 1, read before their planRecord
	drawing  drawing           // blocks read before their planRecord
	zips     [][]byte          // the blocks
	byKey    map[[8]byte]int32 // by the first bytes of keys; nil until it is asked for
	texts    []string
	textNo   map[string]int
	leaseIDs []string // as bytes
	peers    []peer.ID
	peerNo   map[peer.ID]int
	receipts []kept // recorded ones
	rets     map[uint64]*ret
	logs     map[uint64]job.Ref // of results whose receipts are not kept
	makers   map[maker]*maker
	barred   map[peer.ID]string
	rejected []*ret
	accounts map[account]int32 // index of
	joins    []join
	results  int64 // bytes that crossed the network
	messages int
	spent    float64 // of the budget, seconds of devices
	raised   int     // how often its limits changed
	leases   map[job.LeaseID]*lease
	leaseSeq []*lease
	maxFence uint64 // of a recorded grant

	// Of this moment.
	classes   []*class
	grants    map[uint64]*grant // of tasks without an end, by fence
	checks    []*task           // waiting for this machine, or for a member
	handed    int               // of them, may be run by members
	checking  map[uint64]*grant // leased checks, by fence
	left      int               // tasks without an end
	rechecks  int
	phase     string    // while preparing
	told      int       // open tasks when last announced
	limited   bool      // it was said that it asks for nothing more
	members   float64   // speed of the devices that work on it
	open      int       // tasks
	opened    time.Time // since when some are and may be leased; zero: not now
	looks     []look    // leased tasks, the latest end first: see copies
	lookedAt  time.Time
	lookFor   time.Duration // so long they stand
	pays      float64       // the pace below which no copy of them pays
	toldAt    time.Time
	stuck     string // what keeps results from being delivered
	shortSaid bool   // it was said that no device has enough memory
	touched   []*task
	learnt    int // results whose costs were taken in
	refineAt  int // of them, when costs and paces are found anew
	sweepAt   int // leases at which those that are over are forgotten
	compactAt int // the same of their order
}

func newJobState(id job.ID) *jobState {
	return &jobState{
		id: id, state: job.StateAccepted,
		textNo: map[string]int{}, peerNo: map[peer.ID]int{}, rets: map[uint64]*ret{}, logs: map[uint64]job.Ref{},
		barred: map[peer.ID]string{}, accounts: map[account]int32{},
		leases: map[job.LeaseID]*lease{}, grants: map[uint64]*grant{}, checking: map[uint64]*grant{},
	}
}

// State is what people are told.
func (j *jobState) State() job.State {
	if j.paused && !j.state.Ended() {
		return job.StatePaused
	}
	return j.state
}

func (j *jobState) live() bool { return j.state == job.StatePlanned && !j.paused && j.holder == "" }
