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
	*sheet
	Label string
	own   string         // what is its own of parameters and final names, packed
	sum   *[keySize]byte // its key; nil: nobody asked for it lately

	Rank int32

	// Of this moment.
	begun   bool // somebody is at its frame
	adopts  bool // its files are being stored again
	lapsed  bool // who had it is out of reach, and may bring its result yet
	phase   phase
	tries   uint16 // of delivering, or of running a check
	missing int16  // predecessors without an accepted result

	// Durable.
	placed   bool // delivered
	isFailed bool
	skip     bool
	away     bool  // what its result left was let go of, at an end of the job
	index    int32 // among the job's tasks
	granted  int32 // how often
	rets     []*ret
	accepted *ret
	more     *more // nil: nothing of that

	kin    *kin // nil: it neither needs others nor is needed
	grants list[*grant]
	active *ret      // the result being fetched or judged
	in     *taskHeap // the queue that it counts in; others may still hold it
}

// list is a slice for where there mostly is none: one word, not three.
type list[T comparable] struct{ some *[]T }

func (l list[T]) all() []T {
	if l.some == nil {
		return nil
	}
	return *l.some
}

func (l list[T]) len() int { return len(l.all()) }

func (l *list[T]) add(x T) {
	if l.some == nil {
		l.some = &[]T{x}
		return
	}
	*l.some = append(*l.some, x)
}

func (l *list[T]) remove(x T) {
	if l.some == nil {
		return
	}
	if *l.some = slices.DeleteFunc(*l.some, func(o T) bool { return o == x }); len(*l.some) == 0 {
		l.some = nil
	}
}

// kin of a task: those of After, and those that have it there.
type kin struct{ prior, next []*task }

// more is what most tasks have not.
type more struct {
	files   []string // where they are not the final names
	failure string
	ended   []attempt // without a result
	floor   uint64    // results of fences up to this one are void
	// given are its outputs as they were taken from the output folder again: it
	// did not run, or what it left is away.
	given []job.Output
	avoid []peer.ID // of this moment
	tight []tight   // devices that it did not fit into
}

var nothing more

// also returns what few tasks have, for reading.
func (t *task) also() *more {
	if t.more == nil {
		return &nothing
	}
	return t.more
}

// add returns the same for writing.
func (t *task) add() *more {
	if t.more == nil {
		t.more = &more{}
	}
	return t.more
}

// prior are the tasks of After.
func (t *task) prior() []*task {
	if t.kin == nil {
		return nil
	}
	return t.kin.prior
}

// next are the tasks that have t in After.
func (t *task) next() []*task {
	if t.kin == nil {
		return nil
	}
	return t.kin.next
}

// ready reports whether those after t can have its outputs.
func (t *task) ready() bool { return t.also().given != nil || t.accepted != nil && !t.away }

// outputs are what those after t read.
func (j *jobState) outputs(t *task) []job.Output {
	if given := t.also().given; given != nil || t.accepted == nil {
		return given
	}
	return j.leaf(t.accepted).Outputs
}

// forgotten reports whether t's outputs are not known any more: everything was
// made of them that was wanted then.
func (t *task) forgotten() bool {
	return t.ready() && t.also().given == nil && t.accepted.live == nil && t.accepted.receipt < 0
}

// wanted reports whether t's outputs may be asked for again while the job runs,
// when t is long done: what is made of its delivered files is made once more, or
// what was made of it is checked late.
func (t *task) wanted() bool {
	return len(t.next()) > 0 && (t.final() || slices.ContainsFunc(t.next(), func(n *task) bool { return n.accepted != nil && n.accepted.doubtable() }))
}

// doubtable reports whether suspicion can fall on a judged result later.
func (x *ret) doubtable() bool {
	s := isStandard(*x.verdict)
	return x.verdict.Method == "trusted" && s != verdictSelf && s != verdictNoCheck
}

// adoptable reports whether delivered files are all that t leaves.
func adoptable(t job.Task) bool {
	return len(t.Outputs) > 0 && !slices.ContainsFunc(t.Outputs, func(o job.OutputRule) bool { return o.Final == "" })
}

// final reports whether a task ends in a delivered file.
func (t *task) final() bool { return t.sheet.final }

func isFinal(t job.Task) bool {
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
	lessons  *lessons  // of memory; nil: nothing was learnt
	ends     ends      // open tasks of the rest by length; nil: not yet
	short    *task     // found in
	shortIn  shortIn
}

// shortIn is when and where a short task was looked for.
type shortIn struct {
	step   uint64
	grants uint32
	of     *queues
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

// queues hold open tasks: those of frames that nobody is at come first, and
// those that lapsed last, since they may be done already.
type queues struct {
	fresh  taskHeap
	begun  taskHeap
	lapsed taskHeap
}

// all are the queues in their order.
func (q *queues) all() [3]*taskHeap { return [...]*taskHeap{&q.fresh, &q.begun, &q.lapsed} }

// short is one of the shorter ones among the last open tasks.
func (q *queues) short(cost func(*task) float64) *task {
	var best *task
	for _, h := range q.all() {
		if h == &q.lapsed && best != nil {
			break
		}
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
	for _, h := range q.all() {
		if t := h.head(); t != nil {
			return t
		}
	}
	return nil
}

// pop takes the first open task.
func (q *queues) pop() *task {
	for _, h := range q.all() {
		if t := h.pop(); t != nil {
			return t
		}
	}
	return nil
}

func (c *class) queues(t *task) *queues {
	if t.early() {
		return &c.lead
	}
	return &c.rest
}

// early reports whether t is of the preview.
func (t *task) early() bool { return t.Rank < job.RestRank }

// before reports whether t goes before o, an open task of another class.
func (t *task) before(o *task) bool {
	if x, y := t.lapsed && !t.early(), o.lapsed && !o.early(); x != y {
		return y
	}
	return t.Rank < o.Rank || t.Rank == o.Rank && t.index < o.index
}

func (c *class) push(t *task) {
	q := c.queues(t)
	h := &q.fresh
	switch {
	case t.lapsed:
		h = &q.lapsed
	case t.begun:
		h = &q.begun
	}
	if t.in != h {
		t.in = h
		heap.Push(h, t)
	}
	if c.ends != nil && q == &c.rest {
		c.ends.add(c, t)
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

type account struct {
	peer   peer.ID
	device string
}

// join is how long a device worked, or would have, on a job.
type join struct {
	account
	total time.Duration
	since moment // 0: not joined now
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

// joined returns what is known of a; the pointer is good until the next call.
func (j *jobState) joined(a account) *join {
	if x := j.account(a); x != nil {
		return x
	}
	j.accounts[a] = int32(len(j.joins))
	j.joins = append(j.joins, join{account: a})
	return &j.joins[len(j.joins)-1]
}

// account is the same, nil where nothing is known.
func (j *jobState) account(a account) *join {
	if i, ok := j.accounts[a]; ok {
		return &j.joins[i]
	}
	return nil
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
	case t.grants.len() > 0:
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
	no       int32 // in the journal's order; -1: it is not there
	live     int32 // grants that are neither returned nor given up
	check    bool  // holds checks
	closed   bool
	seen     bool // in a Progress of the worker
	granted  moment
	missing  moment // since when it is not in a Progress; 0: it is
	progress progress
	running  moment // since when task progress.Task runs
	moved    moment // when progress last changed
	// Where progress.Phase was first heard to get on, and when; 0: it was not.
	firstAt      moment
	first, shown float32 // shown: what watchers heard of its fraction
}

// progress is what was last heard of a lease, see job.Progress.
type progress struct {
	Task     int
	Fraction float64
	Phase    string
}

// grant is one task of a lease.
type grant struct {
	lease *lease
	t     *task
	fence uint64
	pos   int32
	over  bool // returned or given up
}
