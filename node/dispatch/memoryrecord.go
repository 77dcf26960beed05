package dispatch

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

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
