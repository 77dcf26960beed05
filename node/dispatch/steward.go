package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// A job may have stewards: members that go on with it while its requester is
// silent (package node/steward says when). On a steward it is a job like any
// other, with a secret of its own and the requester's plan; the tasks that have
// a result already are passed over. When the requester is back, the receipts of
// what was done go to it, and it judges them as if their workers had come
// themselves.

// Copy is a job as its stewards get it: all but the paths and the secret.
type Copy struct {
	Spec  job.Spec `cbor:"spec"`
	Plan  [][]byte `cbor:"plan"` // blocks of tasks, as the journal has them
	Tasks int      `cbor:"tasks"`
	Root  job.Ref  `cbor:"root"`
	Files int      `cbor:"files"`
	Bytes int64    `cbor:"bytes"`
}

// Fact is a task that needs nobody any more, with its outputs where tasks after
// it may still read them.
type Fact struct {
	Task    int          `cbor:"task"`
	Mark    uint64       `cbor:"mark"` // another one where something else is known of the task
	Outputs []job.Output `cbor:"outputs,omitempty"`
}

// Result is an accepted result of a steward's, for the requester.
type Result struct {
	Task    int        `cbor:"task"`
	Worker  string     `cbor:"worker"`
	Receipt job.Signed `cbor:"receipt"`
	Leaf    int        `cbor:"leaf"`
}

type (
	// Inherited: this machine goes on with another's job.
	Inherited struct {
		Inheritance
		Secret []byte
		Ack    any
	}
	// GivenBack: the requester has everything that was done here; the job is
	// forgotten.
	GivenBack struct {
		ID     job.ID
		Origin peer.ID // whose job it must be
		Ack    any
	}
	// Held: a steward holds the job and has done this much; with an empty Steward
	// it does not hold it any more. Missing takes the number of results that are
	// not safe here yet.
	Held struct {
		ID      job.ID
		Steward peer.ID
		Epoch   uint64
		Results []OpenedResult
		Missing chan<- int
	}
	// Attended: how its stewards are.
	Attended struct {
		ID       job.ID
		Stewards []job.StewardStatus
	}
	// Forget removes a job's journal.
	Forget struct{ ID job.ID }
)

// OpenedResult is a Result whose receipt was checked.
type OpenedResult struct {
	Task int
	Leaf int
	OpenedReceipt
}

func (Inherited) event() {}
func (GivenBack) event() {}
func (Held) event()      {}
func (Attended) event()  {}
func (Forget) effect()   {}

// Inheritance is everything with which a steward begins.
type Inheritance struct {
	ID         job.ID
	Origin     peer.ID // whose job it is
	Lane       int     // of its fences: rank and one
	Epoch      uint64  // at least
	Delegation job.Signed
	Copy       Copy
	Facts      []Fact
	Output     string  // folder for finished files
	Spent      float64 // of the job's budget, seconds of devices
}

// MaxLeap is how far an epoch may be above the highest that is known. One that
// leapt to the end of the numbers would leave nobody a higher one.
const MaxLeap = 1 << 16

// leastBudget is what is left to a steward of a budget that is used up, in
// seconds: 0 would be no bound.
const leastBudget = .001

// estate is what a job's records say of who owns and who owned it.
type estate struct {
	origin     peer.ID // not empty: this machine is a steward of that peer
	delegation job.Signed
	lane       int
	epoch      uint64 // every later grant is of this epoch or of a higher one

	// Of this moment.
	holder   peer.ID // a steward that holds this machine's job
	back     bool    // given back: to be forgotten
	stewards []job.StewardStatus
}

// stewardRecord says whose job this is, where it is not this machine's, or that
// it was with a steward.
type stewardRecord struct {
	_          struct{} `cbor:",toarray"`
	Origin     string   // empty: it is this machine's
	Lane       int
	Epoch      uint64
	Delegation job.Signed
}

func (*stewardRecord) sort() byte { return recSteward }

func (j *jobState) applySteward(r *stewardRecord) error {
	j.epoch = max(j.epoch, r.Epoch)
	if r.Origin == "" {
		return nil
	}
	p, err := peer.Decode(r.Origin)
	if err != nil {
		return fmt.Errorf("requester: %w", err)
	}
	if r.Lane < 1 || r.Lane > job.MaxStewards {
		return fmt.Errorf("lane %d", r.Lane)
	}
	j.origin, j.lane, j.delegation = p, r.Lane, r.Delegation
	return nil
}

func (j *jobState) stewardAgain(w *rewriter) {
	if j.origin != "" || j.epoch > 0 {
		w.add(&stewardRecord{Origin: text(j.origin), Lane: j.lane, Epoch: j.epoch, Delegation: j.delegation})
	}
}

func text(p peer.ID) string {
	if p == "" {
		return ""
	}
	return p.String()
}

// raise begins a higher epoch; a record that says so is written by who asks.
func (b *Board) raise(epoch uint64) {
	if epoch > b.epoch {
		b.epoch, b.grants = epoch, 0
	}
}

// foreign reports whether another coordinator granted what came of fence.
func (j *jobState) foreign(fence uint64) bool { return job.FenceLane(fence) != j.lane }

func (b *Board) inherited(e Inherited) {
	if b.byID[e.ID] != nil {
		b.do(Ack{e.Ack, fmt.Errorf("job %s is here already", e.ID)})
		return
	}
	b.raise(e.Epoch)
	j := newJobState(e.ID)
	b.add(j)
	c := e.Copy
	spec := c.Spec
	spec.Output = e.Output
	if l := &spec.Policy.Limits; l.Budget > 0 {
		l.Budget = max(l.Budget-e.Spent, leastBudget)
	}
	b.write(j, &jobRecord{ID: e.ID, Spec: spec, Secret: e.Secret, Submitted: micros(b.now)})
	b.write(j, &stewardRecord{Origin: e.Origin.String(), Lane: e.Lane, Epoch: b.epoch, Delegation: e.Delegation})
	for i, zip := range c.Plan {
		b.write(j, &blockRecord{From: i * tasksPerRecord, Zip: zip})
	}
	plan := &planRecord{Tasks: c.Tasks, Root: c.Root, Files: c.Files, Bytes: c.Bytes}
	for _, f := range e.Facts {
		plan.Skipped = append(plan.Skipped, f.Task)
	}
	b.write(j, plan)
	for _, f := range e.Facts {
		if len(f.Outputs) > 0 {
			b.write(j, &givenRecord{Task: f.Task, Outputs: f.Outputs})
		}
	}
	b.emit(j, job.Event{Type: job.EventState, Text: string(j.State())})
	b.do(Ack{Token: e.Ack})
	b.begin(j)
}

// sound reports why the board could not begin with it.
func (e Inheritance) sound() error {
	if e.Lane < 1 || e.Lane > job.MaxStewards || e.Epoch >= 1<<31 {
		return fmt.Errorf("lane %d, epoch %d", e.Lane, e.Epoch)
	}
	if err := e.Copy.Spec.Validate(); err != nil {
		return err
	}
	j := newJobState(e.ID)
	for _, zip := range e.Copy.Plan {
		if err := j.apply(&blockRecord{From: j.drawing.n, Zip: zip}); err != nil {
			return err
		}
		if j.drawing.n%tasksPerRecord != 0 && j.drawing.n < e.Copy.Tasks {
			return fmt.Errorf("a block of the plan is not full")
		}
	}
	if err := j.apply(&planRecord{Tasks: e.Copy.Tasks, Root: e.Copy.Root}); err != nil {
		return err
	}
	tasks := make([]job.Task, len(j.tasks))
	for i, t := range j.tasks {
		tasks[i] = t.Task()
	}
	if err := checkPlan(tasks); err != nil {
		return err
	}
	seen := map[int]bool{}
	for _, f := range e.Facts {
		if seen[f.Task] {
			return fmt.Errorf("two facts of task %d", f.Task)
		}
		seen[f.Task] = true
		if err := f.Sound(len(tasks)); err != nil {
			return err
		}
	}
	return nil
}

// Sound reports why f cannot be of a job of so many tasks.
func (f Fact) Sound(tasks int) error {
	if f.Task < 0 || f.Task >= tasks || len(f.Outputs) > job.MaxOutputs {
		return fmt.Errorf("fact of task %d of %d", f.Task, tasks)
	}
	for _, o := range f.Outputs {
		if err := o.Validate(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Board) givenBack(e GivenBack) {
	j := b.byID[e.ID]
	if j == nil || j.origin == "" || j.origin != e.Origin {
		b.do(Ack{Token: e.Ack})
		return
	}
	j.back = true
	if !j.state.Ended() {
		b.end(j, job.StateCancelled, "went back to its requester", nil)
	}
	b.do(Ack{Token: e.Ack})
	b.leave(j)
}

// leave forgets a job that was given back, once nothing runs for it.
func (b *Board) leave(j *jobState) {
	if !j.back || !j.cleaned {
		return
	}
	b.jobs = slices.DeleteFunc(b.jobs, func(x *jobState) bool { return x == j })
	delete(b.byID, j.id)
	b.do(Forget{j.id})
}

// held takes in what a steward did of one of this machine's jobs. While the
// steward holds it, nothing of it is granted here.
func (b *Board) held(e Held) {
	missing := 0
	defer func() {
		if e.Missing != nil {
			e.Missing <- missing // it has room for one
		}
	}()
	j := b.byID[e.ID]
	if j == nil || j.state.Ended() || j.origin != "" {
		return
	}
	if e.Steward == "" {
		if j.holder != "" {
			j.holder = ""
			b.emit(j, job.Event{Type: job.EventState, Text: string(j.State())})
			if b.hungry = true; j.open > 0 {
				j.opened = b.now
			}
		}
		return
	}
	if j.holder != e.Steward {
		j.holder = e.Steward
		j.opened = time.Time{}
		b.emit(j, job.Event{Type: job.EventState, Text: string(j.State())})
	}
	if e.Epoch >= b.epoch || e.Epoch >= j.epoch {
		b.raise(e.Epoch + 1)
		b.write(j, &stewardRecord{Epoch: b.epoch})
	}
	for _, r := range e.Results {
		if b.bring(j, e.Steward, r) {
			missing++
		}
	}
}

// bring takes in one result; true: it is not safe yet.
func (b *Board) bring(j *jobState, steward peer.ID, r OpenedResult) (missing bool) {
	if r.Task < 0 || r.Task >= len(j.tasks) || r.Leaf < 0 || r.Leaf >= len(r.Receipt.Leaves) {
		return false
	}
	t, leaf := j.tasks[r.Task], r.Receipt.Leaves[r.Leaf]
	if t.Place == job.AtRequester || leaf.Outcome != job.Succeeded || !t.is(leaf.Task) || leaf.Fence <= t.also().floor || mismatch(t.Task(), leaf) != "" {
		return false
	}
	x := j.rets[leaf.Fence]
	switch {
	case x != nil && (x.peer != r.Peer || x.t != t):
		return false
	case x != nil:
		return x.unsafe()
	case j.barred[r.Peer] != "" || t.phase >= taken:
		return false
	}
	x = &ret{t: t, fence: leaf.Fence, lease: -1, peer: r.Peer, receipt: -1, leafNo: uint16(r.Leaf), state: retHeld,
		trial: &trial{lost: r.Receipt.Lease, live: &arrival{leaf: leaf, receipt: r.OpenedReceipt, via: steward}}}
	j.note(x, leaf)
	j.rets[x.fence] = x
	t.rets = append(t.rets, x)
	b.emit(j, job.Event{Type: job.EventReturned, Task: t.Label, Worker: r.Peer.String()})
	b.next(j, t)
	return x.unsafe()
}

// unsafe reports whether x is still to be brought here, and its task has no
// other result that is here already. One of those may wait for its check for
// long: nothing is granted meanwhile.
func (x *ret) unsafe() bool {
	a := x.t.active
	return x.state == retFetching || x.state == retHeld && x.t.accepted == nil && (a == nil || a.state == retFetching)
}

// news lists what stewards do not know yet: have is the mark of what they know,
// by task. At most max bytes of it, roughly; gone are tasks that run again.
func (j *jobState) news(have map[int]uint64, max int) (news []Fact, gone []int) {
	for i, t := range j.tasks {
		mark := uint64(0)
		wanted := slices.ContainsFunc(t.next(), func(n *task) bool { return !n.where().final() })
		switch {
		case t.skip:
			mark = 1
		case t.isFailed:
			mark = 2
		case t.accepted != nil:
			mark = t.accepted.fence
		}
		if mark != 0 && wanted && t.ready() {
			mark |= 1 << 63
		}
		was, known := have[i]
		switch {
		case mark == was:
		case mark == 0:
			if known {
				gone = append(gone, i)
			}
		case max > 0:
			f := Fact{Task: i, Mark: mark}
			if mark>>63 != 0 {
				f.Outputs = j.outputs(t)
			}
			news = append(news, f)
			max -= 32 + 160*len(f.Outputs)
		}
	}
	return news, gone
}

// accepts lists accepted results of tasks from index on that somebody else than
// this machine should have: at most max bytes, roughly. next is where to go on;
// -1: there is nothing more.
func (j *jobState) accepts(from, max int) (out []Result, next int) {
	for i := from; i < len(j.tasks); i++ {
		if max <= 0 {
			return out, i
		}
		t := j.tasks[i]
		x := t.accepted
		if x == nil || t.Place == job.AtRequester {
			continue
		}
		s := j.signed(x)
		if len(s.Body) == 0 {
			continue
		}
		out = append(out, Result{Task: i, Worker: x.peer.String(), Receipt: s, Leaf: int(x.leafNo)})
		max -= len(s.Body) + len(s.Sig) + 96
	}
	return out, -1
}
