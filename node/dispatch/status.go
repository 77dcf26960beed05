package dispatch

import (
	"fmt"
	"math"
	"path/filepath"
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
			f = max(f, float64(g.far)/math.MaxUint16)
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
