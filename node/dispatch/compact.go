package dispatch

import (
	"errors"
	"fmt"
	"slices"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// A journal is rewritten when it has grown to twice what it was after the last
// time, and once the job is over: of results that nobody will look at again a
// pieceRecord stays. What it says is the same before and after, and so are all
// indexes, which the board goes on with.
const firstRewrite = 1 << 20 // bytes

// over reports whether nobody will look at x again: what would be made of its
// files is made, and no suspicion can fall on it later.
func (j *jobState) over(x *ret) bool {
	if x.state != retJudged || x.recheck || x.pending != nil || j.origin != "" {
		return false
	}
	if j.state.Ended() || !x.taken || x.t.away {
		return true
	}
	if x.t.wanted() || !x.t.where().final() || slices.ContainsFunc(x.t.next(), func(n *task) bool { return !n.where().final() }) {
		return false
	}
	return !x.doubtable()
}

// rewritten gives the frames of a journal that says what j's did.
func (j *jobState) rewritten() ([][]byte, error) {
	w := rewriter{}
	w.add(&jobRecord{ID: j.id, Spec: j.spec, Secret: j.secret, Submitted: micros(j.submitted)})
	if j.raised > 0 { // stewards may not know
		w.add(&limitsRecord{Limits: j.spec.Policy.Limits})
	}
	j.stewardAgain(&w)
	for i, zip := range j.zips {
		w.add(&blockRecord{From: i * tasksPerRecord, Zip: zip})
	}
	for _, p := range j.peers {
		w.add(&peerRecord{ID: p.String()})
	}
	for _, t := range j.texts {
		w.add(&textRecord{Text: t})
	}
	if len(j.tasks) > 0 {
		p := &planRecord{Tasks: len(j.tasks), Facts: j.facts, Problems: j.problems, Root: job.RefOf(j.snapshot.Root), Files: j.snapshot.Files,
			Bytes: j.snapshot.Bytes, NewBytes: j.snapshot.NewBytes, Blocks: j.snapshot.NewBlocks}
		for _, t := range j.tasks {
			if t.skip {
				p.Skipped = append(p.Skipped, int(t.index))
			}
		}
		if j.disks.Defined() {
			w.add(&disksRecord{Root: j.disks})
		}
		w.add(p)
		if j.reuse != nil {
			w.add(j.reuse.record())
		}
	}
	granted := j.leasesAgain(&w)
	if err := j.resultsAgain(&w); err != nil {
		return nil, err
	}
	for i, t := range j.tasks {
		m := t.also()
		if t.granted != granted[i] || m.floor > 0 || t.placed {
			w.add(&taskRecord{Task: i, Granted: int(t.granted), Floor: m.floor, Placed: t.placed, Files: m.files})
		}
		for _, a := range m.ended {
			w.add(&attemptRecord{Task: i, Peer: j.peerNo[a.peer], Lease: packLease(a.lease), Fence: a.fence, Outcome: a.outcome, Reason: a.reason})
		}
		if t.isFailed {
			w.add(&failRecord{Task: i, Reason: m.failure})
		}
	}
	j.needsAgain(&w)
	away := &awayRecord{}
	for i, t := range j.tasks {
		if t.away {
			away.Tasks = append(away.Tasks, i)
		}
	}
	if len(away.Tasks) > 0 {
		w.add(away)
	}
	for i, t := range j.tasks {
		if given := t.also().given; given != nil {
			w.add(&givenRecord{Task: i, Outputs: given})
		}
	}
	for _, x := range j.joins {
		if x.total > 0 {
			w.add(&accountRecord{Peer: j.peerNo[x.peer], Device: x.device, Millis: x.total.Milliseconds()})
		}
	}
	w.add(&totalRecord{Results: j.results, MaxFence: j.maxFence, Messages: j.messages})
	if j.served > 0 && !j.cleaned { // it was begun again after an end
		w.add(&cleanRecord{Served: j.served})
		w.add(&stateRecord{State: job.StatePlanned})
	}
	if j.state.Ended() {
		s := &stateRecord{State: j.state, Reason: j.reason, At: micros(j.at), Messages: j.messages}
		if len(j.tasks) == 0 {
			s.Problems = j.problems // there is no plan that has them
		}
		w.add(s)
	}
	if j.paused {
		w.add(&stateRecord{State: job.StatePaused})
	}
	if j.cleaned {
		w.add(&cleanRecord{Served: j.served})
	}
	return w.frames, w.err
}

// leasesAgain names all leases, and grants those again of which something may
// still come. It returns how often that grants each task.
func (j *jobState) leasesAgain(w *rewriter) []int32 {
	granted := make([]int32, len(j.tasks))
	at := make(map[int]*lease, len(j.leases))
	for _, l := range j.leases {
		if l.no >= 0 {
			at[int(l.no)] = l
		}
	}
	for no, id := range j.leaseIDs {
		l := at[no]
		if l == nil || !slices.ContainsFunc(l.grants, func(g *grant) bool { return !j.state.Ended() && !g.t.where().final() }) {
			w.add(&leaseRecord{Lease: []byte(id)})
			continue
		}
		r := &grantRecord{Lease: []byte(id), Peer: j.peerNo[l.peer], Device: l.device, Fence: l.grants[0].fence}
		for _, g := range l.grants {
			r.Tasks = append(r.Tasks, int(g.t.index))
			granted[g.t.index]++
		}
		w.add(r)
	}
	return granted
}

// resultsAgain gives results task by task, after the receipts that are still
// needed for them.
func (j *jobState) resultsAgain(w *rewriter) error {
	needed := map[int32]bool{}
	for _, t := range j.tasks {
		for _, x := range t.rets {
			if x.receipt >= 0 && (x.state == retSafe || x.state == retJudged) && !j.over(x) {
				needed[x.receipt] = true
			}
		}
	}
	gap := 0
	for i, k := range j.receipts {
		if !needed[int32(i)] && !j.awaited(k) {
			gap++
			continue
		}
		if gap > 0 {
			w.add(&gapRecord{N: gap})
			gap = 0
		}
		w.add(&receiptRecord{Peer: int(k.peer), Packed: k.packed})
	}
	if gap > 0 {
		w.add(&gapRecord{N: gap})
	}
	leases := make(map[string]int, len(j.leaseIDs))
	for i, id := range j.leaseIDs {
		leases[id] = i
	}
	for i, t := range j.tasks {
		for _, x := range t.rets {
			if x.state != retSafe && x.state != retJudged {
				continue
			}
			s := -1
			if x.verdict != nil {
				s = isStandard(*x.verdict)
			}
			if !needed[x.receipt] {
				no, ok := int(x.lease), x.lease >= 0
				if !ok {
					if no, ok = leases[string(packLease(x.lost))]; !ok {
						return fmt.Errorf("lease %s is not in the journal", x.lost)
					}
				}
				p := &pieceRecord{Task: i, Peer: j.peerNo[x.peer], Lease: no, Fence: x.fence, Take: x.taken, Standard: s, Moved: x.moved,
					Wall: x.wall, Render: x.render, Load: x.load, Device: x.device, Log: j.logOf(x)}
				if s < 0 {
					p.Verdict = x.verdict
				}
				w.add(p)
				continue
			}
			w.add(&returnRecord{Task: i, Receipt: int(x.receipt), Leaf: int(x.leafNo), Moved: x.moved})
			if x.state == retJudged {
				r := &judgeRecord{Task: i, Fence: x.fence, Take: x.taken, Standard: s}
				if s < 0 {
					r.Verdict = x.verdict
				}
				w.add(r)
			}
		}
	}
	return nil
}

// awaited reports whether a leaf of k may still be recorded: the batch that has
// its receipt may end before it, and results of one receipt come one by one.
func (j *jobState) awaited(k kept) bool {
	if k.packed == "" || j.state.Ended() {
		return false
	}
	r, _, err := j.read(k, false)
	return err != nil || slices.ContainsFunc(r.Leaves, func(l job.Leaf) bool {
		g := j.grants[l.Fence]
		return l.Outcome == job.Succeeded && j.rets[l.Fence] == nil && (g == nil || !g.t.where().final())
	})
}

// rewriter collects records in frames.
type rewriter struct {
	frames [][]byte
	err    error
}

// frameBytes is how long a frame may get before another is begun.
const frameBytes = 64 << 10

func (w *rewriter) add(r record) {
	b, err := encodeRecord(r)
	if err != nil {
		w.err = err
		return
	}
	if n := len(w.frames); n > 0 && len(w.frames[n-1])+len(b) <= frameBytes {
		w.frames[n-1] = append(w.frames[n-1], b...)
		return
	}
	w.frames = append(w.frames, b)
}

// rewrite makes a job's journal as short as it can be.
func (n *journal) rewrite(id job.ID, l *recordlog.Log) error {
	j, found, _, err := readJournal(n.dir, n.o, id)
	if err == nil && found.Bad != "" {
		err = errors.New(found.Bad)
	}
	if err != nil {
		return fmt.Errorf("read again: %w", err)
	}
	frames, err := j.rewritten()
	if err != nil {
		return err
	}
	return l.Rewrite(frames...)
}

// shorten rewrites the journals that are due for it. One that cannot be is as
// good as it was, unless it is in doubt.
func (n *journal) shorten(id job.ID, l *recordlog.Log, ended bool) error {
	if l.Bytes() < max(firstRewrite, n.due[id]) && !ended {
		return nil
	}
	err := n.rewrite(id, l)
	n.due[id] = max(firstRewrite, l.Bytes()*2)
	if err != nil {
		n.log.Warn("journal not rewritten", "job", id, "err", err)
		if errors.Is(err, recordlog.ErrInDoubt) {
			return err
		}
	}
	return nil
}
