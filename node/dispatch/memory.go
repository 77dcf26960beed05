package dispatch

import (
	"fmt"
	"slices"
	"time"

	"idlewild/job"
)

// How much memory the tasks of a class need is learnt while they run: from what
// accepted work took, and from devices on which it did not fit. A device that
// has less gets none of them.
//
// Nobody can check such a number. It counts where two peers say as much, or this
// machine itself. What one peer alone says counts where it comes with a result
// that was checked, and only while a device that has so much gets on with the job:
// then others are not needed. A device that did such a task is not barred by what
// others say. What a device did not manage itself it does not get again. See
// docs/decisions/0028-memory.md.

// memory is of which memory something is known.
type memory uint8

const (
	cpuMemory memory = iota // the machine's, where its CPU does the work
	gpuMemory               // the machine's, where a GPU does
	vram                    // the GPU's own
	memories
)

// memoryOf is the machine's memory that work on a device of that type takes.
func memoryOf(deviceType string) memory {
	if deviceType == "gpu" {
		return gpuMemory
	}
	return cpuMemory
}

// asNeeds asks for n bytes of m.
func (m memory) asNeeds(n int64) job.Needs {
	if m == vram {
		return job.Needs{VRAMBytes: n}
	}
	return job.Needs{MemoryBytes: n}
}

// have is how much of m a device has; 0: its machine does not say.
func (m memory) have(x job.Machine, d job.Device) int64 {
	if m == vram {
		return d.MemoryBytes
	}
	return x.Memory(d)
}

// cramped says in words why device d of w has too little memory for tasks of c,
// or "".
func (b *Board) cramped(w *worker, d job.Device, c *class) string {
	l := c.lessons
	if l == nil || c.place == job.AtRequester { // nobody else can do it
		return ""
	}
	a := account{w.peer, d.Name}
	if len(l.short) > 0 {
		n, own := l.short[a], w.machine.Memory(d)
		if d.MemoryBytes < n.VRAMBytes {
			return fmt.Sprintf("needs more GPU memory than %s has, as was tried", called(d))
		}
		if own < n.MemoryBytes {
			return fmt.Sprintf("needs more memory than work on %s may use, as was tried", called(d))
		}
	}
	if len(l.slow) > 0 && d.MemoryBytes < l.slow[a] && b.roomier(c, l.slow[a]) {
		return fmt.Sprintf("needs more GPU memory than %s has, which is slow at it, and there is a larger GPU", called(d))
	}
	n := b.learnt(c, d.Type)
	if w.machine.Has(n, d) {
		return ""
	}
	if _, proved := l.proved[a]; proved {
		return ""
	}
	return w.machine.Lacks(n, d)
}

// called is what people call a device, with its memory.
func called(d job.Device) string {
	name := d.Model
	if name == "" {
		name = d.Name
	}
	if d.MemoryBytes > 0 {
		name += " (" + job.Gigabytes(d.MemoryBytes) + ")"
	}
	return name
}

// needed is the most memory that a task of j is said to need, of the machine and of
// a GPU.
func (j *jobState) needed() (memory, ofGPU int64) {
	for _, c := range j.classes {
		if l := c.lessons; l != nil {
			memory = max(memory, l.claims[cpuMemory].most(), l.claims[gpuMemory].most())
			ofGPU = max(ofGPU, l.claims[vram].most())
		}
	}
	return memory, ofGPU
}

// learnt is the memory that tasks of c are taken to need on a device of a type.
func (b *Board) learnt(c *class, deviceType string) (n job.Needs) {
	l := c.lessons
	if l == nil {
		return n
	}
	n.MemoryBytes = b.need(c, memoryOf(deviceType))
	if deviceType == "gpu" {
		n.VRAMBytes = b.need(c, vram)
	}
	return n
}

// hearsay: so long after a task was done what one peer says of the memory that
// they need does not keep others from trying.
const hearsay = 10 * time.Minute

// need is how much of m tasks of c are taken to need.
func (b *Board) need(c *class, m memory) int64 {
	l := c.lessons
	firm := l.claims[m].firm(b.self)
	if l.checked[m] <= firm || b.now.Sub(l.fitted) > hearsay {
		return firm
	}
	if l.judged != b.steps {
		l.judged = b.steps
		for k := range l.enough {
			l.enough[k] = l.checked[k] > 0 && b.suffices(c, memory(k), l.checked[k])
		}
	}
	if l.enough[m] {
		return l.checked[m]
	}
	return firm
}

// suffices reports whether a connected device has so much of m, and could do tasks
// of c for all that else is known.
func (b *Board) suffices(c *class, m memory, need int64) bool {
	for _, w := range b.workers {
		if !w.connected || w.leaving != "" || w.score.Banned != "" {
			continue
		}
		for _, d := range w.machine.Devices {
			if (d.Type == "gpu") != (m != cpuMemory) || m.have(w.machine, d) < need || !b.fits(w, d, c.needs, c.place) {
				continue
			}
			if _, ran := c.lessons.short[account{w.peer, d.Name}]; !ran {
				return true
			}
		}
	}
	return false
}

// roomier reports whether another GPU has so much memory for tasks of c.
func (b *Board) roomier(c *class, need int64) bool { return b.suffices(c, vram, need) }

// tight reports whether one task is known not to fit on d of w, whatever its
// class needs.
func (w *worker) tight(d job.Device, t *task) bool {
	return slices.ContainsFunc(t.also().tight, func(x tight) bool {
		return x.account == account{w.peer, d.Name} && (d.MemoryBytes < x.need.VRAMBytes || w.machine.Memory(d) < x.need.MemoryBytes)
	})
}

// roomAny reports whether an open task of c fits into d of w, as far as that is
// known.
func (b *Board) roomAny(w *worker, d job.Device, c *class) bool {
	if b.cramped(w, d, c) != "" {
		return false
	}
	for _, q := range []*queues{&c.lead, &c.rest} {
		for _, h := range q.all() {
			for _, t := range *h {
				if t.phase == open && !w.tight(d, t) {
					return true
				}
			}
		}
	}
	return c.open == 0
}

// roomFor reports whether t fits into the memory of s, as far as that is known.
func (b *Board) roomFor(s *seat, t *task) bool {
	return b.cramped(s.w, s.Device, t.class) == "" && !s.w.tight(s.Device, t)
}

// mayHere is may for one device.
func (b *Board) mayHere(s *seat, j *jobState, t *task) bool {
	return b.may(s.w, j, t) && (t.more == nil || !s.w.tight(s.Device, t))
}

// offered adds to the needs of c what is known of its memory, such that no device
// takes it amiss for which that is not meant.
func (b *Board) offered(c *class) job.Needs {
	n := c.needs
	if c.lessons == nil || c.place == job.AtRequester {
		return n
	}
	n.VRAMBytes = max(n.VRAMBytes, b.need(c, vram))
	cpu, gpu := b.need(c, cpuMemory), b.need(c, gpuMemory)
	least := min(cpu, gpu)
	switch n.Device {
	case "cpu":
		least = cpu
	case "gpu":
		least = gpu
	}
	n.MemoryBytes = max(n.MemoryBytes, least)
	return n
}

// sayNeed warns once that no connected device has enough memory.
func (b *Board) sayNeed(j *jobState, c *class) {
	if j.shortSaid {
		return
	}
	if why := b.noRoom(j, c); why != "" && c.open > 0 {
		j.shortSaid = true
		b.emit(j, job.Event{Type: job.EventWarning, Text: why})
	}
}

// noRoom says that no connected device that could do tasks of c has enough
// memory, and what helps, or "".
func (b *Board) noRoom(j *jobState, c *class) string {
	if c.lessons == nil || c.place == job.AtRequester {
		return ""
	}
	some, most := false, job.Device{}
	cpus := false
	for _, w := range b.workers {
		if !b.can(w, j) {
			continue
		}
		for _, d := range w.machine.Devices {
			if !b.fits(w, d, c.needs, c.place) {
				continue
			}
			if b.roomAny(w, d, c) {
				return ""
			}
			some = true
			cpus = cpus || d.Type == "cpu"
			if d.MemoryBytes > most.MemoryBytes && (d.Type == "gpu" || most.Type != "gpu") {
				most = d
			}
		}
	}
	if !some {
		return ""
	}
	l, sort, text := c.lessons, "memory", "more memory than any device here has"
	need := l.claims[cpuMemory].most()
	if most.Type == "gpu" {
		sort, need = "GPU memory", l.claims[vram].most()
	}
	if most.MemoryBytes > 0 && need > most.MemoryBytes {
		text = fmt.Sprintf("%s of %s", job.Gigabytes(need), sort)
		if need == most.MemoryBytes+1 {
			text = fmt.Sprintf("more than %s of %s", job.Gigabytes(most.MemoryBytes), sort)
		}
		text += fmt.Sprintf(", and the largest device here is %s", called(most))
	}
	text = "its tasks need " + text + ": let a machine with more join, raise memory_bytes or vram_bytes where a device's owner limits it, or submit something smaller"
	if !cpus && c.needs.Device != "gpu" {
		text += "; a machine's CPU may do it too"
	}
	return text
}

// crampedIn says why tasks of c fit into no device of w that could do them
// otherwise, or "". able: there is such a device.
func (b *Board) crampedIn(w *worker, c *class) (why string, able bool) {
	for _, d := range w.machine.Devices {
		if b.fits(w, d, c.needs, c.place) {
			if why = b.cramped(w, d, c); why == "" {
				return "", true
			}
			able = true
		}
	}
	return why, able
}

// crampedAll says why nothing of j that is open fits on any device of w, or "".
func (b *Board) crampedAll(w *worker, j *jobState) (why string) {
	for _, c := range j.classes {
		if c.open == 0 {
			continue
		}
		x, able := b.crampedIn(w, c)
		if able && x == "" {
			return ""
		}
		if x != "" {
			why = x
		}
	}
	return why
}
