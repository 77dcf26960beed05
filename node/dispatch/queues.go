package dispatch

import (
	"container/heap"
	"time"

	"idlewild/job"
)

// class is a set of tasks that the same machines can do, in the same place.
type class struct {
	needs    job.Needs
	place    job.Place
	lead     queues // the preview, which people wait for
	rest     queues
	previews int // tasks of the preview, whatever became of them
	open     int
	out      int // leased
	costs    costs
	fits     map[*shape]bool
	granted  time.Time // when a task was leased last
	lessons  *lessons  // of memory; nil: nothing was learnt
	ends     ends      // open tasks of the rest by length; nil: not yet
	short    *task     // found in
	shortIn  shortIn
}

// shortIn is when and where a short task was looked for.
type shortIn struct {
	step   uint64
	grants uint32
	of     *queues
}

// taskHeap orders by rank, then by plan.
type taskHeap []*task

func (h taskHeap) Len() int { return len(h) }
func (h taskHeap) Less(i, j int) bool {
	if h[i].Rank != h[j].Rank {
		return h[i].Rank < h[j].Rank
	}
	return h[i].index < h[j].index
}
func (h taskHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *taskHeap) Push(x any)   { *h = append(*h, x.(*task)) }
func (h *taskHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}

// queues hold open tasks: those of frames that nobody is at come first, and
// those that lapsed last, since they may be done already.
type queues struct {
	fresh  taskHeap
	begun  taskHeap
	lapsed taskHeap
}

// all are the queues in their order.
func (q *queues) all() [3]*taskHeap { return [...]*taskHeap{&q.fresh, &q.begun, &q.lapsed} }

// short is one of the shorter ones among the last open tasks.
func (q *queues) short(cost func(*task) float64) *task {
	var best *task
	for _, h := range q.all() {
		if h == &q.lapsed && best != nil {
			break
		}
		for i := len(*h) - 1; i >= max(0, len(*h)-64); i-- {
			t := (*h)[i]
			if t.in == h && t.phase == open && (best == nil || cost(t) < cost(best)) {
				best = t
			}
		}
	}
	return best
}

// head is the first open task.
func (q *queues) head() *task {
	for _, h := range q.all() {
		if t := h.head(); t != nil {
			return t
		}
	}
	return nil
}

// pop takes the first open task.
func (q *queues) pop() *task {
	for _, h := range q.all() {
		if t := h.pop(); t != nil {
			return t
		}
	}
	return nil
}

func (c *class) queues(t *task) *queues {
	if t.early() {
		return &c.lead
	}
	return &c.rest
}

// early reports whether t is of the preview.
func (t *task) early() bool { return t.Rank < job.RestRank }

// before reports whether t goes before o, an open task of another class.
func (t *task) before(o *task) bool {
	if x, y := t.lapsed && !t.early(), o.lapsed && !o.early(); x != y {
		return y
	}
	return t.Rank < o.Rank || t.Rank == o.Rank && t.index < o.index
}

func (c *class) push(t *task) {
	q := c.queues(t)
	h := &q.fresh
	switch {
	case t.lapsed:
		h = &q.lapsed
	case t.begun:
		h = &q.begun
	}
	if t.in != h {
		t.in = h
		heap.Push(h, t)
	}
	if c.ends != nil && q == &c.rest {
		c.ends.add(c, t)
	}
}

// head returns the first open task of a queue and leaves it there.
func (h *taskHeap) head() *task {
	for len(*h) > 0 {
		t := (*h)[0]
		if t.in == h && t.phase == open {
			return t
		}
		heap.Pop(h)
		if t.in == h {
			t.in = nil
		}
	}
	return nil
}

// pop takes the first open task off a queue.
func (h *taskHeap) pop() *task {
	t := h.head()
	if t != nil {
		heap.Pop(h)
		t.in = nil
	}
	return t
}

// next is the first open task in the order in which people want them.
func (c *class) next() *task {
	if t := c.lead.head(); t != nil {
		return t
	}
	return c.rest.head()
}
