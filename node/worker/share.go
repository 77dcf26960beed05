package worker

import (
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
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

// serve adds to what r was given. mu is held.
func (w *Worker) serve(r *requester, d time.Duration, t time.Time) {
	given := d.Seconds()
	if w.opts.Precedence != nil {
		given /= max(leastPrecedence, w.opts.Precedence(r.id))
	}
	r.share = share{r.share.now(t) + given, t}
}

// wants reports whether r has work for this machine, as far as is known. mu is
// held.
func (r *requester) wants(t time.Time) bool {
	return r.linked && r.resting == "" && (len(r.held) > 0 || t.Sub(r.busy) < stillBusy)
}

// arrive gives a requester that comes to have work the share of the least served
// one that has. It is owed nothing for the time before, and owes nothing for it:
// whoever had the machine alone took it from nobody. mu is held.
func (w *Worker) arrive(r *requester, t time.Time) {
	least := math.Inf(1)
	for _, o := range w.requesters {
		if o != r && o.wants(t) {
			least = min(least, o.share.now(t))
		}
	}
	if !math.IsInf(least, 1) {
		r.share = share{least, t}
	}
}

// owed returns the requester that has less of d than it should while r is about
// to be given more of it: it has work, was given less, and holds nothing of d's.
// mu is held.
func (w *Worker) owed(r *requester, d *device, t time.Time) *requester {
	mine := r.share.now(t)
	var out *requester
	least := mine - fair
	for _, o := range w.requesters {
		if s := o.share.now(t); o != r && s < least && o.wants(t) && !d.holds(o.id) {
			out, least = o, s
		}
	}
	return out
}

// due reports whether r is to have a lease on d although d has enough to do:
// everybody that d works for was given as much, and is being given more. mu is
// held.
func (w *Worker) due(r *requester, d *device, t time.Time) bool {
	if d.holds(r.id) || !r.wants(t) || d.load() == 0 || d.load() > w.opts.Credit {
		return false
	}
	mine := r.share.now(t) - fair
	if c := d.current; c != nil && c.r.share.now(t) < mine {
		return false
	}
	for _, l := range d.queue {
		if l.r.share.now(t) < mine {
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
// of the requester that was given least. mu is held.
func (w *Worker) pick(d *device, t time.Time) *lease {
	best := 0
	for i, l := range d.queue {
		b := d.queue[best]
		if here, there := l.here(), b.here(); here != there && here ||
			here == there && l.r != b.r && l.r.share.now(t) < b.r.share.now(t)-fair {
			best = i
		}
	}
	l := d.queue[best]
	d.queue = append(d.queue[:best:best], d.queue[best+1:]...)
	return l
}

// yields puts a lease that runs since began back into its device's queue, where
// another requester's is due. mu is held.
func (w *Worker) yields(l *lease, began, t time.Time) bool {
	if !l.overdue(began, t) {
		return false
	}
	d := l.device
	d.current = nil
	d.queue = append([]*lease{l}, d.queue...)
	return true
}

// overdue reports whether another requester's lease is due in place of l, which
// runs since began. mu is held.
func (l *lease) overdue(began, t time.Time) bool {
	least := fair
	if t.Sub(began) < slice {
		least = slice.Seconds()
	}
	for _, o := range l.device.queue {
		if o.r != l.r && o.here() && o.r.share.now(t) < l.r.share.now(t)-least {
			return true
		}
	}
	return false
}

// here reports whether the content of l's next task is unpacked. mu is held.
func (l *lease) here() bool {
	if l.next >= len(l.grant.Tasks) {
		return true
	}
	in := l.inputs[l.grant.Tasks[l.next].Task.Input]
	if in == nil {
		return true
	}
	select {
	case <-in.ready:
		return true
	default:
		return false
	}
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
