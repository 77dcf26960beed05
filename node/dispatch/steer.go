package dispatch

import (
	"fmt"
	"slices"
	"time"

	"idlewild/job"
)

func (b *Board) submitted(e Submitted) {
	if b.byID[e.ID] != nil {
		b.do(Ack{e.Ack, fmt.Errorf("job %s is here already", e.ID)})
		return
	}
	j := newJobState(e.ID)
	b.add(j)
	b.write(j, &jobRecord{ID: e.ID, Spec: e.Spec, Secret: e.Secret, Submitted: micros(b.now)})
	b.emit(j, job.Event{Type: job.EventState, Text: string(job.StateAccepted)})
	b.do(Ack{Token: e.Ack})
	b.do(Prepare{e.ID, e.Spec})
}

func (b *Board) add(j *jobState) {
	b.jobs = append(b.jobs, j)
	b.byID[j.id] = j
	if !j.state.Ended() {
		b.live = append(b.live, j)
	}
}

func (b *Board) prepared(e Prepared) {
	j := b.byID[e.ID]
	if j == nil || j.state != job.StateAccepted {
		return
	}
	j.phase = e.Text
	b.emit(j, job.Event{Type: job.EventPhase, Text: e.Text, Fraction: e.Fraction})
}

func (b *Board) refused(e Refused) {
	j := b.byID[e.ID]
	if j == nil || j.state != job.StateAccepted {
		return
	}
	b.warn(j, e.Problems)
	b.end(j, job.StateFailed, e.Reason, e.Problems)
}

func (b *Board) warn(j *jobState, ps []job.Problem) {
	for _, p := range ps {
		b.emit(j, job.Event{Type: job.EventWarning, Text: p.String()})
	}
}

func (b *Board) planned(e Planned) {
	j := b.byID[e.ID]
	if j == nil || j.state != job.StateAccepted {
		return
	}
	zips, err := folded(e.Tasks)
	if err != nil {
		b.end(j, job.StateFailed, fmt.Sprintf("the plan cannot be stored: %v", err), nil)
		return
	}
	for i, zip := range zips {
		b.write(j, &blockRecord{From: i * tasksPerRecord, Zip: zip})
	}
	s := e.Snapshot
	if s.Disks.Defined() {
		b.write(j, &disksRecord{Root: job.RefOf(s.Disks)})
	}
	b.write(j, &planRecord{
		Tasks: len(e.Tasks), Facts: e.Facts, Problems: e.Problems, Root: job.RefOf(s.Root), Files: s.Files,
		Bytes: s.Bytes, NewBytes: s.NewBytes, Blocks: s.NewBlocks, Skipped: e.Skipped,
	})
	if r := e.Reuse; len(r.Tasks)+len(r.Drawn) > 0 {
		b.write(j, &reuseRecord{From: r.From, Tasks: r.Tasks, Drawn: r.Drawn})
		text := fmt.Sprintf("%d reused from job %s", len(r.Tasks), r.From)
		if len(r.Drawn) > 0 {
			text += fmt.Sprintf(", %d more to be compared with it", len(r.Drawn))
		}
		if r.Why != "" {
			text += "; " + r.Why
		}
		b.emit(j, job.Event{Type: job.EventPhase, Text: text, Fraction: 1})
	}
	j.phase = ""
	b.warn(j, e.Problems)
	b.emit(j, job.Event{Type: job.EventState, Text: string(j.State())})
	b.begin(j)
}

// begin puts a job's tasks on the board.
func (b *Board) begin(j *jobState) {
	for _, t := range j.tasks {
		b.place(j, t)
	}
	for _, t := range j.tasks {
		b.adopt(j, t)
	}
	b.hungry = true
	b.maybeEnd(j)
}

// restore puts a job that was read from its journal on the board, and goes on
// where it stopped. Jobs come in the order of their submission.
func (b *Board) restore(j *jobState) {
	b.add(j)
	j.touched = nil
	switch j.state {
	case job.StateAccepted:
		b.do(Prepare{j.id, j.spec})
		return
	case job.StatePlanned:
	default:
		for _, t := range j.tasks {
			b.place(j, t)
		}
		if !j.cleaned {
			b.do(Clean{j.id})
		}
		return
	}
	for _, t := range j.tasks {
		if t.accepted != nil && t.accepted.verdict.Ruling == job.Accepted {
			b.learn(j, t.accepted)
			b.fitted(t.accepted.peer, t.accepted.device, t)
		}
	}
	// Workers that held leases may still be at them.
	for _, l := range j.leaseSeq {
		w := b.worker(l.peer)
		w.heard = b.now
		w.has(j)
		for _, g := range l.grants {
			newest := true
			for _, o := range g.t.grants.all() {
				newest = newest && o.fence < g.fence
			}
			if j.rets[g.fence] != nil || g.fence <= g.t.also().floor || g.t.where() > leased || !newest || j.barred[l.peer] != "" {
				g.over = true
				continue
			}
			for _, o := range slices.Clone(g.t.grants.all()) {
				b.endGrant(o)
			}
			l.live++
			g.t.grants.add(g)
		}
		l.granted = b.moment()
		b.leases[l.id] = l
		if l.live == 0 {
			l.closed = true
			continue
		}
		w.leases = append(w.leases, l)
		b.expect()
	}
	b.begin(j)
	for _, t := range j.tasks {
		if x := t.active; x != nil && x.state == retSafe {
			b.check(j, x)
		}
		// One safe result is judged at a time.
		for _, x := range t.rets {
			if j.barred[x.peer] != "" && x.state == retJudged {
				b.suspect(j, x)
			}
		}
	}
}

func (b *Board) steered(e Steered) {
	j := b.byID[e.ID]
	if j == nil {
		b.do(Ack{e.Ack, job.ErrUnknownJob})
		return
	}
	if j.state.Ended() {
		var err error
		if e.Action != job.Cancel || j.state != job.StateCancelled {
			err = fmt.Errorf("job %s is %s already", j.id, j.state)
		}
		b.do(Ack{e.Ack, err})
		return
	}
	switch e.Action {
	case job.Cancel:
		b.end(j, job.StateCancelled, "cancelled", nil)
	case job.Pause:
		if !j.paused {
			b.write(j, &stateRecord{State: job.StatePaused, At: micros(b.now)})
			b.emit(j, job.Event{Type: job.EventState, Text: string(job.StatePaused)})
			j.opened = time.Time{}
		}
	case job.Resume:
		if j.paused {
			b.write(j, &stateRecord{State: j.state, At: micros(b.now)})
			b.emit(j, job.Event{Type: job.EventState, Text: string(j.State())})
			if b.hungry = true; j.open > 0 {
				j.opened = b.now
			}
		} else if b.extend(j) {
			b.emit(j, job.Event{Type: job.EventState, Text: string(j.State())})
		}
	default:
		b.do(Ack{e.Ack, fmt.Errorf("job: action %q is not known", e.Action)})
		return
	}
	b.do(Ack{Token: e.Ack})
}

func (b *Board) requeued(e Requeued) {
	j := b.byID[e.ID]
	if j == nil {
		b.do(Ack{e.Ack, job.ErrUnknownJob})
		return
	}
	var ts []*task
	for _, t := range j.tasks {
		if t.Label == e.Label && j.counts(t) {
			ts = append(ts, t)
		}
	}
	if len(ts) == 0 {
		for _, t := range j.tasks {
			if t.Label == e.Label {
				ts = append(ts, t)
			}
		}
	}
	if len(ts) == 0 {
		b.do(Ack{e.Ack, fmt.Errorf("job %s has no task %q", j.id, e.Label)})
		return
	}
	ended := j.state.Ended()
	if ended {
		b.write(j, &stateRecord{State: job.StatePlanned, At: micros(b.now)})
		b.live = append(b.live, j)
		b.emit(j, job.Event{Type: job.EventState, Text: string(j.State())})
	}
	in := map[*task]bool{}
	for _, t := range ts {
		in[t] = true
	}
	more := func(t *task) {
		if !in[t] {
			in[t] = true
			ts = append(ts, t)
		}
	}
	if ended {
		for _, t := range j.tasks {
			// What was cut off by the end is as if it had never been tried.
			if !t.where().final() {
				more(t)
			}
		}
	}
	// A frame that is made of parts is made of new ones. What has files of its
	// own stays.
	for i := 0; i < len(ts); i++ {
		for _, p := range ts[i].prior() {
			if !p.final() {
				more(p)
			}
		}
	}
	b.redo(j, ts)
	b.do(Ack{Token: e.Ack})
}

// redo runs tasks again, with what was made from them and with whatever they
// need that is not there.
func (b *Board) redo(j *jobState, ts []*task) {
	in := map[*task]bool{}
	var list []*task
	var add func(t *task)
	add = func(t *task) {
		if in[t] {
			return
		}
		in[t] = true
		list = append(list, t)
		for _, p := range t.prior() {
			if p.isFailed || (p.skip || p.away) && !p.ready() && !adoptable(p.Task()) || p.forgotten() {
				add(p)
			}
		}
		for _, n := range t.next() {
			add(n)
		}
	}
	for _, t := range ts {
		add(t)
	}
	r := &resetRecord{}
	var untold []*ret // whose workers wait for a word
	for _, t := range list {
		for _, x := range t.rets {
			if x.state == retHeld || x.state == retFetching {
				untold = append(untold, x)
			}
		}
		r.Tasks = append(r.Tasks, int(t.index))
		for _, g := range slices.Clone(t.grants.all()) {
			b.stop(g.lease, "the task is begun anew")
		}
		for _, x := range t.rets {
			if x.state != retEnded {
				b.do(Discard{ID: j.id, Fence: x.fence})
			}
		}
	}
	b.write(j, r)
	for _, x := range untold {
		b.settle(j, x)
	}
	for _, t := range list {
		t.lapsed = false // nothing of it is welcome any more
		b.place(j, t)
	}
	for _, t := range list {
		b.adopt(j, t)
	}
	b.hungry = true
}

// adopt has the delivered files of t's predecessors stored again that t waits
// for and that do not run.
func (b *Board) adopt(j *jobState, t *task) {
	if t.phase != blocked {
		return
	}
	for _, p := range t.prior() {
		if !p.adopts && !p.ready() && (p.skip || p.away) {
			p.adopts = true
			b.do(Adopt{ID: j.id, Index: int(p.index), Spec: j.spec, Task: p.Task()})
		}
	}
}

func (b *Board) adopted(e Adopted) {
	j := b.byID[e.ID]
	if j == nil || j.state.Ended() || e.Task < 0 || e.Task >= len(j.tasks) {
		return // what begins again asks again, see letGo
	}
	t := j.tasks[e.Task]
	t.adopts = false
	switch {
	case t.ready() || !t.skip && !t.away:
	case e.Err != nil:
		b.do(Note{"a delivered file is made again", []any{"job", j.id, "task", t.Label, "err", e.Err}})
		b.redo(j, []*task{t})
	default:
		b.write(j, &givenRecord{Task: int(t.index), Outputs: e.Outputs})
		for _, n := range t.next() {
			b.place(j, n)
		}
	}
}
