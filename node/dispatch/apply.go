package dispatch

import (
	"fmt"
	"path/filepath"
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
		o := OpenedReceipt{Signed: job.Signed{Body: r.Body, Sig: r.Sig}, Peer: p}
		if err := job.Decode(r.Body, job.MaxReceiptBytes, &o.Receipt); err != nil {
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
		t.given = r.Outputs
		for _, n := range t.next {
			n.missing--
			j.touch(n)
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
			x.class = &class{needs: t.Needs, place: t.Place, costs: newCosts(len(ts)), fits: map[*shape]bool{}}
			classes[string(name)] = x.class
			j.classes = append(j.classes, x.class)
		}
		if x.early() {
			x.class.previews++
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
	if r.Receipt < 0 || r.Receipt >= len(j.receipts) || r.Leaf < 0 || r.Leaf >= len(j.receipts[r.Receipt].Receipt.Leaves) {
		return fmt.Errorf("leaf %d of receipt %d", r.Leaf, r.Receipt)
	}
	o := j.receipts[r.Receipt]
	leaf := o.Receipt.Leaves[r.Leaf]
	x := j.rets[leaf.Fence]
	if x == nil { // replay
		x = &ret{t: t, fence: leaf.Fence, lease: o.Receipt.Lease, peer: o.Peer, leaf: leaf, signed: o.Signed, leafNo: r.Leaf}
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
	ready := t.ready()
	if t.accepted != nil {
		t.accepted.taken = false
		t.accepted = nil
	}
	t.given, t.away = nil, false
	if ready {
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

// letGo: a job that ended begins again, and the blocks of its results were
// released.
func (j *jobState) letGo() {
	for _, t := range j.tasks {
		if t.ready() {
			for _, n := range t.next {
				n.missing++
				j.touch(n)
			}
		}
		t.given, t.away = nil, t.accepted != nil
	}
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
