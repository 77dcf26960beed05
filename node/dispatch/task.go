package dispatch

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// phase is where a task stands. It follows from what is known of the task and
// is kept so that queues and counts are cheap.
type phase uint8

const (
	blocked  phase = iota // a predecessor has no accepted result
	open                  // may be leased
	leased                // leased, nothing returned
	returned              // a result is here or on its way, not judged
	taken                 // accepted, not delivered yet
	done                  // delivered, or accepted with nothing to deliver
	failed
	skipped
)

func (p phase) final() bool { return p >= done }

func (p phase) String() string {
	return [...]string{"waiting", "waiting", "leased", "returned", "checked", "delivered", "failed", "skipped"}[p]
}

// task is a planned task, or a check of a result (see check).
type task struct {
	*sheet
	Label string
	own   string         // what is its own of parameters and final names, packed
	sum   *[keySize]byte // its key; nil: nobody asked for it lately

	Rank int32

	// Of this moment.
	begun   bool // somebody is at its frame
	adopts  bool // its files are being stored again
	lapsed  bool // who had it is out of reach, and may bring its result yet
	phase   phase
	tries   uint16 // of delivering, or of running a check
	missing int16  // predecessors without an accepted result

	// Durable.
	placed   bool // delivered
	isFailed bool
	skip     bool
	away     bool  // what its result left was let go of, at an end of the job
	index    int32 // among the job's tasks
	granted  int32 // how often
	rets     []*ret
	accepted *ret
	more     *more // nil: nothing of that

	kin    *kin // nil: it neither needs others nor is needed
	grants list[*grant]
	active *ret      // the result being fetched or judged
	in     *taskHeap // the queue that it counts in; others may still hold it
}

// list is a slice for where there mostly is none: one word, not three.
type list[T comparable] struct{ some *[]T }

func (l list[T]) all() []T {
	if l.some == nil {
		return nil
	}
	return *l.some
}

func (l list[T]) len() int { return len(l.all()) }

func (l *list[T]) add(x T) {
	if l.some == nil {
		l.some = &[]T{x}
		return
	}
	*l.some = append(*l.some, x)
}

func (l *list[T]) remove(x T) {
	if l.some == nil {
		return
	}
	if *l.some = slices.DeleteFunc(*l.some, func(o T) bool { return o == x }); len(*l.some) == 0 {
		l.some = nil
	}
}

// kin of a task: those of After, and those that have it there.
type kin struct{ prior, next []*task }

// more is what most tasks have not.
type more struct {
	files   []string // where they are not the final names
	failure string
	ended   []attempt // without a result
	floor   uint64    // results of fences up to this one are void
	// given are its outputs as they were taken from the output folder again: it
	// did not run, or what it left is away.
	given []job.Output
	avoid []peer.ID // of this moment
	tight []tight   // devices that it did not fit into
}

var nothing more

// also returns what few tasks have, for reading.
func (t *task) also() *more {
	if t.more == nil {
		return &nothing
	}
	return t.more
}

// add returns the same for writing.
func (t *task) add() *more {
	if t.more == nil {
		t.more = &more{}
	}
	return t.more
}

// prior are the tasks of After.
func (t *task) prior() []*task {
	if t.kin == nil {
		return nil
	}
	return t.kin.prior
}

// next are the tasks that have t in After.
func (t *task) next() []*task {
	if t.kin == nil {
		return nil
	}
	return t.kin.next
}

// ready reports whether those after t can have its outputs.
func (t *task) ready() bool { return t.also().given != nil || t.accepted != nil && !t.away }

// outputs are what those after t read.
func (j *jobState) outputs(t *task) []job.Output {
	if given := t.also().given; given != nil || t.accepted == nil {
		return given
	}
	return j.leaf(t.accepted).Outputs
}

// forgotten reports whether t's outputs are not known any more: everything was
// made of them that was wanted then.
func (t *task) forgotten() bool {
	return t.ready() && t.also().given == nil && t.accepted.live == nil && t.accepted.receipt < 0
}

// wanted reports whether t's outputs may be asked for again while the job runs,
// when t is long done: what is made of its delivered files is made once more, or
// what was made of it is checked late.
func (t *task) wanted() bool {
	return len(t.next()) > 0 && (t.final() || slices.ContainsFunc(t.next(), func(n *task) bool { return n.accepted != nil && n.accepted.doubtable() }))
}

// adoptable reports whether delivered files are all that t leaves.
func adoptable(t job.Task) bool {
	return len(t.Outputs) > 0 && !slices.ContainsFunc(t.Outputs, func(o job.OutputRule) bool { return o.Final == "" })
}

// final reports whether a task ends in a delivered file.
func (t *task) final() bool { return t.sheet.final }

func isFinal(t job.Task) bool {
	for _, o := range t.Outputs {
		if o.Final != "" {
			return true
		}
	}
	return false
}

// where computes the phase of t.
func (t *task) where() phase {
	switch {
	case t.skip:
		return skipped
	case t.isFailed:
		return failed
	case t.accepted != nil && (t.placed || !t.final()):
		return done
	case t.accepted != nil:
		return taken
	case t.active != nil:
		return returned
	case t.missing > 0:
		return blocked
	case t.grants.len() > 0:
		return leased
	}
	return open
}
