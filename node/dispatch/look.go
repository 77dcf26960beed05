package dispatch

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// WorkerView is a peer that works for this machine now.
type WorkerView struct {
	Peer    peer.ID
	Devices []job.Device
	Busy    map[string]job.ID // devices with work, by name: of which job
	Leaving string            // why it takes no more
}

// Workers returns the peers that are connected as workers.
func (d *Dispatcher) Workers() []WorkerView {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []WorkerView
	for _, w := range d.board.workers {
		if !w.connected {
			continue
		}
		v := WorkerView{Peer: w.peer, Busy: map[string]job.ID{}, Leaving: w.leaving}
		for _, dev := range w.machine.Devices {
			if dev.Name != job.HomeDevice {
				v.Devices = append(v.Devices, dev)
			}
		}
		for _, l := range w.leases {
			v.Busy[l.device] = l.job.id
		}
		out = append(out, v)
	}
	return out
}

// Reads returns the input files of jobs that are not stored yet: whoever owns
// them must not remove them.
func (d *Dispatcher) Reads() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]bool{}
	for _, j := range d.board.jobs {
		if j.state == job.StateAccepted {
			out[j.spec.Input] = true
		}
	}
	return out
}

// Input returns the input file of a job.
func (d *Dispatcher) Input(id job.ID) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.board.byID[id]
	if j == nil {
		return "", false
	}
	return j.spec.Input, true
}
