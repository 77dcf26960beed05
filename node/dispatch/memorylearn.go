package dispatch

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// growth: a need is written down again when it is so much larger than known.
const growth = 1.05

// measured learns from what accepted work took. A device cannot take more than it
// has, whatever it says.
func (b *Board) measured(j *jobState, x *ret, m job.Meter) {
	checked := x.verdict.Method != job.MethodTrusted
	w := b.byPeer[x.peer]
	if w == nil || x.t.Place == job.AtRequester {
		return
	}
	d, ok := w.device(x.device)
	if !ok || d.Name == job.HomeDevice {
		return
	}
	b.claim(j, x, memoryOf(d.Type), min(m.Peak, w.machine.Memory(d), job.MaxMemoryBytes), checked)
	if d.Type == "gpu" {
		b.claim(j, x, vram, min(m.VRAM, d.MemoryBytes, job.MaxMemoryBytes), checked)
	}
}

// claim writes down what a peer says that its result took, where that is news.
func (b *Board) claim(j *jobState, x *ret, m memory, need int64, checked bool) {
	r := &needRecord{Task: int(x.t.index), Memory: m, Need: need}
	known := int64(0)
	if l := x.t.class.lessons; l != nil {
		known = l.claims[m][1].need
		for _, c := range l.claims[m] {
			if c.peer == x.peer {
				known = c.need
			}
		}
		if checked {
			known = min(known, l.checked[m])
		}
	}
	if checked {
		r.Scope = ofChecked
	}
	if need > 0 && float64(need) >= growth*float64(known) {
		r.Peer = b.peerNo(j, x.peer)
		b.write(j, r)
	}
}

// fitted notes that a device can do tasks of t's class.
func (b *Board) fitted(p peer.ID, device string, t *task) {
	l := t.class.learn()
	l.proved[account{p, device}], l.fitted = 0, b.now
}

// manyShort: a device that did tasks of a class, and then so many times in a row
// could not, gets no more of them.
const manyShort = 2

// tooSmall learns from a task that did not fit. That a device is too small is
// nobody's fault: its worker does not rest, and the attempt does not count against
// the task.
func (b *Board) tooSmall(w *worker, j *jobState, t *task, id job.LeaseID, leaf job.Leaf) {
	device := leaf.Device
	if l := j.leases[id]; l != nil {
		device = l.device
	}
	d, ok := w.device(device)
	if !ok || d.Name == job.HomeDevice {
		b.restFor(w, j, leaf.Reason)
		return
	}
	m := memoryOf(d.Type)
	if leaf.Outcome == job.OutOfVRAM && d.Type == "gpu" {
		m = vram
	}
	have := min(m.have(w.machine, d), job.MaxMemoryBytes)
	r := &needRecord{Task: int(t.index), Peer: b.peerNo(j, w.peer), Device: d.Name, Memory: m, Need: have + 1}
	l, a := t.class.learn(), account{w.peer, d.Name}
	if n, proved := l.proved[a]; proved && n+1 < manyShort && have > 0 {
		l.proved[a] = n + 1
		r.Scope = ofTask
		b.write(j, r)
		return
	}
	delete(l.proved, a)
	if n, again := l.short[a]; again {
		if m == vram && n.VRAMBytes > have || m != vram && n.MemoryBytes > have {
			return // more of the same lease
		}
		b.restFor(w, j, leaf.Reason) // it says now that it has more, and it is no use
	}
	b.write(j, r)
	if have > 0 {
		b.write(j, &needRecord{Task: int(t.index), Peer: r.Peer, Memory: m, Need: have + 1})
	}
	b.withdraw(w, d, t.class)
	b.sayNeed(j, t.class)
}

// withdraw takes from a device what it holds of a class that does not fit there.
func (b *Board) withdraw(w *worker, d job.Device, c *class) {
	for _, l := range slices.Clone(w.leases) {
		if l.device == d.Name && !l.check && slices.ContainsFunc(l.grants, func(g *grant) bool { return !g.over && g.t.class == c }) {
			b.stop(l, "the job's tasks need more memory than this device has")
		}
	}
	b.hungry = true
}

const (
	// spillShare is how full a GPU's memory is that may keep work elsewhere.
	spillShare = 0.95
	// spillFactor is how many times as long as foretold work takes then.
	spillFactor = 3
)

// spilled reports whether the GPU that made x was so full, and so much slower
// than it is otherwise, that it must have kept some of the work in the machine's
// memory. From then on larger GPUs do such tasks, if there are some.
func (b *Board) spilled(j *jobState, x *ret, m job.Meter) bool {
	w := b.byPeer[x.peer]
	if w == nil {
		return false
	}
	d, ok := w.device(x.device)
	if !ok || d.Type != "gpu" || d.MemoryBytes <= 0 || float64(min(m.VRAM, d.MemoryBytes)) < spillShare*float64(d.MemoryBytes) {
		return false
	}
	s := w.seat(d.Name)
	cost, known := x.t.class.costs.at(int(x.t.index))
	if !known || s.speed.n == 0 || x.took() < spillFactor*cost/s.pace() {
		return false
	}
	b.write(j, &needRecord{Task: int(x.t.index), Peer: b.peerNo(j, w.peer), Device: d.Name, Memory: vram, Need: d.MemoryBytes + 1, Scope: ofSpeed})
	if b.roomier(x.t.class, d.MemoryBytes+1) {
		b.withdraw(w, d, x.t.class)
	}
	b.do(Note{"a GPU's memory was full, and it was slow", []any{"job", j.id, "task", x.t.Label, "peer", w.peer, "device", d.Name}})
	return true
}
