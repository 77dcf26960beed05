package dispatch

import (
	"fmt"
	"slices"

	"idlewild/job"
)

// maybeEnd has finish look at j at the end of this step.
func (b *Board) maybeEnd(j *jobState) {
	if j.state == job.StatePlanned && !slices.Contains(b.ended, j) {
		b.ended = append(b.ended, j)
	}
}

// finish closes the books of a job once nothing of it is left.
func (b *Board) finish(j *jobState) {
	if j.state != job.StatePlanned || j.left > 0 || j.rechecks > 0 {
		return
	}
	n, total, first := 0, 0, ""
	for _, t := range j.tasks {
		if !j.counts(t) {
			continue
		}
		total++
		if t.isFailed {
			if n++; n == 1 {
				first = t.Label + ": " + t.also().failure
			}
		}
	}
	if n == 0 {
		for _, t := range j.tasks {
			if t.isFailed {
				if n++; n == 1 {
					first = t.Label + ": " + t.also().failure
				}
			}
		}
		total = max(total, n)
	}
	if n > 0 {
		b.end(j, job.StateFailed, fmt.Sprintf("%d of %d tasks failed; %s", n, total, first), nil)
		return
	}
	b.end(j, job.StateFinished, "", nil)
}

// end writes the job's last state and lets go of everything.
func (b *Board) end(j *jobState, s job.State, reason string, problems []job.Problem) {
	b.settleAccounts(j)
	b.write(j, &stateRecord{State: s, Reason: reason, At: micros(b.now), Problems: problems, Messages: j.messages})
	for _, l := range j.leaseSeq {
		b.stop(l, "job "+string(s))
	}
	for id := range j.leases {
		delete(b.leases, id)
	}
	j.leaseSeq, j.leases, j.grants = nil, map[job.LeaseID]*lease{}, map[uint64]*grant{}
	j.byKey = nil
	if j.origin == "" { // whose they are has them yet to see
		for _, t := range j.tasks {
			for _, x := range t.rets {
				if l := j.logOf(x); l.Defined() {
					j.logs[x.fence] = l
				}
			}
		}
		clear(j.receipts) // their indexes stay taken
	}
	j.checks, j.checking = nil, map[uint64]*grant{}
	j.rechecks = 0
	for _, t := range j.tasks {
		t.grants, t.active = list[*grant]{}, nil
		for _, x := range t.rets {
			if x.trial != quiet {
				x.trial = &trial{settled: x.settled, live: x.live, lost: x.lost}
			}
			x.forgetInline()
			if x.state < retJudged {
				x.state, x.settled = retEnded, "the job is "+string(s)
				b.settle(j, x)
			}
		}
		b.place(j, t)
	}
	j.stuck = ""
	j.looks = nil
	b.live = slices.DeleteFunc(b.live, func(x *jobState) bool { return x == j })
	b.emit(j, job.Event{Type: job.EventState, Text: string(s)})
	b.do(Clean{j.id})
}

// counts reports whether t is one of the tasks that people are shown.
func (j *jobState) counts(t *task) bool {
	return t.final() || len(t.next()) == 0
}
