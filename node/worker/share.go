package worker

import (
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// Fair shares between requesters: whoever has work for this machine gets as
// much of its devices as everybody else who has. What a requester was given
// fades, so that a week of nights for one does not shut it out afterwards.
const (
	shareHalfLife = time.Hour
	// stillBusy is how long after its last word about work a requester counts as
	// one that has some; offers come every minute.
	stillBusy = 150 * time.Second
	// fair is how much more one may have been given than another before it waits,
	// in seconds of devices.
	fair = 1.0
	// slice is how long a device goes on with a lease before it turns to
	// another requester's, unless that is behind by more: beginning that may mean
	// to load another scene.
	slice = time.Minute
)

// leastPrecedence keeps everybody's share above nothing.
const leastPrecedence = 0.1

// share is what one requester was given, in seconds of devices over its
// precedence, as of a time.
type share struct {
	given float64
	at    time.Time
}

func (s share) now(t time.Time) float64 {
	if s.given == 0 || !t.After(s.at) {
		return s.given
	}
	return s.given * math.Exp2(-float64(t.Sub(s.at))/float64(shareHalfLife))
}

// shared reports whether several requesters may work on d: on the home device
// there is but one.
func (d *device) shared() bool { return d.Name != job.HomeDevice }

// serve adds to what a lease's requester was given. mu is held.
func (w *Worker) serve(l *lease, d time.Duration, t time.Time) {
	if !l.device.shared() {
		return
	}
	given := d.Seconds()
	if w.opts.Precedence != nil {
		given /= max(leastPrecedence, w.opts.Precedence(l.r.id))
	}
	l.r.share = share{l.r.share.now(t) + given, t}
}

// lent reports whether r holds a lease on a device that others could have. mu is
// held.
func (r *requester) lent() bool {
	for _, l := range r.held {
		if l.device.shared() {
			return true
		}
	}
	return false
}

// active reports whether a device that others could have works for r, or could at
// once. mu is held.
func (r *requester) active() bool {
	for _, l := range r.held {
		if l.device.shared() && (l.device.current == l || l.here()) {
			return true
		}
	}
	return false
}

// wants reports whether r has work for this machine, as far as is known. mu is
// held.
func (r *requester) wants(t time.Time) bool {
	return r.linked && r.resting == "" && r.works(t)
}

// works reports whether r has work for a machine like this one, as far as is
// known, whether it can be reached or not. mu is held.
func (r *requester) works(t time.Time) bool { return t.Sub(r.sought) < stillBusy || r.lent() }

// seeks: r has work for devices that others could have. mu is held.
func (w *Worker) seeks(r *requester, t time.Time) {
	if !r.works(t) {
		w.arrive(r, t)
		r.say(bidGap) // a busy device may have a place for it now
	}
	r.sought = t
}

// arrive gives a requester that comes to have work the share of the least served
// one that works here, or else of one that would. It is owed nothing for the
// time before, and owes nothing for it: whoever had the machine alone took it
// from nobody. mu is held.
func (w *Worker) arrive(r *requester, t time.Time) {
	least := w.least(r, t, (*requester).active)
	if math.IsInf(least, 1) { // who only says that it has work may never take any here
		least = w.least(r, t, func(*requester) bool { return true })
	}
	if !math.IsInf(least, 1) {
		r.share = share{least, t}
	}
	r.since, r.waiting = t, time.Time{}
}

// waits notes whether r has nothing here but leases that wait for their files. It
// is owed nothing for a long time of that. mu is held.
func (w *Worker) waits(r *requester, t time.Time) {
	if !r.active() {
		if r.waiting.IsZero() {
			r.waiting = t
		}
		return
	}
	if !r.waiting.IsZero() && t.Sub(r.waiting) >= stillBusy {
		if least := w.least(r, t, (*requester).active); !math.IsInf(least, 1) {
			r.share = share{max(least, r.share.now(t)), t}
		}
	}
	r.waiting = time.Time{}
}

// least is the smallest share of those beside r that want work and are of a kind;
// infinite where there is none. mu is held.
func (w *Worker) least(r *requester, t time.Time, of func(*requester) bool) float64 {
	least := math.Inf(1)
	for _, o := range w.requesters {
		if o != r && o.wants(t) && of(o) {
			least = min(least, o.share.now(t))
		}
	}
	return least
}

// owed returns the requester that has less of d than it should while r is about
// to be given more of it: it has work, was given less, and holds nothing of d's.
// One that has taken nothing for a while is not waited for: it gets a place when
// it is due. mu is held.
func (w *Worker) owed(r *requester, d *device, t time.Time) *requester {
	if !d.shared() {
		return nil
	}
	mine := r.share.now(t)
	var out *requester
	least := mine - fair
	for _, o := range w.requesters {
		if s := o.share.now(t); o != r && s < least && o.wants(t) && !d.holds(o.id) && (o.active() || t.Sub(o.since) < stillBusy) {
			out, least = o, s
		}
	}
	return out
}

// due reports whether r is to have a lease on d although d has enough: everybody
// else that d works for, or could, was given as much, and is being given more. One
// that d works for just now has no other lease that waits: its tasks may be so much
// shorter than the others' that its turn is again after this one. mu is held.
func (w *Worker) due(r *requester, d *device, t time.Time) bool {
	if !d.shared() || !r.wants(t) || d.load() == 0 || d.ready() > w.opts.Credit {
		return false
	}
	mine := r.share.now(t) - fair
	if c := d.current; c != nil && (c.r == r && len(d.queue) == 0 || c.r != r && c.r.share.now(t) < mine) {
		return false
	}
	for _, l := range d.queue {
		if l.r == r || l.here() && l.r.share.now(t) < mine {
			return false
		}
	}
	return true
}

// holds reports whether d has a lease of that requester that is not done.
func (d *device) holds(id peer.ID) bool {
	if c := d.current; c != nil && !c.done && !c.ended && c.r.id == id {
		return true
	}
	for _, l := range d.queue {
		if l.r.id == id {
			return true
		}
	}
	return false
}

// pick takes a lease from d's queue: of those whose content is here, the first
// of the requester that was given least; nil where none's is. mu is held.
func (w *Worker) pick(d *device, t time.Time) *lease {
	best := -1
	for i, l := range d.queue {
		if !l.here() {
			continue
		}
		if best < 0 || l.r != d.queue[best].r && l.r.share.now(t) < d.queue[best].r.share.now(t)-fair {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	l := d.queue[best]
	d.queue = append(d.queue[:best:best], d.queue[best+1:]...)
	return l
}

// yields puts a lease that runs since began back into its device's queue before
// its i-th task, where another is due. mu is held.
func (w *Worker) yields(l *lease, i int, began, t time.Time) bool {
	if !l.overdue(i, began, t) {
		return false
	}
	d := l.device
	d.current = nil
	d.queue = append([]*lease{l}, d.queue...)
	if !l.here() {
		w.waits(l.r, t)
		w.bidSoon(l.r) // there may be a place for somebody else now
	}
	return true
}

// overdue reports whether the i-th task of l, which runs since began, is to wait:
// another requester's lease is due, or its files are not here. mu is held.
func (l *lease) overdue(i int, began, t time.Time) bool {
	least := fair
	if t.Sub(began) < slice {
		least = slice.Seconds()
	}
	if !l.hasFiles(i) {
		return true
	}
	for _, o := range l.device.queue {
		if o.r != l.r && o.here() && o.r.share.now(t) < l.r.share.now(t)-least {
			return true
		}
	}
	return false
}

// here reports whether what l's next task reads is unpacked. mu is held.
func (l *lease) here() bool { return l.hasFiles(l.after(l.next)) }

// after is the first task from i on that is to run. mu is held.
func (l *lease) after(i int) int {
	for i < len(l.skip) && l.skip[i] {
		i++
	}
	return i
}

// hasFiles reports whether what the i-th task reads is unpacked, as far as that is
// done before it begins: smaller results of others are fetched then. mu is held.
func (l *lease) hasFiles(i int) bool {
	if i >= len(l.grant.Tasks) {
		return true
	}
	for _, ref := range inputs(l.grant.Tasks[i]) {
		select {
		case <-l.inputs[ref].ready:
		default:
			return false
		}
	}
	return true
}

// bidSoon tells everybody that a device wants more work: at once who was given
// least of those that have some for us, the others soon. mu is held.
func (w *Worker) bidSoon(first *requester) {
	t := time.Now()
	for _, r := range w.requesters {
		if r.wants(t) && r.share.now(t) < first.share.now(t)-fair {
			first = r
		}
	}
	for _, r := range w.requesters {
		if r == first {
			r.say(0)
		} else {
			r.say(bidGap)
		}
	}
}
