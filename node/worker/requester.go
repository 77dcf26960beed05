package worker

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/internal/beat"
	"idlewild/job"
)

// requester is one peer we work for. The fields below the channels are guarded
// by Worker.mu.
type requester struct {
	id     peer.ID
	home   bool          // this machine's own: never left
	wake   chan struct{} // due changed; holds one
	redial chan struct{} // do not wait for the next try; holds one

	up        chan struct{} // closed while linked, for those who wait for it
	linked    bool
	left      bool      // its link was ended here, because nothing was left to do
	link      int       // counts links: receipts are sent once on each
	orders    int       // heard on this link
	trouble   string    // why the newest try to join failed
	cut       time.Time // when the newest link ended, or the wish for one began
	spoke     time.Time // when our newest report was begun: the next ones keep their distance from it
	heard     time.Time // when our newest report had gone out
	busy      time.Time // when there was work last, held or offered
	sought    time.Time // when it last offered or gave work for devices that others could have
	since     time.Time // since when it has been without such a lease, if it is
	waiting   time.Time // since when it has none but such whose files are not here, if so
	due       time.Time // when a report is to go out; zero: at the next beat
	beat      time.Duration
	sentGen   int // machineGen that this link was told
	epoch     uint64
	resting   string // why the requester gives us nothing
	held      map[job.LeaseID]*lease
	content   map[job.ID]job.Ref // newest input of each job that was unpacked here
	unsettled []*receipt
	share     share // of this machine's devices, that it was given
}

const (
	joinTimeout  = 5 * time.Second
	sendTimeout  = 30 * time.Second
	maxBackoff   = 4 * time.Second  // and a quarter of jitter: back within 10 s
	longBackoff  = time.Minute      // for one that was out of reach for long
	reconnectFor = 15 * time.Minute // that an idle link is tried again
	longGone     = time.Hour
	progressGap  = time.Second     // least time between reports that only tell progress
	withinGap    = 3 * time.Second // the same where it is only how far a phase of a task is
	bidGap       = 250 * time.Millisecond

	maxReportReceipts = 64
	maxReportBytes    = 1 << 20 // of receipts, encoded
	maxReportBlocks   = 4 * job.MaxOutputs
)

// usualBeat is the time between beats above which a requester has so many
// workers that progress is told with beats only.
const usualBeat = 20 * time.Second

// progressDue is when a report that only tells progress is to go out. mu is held.
func (r *requester) progressDue() time.Time {
	if r.beat > usualBeat {
		return r.spoke.Add(r.beat)
	}
	return r.spoke.Add(progressGap)
}

// homeBeat is what the reports to our own requester keep to: it is not in a
// hurry to hear that nothing happens.
const homeBeat = 5 * time.Second

// next is when the next report is due. mu is held.
func (r *requester) next() time.Time {
	at := r.spoke.Add(r.beat)
	if x := beat.Last(at, homeBeat); r.home && x.After(r.spoke) {
		at = x
	}
	if !r.due.IsZero() && r.due.Before(at) {
		return r.due
	}
	return at
}

// say makes a report go out within d. Worker.mu is held.
func (r *requester) say(d time.Duration) { r.sayAt(time.Now().Add(d)) }

func (r *requester) sayAt(at time.Time) {
	if !r.due.IsZero() && !at.Before(r.due) {
		return
	}
	r.due = at
	poke(r.wake)
}

// hurry ends a wait for the next try to join.
func (r *requester) hurry() { poke(r.redial) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// leaving reports whether nothing is left to do with r. mu is held.
func (w *Worker) leaving(r *requester, now time.Time) bool {
	if r.home || len(r.held) > 0 || len(r.unsettled) > 0 || now.Sub(r.busy) <= w.opts.IdleLeave {
		return false
	}
	return r.linked || r.left || r.link == 0 || now.Sub(r.cut) > reconnectFor
}

// keep keeps a link to r while there is reason to.
func (w *Worker) keep(r *requester) {
	log := w.log.With("requester", r.id)
	for try := 0; ; try++ {
		ctx, cancel := context.WithTimeout(w.work, joinTimeout)
		link, err := w.deps.Swarm.Join(ctx, r.id)
		cancel()
		w.mu.Lock()
		r.trouble = ""
		if err != nil {
			r.trouble = err.Error()
		}
		w.mu.Unlock()
		if err == nil {
			if w.converse(r, link) {
				try = 0
			}
			log.Info("link ended")
		} else {
			log.Debug("cannot join", "try", try, "err", err)
		}

		w.mu.Lock()
		now := time.Now()
		if w.closing || w.leaving(r, now) {
			delete(w.requesters, r.id)
			w.mu.Unlock()
			return
		}
		wait := backoff(try, now.Sub(r.cut))
		w.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-r.redial:
		case <-w.work.Done():
		}
		t.Stop()
	}
}

// backoff is how long to wait after failed try number try, counted from 0: the
// first retry is quick, and whoever comes back is met within ten seconds.
func backoff(try int, gone time.Duration) time.Duration {
	d := min(100*time.Millisecond<<min(try, 10), maxBackoff)
	if gone > longGone {
		d = longBackoff
	}
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}

// converse speaks with r until the link is cut or no longer wanted. good says
// that the other side answered.
func (w *Worker) converse(r *requester, link Link) (good bool) {
	ctx, cancel := context.WithCancel(w.links)
	defer cancel()
	w.mu.Lock()
	r.linked, r.left, r.orders, r.sentGen = true, false, 0, -1
	r.link++
	close(r.up)
	r.say(0)
	w.mu.Unlock()

	var reading sync.WaitGroup
	reading.Go(func() {
		defer cancel()
		for o := range link.Orders() {
			w.hear(r, o)
		}
	})
	w.speak(ctx, r, link)
	if err := link.Close(); err != nil {
		w.log.Debug("close link", "requester", r.id, "err", err)
	}
	reading.Wait()

	w.mu.Lock()
	defer w.mu.Unlock()
	r.linked, r.cut, r.due = false, time.Now(), time.Time{}
	r.resting = ""
	r.unsettled = slices.DeleteFunc(r.unsettled, func(u *receipt) bool { return u.volatile })
	r.up = make(chan struct{})
	return r.orders > 0
}

// speak sends reports when they are due, until ctx ends, a send fails or
// there is nothing left to say.
func (w *Worker) speak(ctx context.Context, r *requester, link Link) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-r.wake:
		}
		w.mu.Lock()
		now := time.Now()
		last := w.goodbye
		if !last && w.leaving(r, now) {
			r.left = true
			w.mu.Unlock()
			return
		}
		due := r.next()
		if now.Before(due) {
			w.mu.Unlock()
			t.Reset(due.Sub(now))
			continue
		}
		r.due, r.spoke = time.Time{}, now
		rep, sent, more := w.report(r)
		gen := w.machineGen
		w.mu.Unlock()

		sctx, cancel := context.WithTimeout(ctx, sendTimeout)
		err := link.Send(sctx, rep)
		cancel()
		if err != nil {
			w.log.Debug("report", "requester", r.id, "err", err)
			return
		}
		w.mu.Lock()
		r.heard = now
		r.sentGen = gen
		for _, u := range sent {
			u.sent, u.inline = r.link, nil
		}
		if more {
			r.say(0)
		}
		next := r.next()
		w.mu.Unlock()
		if last && !more {
			return
		}
		t.Reset(time.Until(next))
	}
}

// report says everything that r is to know now. sent are the receipts in it;
// more says that not all fitted. mu is held.
func (w *Worker) report(r *requester) (rep job.Report, sent []*receipt, more bool) {
	rep.Session = w.session
	if r.sentGen != w.machineGen {
		m := w.machineFor(r)
		rep.Machine = &m
	}
	if r.home {
		rep.Leaving = w.resting(job.HomeDevice)
	} else {
		rep.Leaving = w.resting("")
	}
	rep.Leaving = clip(rep.Leaving, job.MaxReasonBytes)
	unwelcome := w.unwelcome(r) != ""
	for _, name := range slices.Sorted(maps.Keys(w.devices)) {
		d := w.devices[name]
		if unwelcome || d.gone || name == job.HomeDevice && !r.home || w.resting(name) != "" {
			continue
		}
		want := w.opts.Credit - d.load()
		if want > 0 && d.ready() > 0 && w.owed(r, d, time.Now()) != nil {
			want-- // the device is busy, and somebody else is to have the place
		}
		if want <= 0 && w.due(r, d, time.Now()) {
			want = 1
		}
		if want > 0 && len(rep.Bids) < job.MaxDevices {
			rep.Bids = append(rep.Bids, job.Bid{Device: name, Want: want, Price: w.opts.Price, Jobs: w.here(r)})
		}
	}
	if !w.goodbye {
		for _, l := range slices.SortedFunc(maps.Values(r.held), func(a, b *lease) int { return a.serial - b.serial }) {
			rep.Progress = append(rep.Progress, job.Progress{
				Lease: l.grant.ID, Task: l.task, Fraction: clamp(l.fraction), Phase: clip(l.phase, job.MaxNameBytes),
			})
		}
	}
	size, inline := 0, 0
	for _, u := range r.unsettled {
		if u.sent == r.link {
			continue
		}
		n := 0
		for _, b := range u.inline {
			n += len(b.Data)
		}
		if len(sent) > 0 && (len(sent) >= maxReportReceipts || size+len(u.signed.Body) > maxReportBytes ||
			inline+n > job.MaxInlineBytes || len(rep.Inline)+len(u.inline) > maxReportBlocks) {
			more = true
			break
		}
		size += len(u.signed.Body)
		inline += n
		rep.Receipts = append(rep.Receipts, u.signed)
		rep.Inline = append(rep.Inline, u.inline...)
		sent = append(sent, u)
	}
	return rep, sent, more
}

// machineFor is the machine as r sees it. mu is held.
func (w *Worker) machineFor(r *requester) job.Machine {
	m := w.machine
	m.Devices = slices.Clone(m.Devices)
	if w.opts.NoWork {
		m.Devices = nil
	}
	if r.home {
		m.Devices = append(m.Devices, w.homeDevice())
	}
	return m
}

// homeDevice is the slot for our own finishing and checks: results on it are
// comparable with those of the CPU. mu is held.
func (w *Worker) homeDevice() job.Device {
	d := job.Device{Name: job.HomeDevice, Type: "cpu", Model: "for finishing and checking own jobs", Class: w.opts.CPU.Class, MemoryBytes: w.opts.CPU.MemoryBytes}
	for _, x := range w.machine.Devices {
		if d.Class == "" && x.Type == d.Type {
			d.Class, d.MemoryBytes = x.Class, x.MemoryBytes
		}
	}
	return d
}

// here lists the jobs of r whose content lies unpacked on this machine. mu is held.
func (w *Worker) here(r *requester) []job.ID {
	var out []job.ID
	for id, input := range r.content {
		if w.trees.has(r.id, input) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// hear takes one order.
func (w *Worker) hear(r *requester, o job.Order) {
	if err := o.Validate(); err != nil {
		w.log.Warn("order ignored", "requester", r.id, "err", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.Epoch < r.epoch {
		w.log.Warn("order of an older coordinator ignored", "requester", r.id, "epoch", o.Epoch, "newest", r.epoch)
		return
	}
	r.epoch = o.Epoch
	r.orders++
	r.resting = o.Resting
	if o.BeatEvery > 0 {
		if beat := max(o.BeatEvery, 100*time.Millisecond); beat != r.beat {
			r.beat = beat
			poke(r.wake)
		}
	}
	for _, s := range o.Stops {
		if l := r.held[s.Lease]; l != nil && !l.done {
			w.log.Info("lease stopped", "requester", r.id, "lease", s.Lease, "reason", s.Reason)
			w.giveBack(l, stopped{s.Reason}, false)
			w.bidSoon(r)
		}
	}
	for _, s := range o.Settled {
		w.settle(r, s)
	}
	for _, l := range o.Leases {
		if h := w.heard[l.Job]; h != nil && h.Requester == r.id {
			h.Leases++
		}
		w.take(r, l)
	}
}

// settle takes the requester's word that it has a result. mu is held.
func (w *Worker) settle(r *requester, s job.Settled) {
	if len(s.Secret) > 0 {
		if hash, ok := w.secrets.take(s.Lease, s.Task); ok && !job.SecretMatches(s.Secret, hash) {
			w.log.Warn("the secret that was shown is not the one that was promised: what is checked may have been chosen",
				"requester", r.id, "job", s.Job, "lease", s.Lease, "task", s.Task)
		}
	}
	if s.Ruling == job.Rejected {
		w.log.Warn("work was rejected", "requester", r.id, "job", s.Job, "task", s.Task, "reason", s.Reason)
	}
	r.unsettled = slices.DeleteFunc(r.unsettled, func(u *receipt) bool {
		if u.lease != s.Lease || !u.settle(s.Task) {
			return false
		}
		w.store.forget(u)
		return true
	})
	r.busy = time.Now()
}

func clamp(f float64) float64 {
	if !(f > 0) {
		return 0
	}
	return min(f, 1)
}
