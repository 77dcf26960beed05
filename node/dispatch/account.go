package dispatch

import (
	"time"

	"idlewild/job"
)

// count counts a report as a message about each job that it speaks of; one that
// only asks for work speaks of all that have some.
func (b *Board) count(w *worker, e Reported) {
	about := map[*jobState]bool{}
	for _, o := range e.Receipts {
		about[b.byID[o.receipt.Job]] = true
	}
	for _, p := range e.Report.Progress {
		if l := b.leases[p.Lease]; l != nil {
			about[l.job] = true
		}
	}
	for _, j := range b.jobs {
		if about[j] || len(about) == 0 && j.live() {
			j.messages++
		}
	}
}

// countOrder does the same for an order.
func (b *Board) countOrder(o job.Order) {
	about := map[job.ID]bool{}
	for _, l := range o.Leases {
		about[l.Job] = true
	}
	for _, s := range o.Settled {
		about[s.Job] = true
	}
	for _, s := range o.Stops {
		if l := b.leases[s.Lease]; l != nil {
			about[l.job.id] = true
		}
	}
	for _, j := range b.jobs {
		if about[j.id] || len(about) == 0 && j.live() {
			j.messages++
		}
	}
}

// account keeps count of the time that w's devices are joined to jobs which
// have work for them. It is called whenever that may have changed.
func (b *Board) account(w *worker) {
	for _, j := range b.jobs {
		if j.state != job.StatePlanned {
			continue
		}
		for _, d := range w.machine.Devices {
			here, elsewhere := 0, 0
			for _, l := range w.leases {
				if l.device == d.Name {
					if l.job == j {
						here++
					} else {
						elsewhere++
					}
				}
			}
			on := w.connected && (here > 0 || elsewhere == 0 && j.live() && b.can(w, j) && b.wants(w, d.Name) && b.hasWork(j, w, d))
			a := account{w.peer, d.Name}
			x := j.accounts[a]
			if x == nil {
				if !on {
					continue
				}
				x = j.joined(a)
			}
			if on == !x.since.IsZero() {
				continue
			}
			if on {
				x.since = b.now
			} else {
				x.total += b.now.Sub(x.since)
				x.since = time.Time{}
			}
		}
	}
}

// wants reports whether a device bids at all.
func (b *Board) wants(w *worker, device string) bool {
	for i := range w.bids {
		if w.bids[i].Device == device && w.bids[i].Want > 0 {
			return true
		}
	}
	return false
}

func (b *Board) hasWork(j *jobState, w *worker, d job.Device) bool {
	for _, c := range j.classes {
		if c.open > 0 && b.fits(w, d, c.needs, c.place) {
			return true
		}
	}
	return false
}

// settleAccounts closes the accounts of a job that ends.
func (b *Board) settleAccounts(j *jobState) {
	for _, a := range j.accOrder {
		x := j.accounts[a]
		if !x.since.IsZero() {
			x.total += b.now.Sub(x.since)
			x.since = time.Time{}
		}
		if x.total > 0 {
			b.write(j, &accountRecord{Peer: b.peerNo(j, a.peer), Device: a.device, Millis: x.total.Milliseconds()})
		}
	}
}
