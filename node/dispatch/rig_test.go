package dispatch

import (
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/recordlog"
	"idlewild/internal/recordlog/faulty"
	"idlewild/job"
)

// rig is a requester and its workers in one goroutine and made-up time, with
// everything in an order that one seed decides. The board and the journal are
// the real ones and lie on a faulty disk; what a Dispatcher does with effects is
// done here one by one, so that a process can end between any two of them. An
// operation is one of the disk's, a message that leaves or arrives, or a step of
// a worker: whoever is to be killed is killed at one of a number.
type rig struct {
	t   tester
	r   *rand.Rand
	dir string // on the faulty disk; its lock is on the real one

	disk    *faulty.Disk
	n       *journal
	b       *Board
	now     time.Time
	alive   bool      // the requester's process
	up      bool      // and its board
	since   time.Time // of its end
	away    time.Duration
	pending []Effect       // decided, and not committed
	answers []func() Event // what effects come to; nil: to nothing
	staged  map[uint64]bool
	stream  uint64

	id      job.ID
	tasks   []job.Task
	ws      []*rigWorker
	h       History
	plan    []kill
	kills   int
	power   int  // cuts among them
	copies  int  // of tasks that are run elsewhere, as the board wants it
	past    int  // operations of earlier disks
	cut     bool // the last end was one
	images  int  // to be taken at a cut; one of them is gone on with
	held    int  // images that were looked at: of them with
	torn    int  // a torn tail,
	lost    int  // not all that was acknowledged,
	untrue  int  // something that was never written
	written shadow
	broken  string // what this requester does wrong, see TestARigThatIsBrokenIsFound
}

type kill struct {
	at    int
	who   int  // a worker's index, -1: the requester
	power bool // what was not synced may be gone
	away  time.Duration
}

// shadow is what the journal may say after a cut: one of the states that were
// written, and none before the newest that was acknowledged.
type shadow struct {
	off    bool
	j      *jobState
	states []uint64
	acked  int // index of a state; -1: nothing is
}

var shadowSeed = maphash.MakeSeed()

func (s *shadow) hash(x *rig, j *jobState) uint64 {
	b := NewBoard(x.ws[0].id, 7, Options{})
	b.now = x.now
	b.add(j)
	j.touched = nil
	return maphash.String(shadowSeed, durable(b))
}

// rigWorker is a worker's process and its disk.
type rigWorker struct {
	name   string
	id     peer.ID
	device string
	up     bool
	since  time.Time // of its end
	away   time.Duration
	stream uint64 // 0: not connected
	first  bool   // nothing was reported on this stream
	in     []job.Order
	out    []Reported
	heard  time.Time
	news   bool // something to report

	leases   []*rigLease
	receipts []OpenedReceipt // on its disk, until they are settled
	lives    int
	begun    []rigRun // of tasks of the plan
}

// rigRun is a task that was begun, whatever came of it.
type rigRun struct {
	fence uint64
	lease job.LeaseID
}

type rigLease struct {
	job.Lease
	at    int
	begun bool
}

// newRig makes a requester and three workers, the first its own, and a job.
func newRig(t tester, dir string, names map[string]peer.ID, seed uint64, p fakeParams) *rig {
	x := &rig{t: t, r: rand.New(rand.NewPCG(seed, 7)), dir: dir, now: time.Unix(1_000_000_000, 0), staged: map[uint64]bool{}}
	x.disk = faulty.New(x.r)
	for i, name := range []string{"self", "a", "b"} {
		if names[name] == "" {
			_, names[name] = testPeer(t, name)
		}
		w := &rigWorker{name: name, id: names[name], device: "cpu", up: true}
		if i == 0 {
			w.device = job.HomeDevice
		}
		x.ws = append(x.ws, w)
	}
	var raw [16]byte
	raw[0] = 1
	x.id, x.tasks = job.ID(unpackLease(raw[:])), fakeTasks(p, job.Ref{})
	x.written.acked = -1
	return x
}

// op counts an operation that is not the disk's.
func (x *rig) op() bool { return x.disk.Op() == nil }

func (x *rig) ops() int { return x.past + x.disk.Done }

// begin starts the requester, as NewDispatcher does; false if it dies at that.
func (x *rig) begin() bool {
	x.alive = true
	n, jobs, err := openJournal(x.dir, x.disk, slog.New(slog.DiscardHandler))
	if err != nil {
		if !errors.Is(err, faulty.ErrOff) {
			x.t.Fatalf("start: %v", err)
		}
		return false
	}
	x.n, x.up = n, true
	if x.broken == "one epoch" {
		n.epoch = 1
	}
	x.h.Began(n.epoch)
	x.b = NewBoard(x.ws[0].id, n.epoch, Options{})
	x.b.now = x.now
	for _, j := range jobs {
		x.b.restore(j)
		for fence := range x.staged {
			if r := j.rets[fence]; r == nil || r.state == retEnded {
				delete(x.staged, fence)
			}
		}
	}
	x.pending = append(drain(&x.b.out), x.b.Step(x.now, Tick{})...)
	if len(jobs) == 0 {
		x.pending = append(x.pending, x.b.Step(x.now, Submitted{ID: x.id, Spec: spec(fakeParams{}), Secret: []byte("secret")})...)
	}
	return true
}

// step takes an event and keeps what is to be done about it.
func (x *rig) step(e Event) {
	x.pending = append(x.pending, x.b.Step(x.now, e)...)
}

// commit does what Dispatcher.commit does with a batch.
func (x *rig) commit() bool {
	batch := drain(&x.pending)
	var ws []Write
	must := false
	for _, e := range batch {
		if w, ok := e.(Write); ok {
			ws = append(ws, w)
			must = must || !lazy(w.Record)
			if s := &x.written; !s.off {
				if s.j == nil {
					s.j = newJobState(x.id)
				}
				if err := s.j.apply(w.Record); err != nil {
					x.t.Fatalf("record: %v", err)
				}
				s.states = append(s.states, s.hash(x, s.j))
			}
		}
	}
	write := x.n.write
	switch x.broken {
	case "tells first":
		for _, e := range batch {
			if _, ok := e.(Write); !ok && x.carryOut(e) {
				x.h.Did(e)
			}
		}
		batch = nil
	case "does not sync":
		write = x.n.append
	}
	if len(ws) > 0 {
		if _, err := write(ws); err != nil {
			if !errors.Is(err, faulty.ErrOff) {
				x.t.Fatalf("journal: %v", err)
			}
			return false
		}
		if must {
			x.written.acked = len(x.written.states) - 1
		}
		for _, w := range ws {
			x.h.Did(w)
		}
	}
	for _, e := range batch {
		if _, ok := e.(Write); ok {
			continue
		}
		if !x.carryOut(e) {
			return false
		}
		x.h.Did(e)
	}
	return true
}

func (x *rig) carryOut(e Effect) bool {
	later := func(f func() Event) { x.answers = append(x.answers, f) }
	switch e := e.(type) {
	case Send:
		if w := x.who(e.Peer); w.stream == e.Stream {
			if !x.op() {
				return false
			}
			w.in = append(w.in, e.Order)
		}
	case Hangup:
		if w := x.who(e.Peer); w.stream == e.Stream {
			w.stream = 0
		}
	case Prepare:
		later(func() Event { return Planned{ID: e.ID, Tasks: x.tasks} })
	case Fetch:
		later(func() Event {
			w := x.who(e.Worker)
			if !w.up || !w.has(e.Fence) {
				return Fetched{ID: e.ID, Fence: e.Fence, Err: errGone}
			}
			if e.For == 0 {
				x.staged[e.Fence] = true
			}
			return Fetched{ID: e.ID, Fence: e.Fence, Moved: 7}
		})
	case Challenge:
		later(func() Event {
			if !x.staged[e.Fence] {
				return Lost{e.ID, e.Fence}
			}
			c := Challenged{ID: e.ID, Fence: e.Fence}
			if x.r.IntN(3) == 0 {
				t := e.Task
				t.Label, t.Params, t.Check = "check of "+t.Label, append([]byte("check of "), t.Params...), job.Check{}
				t.Outputs = []job.OutputRule{{Name: "out", Media: job.MediaFile}}
				c.Tasks = []job.Task{t}
			}
			return c
		})
	case Compare:
		later(func() Event {
			if !x.staged[e.Fence] {
				return Lost{e.ID, e.Fence}
			}
			return Judged{ID: e.ID, Fence: e.Fence, Verdict: job.Verdict{Ruling: job.Accepted, Method: "exact", Reason: "equal"}}
		})
	case Enter:
		later(func() Event { return Booked{ID: e.ID, Fence: e.Fence, Worker: e.Worker, Strike: e.Strike} })
	case Deliver:
		later(func() Event {
			if !x.staged[e.Fence] {
				return Lost{e.ID, e.Fence}
			}
			return Delivered{ID: e.ID, Task: e.Index, Fence: e.Fence, Files: finalFiles(e.Spec, e.Task)}
		})
	case Discard:
		later(func() Event { delete(x.staged, e.Fence); return nil })
	case Clean:
		x.answers = []func() Event{func() Event { clear(x.staged); return Cleaned{ID: e.ID} }}
	}
	return true
}

func (x *rig) who(p peer.ID) *rigWorker {
	return x.ws[slices.IndexFunc(x.ws, func(w *rigWorker) bool { return w.id == p })]
}

// has reports whether w still keeps the result with that fence.
func (w *rigWorker) has(fence uint64) bool {
	return slices.ContainsFunc(w.receipts, func(o OpenedReceipt) bool { return o.Receipt.Leaves[0].Fence == fence })
}

// die ends the requester, and its own worker with it.
func (x *rig) die(k kill) {
	if x.n != nil {
		x.n.lock.Close()
		x.n = nil
	}
	x.alive, x.up, x.b, x.since, x.away = false, false, nil, x.now, k.away
	x.pending, x.answers = nil, nil
	for i, w := range x.ws {
		w.cut(x, true)
		if i == 0 {
			w.die(x, k.away)
		}
	}
	x.past += x.disk.Done
	old := x.disk
	if x.cut = k.power; !k.power {
		x.disk = old.Killed()
		return
	}
	x.disk = old.Cut()
	x.hold(x.disk.Cut())
	for range x.images - 1 {
		x.hold(old.Cut())
	}
}

// hold looks at what a cut left: it opens, it is one of the states that were
// written, and it is none from before what was acknowledged.
func (x *rig) hold(d *faulty.Disk) {
	s := &x.written
	if s.off {
		return
	}
	x.held++
	j := newJobState(x.id)
	o := journalOptions
	o.Disk = d
	l, err := recordlog.Open(filepath.Join((&journal{dir: x.dir}).jobDir(x.id), "journal"), o, j.replay)
	if err != nil {
		x.t.Fatalf("operation %d: a crash image cannot be opened: %v", x.ops(), err)
	}
	if l.Torn != "" {
		x.torn++
	}
	at := -1
	if !j.submitted.IsZero() {
		if at = slices.Index(s.states, s.hash(x, j)); at < 0 {
			x.untrue++
			x.t.Errorf("operation %d: a state that never was", x.ops())
			return
		}
		for i, h := range s.states { // one may come twice
			if i > at && h == s.states[at] {
				at = i
			}
		}
	}
	if at < s.acked {
		x.lost++
		x.t.Errorf("operation %d: acknowledged was state %d of %d, %d came back", x.ops(), s.acked, len(s.states), at)
	}
}

// revive starts the requester on what its end left.
func (x *rig) revive() bool {
	left, done := x.disk.Left, x.disk.Done
	x.disk.Left = faulty.Never
	if err := x.h.Read(x.disk, x.dir); err != nil {
		x.t.Fatalf("history: %v", err)
	}
	read := -1
	if s := &x.written; !s.off {
		var err error
		o := journalOptions
		o.Disk = x.disk
		if s.j, _, _, err = readJournal(x.dir, o, x.id); err != nil {
			x.t.Fatalf("read: %v", err)
		}
		if x.cut { // what is there is all that there is
			s.states, s.acked = nil, -1
		}
		if !s.j.submitted.IsZero() {
			read = len(s.states)
			s.states = append(s.states, s.hash(x, s.j))
		} else {
			s.j = nil
		}
	}
	x.disk.Left, x.disk.Done = left, done
	if !x.begin() {
		return false
	}
	// From now on people and workers are told of what was read.
	x.written.acked = max(x.written.acked, read)
	return true
}

func (x *rig) String() string {
	return fmt.Sprintf("%d operations, %d kills, %d of them cuts", x.ops(), x.kills, x.power)
}
