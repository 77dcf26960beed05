package worker

import (
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Claim is a steward's word that it goes on with a job whose requester is
// silent; whoever calls Worker.Claim has checked that it may.
type Claim struct {
	Requester peer.ID
	Job       job.ID
	Steward   peer.ID
	Rank      int
	Epoch     uint64
	// Quiet is for how long the requester must have been out of reach of here.
	Quiet time.Duration
	// For is how long the claim lasts unless it is repeated.
	For time.Duration
}

// Stand is how a machine stands to a claim.
type Stand string

// Stands. The zero value means that it is heeded.
const (
	StandHeard  Stand = "heard"  // the requester itself is heard here: the claim is not heeded
	StandBetter Stand = "better" // another steward's claim is higher
)

type claimKey struct {
	requester peer.ID
	job       job.ID
}

type claim struct {
	Claim
	until time.Time
}

// above orders claims: the higher epoch, then the better rank.
func (c Claim) above(o Claim) bool {
	return c.Epoch > o.Epoch || c.Epoch == o.Epoch && c.Rank < o.Rank
}

const maxClaims = 1024

// errTaken is why leases end whose job a steward goes on with.
var errTaken = errors.New("a steward goes on with the job")

// Claim heeds a steward's claim unless the requester is heard here. From then on
// leases of the requester for that job are taken only of a higher epoch; those
// that are held end after the task that is under way, and what was done and not
// settled goes to the steward.
func (w *Worker) Claim(c Claim) Stand {
	now := time.Now()
	k := claimKey{c.Requester, c.Job}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Requester == w.deps.Self {
		return "" // who asks is this machine itself
	}
	r := w.requesters[c.Requester]
	if r.heardFor(c.Quiet, now) {
		return StandHeard
	}
	if old := w.claims[k]; old != nil && now.Before(old.until) && old.Steward != c.Steward && old.above(c) {
		return StandBetter
	}
	if w.claims == nil || w.claims[k] == nil && len(w.claims) >= maxClaims {
		w.claims = map[claimKey]*claim{}
	}
	w.claims[k] = &claim{c, now.Add(c.For)}
	if r == nil {
		return ""
	}
	for _, l := range r.held {
		if l.grant.Job == c.Job && !l.last && !l.done {
			w.giveBack(l, errTaken, true)
		}
	}
	w.hand(r, c.Job)
	return ""
}

// Hears reports whether a requester is linked, or was within quiet.
func (w *Worker) Hears(requester peer.ID, quiet time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requesters[requester].heardFor(quiet, time.Now())
}

func (r *requester) heardFor(quiet time.Duration, now time.Time) bool {
	return r != nil && (r.linked || r.link > 0 && now.Sub(r.cut) < quiet)
}

// claimed returns the claim on a job of r that holds now. mu is held.
func (w *Worker) claimed(r *requester, id job.ID) *claim {
	k := claimKey{r.id, id}
	c := w.claims[k]
	if c != nil && !time.Now().Before(c.until) {
		delete(w.claims, k)
		return nil
	}
	return c
}

// refuse says why a lease is not taken although there is room for it. mu is held.
func (w *Worker) refuse(r *requester, g job.Lease) string {
	c := w.claimed(r, g.Job)
	switch {
	case c == nil:
		return ""
	case g.Epoch <= c.Epoch:
		return "a steward goes on with this job in a later epoch"
	}
	delete(w.claims, claimKey{r.id, g.Job}) // the requester has it back
	return ""
}

// hand passes what was done of a claimed job to its steward. mu is held.
func (w *Worker) hand(r *requester, id job.ID) {
	c := w.claimed(r, id)
	if c == nil {
		return
	}
	var to *requester
	r.unsettled = slices.DeleteFunc(r.unsettled, func(u *receipt) bool {
		if u.job != id || u.volatile {
			return false
		}
		if to == nil {
			if to = w.requesterLocked(c.Steward, true); to == nil {
				return false // at shutdown
			}
		}
		u.sent = 0
		to.unsettled = append(to.unsettled, u)
		return true
	})
	if to != nil {
		to.busy = time.Now()
		to.say(0)
	}
}

// handBack gives requesters back what their stewards did not collect in time.
// mu is held.
func (w *Worker) handBack() {
	for _, s := range w.requesters {
		var back []*receipt
		s.unsettled = slices.DeleteFunc(s.unsettled, func(u *receipt) bool {
			if u.requester == s.id || u.volatile {
				return false
			}
			if c := w.claims[claimKey{u.requester, u.job}]; c != nil && c.Steward == s.id && time.Now().Before(c.until) {
				return false
			}
			back = append(back, u)
			return true
		})
		for _, u := range back {
			if r := w.requesterLocked(u.requester, true); r != nil {
				u.sent = 0
				r.unsettled = append(r.unsettled, u)
				r.busy = time.Now()
				r.say(0)
			}
		}
	}
}
