package dispatch

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/recordlog"
	"idlewild/job"
)

// Wrong is a sort of fault that no run of a coordinator may show.
type Wrong string

const (
	// WrongLost: a worker was told that its result is safe, or a person that a
	// job is accepted or over, or that files are delivered, and a later life
	// knows nothing of it.
	WrongLost Wrong = "acknowledged, then lost"
	// WrongTwice: a result was recorded twice, a second result counts beside the
	// first, or files were delivered again, and nothing said that the task is to
	// run again.
	WrongTwice Wrong = "counted twice"
	// WrongGrant: a fence or a lease names two grants, an epoch two lives, or a
	// task was granted that has its result.
	WrongGrant Wrong = "granted twice in one epoch"
	// WrongEndless: a job has not ended although all was done for it.
	WrongEndless Wrong = "a job never ends"
)

// Fault is what a History found.
type Fault struct {
	What Wrong
	Job  job.ID
	Text string
}

func (f Fault) String() string { return fmt.Sprintf("job %s: %s: %s", f.Job, f.What, f.Text) }

// History follows the jobs of a requester through all lives of its coordinator
// and finds what may never happen. Of a life it is told the effects, in the
// order in which they were carried out, as far as anybody saw them; between two
// lives it reads the journals. The zero value is ready.
type History struct {
	epoch  uint64 // the newest that a life began with, or granted in
	jobs   map[job.ID]*past
	faults []Fault
}

// past is what is known of a job beyond the present life.
type past struct {
	id       job.ID
	accepted bool             // a person was told that it is
	over     job.State        // a person was told; empty: it is not
	safe     map[promise]int  // workers were told; how often the task had been begun anew by then
	shown    map[string]int   // delivered, by label: a person was told; the same
	fences   map[uint64]given // of all lives
	leases   map[job.LeaseID]peer.ID
	chapter
}

// chapter is what the records of a job say.
type chapter struct {
	j        *jobState
	returned map[uint64]bool // fences
	taken    map[int]uint64  // the fence that counts, by task
	placed   map[int]bool
	away     map[int]bool // results of which the outputs were let go
	anew     map[int]int  // how often a task was begun anew
	labels   map[string][]int
	reading  bool
	short    bool // the journal was rewritten: it leaves out what does not matter any more
}

type promise struct {
	lease job.LeaseID
	task  job.TaskKey
}

type given struct {
	lease job.LeaseID
	peer  peer.ID
	task  [keySize]byte
}

func newChapter(id job.ID) chapter {
	return chapter{j: newJobState(id), returned: map[uint64]bool{}, taken: map[int]uint64{}, placed: map[int]bool{}, away: map[int]bool{}, anew: map[int]int{}}
}

func (h *History) job(id job.ID) *past {
	p := h.jobs[id]
	if p == nil {
		if h.jobs == nil {
			h.jobs = map[job.ID]*past{}
		}
		p = &past{id: id, safe: map[promise]int{}, shown: map[string]int{}, fences: map[uint64]given{}, leases: map[job.LeaseID]peer.ID{}, chapter: newChapter(id)}
		h.jobs[id] = p
	}
	return p
}

func (h *History) fault(what Wrong, id job.ID, format string, args ...any) {
	h.faults = append(h.faults, Fault{what, id, fmt.Sprintf(format, args...)})
}

// Faults are what was found so far.
func (h *History) Faults() []Fault { return h.faults }

// Began says that a life begins, in an epoch of its own.
func (h *History) Began(epoch uint64) {
	if epoch <= h.epoch {
		h.fault(WrongGrant, "", "a life began in epoch %d after epoch %d", epoch, h.epoch)
	}
	h.epoch = max(h.epoch, epoch)
}

// Did says that effects were carried out. Records among them are on disk, or
// need not be.
func (h *History) Did(effects ...Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Write:
			p := h.job(e.ID)
			if err := h.record(p, e.Record); err != nil {
				h.fault(WrongLost, e.ID, "a record does not follow from those before it: %v", err)
			}
		case Send:
			h.epoch = max(h.epoch, e.Order.Epoch)
			for _, l := range e.Order.Leases {
				p := h.job(l.Job)
				for _, t := range l.Tasks {
					if k, ok := digestOf(t.Task.Key()); ok {
						h.grant(p, t.Fence, given{l.ID, e.Peer, k})
					}
				}
			}
			for _, s := range e.Order.Settled {
				if (s.Ruling == "" || s.Ruling == job.Accepted) && s.Reason != checkSettled {
					p := h.job(s.Job)
					p.safe[promise{s.Lease, s.Task}] = p.anewKey(s.Task)
				}
			}
		case Emit:
			p := h.job(e.Event.Job)
			switch s := job.State(e.Event.Text); {
			case e.Event.Type == job.EventDelivered:
				p.shown[e.Event.Task] = p.anewLabel(e.Event.Task)
			case e.Event.Type == job.EventState && s.Ended():
				p.over = s
			case e.Event.Type == job.EventState:
				p.accepted, p.over = true, ""
			}
		case Forget:
			delete(h.jobs, e.ID) // given back to whose it is
		}
	}
}

// grant notes who got a fence.
func (h *History) grant(p *past, fence uint64, g given) {
	if was, ok := p.fences[fence]; ok && was != g {
		h.fault(WrongGrant, p.id, "fence %x: lease %s of %s and lease %s of %s", fence, was.lease, short(was.peer), g.lease, short(g.peer))
	}
	p.fences[fence] = g
	if was, ok := p.leases[g.lease]; ok && was != g.peer {
		h.fault(WrongGrant, p.id, "lease %s of %s and of %s", g.lease, short(was), short(g.peer))
	}
	p.leases[g.lease] = g.peer
	h.epoch = max(h.epoch, fence>>32)
}

// record takes one record of p's journal.
func (h *History) record(p *past, r record) error {
	ended := p.j.state.Ended()
	if err := p.j.apply(r); err != nil {
		return err
	}
	p.j.touched = nil
	switch r := r.(type) {
	case *grantRecord:
		for n, i := range r.Tasks {
			t := p.j.tasks[i]
			t.digest()
			h.grant(p, r.Fence+uint64(n), given{unpackLease(r.Lease), p.j.peers[r.Peer], *t.sum})
			if was, ok := p.taken[i]; ok {
				h.fault(WrongGrant, p.id, "task %s is granted as %x and has its result, %x", t.Label, r.Fence+uint64(n), was)
			}
		}
	case *returnRecord:
		leaf, err := p.j.skim(p.j.receipts[r.Receipt], r.Leaf)
		if err != nil {
			return err
		}
		h.returned(p, r.Task, leaf.Fence)
	case *pieceRecord:
		h.returned(p, r.Task, r.Fence)
		h.judged(p, r.Task, r.Fence, r.Take)
	case *judgeRecord:
		h.judged(p, r.Task, r.Fence, r.Take)
	case *deliverRecord:
		if p.placed[r.Task] {
			h.fault(WrongTwice, p.id, "task %s is delivered again", p.j.tasks[r.Task].Label)
		}
		p.placed[r.Task] = true
	case *taskRecord:
		p.placed[r.Task] = r.Placed
	case *resetRecord:
		for _, i := range r.Tasks {
			p.again(i)
		}
		p.unsay()
	case *stateRecord:
		if ended && !r.State.Ended() && r.State != job.StatePaused {
			// It begins again. What its results left was let go of.
			p.over = ""
			for i := range p.taken {
				p.away[i] = true
			}
		}
	case *totalRecord:
		p.short = true
	case *awayRecord:
		for _, i := range r.Tasks {
			p.away[i] = true
		}
	}
	return nil
}

func (h *History) returned(p *past, task int, fence uint64) {
	if p.returned[fence] {
		h.fault(WrongTwice, p.id, "the result %x of task %s is recorded again", fence, p.j.tasks[task].Label)
	}
	p.returned[fence] = true
}

func (h *History) judged(p *past, task int, fence uint64, take bool) {
	was, ok := p.taken[task]
	switch {
	case take && ok && was != fence:
		h.fault(WrongTwice, p.id, "task %s has the results %x and %x", p.j.tasks[task].Label, was, fence)
	case take:
		p.taken[task] = fence
	case ok && was == fence:
		p.again(task)
		p.unsay()
	}
}

// again: task i, and what was made of it, is to run once more.
func (p *past) again(i int) {
	t := p.j.tasks[i]
	_, had := p.taken[i]
	delete(p.taken, i)
	delete(p.placed, i)
	p.anew[i]++
	if had && !p.away[i] || t.also().given != nil {
		for _, n := range t.next() {
			p.again(int(n.index))
		}
	}
	delete(p.away, i)
}

// unsay forgets what was said of tasks that were begun anew since. While a
// journal is read nothing is forgotten: that looks at it afterwards.
func (p *past) unsay() {
	if p.reading {
		return
	}
	maps.DeleteFunc(p.safe, func(s promise, then int) bool { return p.anewKey(s.task) > then })
	maps.DeleteFunc(p.shown, func(label string, then int) bool { return p.anewLabel(label) > then })
}

func (p *past) anewKey(k job.TaskKey) int {
	if t := p.j.find(k); t != nil {
		return p.anew[int(t.index)]
	}
	return 0
}

func (p *past) anewLabel(label string) int {
	if p.labels == nil && len(p.j.tasks) > 0 {
		p.labels = map[string][]int{}
		for i, t := range p.j.tasks {
			p.labels[t.Label] = append(p.labels[t.Label], i)
		}
	}
	n := 0
	for _, i := range p.labels[label] {
		n += p.anew[i]
	}
	return n
}

// Read takes what the journals below dir say now, where no coordinator lives,
// and holds it against all that was said before. d is the disk; nil: the
// machine's own. Nothing is changed.
func (h *History) Read(d recordlog.Disk, dir string) error {
	o := journalOptions
	if o.Disk = d; d == nil {
		o.Disk = recordlog.System{}
	}
	names, err := o.Disk.List(filepath.Join(dir, "jobs"))
	if err != nil {
		return err
	}
	there := map[job.ID]bool{}
	for _, name := range names {
		id, err := job.ParseID(name)
		if err != nil {
			continue
		}
		path := filepath.Join((&journal{dir: dir}).jobDir(id), "journal")
		there[id], err = h.open(id, func(frame func([]byte) error) error {
			_, err := recordlog.Check(path, o, frame)
			return err
		})
		if err != nil {
			return fmt.Errorf("journal of job %s: %w", id, err)
		}
	}
	h.compare(there)
	return nil
}

// open begins a chapter with what a journal says; false where that is nothing.
func (h *History) open(id job.ID, journal func(frame func([]byte) error) error) (bool, error) {
	p := h.job(id)
	p.chapter = newChapter(id)
	p.reading = true
	defer func() { p.reading = false }()
	err := journal(func(b []byte) error { return decodeFrame(b, func(r record) error { return h.record(p, r) }) })
	return !p.j.submitted.IsZero(), err
}

// compare holds what was said before against the journals that were opened.
func (h *History) compare(there map[job.ID]bool) {
	for _, id := range slices.Sorted(maps.Keys(h.jobs)) {
		if p := h.jobs[id]; there[id] {
			h.held(p)
		} else if p.accepted || len(p.safe) > 0 {
			h.fault(WrongLost, id, "the job itself")
			delete(h.jobs, id)
		}
	}
}

// held looks whether p's records say what was said before.
func (h *History) held(p *past) {
	j := p.j
	if p.over != "" && j.state != p.over {
		h.fault(WrongLost, p.id, "that it is %s: it is %s", p.over, j.state)
		p.over = ""
	}
	has, placed := map[promise]bool{}, map[string]bool{}
	for _, t := range j.tasks {
		if t.placed {
			placed[t.Label] = true
		}
		for _, x := range t.rets {
			if x.state == retSafe || x.state == retJudged {
				has[promise{j.leaseOf(x), t.key()}] = true
			}
		}
	}
	// What was begun anew since does not bind any longer.
	void := func(then, now int) bool { return now > then || p.short && now > 0 }
	for s, then := range p.safe {
		now := p.anewKey(s.task)
		if p.safe[s] = now; has[s] {
			continue
		}
		if delete(p.safe, s); void(then, now) {
			continue
		}
		label := s.task.String()
		if t := j.find(s.task); t != nil {
			label = t.Label
		}
		h.fault(WrongLost, p.id, "the result of task %s in lease %s", label, s.lease)
	}
	for label, then := range p.shown {
		now := p.anewLabel(label)
		if p.shown[label] = now; placed[label] {
			continue
		}
		if delete(p.shown, label); !void(then, now) {
			h.fault(WrongLost, p.id, "the delivered files of task %s", label)
		}
	}
}

// End says that everything was done that jobs could wait for: those that have
// not ended by now never will.
func (h *History) End() {
	for _, id := range slices.Sorted(maps.Keys(h.jobs)) {
		if p := h.jobs[id]; p.accepted && p.over == "" && !p.j.state.Ended() {
			h.fault(WrongEndless, id, "it is %s, %d of %d tasks have a result", p.j.State(), len(p.taken), len(p.j.tasks))
		}
	}
}
