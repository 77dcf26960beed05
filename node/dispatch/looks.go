package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Look is one examination of a result.
type Look struct {
	Ruling job.Ruling
	By     peer.ID // who made what it was compared with
	Class  string  // the device class of that; "" where there are several
	Draw   int     // the places were drawn for the nth time, from 1
	// Foreign says that Class is another than the worker's.
	Foreign bool
}

// Step is what follows after some looks at a result.
type Step uint8

const (
	// Settle: the newest verdict stands.
	Settle Step = iota
	// LookAgain: once more, at places drawn afresh.
	LookAgain
	// LookThird: a third peer of the worker's device class looks at places that
	// are drawn afresh …
	LookThird
	// LookSame: … or at those where the first look found something.
	LookSame
	// Accept: the first look was mistaken.
	Accept
	// Reject: wrong, as far as this machine alone can tell.
	Reject
	// Confirm: wrong, and others agree. Only this punishes.
	Confirm
	// Dispute: those who looked do not agree, or only one could look. It is not
	// taken if anybody else can do the work, and counts as a strike.
	Dispute
)

// patient is how many disputes among a peer's last results are taken for bad
// luck. The next one that two checkers found in the same place is not.
const patient = 2

// NextLook decides what follows. third says whether a peer of the worker's
// device class is there that is neither the worker nor one that looked already;
// own, whether this machine, or a member that its owner named, was among those
// who looked; disputes is how many of the worker's last results were disputed.
//
// One rejection is never enough: it may be the checker's mistake, or a place in
// the picture that cannot be judged. A cheat in a few tiles is found in one place
// and not in another, so a second look that finds nothing settles nothing
// either: then the third looks where something was found. It also does so where
// what the claim was compared with came of another device class: perhaps no
// device of the worker's makes what the other makes, and then the third finds
// nothing there. And where only strangers looked, who may all be friends, nobody
// is punished.
func NextLook(looks []Look, third, own bool, disputes int) Step {
	at := func(i int) job.Ruling { return looks[i].Ruling }
	switch n := len(looks); {
	case n == 1 && at(0) == job.Rejected:
		return LookAgain
	case n <= 1:
		return Settle
	case n == 2 && at(1) == job.Unsure:
		return Dispute
	case n == 2 && at(1) == job.Rejected && third && looks[0].Foreign:
		return LookSame
	case n == 2 && at(1) == job.Rejected && third:
		return LookThird
	case n == 2 && at(1) == job.Rejected:
		return Reject
	case n == 2 && third:
		return LookSame
	case n == 2:
		return Dispute
	case at(1) == job.Rejected:
		switch at(2) {
		case job.Rejected:
			if own {
				return Confirm
			}
			return Reject
		case job.Unsure:
			return Reject
		}
		if own && disputes >= patient && !looks[0].Foreign {
			return Reject
		}
		return Dispute
	case at(2) == job.Accepted:
		return Accept
	case at(2) == job.Rejected && disputes >= patient && own:
		return Confirm
	}
	return Dispute
}

// looked takes in what a look at x found.
func (b *Board) looked(j *jobState, x *ret, v job.Verdict) {
	x.cost += v.CostSeconds
	class := classOf(x.evidence, func(e evidence) job.Leaf { return e.leaf })
	x.checks, x.evidence, x.runs = nil, nil, nil
	if audit := x.audit; audit != "" {
		// The second look at what a member checked: this one counts.
		x.audit = ""
		switch {
		case v.Ruling == job.Accepted:
			b.trustChecker(audit)
			b.verdict(j, x, v)
			return
		case v.Ruling == job.Unsure:
			v = x.kept
			b.verdict(j, x, v)
			return
		}
		x.doubtful = append(x.doubtful, audit)
	}
	look := Look{Ruling: v.Ruling, By: x.checker, Class: class, Draw: max(x.draw, 1), Foreign: class != "" && class != x.deviceClass}
	x.looks = append(x.looks, look)
	if x.want == byClass && v.Ruling == job.Rejected && len(x.looks) == 1 && len(x.replicas) > 1 {
		// Two machines agreed with each other, and not with it.
		look.By = x.replicas[0]
		x.looks = append(x.looks, look)
		x.found = append(x.found, v)
	}
	if v.Ruling == job.Rejected {
		x.found = append(x.found, v)
	}
	vouched := b.vouch(j, x)
	if v.Ruling == job.Accepted && len(x.looks) == 1 && b.audits(j, x) {
		x.audit, x.kept, x.looks = x.checker, v, nil
		x.want = byHome
		b.lookAgain(j, x, 1)
		return
	}
	disputes := 0
	if w := b.byPeer[x.peer]; w != nil {
		disputes = w.score.Disputes
	}
	own := slices.ContainsFunc(x.looks, func(l Look) bool { return l.By == b.self || slices.Contains(b.o.Checkers, l.By) })
	switch NextLook(x.looks, b.third(j, x), own, disputes) {
	case Settle:
		b.verdict(j, x, v)
	case LookAgain:
		if x.want = byAny; x.t.Check.Method == job.CheckReplica {
			x.want = byClass
		}
		b.lookAgain(j, x, 2)
	case LookThird:
		x.want = byThird
		b.lookAgain(j, x, 3)
	case LookSame:
		x.want = byThird
		b.lookAgain(j, x, 1)
	case Accept:
		if by := x.looks[0].By; by != b.self {
			b.distrust(by, "what it found in a result was found by nobody else")
		}
		b.verdict(j, x, v)
	case Reject:
		v = x.found[0]
		b.verdict(j, x, v)
	case Confirm:
		v = x.found[0]
		v.Confirmed = true
		v.Reason = fmt.Sprintf("%s; %d independent looks agree", v.Reason, len(x.found))
		b.verdict(j, x, v)
	case Dispute:
		v = x.found[0]
		v.Ruling, v.Strike = job.Unsure, !vouched
		v.Reason = fmt.Sprintf("%d of %d looks found it wrong: %s", len(x.found), len(x.looks), v.Reason)
		b.verdict(j, x, v)
	}
}

// ClassOf is the device class of what a claim is compared with, or "" where there
// are several.
func ClassOf(e []Evidence) string { return classOf(e, func(e Evidence) job.Leaf { return e.Leaf }) }

func classOf[E any](of []E, leaf func(E) job.Leaf) string {
	class := ""
	for i, e := range of {
		if c := leaf(e).DeviceClass; i == 0 {
			class = c
		} else if c != class {
			return ""
		}
	}
	return class
}

// vouch tells the judge what devices of two classes make of honest work, where
// a third of the worker's own class found right what another class found wrong
// in the same places. It reports whether that is so.
func (b *Board) vouch(j *jobState, x *ret) bool {
	first, last := x.looks[0], x.looks[len(x.looks)-1]
	vouched := x.want == byThird && last.Ruling == job.Accepted && last.Class == x.deviceClass && last.Draw == first.Draw &&
		first.Ruling == job.Rejected && first.Foreign
	if vouched && !b.stranger(x.peer) { // of a stranger nothing is learnt that counts for others
		b.do(Vouch{ID: j.id, Task: x.t.Task(), Vouched: Vouched{Worker: x.peer, By: last.By, Class: x.deviceClass, Against: first.Class, Found: x.found[0]}})
	}
	return vouched
}

// clockSlack is how much of the work that a worker says it did may exceed what
// this machine saw of it.
const clockSlack = 2

// verdict ends the looks at x.
func (b *Board) verdict(j *jobState, x *ret, v job.Verdict) {
	v.CostSeconds, v.Share = x.cost, x.share
	v.MostSeconds = clockSlack * x.elapsed.Seconds()
	if v.Ruling == job.Rejected {
		for _, p := range x.doubtful {
			b.distrust(p, "it accepted a result that others found wrong")
		}
	}
	x.looks, x.found, x.doubtful, x.cost, x.kept = nil, nil, nil, 0, job.Verdict{}
	b.found(j, x, v)
}

// lookAgain draws places for one more look, whatever the rate says: for the nth
// time, where the first is the one that the worker can repeat.
func (b *Board) lookAgain(j *jobState, x *ret, draw int) {
	x.draw, x.checker = draw, ""
	one := 1.0
	b.do(Challenge{ID: j.id, Fence: x.fence, Worker: x.peer, Task: x.t.Task(), Leaf: j.leaf(x), Secret: j.drawSecret(x), Rate: &one})
}

// drawSecret is what the places of the present look are drawn from.
func (j *jobState) drawSecret(x *ret) []byte {
	s := j.secretOf(x.peer, j.leaseOf(x), x.t.key(), x.fence)
	if x.draw <= 1 {
		return s
	}
	m := hmac.New(sha256.New, s)
	fmt.Fprintf(m, "idlewild look %d", x.draw)
	return m.Sum(nil)
}
