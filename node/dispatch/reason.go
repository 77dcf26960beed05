package dispatch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"idlewild/job"
)

// reason says why a job is as it is or, where nothing happens, why not.
func (b *Board) reason(now time.Time, j *jobState) string {
	switch {
	case j.state.Ended():
		return j.reason
	case j.paused:
		return "paused"
	case j.state == job.StateAccepted:
		return j.phase
	case j.stuck != "":
		return j.stuck
	case j.holder != "":
		return "its steward " + b.o.Name(j.holder) + " held it and gives back what was done"
	}
	if j.open > 0 {
		if why := b.limit(j); why != "" {
			return why
		}
	}
	waiting, running := 0, 0
	for _, c := range j.classes {
		waiting += c.open
		running += c.out
	}
	if n := len(j.checks); n > 0 {
		w, wait := b.byPeer[b.self], fmt.Sprintf("%d checks wait", n)
		if n == 1 {
			wait = "1 check waits"
		}
		switch {
		case w == nil || !w.connected:
			return wait + ": this machine runs no worker"
		case len(w.leases) == 0 && !b.bids(w):
			return wait + ": this machine's worker takes no work now"
		}
	}
	if waiting == 0 || running > 0 {
		return ""
	}
	var whys []string
	peers := 0
	for _, w := range b.workers {
		if !w.connected || w.peer == b.self && w.onlyHome() && !j.homework() {
			continue
		}
		peers++
		if why := b.whyNot(now, w, j); why != "" {
			whys = append(whys, "worker "+b.o.Name(w.peer)+" "+why)
		}
	}
	if peers == 0 {
		return "no machine that could work on it is connected"
	}
	const most = 4
	if len(whys) > most {
		whys = append(whys[:most], fmt.Sprintf("and %d more", len(whys)-most))
	}
	if helps := b.remedy(j); helps != "" {
		whys = append(whys, helps)
	}
	return strings.Join(whys, "; ")
}

// remedy is what helps open tasks of j that need what no connected machine has.
func (b *Board) remedy(j *jobState) string {
	for _, c := range j.classes {
		if c.open == 0 {
			continue
		}
		if why := b.noRoom(j, c); why != "" {
			return why
		}
		for _, fact := range slices.Sorted(maps.Keys(c.needs.Require)) {
			if helps := b.o.Remedy(fact); helps != "" && !b.somewhere(job.Needs{Require: map[string]string{fact: c.needs.Require[fact]}}) {
				return helps
			}
		}
	}
	return ""
}

// somewhere reports whether a device of a connected machine has what n needs.
func (b *Board) somewhere(n job.Needs) bool {
	for _, w := range b.workers {
		if w.connected && slices.ContainsFunc(w.machine.Devices, func(d job.Device) bool { return w.machine.Has(n, d) }) {
			return true
		}
	}
	return false
}

func (b *Board) bids(w *worker) bool {
	for _, s := range w.seats {
		if s.want > 0 {
			return true
		}
	}
	return false
}

// whyNot says why w has no work of j although there is some, or "".
func (b *Board) whyNot(now time.Time, w *worker, j *jobState) string {
	switch {
	case w.score.Banned != "":
		return "is banned: " + w.score.Banned
	case j.barred[w.peer] != "":
		return "gets no more work on this job, a result was rejected: " + j.barred[w.peer]
	case w.stranger && !j.spec.Policy.Strangers:
		return "is no member of the farm, and the job is for members (--strangers)"
	case w.stranger && !j.forStrangers():
		return "is no member of the farm, and this machine alone could not check what it gives back"
	case w.peer != b.self && !j.allows(w.peer):
		return "is not wanted for it (--only, --not)"
	case w.leaving != "":
		return "takes no more work: " + w.leaving
	case !w.rested(j, now):
		r := w.rests[j.id]
		return fmt.Sprintf("rests for %v: %s", r.until.Sub(now).Round(time.Second), r.why)
	}
	lacks := ""
	for _, c := range j.classes {
		if c.open == 0 {
			continue
		}
		if c.place != job.Anywhere && w.peer != b.self {
			lacks = "is not the machine that must do this"
			continue
		}
		if lacks = b.lacking(w, c.needs, c.place); lacks != "" {
			continue
		}
		if lacks, _ = b.crampedIn(w, c); lacks != "" {
			continue
		}
		if !b.mayAny(w, j, c) {
			return "failed at what is left"
		}
		if !slices.ContainsFunc(w.machine.Devices, func(d job.Device) bool { return b.fits(w, d, c.needs, c.place) && b.roomAny(w, d, c) }) {
			lacks = "needs more memory for what is left, as was tried"
			continue
		}
		switch {
		case len(w.leases) > 0:
			return "is busy with other work"
		case !b.bids(w):
			return "takes no work now"
		}
		if !b.within(w, j) {
			return fmt.Sprintf("is not asked: %d machines are at it, which is the job's limit", j.spec.Policy.MaxWorkers)
		}
		for _, s := range w.seats {
			if s.price > j.spec.Policy.MaxPrice {
				return fmt.Sprintf("asks %g per second, the job pays %g at most", s.price, j.spec.Policy.MaxPrice)
			}
		}
		return ""
	}
	return lacks
}

// mayAny reports whether w may try one of the open tasks of c.
func (b *Board) mayAny(w *worker, j *jobState, c *class) bool {
	for _, q := range []*queues{&c.lead, &c.rest} {
		for _, h := range q.all() {
			for _, t := range *h {
				if t.phase == open && b.may(w, j, t) {
					return true
				}
			}
		}
	}
	return false
}

// onlyHome reports whether the machine only does its own finishing and checks.
func (w *worker) onlyHome() bool {
	for _, d := range w.machine.Devices {
		if d.Name != job.HomeDevice {
			return false
		}
	}
	return true
}

// homework reports whether work is open that this machine must do itself.
func (j *jobState) homework() bool {
	for _, c := range j.classes {
		if c.open > 0 && c.place != job.Anywhere {
			return true
		}
	}
	return false
}
