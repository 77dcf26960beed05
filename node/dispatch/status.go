package dispatch

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Status describes a job; served is what of its content went to others.
func (b *Board) Status(now time.Time, id job.ID, served int64, frames bool) (job.Status, bool) {
	j := b.byID[id]
	if j == nil {
		return job.Status{}, false
	}
	return b.status(now, j, served, frames), true
}

func (b *Board) status(now time.Time, j *jobState, served int64, frames bool) job.Status {
	s := job.Status{
		Job: j.id, Title: j.spec.Title, Kind: j.spec.Kind, State: j.State(), Submitted: j.submitted, File: j.spec.File(), Output: j.spec.Output, Priority: j.spec.Policy.Priority,
		ContentBytes: j.snapshot.Bytes, NewBytes: j.snapshot.NewBytes, UploadedBytes: served, ResultBytes: j.results, Messages: j.messages,
		Problems: j.problems,
	}
	if s.Title == "" && j.spec.Input != "" {
		s.Title = filepath.Base(j.spec.Input)
	}
	if j.cleaned {
		s.UploadedBytes = j.served
	}
	end := now
	if j.state.Ended() {
		end = j.at
	}
	s.WallSeconds = max(0, end.Sub(j.submitted).Seconds())

	shares := map[account]*job.WorkerStatus{}
	var order []account
	share := func(p peer.ID, device string) *job.WorkerStatus {
		a := account{p, device}
		if shares[a] == nil {
			shares[a] = &job.WorkerStatus{Peer: p.String(), Device: device}
			order = append(order, a)
		}
		return shares[a]
	}
	joinedAll, worked := 0.0, 0.0 // of slots for work, the home slot aside
	for _, x := range j.joins {
		d := x.total
		if x.since != 0 {
			d += max(0, now.Sub(b.base)-time.Duration(x.since-1))
		}
		share(x.peer, x.device).JoinedSeconds = d.Seconds()
		if x.device != job.HomeDevice {
			joinedAll += d.Seconds()
		}
	}
	for _, t := range j.tasks {
		if j.counts(t) {
			s.Tasks++
			at, _ := t.shown()
			switch at {
			case done:
				s.Delivered++
			case failed:
				s.FailedN++
			case skipped:
				s.Skipped++
				if j.reuse.has(t) {
					s.Reused++
				}
			case blocked, open:
				s.Waiting++
			default:
				s.Running++
				s.UnderWay += t.far()
			}
			if frames {
				s.Frames = append(s.Frames, t.status(j))
			}
		}
		x := t.accepted
		if x == nil {
			continue
		}
		render := rendered(x).Seconds()
		s.RenderSeconds += render
		if x.device != job.HomeDevice {
			worked += render
		}
		w := share(x.peer, x.device)
		w.Tasks++
		w.RenderSeconds += render
		if x.verdict.Method != "trusted" {
			s.Rechecked++
		}
		switch {
		case t.Place == job.AtRequester: // nobody to judge
		case x.verdict.Ruling == job.Accepted:
			s.Accepted++
		case x.verdict.Ruling == job.Unsure:
			s.Unsure++
		}
	}
	if j.reuse != nil {
		s.ReusedFrom, s.ReuseChecked = j.reuse.from, j.reuse.confirmed
	}
	for _, x := range j.rejected {
		s.Rechecked++
		s.Rejected++
		share(x.peer, x.device).Rejected++
	}
	if joinedAll > 0 {
		s.Efficiency = min(1, worked/joinedAll)
	}
	for _, a := range order {
		w := shares[a]
		if r := j.barred[a.peer]; r != "" {
			w.Resting = "a result was rejected: " + r
		} else if x := b.byPeer[a.peer]; x != nil && !x.rested(j, now) {
			w.Resting = x.rests[j.id].why
		}
		if frames {
			s.Workers = append(s.Workers, *w)
		}
	}
	s.Reason = b.reason(now, j)
	s.Stewards, s.Origin = j.stewards, text(j.origin)
	switch {
	case j.holder != "" && !j.state.Ended():
		s.Holder = j.holder.String()
	case j.origin != "" && j.live():
		s.Holder = b.self.String()
	}
	s.NeedMemoryBytes, s.NeedVRAMBytes = j.needed()
	p := &j.spec.Policy
	s.DeviceSeconds, s.BudgetSeconds = j.spent, p.Budget
	s.Deadline = p.Deadline
	s.MaxWorkers, s.Interactive, s.Only, s.Not = p.MaxWorkers, p.Interactive, p.Only, p.Not
	if j.state.Ended() {
		s.LateSeconds = j.lateBy(j.at)
		return s
	}
	s.LateSeconds = j.lateBy(now)
	if j.state == job.StatePlanned {
		s.LeftSeconds, s.LeftLow, s.LeftHigh = b.left(j)
		s.LeftDevice, s.LeftResults = b.costLeft(j)
		if s.LeftSeconds > 0 {
			s.LateSeconds = j.lateBy(now.Add(time.Duration(s.LeftSeconds * float64(time.Second))))
		}
	}
	return s
}

// costLeft is what the rest of a job will take of devices, in seconds, and how
// many bytes of results will come; nil where unknown.
func (b *Board) costLeft(j *jobState) (device, bytes *job.Span) {
	mid, low, high := b.left(j)
	if mid == 0 {
		return nil, nil
	}
	seconds, tasks, back := 0.0, 0, 0
	for _, c := range j.classes {
		if c.place == job.AtRequester || c.open+c.out == 0 {
			continue
		}
		work, _, ok := c.costs.rest()
		_, each := b.pace(j, c)
		if !ok || each <= 0 {
			return nil, nil
		}
		seconds += work / each
		tasks += c.open + c.out
	}
	for _, t := range j.tasks {
		if t.accepted != nil && t.Place != job.AtRequester {
			back++
		}
	}
	span := func(x float64) *job.Span { return &job.Span{Low: x * low / mid, Likely: x, High: x * high / mid} }
	if back > 0 && j.results > 0 {
		bytes = span(float64(j.results) / float64(back) * float64(tasks))
	}
	return span(seconds), bytes
}

// rendered is the time that counts as work done.
func rendered(x *ret) time.Duration {
	if x.render > 0 {
		return x.render
	}
	return x.wall
}

// shown is where people see t: a frame that is joined or finished of parts runs
// while they run. via is the part that says so, nil for t itself.
func (t *task) shown() (at phase, via *task) {
	if !t.finishes() {
		return t.phase, nil
	}
	if t.phase == blocked {
		at = blocked
		for _, p := range t.prior() {
			if q, _ := p.shown(); q == leased || q == returned || q == taken || q == done {
				if via == nil || q > at {
					at, via = q, p
				}
			}
		}
		if at == done || at == taken { // of this part; others are still to come
			at = leased
		}
		return at, via
	}
	if t.phase == open || t.phase == leased || t.phase == returned {
		return taken, nil // the parts are there and accepted
	}
	return t.phase, nil
}

// finishes reports whether t only makes something of what others rendered. Work
// of its own, for which some machine has to be found, is told as what it is.
func (t *task) finishes() bool { return t.Place != job.Anywhere && len(t.prior()) > 0 }

// delivered names the files that t was delivered in.
func (t *task) delivered(j *jobState) []string {
	switch {
	case !t.placed:
		return nil
	case t.also().files != nil:
		return t.also().files
	}
	return finalFiles(j.spec, t.Task())
}

// lastStep is how much of the way a task is that makes something of what others
// made: a frame that waits to be finished is not at its beginning again.
const lastStep = 0.05

// far is how far a task is, 0 to 1.
func (t *task) far() float64 {
	f := 0.0
	switch {
	case t.phase == failed:
		return 0
	case t.accepted != nil:
		return 1
	case t.active != nil:
		f = 1
	default:
		for _, g := range t.grants.all() {
			if g.lease.seen && g.lease.progress.Task == int(g.pos) {
				f = max(f, g.lease.progress.Fraction)
			}
		}
	}
	n := len(t.prior())
	if !t.finishes() {
		return f
	}
	f *= lastStep
	for _, p := range t.prior() {
		f += (1 - lastStep) / float64(n) * p.far()
	}
	return f
}

func (t *task) status(j *jobState) job.TaskStatus {
	at, via := t.shown()
	s := job.TaskStatus{Label: t.Label, State: at.String(), Attempts: int(t.granted), Files: t.delivered(j), Reason: t.also().failure}
	// What its parts say counts where they have no files of their own.
	for _, p := range t.prior() {
		if p.final() || !t.finishes() {
			continue
		}
		s.Attempts = max(s.Attempts, int(p.granted))
		if x := p.accepted; x != nil {
			s.RenderSeconds += rendered(x).Seconds()
		}
	}
	switch {
	case t.accepted != nil:
		x := t.accepted
		s.Worker, s.Verdict = x.peer.String(), x.verdict
		s.RenderSeconds += rendered(x).Seconds()
		if t.Place == job.AtRequester {
			for _, p := range t.prior() {
				if y := p.accepted; y != nil && !p.final() && (s.Verdict == x.verdict || y.verdict.Ruling == job.Unsure) {
					s.Worker, s.Verdict = y.peer.String(), y.verdict
				}
			}
		}
	case via != nil:
		p := via.status(j)
		s.Worker, s.Reason = p.Worker, p.Reason
	case t.active != nil:
		s.Worker = t.active.peer.String()
		s.RenderSeconds = rendered(t.active).Seconds()
	case t.grants.len() > 0:
		for _, g := range t.grants.all() {
			if s.Worker == "" {
				s.Worker = g.lease.peer.String()
			}
			if g.lease.seen && g.lease.progress.Task == int(g.pos) {
				s.Worker = g.lease.peer.String()
			}
		}
	}
	if s.Reason == "" && len(t.also().ended) > 0 && t.accepted == nil {
		a := t.also().ended[len(t.also().ended)-1]
		s.Reason = fmt.Sprintf("%s on %s: %s", a.outcome, short(a.peer), a.reason)
	}
	s.Fraction = t.far()
	if j.reuse.has(t) {
		s.Reason = fmt.Sprintf("reused from job %s", j.reuse.from)
	}
	return s
}

// left is how long the rest of a job will take, in seconds, and the range in
// which that should lie; 0 where unknown. The range comes from how wrong
// predictions of this job's tasks have been, and from workers coming and going.
func (b *Board) left(j *jobState) (mid, low, high float64) {
	const restless = 0.1
	unsure := restless
	longest, last, again := 0.0, 0.0, 0.0 // a task that somebody is at, what the last of them still needs, and a copy of it
	unready := j.unready()
	for _, c := range j.classes {
		// What comes after others costs what the first of it did.
		if mean, known := c.costs.mean(); known && unready[c] > 0 && c.place != job.AtRequester {
			if all, _ := b.pace(j, c); all > 0 {
				mid += mean * float64(unready[c]) / all
			}
		}
		if c.open+c.out == 0 {
			continue
		}
		u := b.underWay(j, c)
		work, _, ok := c.costs.rest()
		mean, _ := c.costs.mean()
		switch {
		case ok:
			work = max(work-u.whole+u.rest, u.rest)
		case u.n > 0: // the first ones tell how far they are
			mean = u.whole / float64(u.n)
			work = u.rest + mean*float64(c.open+c.out-u.n)
		default:
			return 0, 0, 0
		}
		all, each := b.pace(j, c)
		if all <= 0 {
			return 0, 0, 0
		}
		if among := b.among(j, c, work); among > 0 {
			all = among
		}
		mid += work / all
		unsure = max(unsure, restless+2*c.costs.sigma()/math.Sqrt(float64(max(c.costs.known, 1))))
		if each > 0 {
			longest = max(longest, mean/each)
		}
		if u.last > last {
			if last = u.last; each > 0 {
				again = u.longest / each
			}
		}
	}
	if b.connected > few {
		last = min(last, mid+again) // who is free by then makes a copy
	}
	if mid = max(mid, last, b.homeLeft(j, unready)); mid == 0 {
		return 0, 0, 0
	}
	unsure = min(unsure, 0.9)
	return mid, mid * (1 - unsure), mid*(1+unsure) + longest
}

// among is the speed at which work of c goes on beside jobs that are as urgent as
// j: devices go where the least speed is for what remains, so all of them end
// together. It is 0 where j is alone.
func (b *Board) among(j *jobState, c *class, work float64) float64 {
	if c.place == job.AtRequester || len(b.live) < 2 {
		return 0
	}
	sum := work
	for _, o := range b.live {
		if o == j || !o.live() || o.spec.Policy.Priority < j.spec.Policy.Priority || j.spec.Policy.Interactive && !o.spec.Policy.Interactive {
			continue
		}
		for _, x := range o.classes {
			if x.place == job.AtRequester || x.open+x.out == 0 {
				continue
			}
			w, _, ok := x.costs.rest()
			if !ok {
				w = float64(x.costs.left) * b.typical()
			}
			sum += w
		}
	}
	if sum <= work {
		return 0
	}
	all, _ := b.capacity(c)
	return all * work / sum
}

// unready counts the tasks whose predecessors are not there yet.
func (j *jobState) unready() map[*class]int {
	n := map[*class]int{}
	for _, t := range j.tasks {
		if t.phase == blocked {
			n[t.class]++
		}
	}
	return n
}

// homeLeft is how long this machine needs for the checks of j that wait or run
// and for what it has to finish, also of frames that are not there yet, in
// seconds. Others render meanwhile: at the end this is what is waited for.
func (b *Board) homeLeft(j *jobState, unready map[*class]int) float64 {
	left := b.checksLeft(j).Seconds()
	for _, c := range j.classes {
		mean, known := c.costs.mean()
		if c.place != job.AtRequester || !known {
			continue
		}
		if _, each := b.pace(j, c); each > 0 {
			left += mean / each * float64(unready[c]+c.open+c.out)
		}
	}
	return left
}

// checksLeft is how long the checks of j take that wait or run, as long as one
// takes here: those of this machine one after another, those of members beside
// each other and them. It is 0 before this machine ran one.
func (b *Board) checksLeft(j *jobState) time.Duration {
	home, away := time.Duration(len(j.checks)-j.handed)*b.checkEvery(), time.Duration(0)
	if j.handed > 0 {
		away = b.checkTime
	}
	for _, g := range j.checking {
		l := g.lease
		if g.over {
			continue
		}
		rest := b.checkTime
		if l.seen && l.progress.Task == int(g.pos) {
			rest = max(rest-b.since(l.running), rest/10)
		}
		if l.peer == b.self {
			home += rest
		} else {
			away = max(away, rest)
		}
	}
	return max(home, away)
}

// underWay is what is known of the tasks of a class that somebody is at, in
// seconds on a device of speed 1.
type underWay struct {
	n     int
	whole float64 // what they cost
	rest  float64 // of that, what is still to do
	last  float64 // seconds until the last of them is done
	// longest is what that one costs.
	longest float64
}

// underWay looks at the tasks of c that say how far they are, where there are so
// few that they matter. Before a cost is known only those count that got on.
func (b *Board) underWay(j *jobState, c *class) (u underWay) {
	const few = 256
	if len(j.leaseSeq) > few {
		return u
	}
	soonest := map[*task]underWay{} // of two copies the sooner one counts
	for _, l := range j.leaseSeq {
		w := b.byPeer[l.peer]
		if l.closed || l.check || w == nil || !w.connected || !l.seen || l.progress.Task < 0 || l.progress.Task >= len(l.grants) {
			continue
		}
		g := l.grants[l.progress.Task]
		if g.over || g.t.class != c || g.t.accepted != nil || g.t.active != nil {
			continue
		}
		pace := w.seat(l.device).pace()
		cost, known := c.costs.at(int(g.t.index))
		rest := b.remaining(l, g, cost/pace)
		if !known {
			if f := l.progress.Fraction; l.first == 0 || f <= 0.05 || f-float64(l.first) <= 0.02 {
				continue
			}
			cost = (b.since(l.running).Seconds() + rest) * pace
		}
		x := underWay{whole: cost, rest: min(rest*pace, 1e9), last: rest}
		if was, ok := soonest[g.t]; !ok || x.last < was.last {
			soonest[g.t] = x
		}
	}
	for _, l := range j.leaseSeq { // in an order that is the same each time
		for _, g := range l.grants {
			if x, ok := soonest[g.t]; ok {
				delete(soonest, g.t)
				u.n++
				u.whole += x.whole
				u.rest += x.rest
				if x.last > u.last {
					u.last, u.longest = x.last, x.whole
				}
			}
		}
	}
	return u
}

// onlyHome reports whether the machine only does its own finishing and checks.
func (w *worker) onlyHome() bool {
	for _, d := range w.machine.Devices {
		if d.Name != job.HomeDevice {
			return false
		}
	}
	return true
}

// homework reports whether work is open that this machine must do itself.
func (j *jobState) homework() bool {
	for _, c := range j.classes {
		if c.open > 0 && c.place != job.Anywhere {
			return true
		}
	}
	return false
}

// reason says why a job is as it is or, where nothing happens, why not.
func (b *Board) reason(now time.Time, j *jobState) string {
	switch {
	case j.state.Ended():
		return j.reason
	case j.paused:
		return "paused"
	case j.state == job.StateAccepted:
		return j.phase
	case j.stuck != "":
		return j.stuck
	case j.holder != "":
		return "its steward " + b.o.Name(j.holder) + " held it and gives back what was done"
	}
	if j.open > 0 {
		if why := b.limit(j); why != "" {
			return why
		}
	}
	waiting, running := 0, 0
	for _, c := range j.classes {
		waiting += c.open
		running += c.out
	}
	if n := len(j.checks); n > 0 {
		w, wait := b.byPeer[b.self], fmt.Sprintf("%d checks wait", n)
		if n == 1 {
			wait = "1 check waits"
		}
		switch {
		case w == nil || !w.connected:
			return wait + ": this machine runs no worker"
		case len(w.leases) == 0 && !b.bids(w):
			return wait + ": this machine's worker takes no work now"
		}
	}
	if waiting == 0 || running > 0 {
		return ""
	}
	var whys []string
	peers := 0
	for _, w := range b.workers {
		if !w.connected || w.peer == b.self && w.onlyHome() && !j.homework() {
			continue
		}
		peers++
		if why := b.whyNot(now, w, j); why != "" {
			whys = append(whys, "worker "+b.o.Name(w.peer)+" "+why)
		}
	}
	if peers == 0 {
		return "no machine that could work on it is connected"
	}
	const most = 4
	if len(whys) > most {
		whys = append(whys[:most], fmt.Sprintf("and %d more", len(whys)-most))
	}
	if helps := b.remedy(j); helps != "" {
		whys = append(whys, helps)
	}
	return strings.Join(whys, "; ")
}

// remedy is what helps open tasks of j that need what no connected machine has.
func (b *Board) remedy(j *jobState) string {
	for _, c := range j.classes {
		if c.open == 0 {
			continue
		}
		if why := b.noRoom(j, c); why != "" {
			return why
		}
		for _, fact := range slices.Sorted(maps.Keys(c.needs.Require)) {
			if helps := b.o.Remedy(fact); helps != "" && !b.somewhere(job.Needs{Require: map[string]string{fact: c.needs.Require[fact]}}) {
				return helps
			}
		}
	}
	return ""
}

// somewhere reports whether a device of a connected machine has what n needs.
func (b *Board) somewhere(n job.Needs) bool {
	for _, w := range b.workers {
		if w.connected && slices.ContainsFunc(w.machine.Devices, func(d job.Device) bool { return w.machine.Has(n, d) }) {
			return true
		}
	}
	return false
}

func (b *Board) bids(w *worker) bool {
	for _, s := range w.seats {
		if s.want > 0 {
			return true
		}
	}
	return false
}

// whyNot says why w has no work of j although there is some, or "".
func (b *Board) whyNot(now time.Time, w *worker, j *jobState) string {
	switch {
	case w.score.Banned != "":
		return "is banned: " + w.score.Banned
	case j.barred[w.peer] != "":
		return "gets no more work on this job, a result was rejected: " + j.barred[w.peer]
	case w.stranger && !j.spec.Policy.Strangers:
		return "is no member of the farm, and the job is for members (--strangers)"
	case w.stranger && !j.forStrangers():
		return "is no member of the farm, and this machine alone could not check what it gives back"
	case w.peer != b.self && !j.allows(w.peer):
		return "is not wanted for it (--only, --not)"
	case w.leaving != "":
		return "takes no more work: " + w.leaving
	case !w.rested(j, now):
		r := w.rests[j.id]
		return fmt.Sprintf("rests for %v: %s", r.until.Sub(now).Round(time.Second), r.why)
	}
	lacks := ""
	for _, c := range j.classes {
		if c.open == 0 {
			continue
		}
		if c.place != job.Anywhere && w.peer != b.self {
			lacks = "is not the machine that must do this"
			continue
		}
		if lacks = b.lacking(w, c.needs, c.place); lacks != "" {
			continue
		}
		if lacks, _ = b.crampedIn(w, c); lacks != "" {
			continue
		}
		if !b.mayAny(w, j, c) {
			return "failed at what is left"
		}
		if !slices.ContainsFunc(w.machine.Devices, func(d job.Device) bool { return b.fits(w, d, c.needs, c.place) && b.roomAny(w, d, c) }) {
			lacks = "needs more memory for what is left, as was tried"
			continue
		}
		switch {
		case len(w.leases) > 0:
			return "is busy with other work"
		case !b.bids(w):
			return "takes no work now"
		}
		if !b.within(w, j) {
			return fmt.Sprintf("is not asked: %d machines are at it, which is the job's limit", j.spec.Policy.MaxWorkers)
		}
		for _, s := range w.seats {
			if s.price > j.spec.Policy.MaxPrice {
				return fmt.Sprintf("asks %g per second, the job pays %g at most", s.price, j.spec.Policy.MaxPrice)
			}
		}
		return ""
	}
	return lacks
}

// mayAny reports whether w may try one of the open tasks of c.
func (b *Board) mayAny(w *worker, j *jobState, c *class) bool {
	for _, q := range []*queues{&c.lead, &c.rest} {
		for _, h := range q.all() {
			for _, t := range *h {
				if t.phase == open && b.may(w, j, t) {
					return true
				}
			}
		}
	}
	return false
}
