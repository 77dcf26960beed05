package dispatch

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

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
	case *disksRecord:
		j.disks = r.Root
	case *limitsRecord:
		j.spec.Policy.Limits = r.Limits
		j.raised++
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
	case *blockRecord:
		if r.From == 0 {
			j.drawing, j.zips = drawing{}, nil
		}
		if r.From != j.drawing.n {
			return fmt.Errorf("tasks from %d after %d", r.From, j.drawing.n)
		}
		if err := j.drawing.add(r.Zip); err != nil {
			return err
		}
		j.zips = append(j.zips, r.Zip)
	case *planRecord:
		return j.applyPlan(r)
	case *textRecord:
		j.textNo[r.Text] = len(j.texts)
		j.texts = append(j.texts, r.Text)
	case *leaseRecord:
		j.leaseIDs = append(j.leaseIDs, string(r.Lease))
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
		packed := r.Packed
		if r.Body != nil {
			var x packer
			x.byte(keptRaw)
			x.bytes(r.Body)
			x.bytes(r.Sig)
			packed = string(x.b)
		}
		j.receipts = append(j.receipts, kept{peer: int32(j.peerNo[p]), packed: packed})
	case *gapRecord:
		if r.N > 1<<24 {
			return fmt.Errorf("%d receipts are not kept", r.N)
		}
		j.receipts = append(j.receipts, make([]kept, r.N)...)
	case *pieceRecord:
		return j.applyPiece(r)
	case *taskRecord:
		t, err := j.taskAt(r.Task)
		if err != nil {
			return err
		}
		t.granted = int32(r.Granted)
		if r.Floor > 0 || t.more != nil {
			t.add().floor = r.Floor
		}
		if t.placed = r.Placed; r.Files != nil {
			t.add().files = r.Files
		}
		j.begun = j.begun || r.Placed
		j.touch(t)
	case *totalRecord:
		j.results, j.maxFence, j.messages = r.Results, max(j.maxFence, r.MaxFence), max(j.messages, r.Messages)
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
		l := unpackLease(r.Lease)
		t.add().ended = append(t.add().ended, attempt{p, r.Outcome, r.Reason, r.Fence, l})
		j.rets[r.Fence] = &ret{t: t, fence: r.Fence, lease: -1, peer: p, state: retEnded, receipt: -1, maker: j.maker("", ""), trial: &trial{lost: l, settled: "recorded: " + string(r.Outcome)}}
		j.touch(t)
	case *judgeRecord:
		return j.applyJudge(r)
	case *deliverRecord:
		t, err := j.taskAt(r.Task)
		if err != nil {
			return err
		}
		if t.placed = true; r.Files != nil || t.also().files != nil {
			t.add().files = r.Files
		}
		j.begun = true
		if j.reuse.compares(t) {
			delete(j.reuse.drawn, t.index)
			j.reuse.confirmed++
		}
		j.touch(t)
	case *stateRecord:
		if r.State == job.StatePaused {
			j.paused = true
			break
		}
		j.paused = false
		if j.state.Ended() && !r.State.Ended() {
			j.letGo()
		}
		j.state = r.State
		j.reason = r.Reason
		j.problems = append(j.problems, r.Problems...)
		j.messages = max(j.messages, r.Messages)
		j.at = time.Time{}
		if r.State.Ended() {
			j.at = fromMicros(r.At)
		} else {
			if j.cleaned { // its files may have been taken elsewhere since
				j.begun = false
			}
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
	case *givenRecord:
		t, err := j.taskAt(r.Task)
		if err != nil {
			return err
		}
		if t.ready() || len(r.Outputs) == 0 {
			return fmt.Errorf("files of task %d taken again", r.Task)
		}
		t.add().given = r.Outputs
		for _, n := range t.next() {
			n.missing--
			j.touch(n)
		}
	case *awayRecord:
		for _, i := range r.Tasks {
			t, err := j.taskAt(i)
			if err != nil {
				return err
			}
			if t.accepted == nil {
				return fmt.Errorf("result of task %d is away, and there is none", i)
			}
			j.loseOutputs(t)
		}
	case *reuseRecord:
		return j.applyReuse(r)
	case *failRecord:
		t, err := j.taskAt(r.Task)
		if err != nil {
			return err
		}
		t.isFailed = true
		t.add().failure = r.Reason
		j.touch(t)
	case *accountRecord:
		p, err := j.peerAt(r.Peer)
		if err != nil {
			return err
		}
		j.joined(account{p, r.Device}).total = time.Duration(r.Millis) * time.Millisecond
	case *needRecord:
		return j.applyNeed(r)
	case *stewardRecord:
		return j.applySteward(r)
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

func (j *jobState) applyGrant(r *grantRecord) error {
	p, err := j.peerAt(r.Peer)
	if err != nil {
		return err
	}
	if len(r.Tasks) > job.MaxTasksPerLease {
		return fmt.Errorf("lease of %d tasks", len(r.Tasks))
	}
	l := &lease{id: unpackLease(r.Lease), no: int32(len(j.leaseIDs)), job: j, peer: p, device: r.Device}
	all := make([]grant, len(r.Tasks))
	l.grants = make([]*grant, 0, len(r.Tasks))
	for n, i := range r.Tasks {
		t, err := j.taskAt(i)
		if err != nil {
			return err
		}
		g := &all[n]
		*g = grant{lease: l, t: t, fence: r.Fence + uint64(n), pos: int32(n)}
		l.grants = append(l.grants, g)
		j.grants[g.fence] = g
		t.granted++
		j.maxFence = max(j.maxFence, g.fence)
	}
	j.leaseIDs = append(j.leaseIDs, string(r.Lease))
	j.leases[l.id] = l
	j.leaseSeq = append(j.leaseSeq, l)
	return nil
}

func (j *jobState) applyReturn(r *returnRecord) error {
	t, err := j.taskAt(r.Task)
	if err != nil {
		return err
	}
	if r.Receipt < 0 || r.Receipt >= len(j.receipts) {
		return fmt.Errorf("receipt %d", r.Receipt)
	}
	k := &j.receipts[r.Receipt]
	x := j.arriving(t)
	if x == nil || x.receipt != int32(r.Receipt) || int(x.leafNo) != r.Leaf { // replay
		leaf, err := j.skim(*k, r.Leaf)
		if err != nil {
			return fmt.Errorf("leaf %d of receipt %d: %w", r.Leaf, r.Receipt, err)
		}
		if x = j.rets[leaf.Fence]; x == nil {
			p, err := j.peerAt(int(k.peer))
			if err != nil {
				return err
			}
			x = &ret{t: t, fence: leaf.Fence, lease: -1, peer: p, trial: &trial{}}
			j.rets[leaf.Fence] = x
			t.rets = append(t.rets, x)
		}
		j.note(x, leaf)
		x.receipt, x.leafNo = int32(r.Receipt), uint16(r.Leaf)
	}
	if x.lease < 0 {
		x.lease, x.lost = j.leaseNo(*k)
	}
	k.uses++
	x.state, x.moved = retSafe, r.Moved
	j.spend(x)
	x.forgetInline()
	j.results += r.Moved
	if t.active == nil && t.accepted == nil {
		t.active = x
	}
	j.touch(t)
	return nil
}

// arriving is the result of t that the board takes in.
func (j *jobState) arriving(t *task) *ret {
	if x := t.active; x != nil && x.state == retFetching {
		return x
	}
	return nil
}

// applyPiece brings back a result of which only this is kept.
func (j *jobState) applyPiece(r *pieceRecord) error {
	t, err := j.taskAt(r.Task)
	if err != nil {
		return err
	}
	p, err := j.peerAt(r.Peer)
	if err != nil {
		return err
	}
	if r.Lease >= len(j.leaseIDs) || j.rets[r.Fence] != nil {
		return fmt.Errorf("piece of lease %d, fence %x", r.Lease, r.Fence)
	}
	x := &ret{t: t, fence: r.Fence, lease: int32(r.Lease), peer: p, receipt: -1, state: retSafe, moved: r.Moved, trial: quiet,
		wall: r.Wall, render: r.Render, load: r.Load, maker: j.maker(r.Device, "")}
	if r.Log.Defined() {
		j.logs[x.fence] = r.Log
	}
	j.rets[r.Fence] = x
	t.rets = append(t.rets, x)
	j.spend(x)
	return j.applyJudge(&judgeRecord{Task: r.Task, Fence: r.Fence, Take: r.Take, Standard: r.Standard, Verdict: r.Verdict})
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
	x.recheck, x.trial = false, j.judged(x)
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
		for _, n := range t.next() {
			n.missing--
			j.touch(n)
		}
	case !r.Take && t.accepted == x:
		j.reset(t)
	}
	j.touch(t)
	return nil
}

// judged is the trial of x once it is judged.
func (j *jobState) judged(x *ret) *trial {
	if x.lease < 0 {
		return &trial{lost: x.lost}
	}
	return quiet
}

// reset makes t, and whatever was made from it, run again.
func (j *jobState) reset(t *task) {
	ready := t.ready()
	if t.accepted != nil {
		t.accepted.taken = false
		t.accepted = nil
	}
	if t.away = false; t.more != nil {
		t.more.given = nil
	}
	if ready {
		for _, n := range t.next() {
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
	t.active, t.more = nil, &more{floor: j.maxFence, tight: t.also().tight}
	t.placed, t.skip, t.isFailed = false, false, false
	if j.reuse != nil {
		delete(j.reuse.tasks, t.index)
	}
	j.touch(t)
}

// letGo: a job that ended begins again, and the blocks of its results were
// released.
func (j *jobState) letGo() {
	for _, t := range j.tasks {
		j.loseOutputs(t)
	}
}

// loseOutputs has those after t wait for its outputs again.
func (j *jobState) loseOutputs(t *task) {
	if t.ready() {
		for _, n := range t.next() {
			n.missing++
			j.touch(n)
		}
	}
	if t.adopts, t.away = false, t.accepted != nil; t.more != nil {
		t.more.given = nil
	}
}
