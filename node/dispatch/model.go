package dispatch

import (
	"container/heap"
	"fmt"
	"math"
	"path/filepath"
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
	floor    uint64    // results of fences up to this one are void

	// Of this moment.
	phase   phase
	missing int // predecessors without an accepted result
	grants  []*grant
	active  *ret // the result being fetched or judged
	avoid   []peer.ID
	queued  bool
	check   *ret // not nil: this task is evidence for that result
	tries   int  // of delivering, or of running a check
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
	needs job.Needs
	place job.Place
	queue taskHeap
	open  int
	out   int // leased
	costs costs

	capacity float64 // sum of speeds of devices that can do it
	devices  int
	capAt    time.Time
	capVer   uint64
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

func (c *class) push(t *task) {
	if !t.queued {
		t.queued = true
		heap.Push(&c.queue, t)
	}
}

// pop takes the first open task off the queue.
func (c *class) pop() *task {
	for len(c.queue) > 0 {
		t := heap.Pop(&c.queue).(*task)
		t.queued = false
		if t.phase == open {
			return t
		}
	}
	return nil
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
	receipts []openedReceipt // recorded ones
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
	phase    string // while preparing
	told     int    // open tasks when last announced
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

// openedReceipt is a receipt whose signature was checked.
type openedReceipt struct {
	signed  job.Signed
	receipt job.Receipt
	peer    peer.ID
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

// apply makes r true. It is the only thing that changes durable state: what
// runs and what is replayed is the same. An error means that r cannot follow
// what came before it.
func (j *jobState) apply(r record) error {
	switch r := r.(type) {
	case *jobRecord:
		if r.ID != j.id {
			return fmt.Errorf("journal of job %s in the folder of %s", r.ID, j.id)
		}
		j.spec, j.secret, j.submitted = r.Spec, r.Secret, fromMicros(r.Submitted)
	case *tasksRecord:
		ts, err := unzipTasks(r.Zip)
		if err != nil {
			return err
		}
		if r.From == 0 {
			j.unplaned = nil
		}
		if r.From != len(j.unplaned) || len(j.unplaned)+len(ts) > job.MaxTasksPerJob {
			return fmt.Errorf("tasks from %d after %d", r.From, len(j.unplaned))
		}
		j.unplaned = append(j.unplaned, ts...)
	case *planRecord:
		if r.Tasks != len(j.unplaned) {
			return fmt.Errorf("plan of %d tasks, %d are here", r.Tasks, len(j.unplaned))
		}
		j.facts = r.Facts
		j.problems = r.Problems
		j.snapshot = Snapshot{Root: r.Root.Cid, Files: r.Files, Bytes: r.Bytes, NewBytes: r.NewBytes, NewBlocks: r.Blocks}
		ts := j.unplaned
		j.unplaned = nil
		return j.setTasks(ts, r.Skipped)
	case *peerRecord:
		p, err := peer.Decode(r.ID)
		if err != nil {
			return fmt.Errorf("peer: %w", err)
		}
		j.peerNo[p] = len(j.peers)
		j.peers = append(j.peers, p)
	case *grantRecord:
		return j.applyGrant(r)
	case *receiptRecord:
		p, err := j.peerAt(r.Peer)
		if err != nil {
			return err
		}
		o := openedReceipt{signed: job.Signed{Body: r.Body, Sig: r.Sig}, peer: p}
		if err := job.Decode(r.Body, job.MaxReceiptBytes, &o.receipt); err != nil {
			return fmt.Errorf("receipt: %w", err)
		}
		j.receipts = append(j.receipts, o)
	case *returnRecord:
		return j.applyReturn(r)
	case *attemptRecord:
		t, err := j.taskAt(r.Task)
		if err != nil {
			return err
		}
		p, err := j.peerAt(r.Peer)
		if err != nil {
			return err
		}
		t.ended = append(t.ended, attempt{p, r.Outcome, r.Reason})
		j.rets[r.Fence] = &ret{t: t, fence: r.Fence, lease: unpackLease(r.Lease), peer: p, state: retEnded, receipt: -1, settled: "recorded: " + string(r.Outcome)}
		j.touch(t)
	case *judgeRecord:
		return j.applyJudge(r)
	case *deliverRecord:
		t, err := j.taskAt(r.Task)
		if err != nil {
			return err
		}
		t.placed, t.files = true, r.Files
		if r.Files == nil {
			t.files = finalFiles(j.spec, t.Task)
		}
		j.touch(t)
	case *stateRecord:
		if r.State == job.StatePaused {
			j.paused = true
			break
		}
		j.paused = false
		j.state = r.State
		j.reason = r.Reason
		j.problems = append(j.problems, r.Problems...)
		j.messages = max(j.messages, r.Messages)
		j.at = time.Time{}
		if r.State.Ended() {
			j.at = fromMicros(r.At)
		} else {
			j.cleaned = false
		}
	case *resetRecord:
		for _, i := range r.Tasks {
			t, err := j.taskAt(i)
			if err != nil {
				return err
			}
			j.reset(t)
		}
	case *failRecord:
		t, err := j.taskAt(r.Task)
		if err != nil {
			return err
		}
		t.isFailed, t.failure = true, r.Reason
		j.touch(t)
	case *accountRecord:
		p, err := j.peerAt(r.Peer)
		if err != nil {
			return err
		}
		j.joined(account{p, r.Device}).total = time.Duration(r.Millis) * time.Millisecond
	case *cleanRecord:
		j.cleaned, j.served = true, r.Served
	default:
		return fmt.Errorf("record of sort %d", r.sort())
	}
	return nil
}

func (j *jobState) touch(t *task) { j.touched = append(j.touched, t) }

func (j *jobState) taskAt(i int) (*task, error) {
	if i < 0 || i >= len(j.tasks) {
		return nil, fmt.Errorf("task %d of %d", i, len(j.tasks))
	}
	return j.tasks[i], nil
}

func (j *jobState) peerAt(i int) (peer.ID, error) {
	if i < 0 || i >= len(j.peers) {
		return "", fmt.Errorf("peer %d of %d", i, len(j.peers))
	}
	return j.peers[i], nil
}

func (j *jobState) joined(a account) *joined {
	x := j.accounts[a]
	if x == nil {
		x = &joined{}
		j.accounts[a] = x
		j.accOrder = append(j.accOrder, a)
	}
	return x
}

// setTasks makes the plan: classes, keys, and who follows whom.
func (j *jobState) setTasks(ts []job.Task, skip []int) error {
	j.tasks = make([]*task, len(ts))
	classes := map[string]*class{}
	for i, t := range ts {
		x := &task{Task: t, key: t.Key(), index: i}
		if j.byKey[x.key] != nil {
			return fmt.Errorf("tasks %q and %q are the same", j.byKey[x.key].Label, t.Label)
		}
		j.byKey[x.key] = x
		j.tasks[i] = x
		name, err := job.Encode([]any{t.Needs, t.Place})
		if err != nil {
			return err
		}
		if x.class = classes[string(name)]; x.class == nil {
			x.class = &class{needs: t.Needs, place: t.Place}
			classes[string(name)] = x.class
			j.classes = append(j.classes, x.class)
		}
	}
	for _, t := range j.tasks {
		for _, k := range t.After {
			p := j.byKey[k]
			if p == nil {
				return fmt.Errorf("task %q comes after a task that is not planned", t.Label)
			}
			t.prior = append(t.prior, p)
			p.next = append(p.next, t)
		}
		t.missing = len(t.prior)
	}
	for _, i := range skip {
		t, err := j.taskAt(i)
		if err != nil {
			return err
		}
		t.skip = true
	}
	j.left = len(j.tasks)
	j.state = job.StatePlanned
	return nil
}

func (j *jobState) applyGrant(r *grantRecord) error {
	p, err := j.peerAt(r.Peer)
	if err != nil {
		return err
	}
	if len(r.Tasks) > job.MaxTasksPerLease {
		return fmt.Errorf("lease of %d tasks", len(r.Tasks))
	}
	l := &lease{id: unpackLease(r.Lease), job: j, peer: p, device: r.Device}
	for n, i := range r.Tasks {
		t, err := j.taskAt(i)
		if err != nil {
			return err
		}
		g := &grant{lease: l, t: t, fence: r.Fence + uint64(n), pos: n}
		l.grants = append(l.grants, g)
		j.grants[g.fence] = g
		t.granted++
		j.maxFence = max(j.maxFence, g.fence)
	}
	j.leases[l.id] = l
	j.leaseSeq = append(j.leaseSeq, l)
	return nil
}

func (j *jobState) applyReturn(r *returnRecord) error {
	t, err := j.taskAt(r.Task)
	if err != nil {
		return err
	}
	if r.Receipt < 0 || r.Receipt >= len(j.receipts) || r.Leaf < 0 || r.Leaf >= len(j.receipts[r.Receipt].receipt.Leaves) {
		return fmt.Errorf("leaf %d of receipt %d", r.Leaf, r.Receipt)
	}
	o := j.receipts[r.Receipt]
	leaf := o.receipt.Leaves[r.Leaf]
	x := j.rets[leaf.Fence]
	if x == nil { // replay
		x = &ret{t: t, fence: leaf.Fence, lease: o.receipt.Lease, peer: o.peer, leaf: leaf, signed: o.signed, leafNo: r.Leaf}
		j.rets[leaf.Fence] = x
		t.rets = append(t.rets, x)
	}
	x.receipt, x.state, x.moved = r.Receipt, retSafe, r.Moved
	x.inline = nil
	j.results += r.Moved
	if t.active == nil && t.accepted == nil {
		t.active = x
	}
	j.touch(t)
	return nil
}

func (j *jobState) applyJudge(r *judgeRecord) error {
	t, err := j.taskAt(r.Task)
	if err != nil {
		return err
	}
	x := j.rets[r.Fence]
	if x == nil || x.t != t {
		return fmt.Errorf("verdict on a result that did not return")
	}
	v := r.Verdict
	if v == nil {
		if r.Standard < 0 || r.Standard >= len(standardVerdicts) {
			return fmt.Errorf("standard verdict %d", r.Standard)
		}
		v = &standardVerdicts[r.Standard]
	}
	x.verdict, x.state, x.taken = v, retJudged, r.Take
	x.recheck, x.pending, x.checks, x.evidence = false, nil, nil, nil
	if v.Ruling == job.Rejected {
		j.barred[x.peer] = v.Reason
		j.rejected = append(j.rejected, x)
	}
	if t.active == x {
		t.active = nil
	}
	switch {
	case r.Take && t.accepted == nil:
		t.accepted = x
		for _, n := range t.next {
			n.missing--
			j.touch(n)
		}
	case !r.Take && t.accepted == x:
		j.reset(t)
	}
	j.touch(t)
	return nil
}

// reset makes t, and whatever was made from it, run again.
func (j *jobState) reset(t *task) {
	if t.accepted != nil {
		t.accepted.taken = false
		t.accepted = nil
		for _, n := range t.next {
			n.missing++
			j.reset(n)
		}
	}
	for _, x := range t.rets {
		if x.state != retJudged {
			x.state, x.settled = retEnded, "the task is run again"
		}
		if x.recheck {
			x.recheck = false
			j.rechecks--
		}
	}
	t.active, t.avoid, t.floor = nil, nil, j.maxFence
	t.placed, t.files, t.skip, t.isFailed, t.failure, t.ended = false, nil, false, false, "", nil
	j.touch(t)
}

func finalFiles(s job.Spec, t job.Task) []string {
	var out []string
	for _, o := range t.Outputs {
		if o.Final != "" {
			out = append(out, filepath.Join(s.Output, filepath.FromSlash(o.Final)))
		}
	}
	return out
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

// costs predicts the cost of tasks from their neighbours, in seconds on a
// device of speed 1.
type costs struct {
	index []int // sorted
	value []float64
	sum   float64
}

func (c *costs) add(i int, v float64) {
	if !(v > 0) || math.IsInf(v, 0) {
		return
	}
	at := len(c.index)
	for at > 0 && c.index[at-1] > i {
		at--
	}
	if at > 0 && c.index[at-1] == i {
		c.sum += v - c.value[at-1]
		c.value[at-1] = v
		return
	}
	c.index = append(c.index, 0)
	c.value = append(c.value, 0)
	copy(c.index[at+1:], c.index[at:])
	copy(c.value[at+1:], c.value[at:])
	c.index[at], c.value[at] = i, v
	c.sum += v
}

// mean is the mean cost; false where nothing is known.
func (c *costs) mean() (float64, bool) {
	if len(c.index) == 0 {
		return 0, false
	}
	return c.sum / float64(len(c.index)), true
}

// at interpolates between the nearest known tasks of the plan.
func (c *costs) at(i int) (float64, bool) {
	n := len(c.index)
	if n == 0 {
		return 0, false
	}
	lo, hi := 0, n
	for lo < hi {
		m := (lo + hi) / 2
		if c.index[m] < i {
			lo = m + 1
		} else {
			hi = m
		}
	}
	switch {
	case lo == n:
		return c.value[n-1], true
	case lo == 0 || c.index[lo] == i:
		return c.value[lo], true
	}
	f := float64(i-c.index[lo-1]) / float64(c.index[lo]-c.index[lo-1])
	return c.value[lo-1]*(1-f) + c.value[lo]*f, true
}
