package dispatch

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// worker is what the board knows of a peer that works for us. It outlives the
// peer's streams.
type worker struct {
	peer      peer.ID
	name      string // peer, as people read it
	stranger  bool   // no member of the farm
	connected bool
	stream    uint64
	fresh     bool   // no report came on this stream yet
	session   string // of its process
	machine   job.Machine
	leaving   string
	heard     time.Time
	score     Score
	resting   string // as told last
	restful   bool   // among those that may have to be told why they rest

	leases []*lease         // held, oldest first
	seats  []*seat          // its devices, and those that it had
	rests  map[job.ID]*rest // nil: none
	worked []*jobState      // has these jobs' content
	rate   float64          // of its link, bytes a second, as seen; 0: unknown

	order   job.Order
	urgent  bool
	owed    bool
	waiting bool // a timer will send what is settled
}

// seat is one device of a worker: a slot for work.
type seat struct {
	w *worker
	job.Device
	there  bool // the machine has it now
	last   moment
	tried  moment // when there was nothing for it
	looked moment // when it was looked whether it could do better what others do
	// cleared is when its work was taken away for what somebody waits for.
	cleared moment
	speed   speed
	shown   float64 // its pace by how far its first task is, see slow; 0: not known
	sorted  uint32  // the last time that its pace was found anew, see refine

	want  int // leases that it could take now
	price float64
	idle  moment    // since when it wants work and has none; 0: it does not, or has
	on    *jobState // the job of its newest lease: it is a member there
	frame *task     // what its newest task is a part of; nil: of none

	shape   *shape  // the sort of machine and device; nil while it is not there
	counts  bool    // in the sums of its shape
	counted float64 // the speed with which it counts there and in its job
	member  *jobState
	listed  bool // among the board's waiting
}

func (s *seat) pace() float64 { return math.Exp(s.speed.log) }

// rest keeps a peer off a job for a while.
type rest struct {
	until time.Time
	n     int
	why   string
}

// shape is a sort of device and of machine: all seats of one shape can do the
// same tasks. It holds sums over those that work or want to.
type shape struct {
	machine job.Machine // of the first of them
	device  job.Device
	self    bool // of the requester's own machine
	home    bool // whose machine has a home slot
	outside bool // of strangers' machines
	speed   float64
	n       int
}

func (w *worker) device(name string) (job.Device, bool) {
	for _, d := range w.machine.Devices {
		if d.Name == name {
			return d, true
		}
	}
	return job.Device{}, false
}

// seat returns the slot of that name, there or not.
func (w *worker) seat(name string) *seat {
	for _, s := range w.seats {
		if s.Name == name {
			return s
		}
	}
	s := &seat{w: w, Device: job.Device{Name: name}}
	w.seats = append(w.seats, s)
	return s
}

// held counts the leases of a seat, checks aside.
func (s *seat) held() (work, checks int) {
	for _, l := range s.w.leases {
		if l.device == s.Name {
			if l.check {
				checks++
			} else {
				work++
			}
		}
	}
	return work, checks
}

// short is what a peer is called that has no name here.
func short(p peer.ID) string {
	s := p.String()
	return s[max(0, len(s)-8):]
}

func (b *Board) worker(p peer.ID) *worker {
	w := b.byPeer[p]
	if w == nil {
		w = &worker{peer: p, name: p.String()}
		b.byPeer[p] = w
		b.workers = append(b.workers, w)
	}
	return w
}

func (b *Board) opened(e Opened) {
	w := b.worker(e.Peer)
	if w.connected {
		b.do(Hangup{w.peer, w.stream})
		b.away(w)
	}
	w.connected, w.stream, w.fresh = true, e.Stream, true
	w.stranger = b.stranger(w.peer)
	b.connected++
	w.heard, w.leaving, w.resting = b.now, "", ""
	b.standing(w, e.Score)
	w.order, w.urgent = job.Order{}, false
	b.mark(w)
	b.urge(w) // says epoch and beat
}

func (b *Board) closed(e Closed) {
	w := b.byPeer[e.Peer]
	if w == nil || !w.connected || w.stream != e.Stream {
		return
	}
	b.away(w)
	b.hungry = true // others may be all that is left for some task
	if w.stranger {
		b.forgetStrangers()
	}
}

// strangerKept is how long a stranger that rests from a job is remembered: it is
// not to have an end of that by hanging up.
const strangerKept = time.Hour

// forgetStrangers forgets those that are away and hold nothing. There is no end
// of them, and what each says of its machine takes room.
func (b *Board) forgetStrangers() {
	gone := func(w *worker) bool {
		if !w.stranger || w.connected || len(w.leases) > 0 {
			return false
		}
		for _, r := range w.rests {
			if b.now.Before(r.until.Add(strangerKept)) {
				return false
			}
		}
		return true
	}
	b.restful = slices.DeleteFunc(b.restful, gone)
	b.workers = slices.DeleteFunc(b.workers, func(w *worker) bool {
		if !gone(w) {
			return false
		}
		delete(b.byPeer, w.peer)
		return true
	})
}

// away marks w as gone. Its leases stay until they lapse: it may come back
// with what it did.
func (b *Board) away(w *worker) {
	if w.connected {
		b.connected--
	}
	w.connected = false
	w.order, w.urgent = job.Order{}, false
	for _, s := range w.seats {
		s.want = 0
		b.tally(s)
	}
}

func (b *Board) reported(e Reported) {
	w := b.byPeer[e.Peer]
	if w == nil || !w.connected || w.stream != e.Stream {
		return
	}
	r := e.Report
	w.heard = b.now
	if r.Machine != nil {
		b.described(w, *r.Machine)
	}
	first := w.fresh
	w.fresh, w.session = false, r.Session
	w.leaving = r.Leaving
	for _, s := range w.seats {
		s.want = 0
	}
	for _, bid := range r.Bids {
		if _, ok := w.device(bid.Device); !ok {
			continue
		}
		s := w.seat(bid.Device)
		s.want, s.price = bid.Want, bid.Price
		for _, id := range bid.Jobs {
			if j := b.byID[id]; j != nil {
				w.has(j)
			}
		}
	}
	for _, o := range e.Receipts {
		b.receipt(w, o, r.Inline)
	}
	size := 0
	for _, x := range r.Receipts {
		size += len(x.Body)
	}
	b.progress(w, r.Progress, first, len(r.Receipts) >= 32 || size >= job.MaxReceiptBytes/4)
	b.count(w, e)
	for _, s := range w.seats {
		b.tally(s)
	}
	b.feed(w, b.o.Credit)
	b.tell(w)
	if w.leaving != "" && len(w.order.Settled) > 0 {
		b.urge(w)
	}
}

// has notes that w has the content of j. It says so of jobs that are over no more.
func (w *worker) has(j *jobState) {
	if slices.Contains(w.worked, j) {
		return
	}
	w.worked = slices.DeleteFunc(w.worked, func(o *jobState) bool { return o.state.Ended() })
	w.worked = append(w.worked, j)
}

// described takes what a machine says of itself.
func (b *Board) described(w *worker, m job.Machine) {
	w.machine = m
	for _, s := range w.seats {
		s.there = false
		b.tally(s) // it may be of another shape from now on
	}
	for _, d := range m.Devices {
		s := w.seat(d.Name)
		s.Device, s.there = d, true
		s.shape = b.shapeOf(s)
		w.machine.Facts = s.shape.machine.Facts // of machines of one sort once
	}
	if len(w.seats) > 2*job.MaxDevices { // what is known of their pace goes with those that are not there any more
		w.seats = slices.DeleteFunc(w.seats, func(s *seat) bool {
			work, checks := s.held()
			return !s.there && !s.listed && work+checks == 0
		})
	}
}

// restFor keeps w off j for a time that grows with each call.
func (b *Board) restFor(w *worker, j *jobState, why string) {
	r := w.rests[j.id]
	if r == nil {
		r = &rest{}
		if w.rests == nil {
			w.rests = map[job.ID]*rest{}
		}
		w.rests[j.id] = r
	}
	d := min(2*time.Second<<min(r.n, 10), 5*time.Minute)
	r.n++
	r.until, r.why = b.now.Add(d), why
	b.mark(w)
	b.after(d, func() { b.hungry = true })
}

func (w *worker) rested(j *jobState, now time.Time) bool {
	if len(w.rests) == 0 {
		return true
	}
	r := w.rests[j.id]
	return r == nil || !now.Before(r.until)
}

// can reports whether w may work on j at all now.
func (b *Board) can(w *worker, j *jobState) bool {
	return w.connected && w.leaving == "" && w.score.Banned == "" && (len(j.barred) == 0 || j.barred[w.peer] == "") && (w.peer == b.self || j.wants(w))
}

// mayWork is can for one device: those of this machine are on the lists as well,
// but for the one that does what nobody else can.
func (b *Board) mayWork(s *seat, j *jobState) bool {
	return b.can(s.w, j) && (s.w.peer != b.self || s.Name == job.HomeDevice || j.allows(b.self))
}

// allows reports whether the job's lists let p work on it.
func (j *jobState) allows(p peer.ID) bool {
	l := &j.spec.Policy
	return len(l.Only) == 0 && len(l.Not) == 0 || l.Allows(p.String())
}

// mark puts w among those that are told why they rest.
func (b *Board) mark(w *worker) {
	if !w.restful && (len(w.rests) > 0 || w.resting != "" || w.score.Banned != "") {
		w.restful = true
		b.restful = append(b.restful, w)
	}
}

// tell keeps a worker that gets no work informed of the reason.
func (b *Board) tell(w *worker) {
	why := w.score.Banned
	if why == "" {
		some, all := "", true
		for _, j := range b.live {
			if !j.live() {
				continue
			}
			if w.stranger && !j.forStrangers() {
				some = fmt.Sprintf("job %s is for members of the farm, by the wish of who submitted it, or because it could not be checked", j.id)
			} else if !j.allows(w.peer) {
				some = fmt.Sprintf("job %s is for other machines, by the wish of who submitted it", j.id)
			} else if r := j.barred[w.peer]; r != "" {
				some = fmt.Sprintf("no more work on job %s: a result was rejected: %s", j.id, r)
			} else if r := w.rests[j.id]; r != nil && b.now.Before(r.until) {
				some = fmt.Sprintf("rests from job %s for %v: %s", j.id, r.until.Sub(b.now).Round(time.Second), r.why)
			} else if r := b.crampedAll(w, j); r != "" {
				some = fmt.Sprintf("no work on job %s: it %s", j.id, r)
			} else {
				all = false
				break
			}
		}
		if all {
			why = some
		}
	}
	if len(why) > job.MaxReasonBytes {
		why = why[:job.MaxReasonBytes]
	}
	if (why == "") != (w.resting == "") {
		w.resting = why
		b.urge(w)
	}
	w.resting = why
	b.mark(w)
}

// tellAll does that for everybody whom it may concern.
func (b *Board) tellAll() {
	all := drain(&b.restful)
	for _, w := range all {
		w.restful = false
		if w.connected {
			b.tell(w)
		}
		b.mark(w)
	}
}

// beat is how often workers are to be heard: seldom enough that reports of
// nothing new are few however many the workers are. Workers that are asked for
// more than the usual time between beats tell progress with them only.
func (b *Board) beat() time.Duration {
	const few, mostBeats = 200, 200 // workers, beats a second
	if b.connected <= few {
		return b.o.BeatEvery
	}
	return max(b.o.BeatEvery*5/4, time.Duration(b.connected)*time.Second/mostBeats)
}

// ttl is how long a lease lasts after its worker was heard.
func (b *Board) ttl() time.Duration { return max(b.o.LeaseTTL, 3*b.beat()) }

// tally brings up to date what s adds to the sums over its shape and its job,
// and since when it waits. It is called whenever s or its worker changed.
func (b *Board) tally(s *seat) {
	w := s.w
	if s.counts {
		s.counts = false
		s.shape.speed -= s.counted
		s.shape.n--
	}
	if s.member != nil {
		s.member.members -= s.counted
		s.member = nil
	}
	if s.speed.n == 0 {
		s.speed.log = b.pace0 // as good a guess as any
		if s.shown != 0 {
			s.speed.log = min(s.shown, b.pace0)
		}
	}
	work, checks := s.held()
	ready := w.connected && w.leaving == "" && w.score.Banned == "" && s.there
	if ready && (s.want > 0 || work+checks > 0) {
		s.counts, s.counted = true, s.pace()
		s.shape.speed += s.counted
		s.shape.n++
		if s.on != nil && work > 0 {
			s.member = s.on
			s.on.members += s.counted
		}
	}
	waits := ready && s.want > 0 && work == 0
	if !waits && s.idle != 0 {
		b.waited(s)
		s.idle = 0
	} else if waits && s.idle == 0 {
		s.idle = b.moment()
	}
	if ready && s.want > 0 && !s.listed {
		s.listed = true
		b.waiting = append(b.waiting, s)
	}
}

// shapeOf finds the shape of s, by everything that Needs can ask for.
func (b *Board) shapeOf(s *seat) *shape {
	w := s.w
	for _, x := range b.shapes {
		if x.device.Type == s.Type && x.device.MemoryBytes == s.MemoryBytes && x.machine.Memory(x.device) == w.machine.Memory(s.Device) && (x.device.Name == job.HomeDevice) == (s.Name == job.HomeDevice) &&
			x.self == (w.peer == b.self) && x.home == w.home() && x.outside == w.stranger && sameFacts(x.machine.Facts, w.machine.Facts) {
			return x
		}
	}
	if len(b.shapes) >= b.mostShapes {
		b.dropShapes()
	}
	x := &shape{machine: w.machine, device: s.Device, self: w.peer == b.self, home: w.home(), outside: w.stranger}
	b.shapes = append(b.shapes, x)
	return x
}

// leastShapes are kept without a look whether somebody still has them.
const leastShapes = 64

// dropShapes forgets those that nobody has any more: a machine may say every
// moment that it is another.
func (b *Board) dropShapes() {
	had := map[*shape]bool{}
	for _, w := range b.workers {
		for _, s := range w.seats {
			if s.there {
				had[s.shape] = true
			}
		}
	}
	b.shapes = slices.DeleteFunc(b.shapes, func(x *shape) bool { return !had[x] })
	b.mostShapes = max(leastShapes, 2*len(b.shapes))
}

func sameFacts(a, b map[string][]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if o, ok := b[k]; !ok || !slices.Equal(v, o) {
			return false
		}
	}
	return true
}
