package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

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

// claim is the most that one peer says is needed, in bytes.
type claim struct {
	peer peer.ID
	need int64
}

// claims are those of the two peers that say most.
type claims [2]claim

func (c *claims) add(p peer.ID, need int64) {
	i := slices.IndexFunc(c[:], func(x claim) bool { return x.peer == p })
	if i < 0 {
		i = len(c) - 1
	}
	if need <= c[i].need {
		return
	}
	c[i] = claim{p, need}
	if c[0].need < c[1].need {
		c[0], c[1] = c[1], c[0]
	}
}

// most is what anybody says.
func (c *claims) most() int64 { return c[0].need }

// firm is what needs nobody's trust.
func (c *claims) firm(self peer.ID) int64 {
	if c[0].peer == self {
		return c[0].need
	}
	return c[1].need
}

// tight is a device that one task did not fit into, with the least that it must
// have to be given it again. What others have is theirs to find out.
type tight struct {
	account
	need job.Needs
}

// lessons are what is known of the memory that a class's tasks need.
type lessons struct {
	claims [memories]claims
	// checked is the most that came with a result that was checked.
	checked [memories]int64
	// short are devices on which such a task did not fit, with the least that a
	// device must have instead.
	short map[account]job.Needs
	// slow are those that had to keep some of it elsewhere, likewise.
	slow map[account]int64

	// Of this moment.
	proved map[account]int // devices that did such a task: how often one did not fit since
	fitted time.Time       // when one was done last
	judged uint64          // the step in which enough was found
	enough [memories]bool  // some device has what is said to be needed
}

// needRecord: so much memory is needed, as somebody found.
type needRecord struct {
	_      struct{} `cbor:",toarray"`
	Task   int      // one of the class
	Peer   int
	Device string // empty: it took so much, and fitted
	Memory memory
	Need   int64 // bytes that a device must have
	Scope  scope
}

// scope is for what a needRecord of a device holds.
type scope uint8

const (
	ofClass scope = iota
	ofTask        // this task alone did not fit
	ofSpeed       // it fitted, but not into the GPU
	// ofChecked, of no device: the result was checked.
	ofChecked
)

func (*needRecord) sort() byte { return recNeed }

func (j *jobState) applyNeed(r *needRecord) error {
	t, err := j.taskAt(r.Task)
	if err != nil {
		return err
	}
	p, err := j.peerAt(r.Peer)
	if err != nil {
		return err
	}
	if r.Memory >= memories || r.Need <= 0 {
		return fmt.Errorf("need of %d bytes of memory %d", r.Need, r.Memory)
	}
	l := t.class.learn()
	a := account{p, r.Device}
	switch {
	case r.Device == "":
		l.claims[r.Memory].add(p, r.Need)
		if r.Scope == ofChecked {
			l.checked[r.Memory] = max(l.checked[r.Memory], r.Need)
		}
	case r.Scope == ofTask:
		t.add().tight = append(t.add().tight, tight{a, r.Memory.asNeeds(r.Need)})
	case r.Scope == ofSpeed:
		if l.slow == nil {
			l.slow = map[account]int64{}
		}
		l.slow[a] = max(l.slow[a], r.Need)
	default:
		if l.short == nil {
			l.short = map[account]job.Needs{}
		}
		l.short[a] = larger(l.short[a], r.Memory.asNeeds(r.Need))
	}
	l.judged = 0
	return nil
}

func (c *class) learn() *lessons {
	if c.lessons == nil {
		c.lessons = &lessons{proved: map[account]int{}}
	}
	return c.lessons
}

// larger needs both.
func larger(x, y job.Needs) job.Needs {
	x.MemoryBytes, x.VRAMBytes = max(x.MemoryBytes, y.MemoryBytes), max(x.VRAMBytes, y.VRAMBytes)
	return x
}

// needsAgain writes what is known into a journal that is rewritten.
func (j *jobState) needsAgain(w *rewriter) {
	first := map[*class]int{}
	for i := len(j.tasks) - 1; i >= 0; i-- {
		first[j.tasks[i].class] = i
	}
	both := func(r needRecord, n job.Needs, m memory) {
		if n.VRAMBytes > 0 {
			r.Memory, r.Need = vram, n.VRAMBytes
			w.add(&r)
		}
		if n.MemoryBytes > 0 {
			r.Memory, r.Need = m, n.MemoryBytes
			w.add(&r)
		}
	}
	for _, c := range j.classes {
		l := c.lessons
		if l == nil {
			continue
		}
		for m := range l.claims {
			for _, x := range l.claims[m] {
				if x.need > 0 {
					w.add(&needRecord{Task: first[c], Peer: j.peerNo[x.peer], Memory: memory(m), Need: x.need})
				}
			}
			if n := l.checked[m]; n > 0 { // by whomever: it is no more than the most
				w.add(&needRecord{Task: first[c], Peer: j.peerNo[l.claims[m][0].peer], Memory: memory(m), Need: n, Scope: ofChecked})
			}
		}
		for _, a := range inOrder(l.short) {
			both(needRecord{Task: first[c], Peer: j.peerNo[a.peer], Device: a.device}, l.short[a], cpuMemory)
		}
		for _, a := range inOrder(l.slow) {
			w.add(&needRecord{Task: first[c], Peer: j.peerNo[a.peer], Device: a.device, Memory: vram, Need: l.slow[a], Scope: ofSpeed})
		}
	}
	for i, t := range j.tasks {
		for _, x := range t.also().tight {
			both(needRecord{Task: i, Peer: j.peerNo[x.peer], Device: x.device, Scope: ofTask}, x.need, cpuMemory)
		}
	}
}

// inOrder are the keys, in an order that is the same each time.
func inOrder[V any](m map[account]V) []account {
	var out []account
	for a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, func(x, y account) int {
		if x.peer != y.peer {
			return cmpText(string(x.peer), string(y.peer))
		}
		return cmpText(x.device, y.device)
	})
	return out
}

func cmpText(x, y string) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
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
