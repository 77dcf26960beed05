package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/oklog/ulid/v2"

	"idlewild/job"
)

// Board decides everything about this machine's jobs: what is leased to whom,
// what becomes of results, when a job ends. It touches neither clock nor disk
// nor network and starts no goroutine: the same events at the same times have
// the same effects. It is not safe for concurrent use.
type Board struct {
	self  peer.ID
	o     Options
	epoch uint64

	grants    uint32 // made in this epoch
	steps     uint64
	effort    int // of this step
	nLeases   uint64
	jobs      []*jobState
	live      []*jobState // those that have not ended
	byID      map[job.ID]*jobState
	workers   []*worker // in the order in which they were first seen
	byPeer    map[peer.ID]*worker
	leases    map[job.LeaseID]*lease
	shapes    []*shape
	forgetAt  int       // peers that are gone, before strangers are forgotten
	shapesAt  int       // shapes, before those that no device has are
	sharing   int       // jobs that have open work, as of this step; negative: not counted yet
	waiting   []*seat   // want work, and may have got it since
	restful   []*worker // may have to be told why they get none
	connected int
	rate      float64            // of a usual worker's link, bytes a second; 0: unknown
	pace0     float64            // logarithm of the speed of a usual device
	refined   uint32             // how often paces and costs were found anew
	usual     float64            // what a task costs, roughly; 0: unknown
	checkTime time.Duration      // that a check takes this machine; 0: unknown
	crowded   bool               // its owner's programs want it: checks rest after each
	checkFrom time.Time          // this machine checks again from then on
	checked   map[peer.ID]int    // checks of members that were found true
	liars     map[peer.ID]string // members that check no more, and why
	copied    time.Time          // when idle devices were last offered copies
	fed       time.Time          // when what is open was last offered to all that wait

	timers  timerHeap
	timerNo uint64
	lapse   time.Time // no lease lapses before

	now    time.Time
	base   time.Time // what moments count from
	out    []Effect
	hungry bool      // something became open: ask all workers
	lookBy time.Time // a timer will look at those that wait; zero: none will
	ended  []*jobState
	owing  []*worker // with orders to send at the end of this step
}

// NewBoard returns a board of requester self. epoch is higher than that of any
// board before it on the same journals.
func NewBoard(self peer.ID, epoch uint64, o Options) *Board {
	return &Board{
		self: self, o: o.withDefaults(), epoch: epoch,
		byID: map[job.ID]*jobState{}, byPeer: map[peer.ID]*worker{}, leases: map[job.LeaseID]*lease{},
	}
}

// Step takes one event and returns what is to be done about it.
func (b *Board) Step(now time.Time, ev Event) []Effect {
	if now.After(b.now) {
		b.now = now
	}
	b.sharing = -1
	b.steps++
	b.effort = 0
	if b.grants > job.MaxFenceNumber/2 { // no step makes as many
		b.raise(b.epoch + 1)
	}
	b.fire()
	b.take(ev)
	for b.hungry || len(b.ended) > 0 {
		for _, j := range drain(&b.ended) {
			b.finish(j)
		}
		if b.hungry {
			b.hungry = false
			b.feedAll()
		}
	}
	b.announce()
	b.flush()
	return drain(&b.out)
}

func drain[T any](s *[]T) []T {
	out := *s
	*s = nil
	return out
}

// Effort is how many devices, leases, tasks and bins of costs the last step looked
// at: what it cost, on any machine.
func (b *Board) Effort() int { return b.effort }

// Deadline is when Step wants a Tick at the latest; zero: not at all.
func (b *Board) Deadline() time.Time {
	if len(b.timers) == 0 {
		return time.Time{}
	}
	return b.timers[0].at
}

func (b *Board) take(ev Event) {
	switch e := ev.(type) {
	case Submitted:
		b.submitted(e)
	case Prepared:
		b.prepared(e)
	case Refused:
		b.refused(e)
	case Planned:
		b.planned(e)
	case Opened:
		b.opened(e)
	case Reported:
		b.reported(e)
	case Closed:
		b.closed(e)
	case Fetched:
		b.fetched(e)
	case Challenged:
		b.challenged(e)
	case Judged:
		b.judged(e)
	case Booked:
		b.booked(e)
	case Adopted:
		b.adopted(e)
	case Delivered:
		b.delivered(e)
	case Lost:
		b.lost(e)
	case Scored:
		b.scored(e)
	case Crowded:
		b.crowd(e.Crowded)
	case Steered:
		b.steered(e)
	case Requeued:
		b.requeued(e)
	case Cleaned:
		if j := b.byID[e.ID]; j != nil && j.state.Ended() && !j.cleaned {
			b.write(j, &cleanRecord{Served: e.Served})
			b.leave(j)
		}
	case Inherited:
		b.inherited(e)
	case GivenBack:
		b.givenBack(e)
	case Held:
		b.held(e)
	case Attended:
		if j := b.byID[e.ID]; j != nil {
			j.stewards = e.Stewards
		}
	case Tick:
	}
}

func (b *Board) do(e Effect) { b.out = append(b.out, e) }

// write makes a fact durable and true.
func (b *Board) write(j *jobState, r record) {
	if err := j.apply(r); err != nil {
		// The board only writes what it checked.
		panic(fmt.Sprintf("dispatch: job %s: %v", j.id, err))
	}
	b.do(Write{j.id, r})
	b.replace(j)
}

// replace puts the tasks that apply touched where they belong now.
func (b *Board) replace(j *jobState) {
	for len(j.touched) > 0 {
		for _, t := range drain(&j.touched) {
			b.place(j, t)
		}
	}
}

// place moves t to the phase that it is in.
func (b *Board) place(j *jobState, t *task) {
	was, is := t.phase, t.where()
	if t.check == nil && is != was {
		t.phase = is
		c := t.class
		count := func(d int) {
			c.costs.count(int(t.index), d, t.early())
		}
		switch was {
		case open:
			c.open--
			count(-1)
			if j.open--; j.open == 0 {
				j.opened = time.Time{}
			}
		case leased:
			c.out--
			c.costs.opened(int(t.index), 1)
			count(-1)
		}
		switch is {
		case open:
			c.open++
			count(1)
			if j.open++; j.open == 1 && j.live() {
				j.opened = b.now
			}
			b.hungry = true
		case leased:
			c.out++
			c.costs.opened(int(t.index), -1)
			count(1)
		}
		if is.final() && !was.final() {
			j.left--
			t.sum = nil
			b.closeCopies(j, t)
			b.maybeEnd(j)
		}
		if was.final() && !is.final() {
			j.left++
		}
		if is == taken {
			b.closeCopies(j, t)
			t.tries = 0
			b.deliver(j, t)
		}
		if is == failed {
			for _, n := range t.next() {
				if !n.isFailed && n.accepted == nil {
					why := t.also().failure
					if n.Label != t.Label {
						why = fmt.Sprintf("needs %s, which failed: %s", t.Label, why)
					}
					b.fail(j, n, why)
				}
			}
		}
	}
	if t.phase == blocked && t.grants.len() > 0 {
		// Its inputs changed under it.
		for _, g := range slices.Clone(t.grants.all()) {
			b.stop(g.lease, "its inputs are made again")
		}
	}
	switch {
	case t.phase != open:
		t.lapsed = false
	case t.check == nil:
		t.class.push(t)
	}
}

func (b *Board) fail(j *jobState, t *task, reason string) {
	b.write(j, &failRecord{Task: int(t.index), Reason: reason})
	b.emit(j, job.Event{Type: job.EventFailed, Task: t.Label, Text: reason})
}

// emit tells watchers; time and job are filled in.
func (b *Board) emit(j *jobState, e job.Event) {
	e.Job, e.Time = j.id, b.now
	b.do(Emit{e})
}

// peerNo returns the index of p in j's journal, writing it if need be.
func (b *Board) peerNo(j *jobState, p peer.ID) int {
	n, ok := j.peerNo[p]
	if !ok {
		b.write(j, &peerRecord{ID: p.String()})
		n = j.peerNo[p]
	}
	return n
}

// leaseID makes a fresh name: unique, and the same in every run of the same
// events.
func (b *Board) leaseID() job.LeaseID {
	b.nLeases++
	var seed [16]byte
	binary.BigEndian.PutUint64(seed[:], b.epoch)
	binary.BigEndian.PutUint64(seed[8:], b.nLeases)
	h := sha256.Sum256(append(seed[:], b.self...))
	var u ulid.ULID
	if err := u.SetTime(ulid.Timestamp(b.now)); err != nil {
		panic(err) // not before the year 10889
	}
	copy(u[6:], h[:10])
	return job.LeaseID(u.String())
}

// fence returns the next fence: higher than every one before it, of this and
// of earlier epochs.
func (b *Board) fence(j *jobState) uint64 {
	b.grants++
	return job.Fence(b.epoch, j.lane, b.grants)
}

// secret decides what is checked of one attempt. It follows from the job's own
// secret, so it need not be stored.
func (j *jobState) secretOf(w peer.ID, l job.LeaseID, k job.TaskKey, fence uint64) []byte {
	m := hmac.New(sha256.New, j.secret)
	for _, part := range [][]byte{[]byte("idlewild challenge 1"), []byte(w), []byte(l), k.Bytes(), binary.BigEndian.AppendUint64(nil, fence)} {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		m.Write(part)
	}
	return m.Sum(nil)
}

// announce offers the open work of each job when there is some and nobody
// knows yet, and again after a while.
func (b *Board) announce() {
	here := b.selfHere()
	for _, j := range b.live {
		if j.open == 0 && len(j.checks) == 0 && j.told == 0 {
			continue
		}
		n, o := 0, job.Offer{}
		most := 0
		b.tellLimit(j)
		if j.live() {
			stopped := j.spec.Policy.Budget > 0 && b.limit(j) != ""
			for _, c := range j.classes {
				if stopped && c.place != job.AtRequester {
					continue
				}
				if c.place == job.Anywhere || !here {
					n += c.open
					if c.open > most {
						most, o.Needs = c.open, b.offered(c)
					}
				}
			}
			if !here {
				n += len(j.checks)
			} else {
				n += j.handed
			}
		}
		fresh := n > 0 && j.told == 0
		again := n > 0 && !b.now.Before(j.toldAt.Add(b.o.Announce))
		j.told = n
		if !fresh && !again {
			continue
		}
		j.toldAt = b.now
		o.Job, o.Requester, o.Kind = j.id, b.self, j.spec.Kind
		o.Strangers = j.forStrangers()
		o.InputBytes, o.Open, o.MaxPrice = j.snapshot.Bytes, n, j.spec.Policy.MaxPrice
		o.Expires = b.now.Add(2*b.o.Announce + b.o.Announce/2)
		b.do(Announce{o})
		b.after(b.o.Announce, func() {})
	}
}

func (b *Board) selfHere() bool {
	w := b.byPeer[b.self]
	return w != nil && w.connected
}
