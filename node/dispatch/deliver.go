package dispatch

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"idlewild/job"
)

// deliver hands t's files over.
func (b *Board) deliver(j *jobState, t *task) {
	b.do(Deliver{ID: j.id, Fence: t.accepted.fence, Index: int(t.index), Spec: j.spec, Task: t.Task(), Compare: j.reuse.compares(t), Begun: j.begun})
}

func (b *Board) delivered(e Delivered) {
	j := b.byID[e.ID]
	if j == nil || j.state.Ended() || e.Task < 0 || e.Task >= len(j.tasks) {
		return
	}
	t := j.tasks[e.Task]
	if t.phase != taken || t.accepted.fence != e.Fence {
		return
	}
	if e.Differs != "" {
		if j.reuse != nil { // it is the first one
			b.mistaken(j, t, e.Differs)
		}
		if t.phase == taken { // else it is made of what is made again
			b.deliver(j, t)
		}
		return
	}
	if e.Err != nil {
		// The result is safe here; a full disk is for a person to mend.
		j.stuck = fmt.Sprintf("task %s cannot be delivered: %v", t.Label, e.Err)
		t.tries++
		if t.tries == 1 {
			b.emit(j, job.Event{Type: job.EventWarning, Task: t.Label, Text: fmt.Sprintf("cannot be delivered: %v", e.Err)})
		}
		b.after(min(time.Second<<min(int(t.tries)-1, 5), 30*time.Second), func() {
			if t.phase == taken && t.accepted.fence == e.Fence {
				b.deliver(j, t)
			}
		})
		return
	}
	j.stuck = ""
	r := &deliverRecord{Task: int(t.index), Files: e.Files}
	if slices.Equal(e.Files, finalFiles(j.spec, t.Task())) {
		r.Files = nil
	}
	b.write(j, r)
	b.emit(j, job.Event{Type: job.EventDelivered, Task: t.Label, Worker: t.accepted.peer.String(), Files: t.delivered(j), Verdict: t.accepted.verdict})
	b.tidy(j, t)
	for _, p := range t.prior() {
		b.tidy(j, p)
	}
}

// tidy removes the folder of a result that nobody needs here any more: all that
// is made of it is made, and no suspicion can fall on it later.
func (b *Board) tidy(j *jobState, t *task) {
	x := t.accepted
	if t.phase != done || slices.ContainsFunc(t.next(), func(n *task) bool { return !n.phase.final() }) {
		return
	}
	if x.verdict.Method != "trusted" || x.peer == b.self || t.Check.Method == job.CheckNone {
		b.do(Discard{ID: j.id, Fence: x.fence})
		if !t.wanted() && j.origin == "" {
			j.drop(x)
		}
	}
}

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

func finalFiles(s job.Spec, t job.Task) []string {
	var out []string
	for _, o := range t.Outputs {
		if o.Final != "" {
			out = append(out, filepath.Join(s.Output, filepath.FromSlash(o.Final)))
		}
	}
	return out
}
