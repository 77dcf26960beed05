package dispatch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"idlewild/job"
)

// errGone is wrapped by what fetching returns where the worker is not there.
var errGone = errors.New("the worker is not connected")

// fetch has a result brought here from whoever has it.
func (b *Board) fetch(j *jobState, x *ret) {
	e := Fetch{ID: j.id, Fence: x.fence, Worker: x.peer, Leaf: x.live.leaf, Inline: x.live.inline,
		Keep:   len(x.t.next()) > 0 || x.t.Check.Method == job.CheckCrop, // a check may read it
		Origin: j.origin, Delegation: j.delegation}
	if x.live.via != "" {
		e.Worker = x.live.via
	}
	b.do(e)
}

// localPatience is how long a fetch waits that failed for want of room here.
const localPatience = 5 * time.Second

func (b *Board) fetchAgain(j *jobState, x *ret) {
	if x.state == retFetching && !j.state.Ended() {
		b.fetch(j, x)
	}
}

// fetched: a result, or evidence, is here.
func (b *Board) fetched(e Fetched) {
	j := b.byID[e.ID]
	if j == nil || j.state.Ended() {
		return
	}
	if g := j.checking[e.Fence]; g != nil {
		b.evident(j, g, e)
		return
	}
	x := j.rets[e.Fence]
	if x == nil || x.state != retFetching {
		return
	}
	t := x.t
	if e.Err == nil {
		j.stuck = ""
		no := b.receiptNo(j, x)
		if no < 0 {
			return
		}
		x.receipt = int32(no)
		b.write(j, &returnRecord{Task: int(t.index), Receipt: no, Leaf: int(x.leafNo), Moved: e.Moved})
		b.settle(j, x)
		b.check(j, x)
		return
	}
	w := b.byPeer[x.peer]
	if e.Local && w != nil && w.connected {
		// Nobody's fault but this machine's, and for a person to mend.
		j.stuck = fmt.Sprintf("%s cannot be kept: %v", t.Label, e.Err)
		b.after(localPatience, func() { b.fetchAgain(j, x) })
		return
	}
	x.live.tries++
	switch {
	case x.live.via != "": // the steward offers it again, and its worker did nothing wrong
		b.forget(j, x)
	case w == nil || !w.connected || errors.Is(e.Err, errGone) && x.live.tries >= 3:
		// It keeps the receipt and offers it again when it is back. Until its leases
		// lapse nobody else need do it.
		t.lapsed = !b.await(w, j.grants[x.fence])
		b.forget(j, x)
	case x.live.tries < 3:
		b.after(time.Duration(x.live.tries)*time.Second, func() { b.fetchAgain(j, x) })
	default:
		b.strike(j, x, fmt.Sprintf("it does not give what it signed for: %v", e.Err))
		leaf, lease := x.live.leaf, j.leaseOf(x)
		leaf.Outcome, leaf.Reason = job.Broken, fmt.Sprintf("its outputs could not be fetched: %v", e.Err)
		b.forget(j, x)
		b.attempt(w, j, t, lease, leaf)
		b.next(j, t)
	}
}

// forget undoes the arrival of x. Its folder stays: x may come again, and what is
// fetched then must not be removed by something that was to be done before. The
// next fetch, start or end of the job clears it.
func (b *Board) forget(j *jobState, x *ret) {
	delete(j.rets, x.fence)
	x.t.rets = slices.DeleteFunc(x.t.rets, func(o *ret) bool { return o == x })
	x.state = retEnded
	x.live = nil
	if x.t.active == x {
		x.t.active = nil
	}
	b.next(j, x.t)
}

// receiptNo returns the index of x's receipt in the journal, writing it if it
// is the first of its leaves to be recorded.
func (b *Board) receiptNo(j *jobState, x *ret) int {
	no, o := b.peerNo(j, x.peer), x.live.receipt
	packed := j.pack(naming{b, j}, o)
	if len(o.Receipt.Leaves) > 1 {
		for i := len(j.receipts) - 1; i >= 0 && i >= len(j.receipts)-256; i-- {
			if k := &j.receipts[i]; int(k.peer) == no && k.packed == packed {
				return i
			}
		}
	}
	b.write(j, &receiptRecord{Peer: no, Packed: packed})
	return len(j.receipts) - 1
}

// lost: the folder of a result is gone, so it is made again.
func (b *Board) lost(e Lost) {
	j := b.byID[e.ID]
	if j == nil || j.state.Ended() {
		return
	}
	x := j.rets[e.Fence]
	if x == nil || x.state == retEnded {
		return
	}
	b.do(Note{"result is gone from staging", []any{"job", j.id, "task", x.t.Label}})
	if x.recheck {
		x.recheck = false
		j.rechecks--
	}
	b.redo(j, []*task{x.t})
}
