package dispatch

import (
	"container/heap"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// phase is where a task stands. It follows from what is known of the task and
// is kept so that queues and counts are cheap.
type phase uint8

const (
	blocked  phase = iota // a predecessor has no accepted result
	open                  // may be leased
	leased                // leased, nothing returned
	returned              // a result is here or on its way, not judged
	taken                 // accepted, not delivered yet
	done                  // delivered, or accepted with nothing to deliver
	failed
	skipped
)

func (p phase) final() bool { return p >= done }

func (p phase) String() string {
	return [...]string{"waiting", "waiting", "leased", "returned", "checked", "delivered", "failed", "skipped"}[p]
}

// task is a planned task, or a check of a result (see check).
type task struct {
	job.Task
	key   job.TaskKey
	index int // among the job's tasks
	class *class
	prior []*task // the tasks of After
	next  []*task // tasks that have this one in After

	// Durable.
	rets     []*ret
	accepted *ret
	placed   bool // delivered
	files    []string
	failure  string
	isFailed bool
	skip     bool
	ended    []attempt // without a result
	granted  int       // how often
	// given are its outputs as they were taken from the output folder again: it
	// did not run, or what it left was let go of at an end of the job.
	given []job.Output
	away  bool   // its outputs were let go of
	floor uint64 // results of fences up to this one are void

	// Of this moment.
	phase   phase
	missing int // predecessors without an accepted result
	grants  []*grant
	active  *ret // the result being fetched or judged
	avoid   []peer.ID
	in      *taskHeap // the queue that it counts in; others may still hold it
	begun   bool      // somebody is at its frame
	check   *ret      // not nil: this task is evidence for that result
	tries   int       // of delivering, or of running a check
	adopts  bool      // its files are being stored again
}

// ready reports whether those after t can have its outputs.
func (t *task) ready() bool { return t.given != nil || t.accepted != nil && !t.away }

// outputs are what those after t read.
func (t *task) outputs() []job.Output {
	if t.given != nil || t.accepted == nil {
		return t.given
	}
	return t.accepted.leaf.Outputs
}

// adoptable reports whether delivered files are all that t leaves.
func adoptable(t job.Task) bool {
	return len(t.Outputs) > 0 && !slices.ContainsFunc(t.Outputs, func(o job.OutputRule) bool { return o.Final == "" })
}

// final reports whether a task ends in a delivered file.
func (t *task) final() bool {
	for _, o := range t.Outputs {
		if o.Final != "" {
			return true
		}
	}
	return false
}

// attempt is one that ended without a result.
type attempt struct {
	peer    peer.ID
	outcome job.Outcome
	reason  string
}

// ret is a leaf that a worker returned.
type ret struct {
	t       *task
	fence   uint64
	lease   job.LeaseID
	peer    peer.ID
	leaf    job.Leaf
	receipt int // index among the job's receipts, -1 before it is recorded
	signed  job.Signed
	inline  []job.Block
	leafNo  int

	state   retState
	moved   int64
	verdict *job.Verdict
	taken   bool // verdict made it the task's result
	// recheck: it was accepted unseen from a peer that was caught since.
	recheck  bool
	force    bool // check it whatever the rate says
	suspect  bool // it was looked at again, or is being
	checks   []*task
	evidence []evidence
	checkErr string
	tries    int
	elapsed  time.Duration // by this machine's clock
	settled  string        // what a late or useless one was told
	pending  *job.Verdict  // found, being booked
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

// class is a set of tasks that the same machines can do, in the same place.
type class struct {
	needs    job.Needs
	place    job.Place
	lead     queues // the preview, which people wait for
	rest     queues
	previews int // tasks of the preview, whatever became of them
	open     int
	out      int // leased
	costs    costs
	fits     map[*shape]bool
	granted  time.Time // when a task was leased last
}

// taskHeap orders by rank, then by plan.
type taskHeap []*task

func (h taskHeap) Len() int { return len(h) }
func (h taskHeap) Less(i, j int) bool {
	if h[i].Rank != h[j].Rank {
		return h[i].Rank < h[j].Rank
	}
	return h[i].index < h[j].index
}
func (h taskHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *taskHeap) Push(x any)   { *h = append(*h, x.(*task)) }
func (h *taskHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}

// queues hold open tasks: those of frames that nobody is at come first.
type queues struct {
	fresh taskHeap
	begun taskHeap
}

// short is one of the shorter ones among the last open tasks.
func (q *queues) short(cost func(*task) float64) *task {
	var best *task
	for _, h := range []*taskHeap{&q.fresh, &q.begun} {
		for i := len(*h) - 1; i >= max(0, len(*h)-64); i-- {
			t := (*h)[i]
			if t.in == h && t.phase == open && (best == nil || cost(t) < cost(best)) {
				best = t
			}
		}
	}
	return best
}

// head is the first open task.
func (q *queues) head() *task {
	if t := q.fresh.head(); t != nil {
		return t
	}
	return q.begun.head()
}

// pop takes the first open task.
func (q *queues) pop() *task {
	if t := q.fresh.pop(); t != nil {
		return t
	}
	return q.begun.pop()
}

func (c *class) queues(t *task) *queues {
	if t.early() {
		return &c.lead
	}
	return &c.rest
}

// early reports whether t is of the preview.
func (t *task) early() bool { return t.Rank < job.RestRank }

func (c *class) push(t *task) {
	q := c.queues(t)
	h := &q.fresh
	if t.begun {
		h = &q.begun
	}
	if t.in != h {
		t.in = h
		heap.Push(h, t)
	}
}

// head returns the first open task of a queue and leaves it there.
func (h *taskHeap) head() *task {
	for len(*h) > 0 {
		t := (*h)[0]
		if t.in == h && t.phase == open {
			return t
		}
		heap.Pop(h)
		if t.in == h {
			t.in = nil
		}
	}
	return nil
}

// pop takes the first open task off a queue.
func (h *taskHeap) pop() *task {
	t := h.head()
	if t != nil {
		heap.Pop(h)
		t.in = nil
	}
	return t
}

// next is the first open task in the order in which people want them.
func (c *class) next() *task {
	if t := c.lead.head(); t != nil {
		return t
	}
	return c.rest.head()
}

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
	snapshot  Snapshot
	cleaned   bool
	served    int64

	tasks    []*task
	unplaned []job.Task // read before their planRecord
	byKey    map[job.TaskKey]*task
	peers    []peer.ID
	peerNo   map[peer.ID]int
	receipts []OpenedReceipt // recorded ones
	rets     map[uint64]*ret
	barred   map[peer.ID]string
	rejected []*ret
	accounts map[account]*joined
	accOrder []account
	results  int64 // bytes that crossed the network
	messages int
	leases   map[job.LeaseID]*lease
	leaseSeq []*lease
	maxFence uint64 // of a recorded grant

	// Of this moment.
	classes  []*class
	grants   map[uint64]*grant // every one ever made, by fence
	checks   []*task           // waiting for this machine
	checking map[uint64]*grant // leased checks, by fence
	left     int               // tasks without an end
	rechecks int
	phase    string    // while preparing
	told     int       // open tasks when last announced
	members  float64   // speed of the devices that work on it
	open     int       // tasks
	opened   time.Time // since when some are and may be leased; zero: not now
	looks    []look    // leased tasks, the latest end first: see copies
	lookedAt time.Time
	toldAt   time.Time
	stuck    string // what keeps results from being delivered
	touched  []*task
}

type account struct {
	peer   peer.ID
	device string
}

type joined struct {
	total time.Duration
	since time.Time // zero: not joined now
}

// OpenedReceipt is a receipt whose signature was checked.
type OpenedReceipt struct {
	Signed  job.Signed
	Receipt job.Receipt
	Peer    peer.ID
}

func newJobState(id job.ID) *jobState {
	return &jobState{
		id: id, state: job.StateAccepted,
		byKey: map[job.TaskKey]*task{}, peerNo: map[peer.ID]int{}, rets: map[uint64]*ret{},
		barred: map[peer.ID]string{}, accounts: map[account]*joined{},
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

func (j *jobState) live() bool { return j.state == job.StatePlanned && !j.paused }

func (j *jobState) joined(a account) *joined {
	x := j.accounts[a]
	if x == nil {
		x = &joined{}
		j.accounts[a] = x
		j.accOrder = append(j.accOrder, a)
	}
	return x
}

// where computes the phase of t.
func (t *task) where() phase {
	switch {
	case t.skip:
		return skipped
	case t.isFailed:
		return failed
	case t.accepted != nil && (t.placed || !t.final()):
		return done
	case t.accepted != nil:
		return taken
	case t.active != nil:
		return returned
	case t.missing > 0:
		return blocked
	case len(t.grants) > 0:
		return leased
	}
	return open
}

// lease is the board's side of a job.Lease.
type lease struct {
	id       job.LeaseID
	job      *jobState
	peer     peer.ID
	device   string
	grants   []*grant
	live     int // grants that are neither returned nor given up
	granted  time.Time
	progress job.Progress
	seen     bool      // in a Progress of the worker
	told     time.Time // when that came
	missing  time.Time // since when it is not in there; zero: it is
	check    bool      // holds checks
	running  time.Time // since when task progress.Task runs
	closed   bool
}

// grant is one task of a lease.
type grant struct {
	lease *lease
	t     *task
	fence uint64
	pos   int
	over  bool // returned or given up
}
