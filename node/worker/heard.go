package worker

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

const (
	heardFor = time.Hour // after it was last announced, an offer is remembered
	maxHeard = 512       // of them
)

// Fate is what became of an offer here.
type Fate string

// Fates of offers.
const (
	FateWorked      Fate = "worked"      // this machine got work from it
	FateOff         Fate = "off"         // this machine does no work for others
	FateUnfit       Fate = "unfit"       // this machine lacks something, or asks for more
	FateRefused     Fate = "refused"     // this machine takes nothing from that requester
	FateFull        Fate = "full"        // too many requesters at one time
	FateUnreachable Fate = "unreachable" // no link to the requester
	FateResting     Fate = "resting"     // this machine rests
	FateDenied      Fate = "denied"      // the requester gives this machine nothing
	FateBusy        Fate = "busy"        // every device had work already
	FateWaiting     Fate = "waiting"     // asked; others were faster, or nothing is open
)

// Heard is one job that was offered by another member.
type Heard struct {
	Job         job.ID
	Requester   peer.ID
	First, Last time.Time // announced
	Open        int       // as last announced
	Leases      int       // that this machine got
	Fate        Fate
	Reason      string // of the fate, for people; may be empty
}

// noteOffer remembers an offer. fate is empty where this machine asked. mu is held.
func (w *Worker) noteOffer(o job.Offer, fate Fate, reason string) {
	now := time.Now()
	h := w.heard[o.Job]
	if h == nil {
		w.forgetHeard(now)
		h = &Heard{Job: o.Job, Requester: o.Requester, First: now}
		w.heard[o.Job] = h
	}
	if h.Requester != o.Requester {
		return // a name that is taken
	}
	h.Last, h.Open = now, o.Open
	h.Fate, h.Reason = fate, reason
}

// forgetHeard makes room for one more. mu is held.
func (w *Worker) forgetHeard(now time.Time) {
	var oldest *Heard
	for id, h := range w.heard {
		if now.Sub(h.Last) > heardFor {
			delete(w.heard, id)
		} else if oldest == nil || h.Last.Before(oldest.Last) {
			oldest = h
		}
	}
	if len(w.heard) >= maxHeard {
		delete(w.heard, oldest.Job)
	}
}

// Heard lists the offers of the last hour, newest first, and for each why this
// machine did or did not get work from it.
func (w *Worker) Heard() []Heard {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var out []Heard
	for _, h := range w.heard {
		if now.Sub(h.Last) > heardFor {
			continue
		}
		v := *h
		if v.Leases > 0 {
			v.Fate, v.Reason = FateWorked, ""
		} else if v.Fate == "" {
			v.Fate, v.Reason = w.fate(h.Requester)
		}
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Heard) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Job, b.Job)) })
	return out
}

// fate says why a requester that was asked has given nothing yet. mu is held.
func (w *Worker) fate(id peer.ID) (Fate, string) {
	r := w.requesters[id]
	switch {
	case w.resting("") != "":
		return FateResting, w.resting("")
	case r == nil:
		return FateWaiting, "it was asked, and had nothing for this machine for a while"
	case !r.linked && r.trouble != "":
		return FateUnreachable, r.trouble
	case !r.linked:
		return FateUnreachable, "the link to it is being made"
	case r.resting != "":
		return FateDenied, r.resting
	}
	busy := 0
	for name, d := range w.devices {
		if name == job.HomeDevice || d.gone {
			continue
		}
		if d.load() < w.opts.Credit && w.resting(name) == "" {
			return FateWaiting, "others have what was open"
		}
		busy++
	}
	return FateBusy, fmt.Sprintf("all %d devices have work", busy)
}
