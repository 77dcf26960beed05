package dispatch

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// OpenedReceipt is a receipt whose signature was checked.
type OpenedReceipt struct {
	Signed  job.Signed
	Receipt job.Receipt
	Peer    peer.ID
}

// receipt takes in the leaves of a receipt.
func (b *Board) receipt(w *worker, o OpenedReceipt, inline []job.Block) {
	r := o.Receipt
	j := b.byID[r.Job]
	var sum time.Duration
	for _, l := range r.Leaves {
		sum += l.Meter.Wall
	}
	elapsed := time.Duration(0)
	if l := b.leases[r.Lease]; l != nil && l.peer == w.peer {
		s := w.seat(l.device)
		if from := max(l.granted, s.last); from != 0 {
			elapsed = b.since(from)
		}
		s.last = b.moment()
	}
	for i, leaf := range r.Leaves {
		if j == nil {
			b.sayTo(w, job.Settled{Job: r.Job, Lease: r.Lease, Task: leaf.Task, Ruling: job.Unsure, Reason: "no such job here"})
			continue
		}
		share := time.Duration(0)
		if sum > 0 {
			share = time.Duration(float64(elapsed) * float64(leaf.Meter.Wall) / float64(sum))
		}
		b.leaf(w, j, o, i, inline, share)
	}
}

// leaf takes in one leaf: it counts once, whatever comes how often.
func (b *Board) leaf(w *worker, j *jobState, o OpenedReceipt, no int, inline []job.Block, elapsed time.Duration) {
	r, leaf := o.Receipt, o.Receipt.Leaves[no]
	no1 := func(reason string) {
		b.sayTo(w, job.Settled{Job: j.id, Lease: r.Lease, Task: leaf.Task, Ruling: job.Unsure, Reason: reason})
	}
	if g := j.checking[leaf.Fence]; g != nil {
		if g.lease.peer == w.peer && g.lease.id == r.Lease && g.t.is(leaf.Task) {
			b.checkLeaf(w, j, g, leaf, inline)
		} else {
			no1("not granted like that")
		}
		return
	}
	if x := j.rets[leaf.Fence]; x != nil {
		if x.peer == w.peer && j.leaseOf(x) == r.Lease && x.t.is(leaf.Task) {
			if x.live != nil && x.live.leaf.Root() != leaf.Root() {
				b.strike(j, x, "it signed two different accounts of one task")
			}
			b.settle(j, x)
		} else {
			no1("that fence was granted to somebody else")
		}
		return
	}
	g := j.grants[leaf.Fence]
	var t *task
	if g != nil && g.t.is(leaf.Task) {
		t = g.t
	} else {
		t = j.find(leaf.Task)
	}
	switch {
	case j.state.Ended():
		no1("the job is " + string(j.state))
		return
	case t == nil:
		no1("no such task")
		return
	case leaf.Fence <= t.also().floor:
		no1("granted before the task was begun anew")
		return
	case g != nil && (g.t != t || g.lease.peer != w.peer || g.lease.id != r.Lease):
		no1("not granted like that")
		return
	case g == nil && t.phase >= taken && leaf.Fence>>32 == b.epoch:
		no1("the task has its result") // such grants are not kept
		return
	case g == nil && (leaf.Fence>>32 == 0 || leaf.Fence>>32 > b.epoch || leaf.Fence>>32 == b.epoch && !j.foreign(leaf.Fence)):
		// A grant of an earlier epoch may have been lost with the power, and another
		// coordinator may have come to this one.
		no1("never granted")
		return
	}
	if g != nil {
		b.endGrant(g)
		t.lapsed = false
		defer b.place(j, t)
	}
	switch {
	case leaf.Outcome == job.Succeeded:
		if why := mismatch(t.Task(), leaf); why != "" {
			leaf.Outcome, leaf.Reason = job.Broken, why
			b.attempt(w, j, t, r.Lease, leaf)
			return
		}
	default:
		b.attempt(w, j, t, r.Lease, leaf)
		return
	}
	x := &ret{t: t, fence: leaf.Fence, lease: -1, peer: w.peer, receipt: -1, leafNo: uint16(no), elapsed: elapsed,
		trial: &trial{lost: r.Lease, live: &arrival{leaf: leaf, receipt: o, inline: only(inline, leaf)}}}
	if g != nil {
		x.lease, x.lost = g.lease.no, ""
	}
	j.note(x, leaf)
	j.rets[x.fence] = x
	t.rets = append(t.rets, x)
	if !slices.Contains(w.worked, j) {
		// It fetched the content first.
		if wait := (elapsed - leaf.Meter.Wall).Seconds(); elapsed > 0 && j.snapshot.Bytes > 1<<20 && wait > .1 {
			w.rate = float64(j.snapshot.Bytes) / wait
			if b.rate == 0 {
				b.rate = w.rate
			}
			b.rate *= math.Pow(w.rate/b.rate, 1./16)
		}
		x.first = true
		w.has(j)
	}
	switch {
	case j.barred[w.peer] != "":
		x.state, x.settled = retEnded, "no more work of this peer is taken for this job"
		b.settle(j, x)
	case t.phase >= taken:
		x.state, x.settled = retEnded, "the task has its result"
		b.settle(j, x)
	default:
		b.emit(j, job.Event{Type: job.EventReturned, Task: t.Label, Worker: w.name})
		x.state = retHeld
		b.next(j, t)
	}
}

// only returns the inline blocks if the leaf could use them: they come with
// the report that brings it.
func only(inline []job.Block, leaf job.Leaf) []job.Block {
	if len(leaf.Outputs) == 0 {
		return nil
	}
	return inline
}

// mismatch says what a leaf lacks of what its task asks for.
func mismatch(t job.Task, leaf job.Leaf) string {
	if len(leaf.Outputs) != len(t.Outputs) {
		return fmt.Sprintf("%d outputs where %d were asked for", len(leaf.Outputs), len(t.Outputs))
	}
	for _, o := range t.Outputs {
		if !slices.ContainsFunc(leaf.Outputs, func(x job.Output) bool { return x.Name == o.Name && x.Media == o.Media }) {
			return fmt.Sprintf("output %q is missing", o.Name)
		}
	}
	return ""
}

// next starts on the next result of t, if none is being looked at.
func (b *Board) next(j *jobState, t *task) {
	if t.active == nil && t.accepted == nil {
		for _, x := range t.rets {
			if x.state == retHeld {
				t.active = x
				x.state = retFetching
				b.fetch(j, x)
				break
			}
		}
	}
	b.place(j, t)
}

// attempt notes one that ended without a result.
func (b *Board) attempt(w *worker, j *jobState, t *task, l job.LeaseID, leaf job.Leaf) {
	b.do(SaveLog{ID: j.id, Index: int(t.index), Worker: w.peer, Leaf: leaf})
	reason := leaf.Reason
	if reason == "" {
		reason = string(leaf.Outcome)
	}
	b.write(j, &attemptRecord{Task: int(t.index), Peer: b.peerNo(j, w.peer), Lease: packLease(l), Fence: leaf.Fence, Outcome: leaf.Outcome, Reason: reason})
	b.settle(j, j.rets[leaf.Fence])
	if t.phase >= taken {
		return
	}
	text := fmt.Sprintf("%s: %s", leaf.Outcome, reason)
	switch leaf.Outcome {
	case job.Failed, job.Broken:
		if leaf.Outcome == job.Broken || w.stranger { // one that fails everything it gets at once would get all of it
			b.restFor(w, j, reason)
			b.urge(w)
		}
		if why := b.hopeless(j, t); why != "" && t.active == nil {
			b.fail(j, t, why)
			return
		}
	case job.OutOfMemory, job.OutOfVRAM:
		if t.Place == job.AtRequester { // nobody else could
			b.restFor(w, j, reason)
			if why := b.hopeless(j, t); why != "" && t.active == nil {
				b.fail(j, t, why)
				return
			}
			break
		}
		b.tooSmall(w, j, t, l, leaf)
		b.tell(w)
	case job.Cancelled:
		// Nobody's fault: its owner came back, say. One that bids and cancels
		// again and again is left alone.
		n := 0
		ended := t.also().ended
		for i := len(ended) - 1; i >= 0 && ended[i].outcome == job.Cancelled && ended[i].peer == w.peer; i-- {
			n++
		}
		if n > 1 {
			b.restFor(w, j, reason)
		}
	}
	b.emit(j, job.Event{Type: job.EventBroken, Task: t.Label, Worker: w.name, Text: text})
}

// hopeless says why a task will not be tried again, or "". What strangers say of
// it counts only where no member could try it: any two of them may be one liar.
func (b *Board) hopeless(j *jobState, t *task) string {
	why := hopeless(t, func(p peer.ID) bool { return !b.stranger(p) })
	if why == "" && !b.could(j, t, func(o *worker) bool { return !o.stranger }) {
		why = hopeless(t, func(peer.ID) bool { return true })
	}
	return why
}

// hopeless is that by the word of those that count.
func hopeless(t *task, counts func(peer.ID) bool) string {
	const brokenPeers, brokenTimes = 3, 6
	failed, broken := map[string]int{}, map[string]int{}
	last := ""
	nf, nb := 0, 0
	for _, a := range t.also().ended {
		if !counts(a.peer) {
			continue
		}
		switch a.outcome {
		case job.Failed:
			failed[string(a.peer)]++
			nf, last = nf+1, a.reason
		case job.OutOfMemory, job.OutOfVRAM:
			if t.Place != job.AtRequester {
				break // a larger device may do it
			}
			fallthrough
		case job.Broken:
			broken[string(a.peer)]++
			nb++
			if nf == 0 {
				last = a.reason
			}
		}
	}
	switch {
	case len(failed) >= 2:
		return "failed on two peers: " + last
	case nf >= 2:
		return "failed twice on the only peer that could try: " + last
	case len(broken) >= brokenPeers:
		return fmt.Sprintf("broke on %d peers: %s", len(broken), last)
	case nb >= brokenTimes:
		return fmt.Sprintf("broke %d times: %s", nb, last)
	}
	return ""
}
