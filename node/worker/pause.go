package worker

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"idlewild/job"
)

// Pause stops taking work, until Resume. What runs is cancelled, or with
// finish allowed to end its current task; what waits is given back. The home
// device goes on: it only finishes and checks this machine's own jobs.
func (w *Worker) Pause(reason string, finish bool) {
	if reason == "" {
		reason = "paused"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = reason
	w.stopAsked(func(string) string { return reason })
	for _, r := range w.requesters {
		for _, l := range r.held {
			if l.device.Name != job.HomeDevice && !l.done {
				w.giveBack(l, errors.New(reason), finish)
			}
		}
	}
	w.sayAll(0)
}

// Resume takes work again after Pause.
func (w *Worker) Resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = ""
	w.sayAll(0)
}

// Rest is why a device takes no work for now, in words for other members.
type Rest struct {
	Reason string
	Finish bool // the task that is under way may end
	// Short: the task that is under way takes more of the GPU's memory than its
	// owner gives, so that another device is to do it.
	Short bool
}

// Yield says which devices take no work from now on, until it is called again;
// those that rest does not name work. What they run is cancelled, or may end
// its task; what waits for them is given back at once, so that it goes on
// elsewhere. The home device is not asked.
func (w *Worker) Yield(rest map[string]Rest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if maps.Equal(rest, w.rest) {
		return
	}
	w.rest = maps.Clone(rest)
	w.stopAsked(func(device string) string { return rest[device].Reason })
	for _, r := range w.requesters {
		for _, l := range r.held {
			if x, rests := rest[l.device.Name]; rests && l.device.Name != job.HomeDevice && !l.done {
				l.short = x.Short && l.running
				w.giveBack(l, errors.New(x.Reason), x.Finish)
			}
		}
	}
	w.sayAll(0)
}

// Running reports whether a device holds a task that runs.
func (w *Worker) Running(device string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.devices[device]
	return d != nil && d.current != nil && d.current.running || w.asked[device] != nil
}

// sayAll makes every requester hear from us within d. mu is held.
func (w *Worker) sayAll(d time.Duration) {
	for _, r := range w.requesters {
		r.say(d)
	}
}

// resting says why a device takes no work, or "". mu is held.
func (w *Worker) resting(dev string) string {
	switch {
	case w.closing:
		return errShutdown.Error()
	case w.unsaved != "":
		return w.unsaved
	case w.paused != "" && dev != job.HomeDevice:
		return w.paused
	case w.rest[dev].Reason != "" && dev != job.HomeDevice:
		return w.rest[dev].Reason
	case dev == "" && w.allRest() != "":
		return w.allRest()
	}
	return w.unready
}

// allRest says why no device works, or "" while one does. mu is held.
func (w *Worker) allRest() (why string) {
	for name, d := range w.devices {
		if name == job.HomeDevice || d.gone {
			continue
		}
		x, rests := w.rest[name]
		if !rests {
			return ""
		}
		if why == "" || x.Reason < why { // the same words each time
			why = x.Reason
		}
	}
	return why
}

// Doing says what each device does, by its name: the job and task that it
// works on, or that it is idle or resting and why.
func (w *Worker) Doing() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for _, d := range w.machine.Devices {
		out[d.Name] = "idle: this machine does no work for others"
	}
	for name, d := range w.devices {
		if !d.gone || d.doing() != nil {
			out[name] = w.doing(d)
		}
	}
	return out
}

func (w *Worker) doing(d *device) string {
	if l := d.doing(); l != nil {
		where := ""
		if i := l.task; i >= 0 && i < len(l.grant.Tasks) {
			where = " task " + l.grant.Tasks[i].Task.Label
		}
		phase := l.phase
		if phase == "" {
			phase = "working"
		}
		s := fmt.Sprintf("%s: job %s%s", phase, l.grant.Job, where)
		if l.fraction > 0 {
			s += fmt.Sprintf(" (%.0f %%)", 100*l.fraction)
		}
		return s
	}
	if why := w.resting(d.Name); why != "" {
		return "resting: " + why
	}
	joined, unlinked, says := 0, "", ""
	for _, r := range w.requesters {
		if d.Name == job.HomeDevice && !r.home {
			continue
		}
		switch {
		case r.linked && r.resting != "":
			says = fmt.Sprintf("idle: %s gives no work: %s", r.id, r.resting)
		case r.linked:
			joined++
		case r.trouble != "":
			unlinked = fmt.Sprintf("idle: cannot reach %s: %s", r.id, r.trouble)
		}
	}
	switch {
	case says != "":
		return says
	case d.Name == job.HomeDevice:
		return "idle: nothing to finish or check"
	case unlinked != "":
		return unlinked
	case w.passed != "":
		return "idle: " + w.passed
	case joined > 0:
		return "idle: nothing is open"
	}
	return "idle: no offers"
}

// Holds reports whether a lease is here for a device, running or being fetched.
func (w *Worker) Holds(device string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requesters {
		for _, l := range r.held {
			if l.device.Name == device && !l.done {
				return true
			}
		}
	}
	return w.asked[device] != nil
}

// Wanted reports whether a requester is joined that had work for this machine of
// late, whether or not a device may take it now.
func (w *Worker) Wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, r := range w.requesters {
		if r.linked && (r.lent() || now.Sub(r.sought) < stillWanted) {
			return true
		}
	}
	return false
}

// stillWanted is for how long after its last offer a requester counts as having
// work: offers come again every minute.
const stillWanted = 90 * time.Second
