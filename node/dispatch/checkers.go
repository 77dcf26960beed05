package dispatch

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// by says who may run the checks of a result.
type by uint8

const (
	byHome  by = iota // this machine
	byAny             // this machine, or a member: see mayCheck
	byThird           // a member that did not look yet, of the worker's device class
	byClass           // members of the worker's device class, each one check
)

const (
	// independent is how many members a device class needs before one of them
	// may decide about another: who claims, who checks, and who decides.
	independent = 3
	// audited is how many of a member's first checks are done again here; after
	// those, one in auditEvery.
	audited, auditEvery = 10, 10
	// checkTurn is how long this machine checks before it finishes what is ready.
	// Where a check takes longer it holds one at a time.
	checkTurn = 5 * time.Second
	// checkRest is how long this machine's checks rest after each while its owner's
	// programs want the processor, in times what the check took: at the least
	// priority a check still takes caches and memory's bandwidth from them.
	checkRest = 4
	// stalled is how long a member may be at a check.
	stalled = 5 * time.Minute
)

// mayCheck reports whether s may run the check t.
func (b *Board) mayCheck(s *seat, t *task) bool {
	x, w := t.check, s.w
	if t.ofClaim() {
		return w.peer == b.self && b.fits(w, s.Device, t.Needs, job.AtRequester)
	}
	if w.peer == b.self && x.want != byThird && x.want != byClass {
		return b.fits(w, s.Device, t.Needs, job.AtRequester)
	}
	if w.stranger || x.want == byHome || w.peer == x.peer || slices.Contains(x.spared, w.peer) || s.Name == job.HomeDevice ||
		w.score.Banned != "" || w.score.Rejected > 0 || b.liars[w.peer] != "" || !b.fits(w, s.Device, t.Needs, job.Anywhere) {
		return false
	}
	same := s.Class != "" && s.Class == x.deviceClass
	if slices.ContainsFunc(x.looks, func(l Look) bool { return l.By == w.peer }) {
		return false
	}
	switch x.want {
	case byThird:
		return same
	case byClass:
		return same && !slices.Contains(x.replicas, w.peer)
	}
	if slices.Contains(b.o.Checkers, w.peer) {
		return true
	}
	return same && b.classMembers(x.deviceClass) >= independent
}

// ofClaim reports whether t is a check that reads the claim itself, or what
// another check made of it. This machine alone runs those: a member never sees
// what it could say again.
func (t *task) ofClaim() bool {
	return t.check != nil && slices.ContainsFunc(t.Task().After, func(k job.TaskKey) bool { return find(t.check.t.prior(), k) == nil })
}

// withClaim are the checks of x that can be run. Those that read the claim are
// left out of a look by others, and where this machine cannot run them. So what
// they find alone never gets a peer banned. Of two checks that leave the same
// files one is enough: that which reads the claim, where it can be run.
func (b *Board) withClaim(x *ret, tasks []job.Task) []job.Task {
	w := b.byPeer[b.self]
	out := slices.DeleteFunc(slices.Clone(tasks), func(t job.Task) bool { return newCheck(t, x).ofClaim() })
	if len(out) == len(tasks) {
		return tasks
	}
	able := w != nil && w.connected && x.want != byThird && x.want != byClass
	for _, t := range tasks {
		able = able && (!newCheck(t, x).ofClaim() || b.lacking(w, t.Needs, job.AtRequester) == "")
	}
	if !able {
		return out
	}
	return slices.DeleteFunc(slices.Clone(tasks), func(t job.Task) bool {
		return !newCheck(t, x).ofClaim() && slices.ContainsFunc(tasks, func(of job.Task) bool {
			return newCheck(of, x).ofClaim() && len(of.Outputs) > 0 && slices.Equal(of.Outputs, t.Outputs)
		})
	})
}

// given are the outputs that a check reads of the task k: the claim's, another
// check's, or those of a predecessor of the task that is checked. ok is false
// where they are not there yet.
func (b *Board) given(j *jobState, x *ret, k job.TaskKey) (outputs []job.Output, ok bool) {
	if x.t.is(k) {
		return j.leaf(x).Outputs, true
	}
	for _, e := range x.evidence {
		if e.leaf.Task == k {
			return e.leaf.Outputs, true
		}
	}
	if t := find(x.t.prior(), k); t != nil {
		if t.ready() {
			outputs = j.outputs(t)
		}
		return outputs, true
	}
	return nil, false
}

// early reports whether a check reads what another one has still to make.
func (b *Board) early(j *jobState, t *task) bool {
	return slices.ContainsFunc(t.Task().After, func(k job.TaskKey) bool {
		_, ok := b.given(j, t.check, k)
		return !ok
	})
}

// classMembers counts the connected members with a device of that class.
func (b *Board) classMembers(class string) int {
	n := 0
	for _, w := range b.workers {
		if w.connected && !w.stranger && class != "" && slices.ContainsFunc(w.seats, func(s *seat) bool { return s.there && s.Class == class }) {
			n++
		}
	}
	return n
}

// third reports whether somebody could look at x who is neither its worker nor
// looked already.
func (b *Board) third(j *jobState, x *ret) bool {
	if b.classMembers(x.deviceClass) < independent {
		return false
	}
	was := x.want
	x.want = byThird
	defer func() { x.want = was }()
	return b.candidates(j, newCheck(job.Task{Needs: x.t.Needs}, x)) > 0
}

// candidates counts the members, this machine aside, that could run t of j.
func (b *Board) candidates(j *jobState, t *task) int {
	n := 0
	for _, w := range b.workers {
		if w.connected && w.leaving == "" && w.peer != b.self && j.wants(w) &&
			slices.ContainsFunc(w.seats, func(s *seat) bool { return s.there && b.mayCheck(s, t) }) {
			n++
		}
	}
	return n
}

// whose decides who runs the checks of a first look: this machine while it
// keeps up, else members as well.
func (b *Board) whose(j *jobState, x *ret, tasks []job.Task) by {
	if x.t.Check.Method == job.CheckReplica {
		return byClass
	}
	w := b.byPeer[b.self]
	if w == nil || !w.connected || slices.ContainsFunc(tasks, func(t job.Task) bool { return b.lacking(w, t.Needs, job.AtRequester) != "" }) {
		return byAny
	}
	if time.Duration(b.waitingChecks()+len(tasks))*b.checkEvery() > b.o.Behind {
		return byAny
	}
	return byHome
}

func (b *Board) waitingChecks() int {
	n := 0
	for _, j := range b.live {
		n += len(j.checks)
	}
	return n
}

// timeCheck notes how long a check took this machine.
func (b *Board) timeCheck(d time.Duration) {
	if b.checkTime == 0 {
		b.checkTime = d
	}
	b.checkTime += (d - b.checkTime) / 8
	if b.crowded {
		b.checkFrom = b.now.Add(checkRest * d)
		b.after(checkRest*d, func() { b.hungry = true })
	}
}

// checkEvery is how long this machine needs for each check that waits.
func (b *Board) checkEvery() time.Duration {
	if b.crowded {
		return (1 + checkRest) * b.checkTime
	}
	return b.checkTime
}

// checksNow reports whether this machine may begin a check beside those that it
// has.
func (b *Board) checksNow(has int) bool {
	return has == 0 && !b.now.Before(b.checkFrom) || has == 1 && !b.crowded && b.checkTime <= checkTurn
}

// queueCheck puts a check into the queue of this machine.
func (b *Board) queueCheck(j *jobState, t *task) {
	if t.check.state != retSafe && !t.check.recheck {
		return
	}
	// Somebody is under suspicion until the next look: it goes before first looks.
	at := len(j.checks)
	if again(t) {
		at = slices.IndexFunc(j.checks, func(o *task) bool { return !again(o) })
		if at < 0 {
			at = len(j.checks)
		}
	}
	j.checks = slices.Insert(j.checks, at, t)
	j.countHanded()
	b.hungry = true
}

// again reports whether a check is one more look at a result.
func again(t *task) bool { return len(t.check.looks) > 0 }

// countHanded counts the waiting checks that members may run.
func (j *jobState) countHanded() {
	j.handed = 0
	for _, t := range j.checks {
		if t.check.want != byHome {
			j.handed++
		}
	}
}

// leaseCheck gives a device a check of one job that waits, this machine as many
// as it does in a turn.
func (b *Board) leaseCheck(s *seat) bool {
	most := 1
	w := s.w
	if w.peer == b.self && b.checkTime > 0 && !b.crowded {
		most = int(min(max(checkTurn/b.checkTime, 1), 16))
	}
	var jobs []*jobState
	for _, j := range b.live {
		if len(j.checks) > 0 && j.live() && w.rested(j, b.now) && (w.peer == b.self || j.handed > 0 && b.can(w, j)) {
			jobs = append(jobs, j)
		}
	}
	slices.SortStableFunc(jobs, func(x, y *jobState) int { return b.urgency(y, x) })
	for _, j := range jobs {
		l := &lease{job: j, no: -1, peer: w.peer, device: s.Name, check: true}
		var left []*task
		for _, t := range j.checks {
			if len(l.grants) == most || !b.mayCheck(s, t) {
				left = append(left, t)
				continue
			}
			if !t.ofClaim() {
				t.check.checker = w.peer
			}
			if t.check.want == byClass {
				t.check.replicas = append(t.check.replicas, w.peer)
			}
			g := &grant{lease: l, t: t, fence: b.fence(j), pos: int32(len(l.grants))}
			l.grants = append(l.grants, g)
			t.check.runs = append(t.check.runs, g)
			j.checking[g.fence] = g
		}
		if len(l.grants) == 0 {
			continue
		}
		j.checks = left
		j.countHanded()
		l.id = b.leaseID()
		j.leases[l.id] = l
		j.leaseSeq = append(j.leaseSeq, l)
		b.hand(s, l)
		return true
	}
	return false
}

// crowd notes whether other programs want this machine.
func (b *Board) crowd(crowded bool) {
	b.crowded = crowded
	if !crowded {
		b.checkFrom, b.hungry = time.Time{}, true
	}
}

// audits reports whether a result that a member checked is looked at here as
// well: whether a member tells the truth is seen only where somebody else knows
// it too. It cannot know when.
func (b *Board) audits(j *jobState, x *ret) bool {
	if x.checker == b.self || x.checker == "" || x.want == byThird || x.want == byClass {
		return false
	}
	w := b.byPeer[b.self]
	if w == nil || !w.connected {
		return false
	}
	n := b.checked[x.checker]
	return n < audited || j.secretOf(x.peer, j.leaseOf(x), x.t.key(), x.fence)[31]%auditEvery == 0
}

func (b *Board) trustChecker(p peer.ID) {
	if b.checked == nil {
		b.checked = map[peer.ID]int{}
	}
	b.checked[p]++
}

// distrust keeps a member from checking until this machine starts again. What it
// is worth as a worker is another matter.
func (b *Board) distrust(p peer.ID, why string) {
	if p == b.self || p == "" {
		return
	}
	if b.liars == nil {
		b.liars = map[peer.ID]string{}
	}
	b.liars[p] = why
	b.do(Note{"member checks no more", []any{"peer", p, "reason", why}})
}

// spare keeps p from the checks of x, which it could not run.
func (x *ret) spare(p peer.ID) {
	if !slices.Contains(x.spared, p) {
		x.spared = append(x.spared, p)
	}
}

// standing takes in how a peer stands now: who is banned loses its leases, whose
// ban is over is asked again.
func (b *Board) standing(w *worker, s Score) {
	was := w.score.Banned
	w.score = s
	if s.Banned != "" && !s.Until.IsZero() {
		b.after(max(0, s.Until.Sub(b.now)), func() {
			if w.score.Banned != "" && w.score.Until.Equal(s.Until) {
				free := w.score
				free.Banned, free.Until = "", time.Time{}
				b.standing(w, free)
			}
		})
	}
	if was == s.Banned {
		return
	}
	if was == "" {
		for _, l := range slices.Clone(w.leases) {
			b.stop(l, s.Banned)
		}
	}
	for _, x := range w.seats {
		b.tally(x)
	}
	b.mark(w)
	if w.connected {
		b.tell(w)
		b.urge(w)
	}
	b.hungry = true
}

func (b *Board) scored(e Scored) {
	if w := b.byPeer[e.Peer]; w != nil {
		b.standing(w, e.Score)
	}
}

// strike books something that a peer did against its own word. Nothing else
// comes of it than that its next results are all checked.
func (b *Board) strike(j *jobState, x *ret, reason string) {
	if x.peer == b.self || x.struck {
		return
	}
	x.struck = true
	b.do(Enter{ID: j.id, Fence: x.fence, Worker: x.peer, Signed: j.signed(x), Leaf: j.leaf(x), Strike: true,
		Verdict: job.Verdict{Ruling: job.Unsure, Method: job.MethodTrusted, Strike: true, Reason: reason}})
}
