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
	connected bool
	stream    uint64
	fresh     bool   // no report came on this stream yet
	session   string // of its process
	machine   job.Machine
	bids      []job.Bid
	leaving   string
	heard     time.Time
	score     Score
	resting   string // as told last

	leases []*lease // held, oldest first
	rests  map[job.ID]*rest
	speeds map[string]*speed
	last   map[string]time.Time // when a device last returned something
	worked map[job.ID]bool      // has that job's content

	order   job.Order
	urgent  bool
	owed    bool
	waiting bool // a timer will send what is settled
}

// rest keeps a peer off a job for a while.
type rest struct {
	until time.Time
	n     int
	why   string
}

// speed of a device against the one that the costs were first measured on, as
// a running mean in the logarithm.
type speed struct {
	log float64
	n   int
}

func (w *worker) speed(device string) float64 {
	if s := w.speeds[device]; s != nil {
		return math.Exp(s.log)
	}
	return 1
}

func (w *worker) device(name string) (job.Device, bool) {
	for _, d := range w.machine.Devices {
		if d.Name == name {
			return d, true
		}
	}
	return job.Device{}, false
}

// held counts the leases of a device, checks aside.
func (w *worker) held(device string) (work, checks int) {
	for _, l := range w.leases {
		if l.device == device {
			if l.check {
				checks++
			} else {
				work++
			}
		}
	}
	return work, checks
}

// short is a peer's name for people.
func short(p peer.ID) string {
	s := p.String()
	return s[max(0, len(s)-8):]
}

func (b *Board) worker(p peer.ID) *worker {
	w := b.byPeer[p]
	if w == nil {
		w = &worker{peer: p, rests: map[job.ID]*rest{}, speeds: map[string]*speed{}, last: map[string]time.Time{}, worked: map[job.ID]bool{}}
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
	w.heard, w.score, w.bids, w.leaving, w.resting = b.now, e.Score, nil, "", ""
	w.order, w.urgent = job.Order{}, false
	b.members++
	b.urge(w) // says epoch and beat
}

func (b *Board) closed(e Closed) {
	w := b.byPeer[e.Peer]
	if w == nil || !w.connected || w.stream != e.Stream {
		return
	}
	b.away(w)
	b.hungry = true // others may be all that is left for some task
}

// away marks w as gone. Its leases stay until they lapse: it may come back
// with what it did.
func (b *Board) away(w *worker) {
	w.connected = false
	w.order, w.urgent = job.Order{}, false
	b.members++
	b.account(w)
}

func (b *Board) reported(e Reported) {
	w := b.byPeer[e.Peer]
	if w == nil || !w.connected || w.stream != e.Stream {
		return
	}
	r := e.Report
	w.heard = b.now
	if r.Machine != nil {
		w.machine = *r.Machine
		b.members++
	}
	first := w.fresh
	w.fresh, w.session = false, r.Session
	if (w.leaving == "") != (r.Leaving == "") {
		b.members++
	}
	w.leaving = r.Leaving
	w.bids = slices.Clone(r.Bids)
	for i := range r.Bids {
		for _, id := range r.Bids[i].Jobs {
			if b.byID[id] != nil {
				w.worked[id] = true
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
	b.feed(w, b.o.Credit)
	b.tell(w)
	b.account(w)
	if w.leaving != "" && len(w.order.Settled) > 0 {
		b.urge(w)
	}
}

// restFor keeps w off j for a time that grows with each call.
func (b *Board) restFor(w *worker, j *jobState, why string) {
	r := w.rests[j.id]
	if r == nil {
		r = &rest{}
		w.rests[j.id] = r
	}
	d := min(2*time.Second<<min(r.n, 10), 5*time.Minute)
	r.n++
	r.until, r.why = b.now.Add(d), why
	b.after(d, func() { b.hungry = true })
}

func (w *worker) rested(j *jobState, now time.Time) bool {
	r := w.rests[j.id]
	return r == nil || !now.Before(r.until)
}

// can reports whether w may work on j at all now.
func (b *Board) can(w *worker, j *jobState) bool {
	return w.connected && w.leaving == "" && w.score.Banned == "" && j.barred[w.peer] == ""
}

// tell keeps a worker that gets no work informed of the reason.
func (b *Board) tell(w *worker) {
	why := w.score.Banned
	if why == "" {
		some, all := "", true
		for _, j := range b.jobs {
			if !j.live() {
				continue
			}
			if r := j.barred[w.peer]; r != "" {
				some = fmt.Sprintf("no more work on job %s: a result was rejected: %s", j.id, r)
			} else if r := w.rests[j.id]; r != nil && b.now.Before(r.until) {
				some = fmt.Sprintf("rests from job %s for %v: %s", j.id, r.until.Sub(b.now).Round(time.Second), r.why)
			} else {
				all = false
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
}
