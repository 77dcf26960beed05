package dispatch

import (
	"fmt"
	"slices"
	"time"

	"idlewild/job"
)

// check begins the judgement of a result that is safe here.
func (b *Board) check(j *jobState, x *ret) {
	t := x.t
	switch {
	case x.peer == b.self:
		b.found(j, x, standardVerdicts[verdictSelf])
	case t.Check.Method == job.CheckNone:
		b.found(j, x, standardVerdicts[verdictNoCheck])
	default:
		rate := j.spec.Policy.Recheck
		if x.force || x.recheck || j.barred[x.peer] != "" {
			one := 1.0
			rate = &one
		}
		b.do(Challenge{ID: j.id, Fence: x.fence, Worker: x.peer, Task: t.Task(), Leaf: j.leaf(x),
			Secret: j.secretOf(x.peer, j.leaseOf(x), t.key(), x.fence), Rate: rate, Stranger: b.stranger(x.peer)})
	}
}

// judging returns the result that fence names while it is being judged.
func (b *Board) judging(id job.ID, fence uint64) (*jobState, *ret) {
	j := b.byID[id]
	if j == nil || j.state.Ended() {
		return nil, nil
	}
	x := j.rets[fence]
	if x == nil || (x.state != retSafe && !x.recheck) {
		return nil, nil
	}
	return j, x
}

func (b *Board) challenged(e Challenged) {
	j, x := b.judging(e.ID, e.Fence)
	if j == nil || x.checks != nil || x.pending != nil {
		return
	}
	if len(x.looks) == 0 && x.audit == "" {
		x.share = e.Share
	}
	switch {
	case e.Err != nil:
		b.looked(j, x, job.Verdict{Ruling: job.Unsure, Method: "trusted", Reason: "no check could be drawn: " + e.Err.Error()})
	case len(e.Tasks) == 0 && len(x.looks) > 0:
		b.looked(j, x, job.Verdict{Ruling: job.Unsure, Method: "trusted", Reason: "no second look could be drawn"})
	case len(e.Tasks) == 0:
		b.found(j, x, standardVerdicts[verdictNotDrawn])
	default:
		tasks := b.withClaim(x, e.Tasks)
		if len(x.looks) == 0 && x.audit == "" {
			x.want = b.whose(j, x, tasks)
		}
		for _, ct := range tasks {
			ct.Place = job.AtRequester
			t := newCheck(ct, x)
			x.checks = append(x.checks, t)
		}
		if why := b.nobodyChecks(j, x, x.checks); why != "" && x.want != byHome && x.want != byAny {
			x.checks = nil
			b.looked(j, x, unverified(x, why))
			return
		}
		for _, t := range x.checks {
			if !b.early(j, t) {
				b.queueCheck(j, t)
			}
		}
		b.watchChecks(j, x)
	}
}

// checkPatience is how long a result waits for somebody to check it before it
// counts as one that could not be verified.
const checkPatience = 2 * time.Minute

// watchChecks gives up on checks that nobody can run. A worker of this machine
// that is there but busy, or paused by its owner, is waited for; a member that
// is at one for too long is not.
func (b *Board) watchChecks(j *jobState, x *ret) {
	checks, every := x.checks, checkPatience
	if x.want == byThird || x.want == byClass {
		every /= 8 // there is nobody to wait for
	}
	var look func()
	look = func() {
		if len(checks) == 0 || len(x.checks) == 0 || &x.checks[0] != &checks[0] || j.state.Ended() {
			return
		}
		for _, l := range slices.Clone(j.leaseSeq) {
			if l.check && !l.closed && l.peer != b.self && b.since(l.granted) >= stalled && slices.ContainsFunc(l.grants, func(g *grant) bool { return g.t.check == x }) {
				x.spare(l.peer)
				b.stop(l, "the check takes too long")
			}
		}
		if why := b.nobodyChecks(j, x, checks); why != "" && j.live() {
			b.dropChecks(j, x)
			b.looked(j, x, unverified(x, why))
			return
		}
		b.after(every, look)
	}
	b.after(every, look)
}

// unverified is the verdict where nobody can check. What only others of its
// class could check is taken from a peer against whom nothing speaks.
func unverified(x *ret, why string) job.Verdict {
	v := job.Verdict{Ruling: job.Unsure, Method: job.MethodTrusted, Reason: why}
	if x.want == byClass && len(x.looks) == 0 {
		v.Ruling = job.Accepted
	}
	return v
}

// nobodyChecks says why nobody can run the checks of x, or "".
func (b *Board) nobodyChecks(j *jobState, x *ret, checks []*task) string {
	at := func(t *task) bool { // somebody runs it, or did
		for _, g := range x.runs {
			if g.t == t && (j.checking[g.fence] == g || slices.ContainsFunc(x.evidence, func(e evidence) bool { return e.fence == g.fence })) {
				return true
			}
		}
		return false
	}
	why, left := "", 0
	for _, t := range checks {
		switch {
		case at(t):
		case x.want == byThird || x.want == byClass:
			if left++; b.candidates(j, t) < left || b.classMembers(x.deviceClass) < independent {
				why = fmt.Sprintf("its device class %q has too few independent members here that could check it", x.deviceClass)
			}
		case x.want == byAny && b.candidates(j, t) > 0:
		default:
			if w := b.byPeer[b.self]; w == nil || !w.connected {
				return "this machine runs no worker that could check it"
			} else if lacks := b.lacking(w, t.Needs, job.AtRequester); lacks != "" {
				why = "this machine cannot check it: it " + lacks
			}
		}
	}
	return why
}

// lacking says in words why none of w's devices meets n there, or "".
func (b *Board) lacking(w *worker, n job.Needs, p job.Place) string {
	why := "has no device for it"
	for _, d := range w.machine.Devices {
		if !b.fits(w, d, job.Needs{}, p) {
			continue
		}
		if why = w.machine.Lacks(n, d); why == "" {
			return ""
		}
	}
	return why
}

// dropChecks takes x's checks off the board.
func (b *Board) dropChecks(j *jobState, x *ret) {
	for _, g := range x.runs {
		if !g.over && g.lease.peer != b.self {
			b.stop(g.lease, "the check is not needed any more")
		}
	}
	j.checks = slices.DeleteFunc(j.checks, func(t *task) bool { return t.check == x })
	j.countHanded()
	x.checks, x.evidence, x.runs = nil, nil, nil
}

// checkLeaf: this machine, or a member, ran a check.
func (b *Board) checkLeaf(w *worker, j *jobState, g *grant, leaf job.Leaf, inline []job.Block) {
	if g.over {
		return
	}
	b.endGrant(g)
	x := g.t.check
	if leaf.Outcome == job.Succeeded && mismatch(g.t.Task(), leaf) == "" {
		if w.peer == b.self {
			b.timeCheck(leaf.Meter.Wall)
		}
		g.t.rets = []*ret{{t: g.t, fence: g.fence, lease: -1, peer: w.peer, maker: j.maker("", ""), trial: &trial{live: &arrival{leaf: leaf}}}}
		b.do(Fetch{ID: j.id, Fence: g.fence, For: x.fence, Worker: w.peer, Leaf: leaf, Inline: inline})
		return
	}
	b.checkDone(j, g)
	reason := leaf.Reason
	if reason == "" {
		reason = string(leaf.Outcome)
	}
	if leaf.Outcome == job.Broken {
		b.restFor(w, j, reason)
	}
	if w.peer != b.self {
		x.spare(w.peer)
	}
	if leaf.Outcome.Short() { // as it would the next time
		g.t.tries += 2
	}
	b.retryCheck(j, g.t, reason, leaf.Outcome != job.Cancelled)
}

// checkSettled is what a worker is told of a check that it ran. Checks are in no
// journal: one that is lost is drawn and run again.
const checkSettled = "a check"

// checkDone lets a worker forget a check that it ran.
func (b *Board) checkDone(j *jobState, g *grant) {
	delete(j.checking, g.fence)
	if w := b.byPeer[g.lease.peer]; w != nil && w.connected {
		b.sayTo(w, job.Settled{Job: j.id, Lease: g.lease.id, Task: g.t.key(), Ruling: job.Accepted, Reason: checkSettled,
			Secret: j.secretOf(w.peer, g.lease.id, g.t.key(), g.fence)})
	}
}

// retryCheck runs a check again, or does without it.
func (b *Board) retryCheck(j *jobState, t *task, reason string, counts bool) {
	x := t.check
	if !slices.Contains(x.checks, t) {
		return
	}
	if counts {
		t.tries++
	}
	if t.tries < 3 {
		if !counts {
			b.after(time.Second, func() {
				if slices.Contains(x.checks, t) {
					b.queueCheck(j, t)
				}
			})
			return
		}
		b.queueCheck(j, t)
		return
	}
	if t.ofClaim() {
		// Why a claim gives nothing to go on with, that it lacks a pass, say, is seen
		// by comparing it.
		x.checks = slices.DeleteFunc(slices.Clone(x.checks), (*task).ofClaim) // who watches them has the old ones
		b.watchChecks(j, x)
		x.evidence = slices.DeleteFunc(x.evidence, func(e evidence) bool { return newCheck(e.task, x).ofClaim() })
		b.weigh(j, x)
		return
	}
	if x.want == byAny {
		// Members that fail, or say so, do not decide that nothing is checked.
		if w := b.byPeer[b.self]; w != nil && w.connected && b.lacking(w, t.Needs, job.AtRequester) == "" {
			x.want, t.tries = byHome, 0
			b.queueCheck(j, t)
			return
		}
	}
	b.dropChecks(j, x)
	b.looked(j, x, job.Verdict{Ruling: job.Unsure, Method: "trusted", Reason: "the check could not be run: " + reason})
}

// evident: the outputs of a check are here.
func (b *Board) evident(j *jobState, g *grant, e Fetched) {
	x := g.t.check
	if e.Local && slices.Contains(x.checks, g.t) && len(g.t.rets) > 0 {
		// The disk is full, say. The check is done, and its outputs wait where
		// it was run.
		j.stuck = fmt.Sprintf("the check of %s cannot be kept: %v", x.t.Label, e.Err)
		b.after(localPatience, func() {
			if j.checking[g.fence] == g && slices.Contains(x.checks, g.t) && !j.state.Ended() {
				b.do(Fetch{ID: j.id, Fence: g.fence, For: x.fence, Worker: g.lease.peer, Leaf: g.t.rets[0].live.leaf})
			}
		})
		return
	}
	b.checkDone(j, g)
	if !slices.Contains(x.checks, g.t) || len(g.t.rets) == 0 {
		return
	}
	leaf := g.t.rets[0].live.leaf
	if e.Err != nil {
		if g.lease.peer != b.self {
			x.spare(g.lease.peer)
		}
		b.retryCheck(j, g.t, e.Err.Error(), true)
		return
	}
	j.stuck = ""
	x.evidence = append(x.evidence, evidence{g.t.Task(), leaf, g.fence})
	for _, t := range x.checks {
		if slices.Contains(t.Task().After, g.t.key()) && !x.t.is(g.t.key()) { // nothing waits for the claim
			b.queueCheck(j, t)
		}
	}
	b.weigh(j, x)
}

// weigh has the claim compared with the evidence, once all of it is there.
func (b *Board) weigh(j *jobState, x *ret) {
	if len(x.evidence) < len(x.checks) {
		return
	}
	// In the order in which they were drawn.
	order := map[job.TaskKey]int{}
	for i, t := range x.checks {
		if _, ok := order[t.key()]; !ok {
			order[t.key()] = i
		}
	}
	slices.SortStableFunc(x.evidence, func(a, c evidence) int { return order[a.leaf.Task] - order[c.leaf.Task] })
	b.do(Compare{ID: j.id, Fence: x.fence, Task: x.t.Task(), Leaf: j.leaf(x), Evidence: x.evidence})
}

func (b *Board) judged(e Judged) {
	if j, x := b.judging(e.ID, e.Fence); j != nil && x.pending == nil {
		b.looked(j, x, e.Verdict)
	}
}

// found books a verdict before it has consequences.
func (b *Board) found(j *jobState, x *ret, v job.Verdict) {
	x.pending = &v
	x.checks = nil
	if x.peer == b.self {
		b.conclude(j, x)
		return
	}
	b.do(Enter{ID: j.id, Fence: x.fence, Worker: x.peer, Signed: j.signed(x), Leaf: j.leaf(x), Verdict: v})
}

func (b *Board) booked(e Booked) {
	if e.Err == nil {
		b.scored(Scored{e.Worker, e.Score})
	}
	j, x := b.judging(e.ID, e.Fence)
	if e.Strike || j == nil || x.pending == nil {
		return
	}
	if e.Err != nil {
		b.do(Note{"verdict could not be booked", []any{"job", j.id, "peer", x.peer, "err", e.Err}})
		b.after(time.Second, func() {
			if j, x := b.judging(e.ID, e.Fence); j != nil && x.pending != nil {
				b.do(Enter{ID: j.id, Fence: x.fence, Worker: x.peer, Signed: j.signed(x), Leaf: j.leaf(x), Verdict: *x.pending})
			}
		})
		return
	}
	b.conclude(j, x)
}

// mostDisputed is how many peers' results of one task may be disputed before the
// task itself is taken for one that cannot be judged.
const mostDisputed = 3

// conclude acts on a verdict that is booked.
func (b *Board) conclude(j *jobState, x *ret) {
	v, t := *x.pending, x.t
	was := x.recheck
	take := v.Ruling == job.Accepted
	if v.Ruling == job.Unsure {
		// Once, somebody else gets a try; then it is delivered as what it is.
		take = was || len(t.also().avoid) > 0 || v.Method == "trusted" || !b.others(x.peer, j, t)
		if v.Strike {
			take = len(t.also().avoid) >= mostDisputed || !b.others(x.peer, j, t)
		}
		// Nobody answers for a stranger: what could not be checked waits for somebody else.
		take = take && !b.stranger(x.peer)
	}
	if was {
		j.rechecks--
	}
	meter := j.leaf(x).Meter
	r := &judgeRecord{Task: int(t.index), Fence: x.fence, Take: take, Standard: isStandard(v)}
	if r.Standard < 0 {
		r.Verdict = &v
	}
	b.write(j, r)
	b.settle(j, x)
	b.emit(j, job.Event{Type: job.EventJudged, Task: t.Label, Worker: x.peer.String(), Verdict: x.verdict, Text: v.Reason})
	if w := b.byPeer[x.peer]; w != nil && take {
		delete(w.rests, j.id)
	}
	switch {
	case take:
		if v.Ruling == job.Accepted {
			b.measured(j, x, meter)
			if !b.spilled(j, x, meter) { // that says nothing of its pace elsewhere
				b.learn(j, x)
				b.fitted(x.peer, x.device, t)
			}
		}
		if j.barred[x.peer] != "" {
			b.suspect(j, x) // it was caught meanwhile
		}
		for _, o := range t.rets {
			if o.state == retHeld {
				o.state, o.settled, o.live = retEnded, "another peer was first", nil
				b.settle(j, o)
			}
		}
	case v.Ruling == job.Rejected:
		b.do(Discard{ID: j.id, Fence: x.fence})
		b.bar(j, x)
		b.next(j, t)
	default:
		t.add().avoid = append(t.add().avoid, x.peer)
		b.do(Discard{ID: j.id, Fence: x.fence})
		b.next(j, t)
	}
	b.maybeEnd(j)
}

// bar ends a peer's part in a job after a result of it was rejected: its
// leases go to others. What it returned unseen is checked, or where others agree
// that it cheated, done again.
func (b *Board) bar(j *jobState, caught *ret) {
	p := caught.peer
	var again []*task
	for _, l := range slices.Clone(j.leaseSeq) {
		if l.peer == p && !l.closed {
			b.stop(l, "a result was rejected: "+caught.verdict.Reason)
		}
	}
	for _, t := range j.tasks {
		for _, x := range t.rets {
			if x.peer != p {
				continue
			}
			switch x.state {
			case retHeld:
				x.state, x.settled, x.live = retEnded, "no more work of this peer is taken for this job", nil
				b.settle(j, x)
			case retFetching, retSafe:
				x.force = true
			case retJudged:
				if caught.verdict.Confirmed && b.unseen(x) {
					again = append(again, t)
					continue
				}
				b.suspect(j, x)
			}
		}
	}
	if len(again) > 0 {
		b.redo(j, again)
	}
	if w := b.byPeer[p]; w != nil {
		b.tell(w)
		if w.connected {
			b.urge(w)
		}
	}
	b.hungry = true
}

// unseen reports whether x is a task's result that could have been checked and
// was not.
func (b *Board) unseen(x *ret) bool {
	return x.taken && x.t.accepted == x && x.verdict.Ruling == job.Accepted && x.verdict.Method == "trusted" && x.t.Check.Method != job.CheckNone && x.peer != b.self
}

// suspect checks a result that was accepted unseen from a peer that was caught.
func (b *Board) suspect(j *jobState, x *ret) {
	if !x.suspect && b.unseen(x) {
		x.recheck, x.suspect = true, true
		x.trial = &trial{lost: x.lost}
		j.rechecks++
		b.check(j, x)
	}
}
