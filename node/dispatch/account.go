package dispatch

import (
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

type account struct {
	peer   peer.ID
	device string
}

// join is how long a device worked, or would have, on a job.
type join struct {
	account
	total time.Duration
	since moment // 0: not joined now
}

// joined returns what is known of a; the pointer is good until the next call.
func (j *jobState) joined(a account) *join {
	if x := j.account(a); x != nil {
		return x
	}
	j.accounts[a] = int32(len(j.joins))
	j.joins = append(j.joins, join{account: a})
	return &j.joins[len(j.joins)-1]
}

// account is the same, nil where nothing is known.
func (j *jobState) account(a account) *join {
	if i, ok := j.accounts[a]; ok {
		return &j.joins[i]
	}
	return nil
}

// count counts a report as a message about each job that it speaks of; one that
// only asks for work speaks of all that have some.
func (b *Board) count(w *worker, e Reported) {
	var about []*jobState
	add := func(j *jobState) {
		for _, x := range about {
			if x == j {
				return
			}
		}
		if j != nil {
			about = append(about, j)
			j.messages++
		}
	}
	for _, o := range e.Receipts {
		add(b.byID[o.Receipt.Job])
	}
	for _, p := range e.Report.Progress {
		if l := b.leases[p.Lease]; l != nil {
			add(l.job)
		}
	}
	if len(about) == 0 {
		b.countAll()
	}
}

// countOrder does the same for an order.
func (b *Board) countOrder(o job.Order) {
	var about []job.ID
	add := func(id job.ID) {
		for _, x := range about {
			if x == id {
				return
			}
		}
		about = append(about, id)
		if j := b.byID[id]; j != nil {
			j.messages++
		}
	}
	for _, l := range o.Leases {
		add(l.Job)
	}
	for _, s := range o.Settled {
		add(s.Job)
	}
	for _, s := range o.Stops {
		if l := b.leases[s.Lease]; l != nil {
			add(l.job.id)
		}
	}
	if len(about) == 0 {
		b.countAll()
	}
}

func (b *Board) countAll() {
	for _, j := range b.live {
		if j.live() {
			j.messages++
		}
	}
}

// account begins or ends the time that a device of w is joined to j because it
// holds a lease of it. It is called whenever that may have changed.
func (b *Board) account(w *worker, device string, j *jobState) {
	if j.state != job.StatePlanned {
		return
	}
	on := false
	if w.connected {
		for _, l := range w.leases {
			on = on || l.device == device && l.job == j
		}
	}
	a := account{w.peer, device}
	x := j.account(a)
	if x == nil {
		if !on {
			return
		}
		x = j.joined(a)
	}
	if on == (x.since != 0) {
		return
	}
	if on {
		x.since = b.moment()
	} else {
		x.total += b.since(x.since)
		x.since = 0
	}
}

// waited adds the time that s wanted work and had none to the jobs that had
// some for it meanwhile. Of strangers those count that worked for the job: how
// many others come by is nothing that its journal has to tell.
func (b *Board) waited(s *seat) {
	for _, j := range b.live {
		a := account{s.w.peer, s.Name}
		if d := b.waits(s, j); d > 0 && (!s.w.stranger || j.account(a) != nil) {
			j.joined(a).total += d
		}
	}
}

// waits is how long s has been waiting while j had work for it. Of a job that
// had none for a while in between, the time since counts.
func (b *Board) waits(s *seat, j *jobState) time.Duration {
	if s.idle == 0 || j.opened.IsZero() {
		return 0
	}
	d := min(b.since(s.idle), b.now.Sub(j.opened))
	if d <= 0 || !b.mayWork(s, j) {
		return 0
	}
	for _, c := range j.classes {
		if c.open > 0 && b.suits(s, c) {
			return d
		}
	}
	return 0
}

// settleAccounts closes the accounts of a job that ends.
func (b *Board) settleAccounts(j *jobState) {
	for i := range j.joins {
		x := &j.joins[i]
		if x.since != 0 {
			x.total += b.since(x.since)
			x.since = 0
		}
		if x.total > 0 {
			b.write(j, &accountRecord{Peer: b.peerNo(j, x.peer), Device: x.device, Millis: x.total.Milliseconds()})
		}
	}
}
