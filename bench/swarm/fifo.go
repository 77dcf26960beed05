package swarm

import (
	"container/heap"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// FIFO is what render managers of a studio do, as a Coordinator: jobs in order,
// a task at a time to whoever asks, and again to another after a deadline. It
// keeps no journal and checks nothing.
type FIFO struct {
	deadline time.Duration
	jobs     []*fifoJob
	byID     map[job.ID]*fifoJob
	streams  map[peer.ID]uint64
	wants    map[peer.ID]job.Bid
	asked    []peer.ID // in the order in which they asked
	leases   uint64
	timers   fifoTimers
	asking   map[peer.ID]bool
	self     peer.ID
}

type fifoJob struct {
	id    job.ID
	tasks []job.Task
	index map[job.TaskKey]int
	next  []int // open, anywhere
	home  []int // open, at the requester
	after [][]int
	need  []int
	done  []bool
	left  int
}

type fifoTimer struct {
	at   time.Time
	j    *fifoJob
	task int
}

type fifoTimers []fifoTimer

func (h fifoTimers) Len() int           { return len(h) }
func (h fifoTimers) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h fifoTimers) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *fifoTimers) Push(x any)        { *h = append(*h, x.(fifoTimer)) }
func (h *fifoTimers) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// NewFIFO returns one that gives a task to another after deadline.
func NewFIFO(self peer.ID, deadline time.Duration) *FIFO {
	return &FIFO{deadline: deadline, self: self, byID: map[job.ID]*fifoJob{}, streams: map[peer.ID]uint64{}, wants: map[peer.ID]job.Bid{}, asking: map[peer.ID]bool{}}
}

// Deadline implements Coordinator.
func (f *FIFO) Deadline() time.Time {
	if len(f.timers) == 0 {
		return time.Time{}
	}
	return f.timers[0].at
}

// Step implements Coordinator.
func (f *FIFO) Step(now time.Time, e dispatch.Event) []dispatch.Effect {
	var out []dispatch.Effect
	for len(f.timers) > 0 && !f.timers[0].at.After(now) {
		if t := heap.Pop(&f.timers).(fifoTimer); !t.j.done[t.task] {
			t.j.open(t.task)
		}
	}
	switch e := e.(type) {
	case dispatch.Planned:
		j := &fifoJob{id: e.ID, tasks: e.Tasks, index: map[job.TaskKey]int{}, after: make([][]int, len(e.Tasks)), need: make([]int, len(e.Tasks)), done: make([]bool, len(e.Tasks)), left: len(e.Tasks)}
		for i, t := range e.Tasks {
			j.index[t.Key()] = i
		}
		for i, t := range e.Tasks {
			j.need[i] = len(t.After)
			for _, k := range t.After {
				j.after[j.index[k]] = append(j.after[j.index[k]], i)
			}
			if len(t.After) == 0 {
				j.open(i)
			}
		}
		f.jobs = append(f.jobs, j)
		f.byID[e.ID] = j
	case dispatch.Opened:
		f.streams[e.Peer] = e.Stream
	case dispatch.Closed:
		if f.streams[e.Peer] == e.Stream {
			delete(f.streams, e.Peer)
			delete(f.wants, e.Peer)
		}
	case dispatch.Reported:
		for _, r := range e.Receipts {
			j := f.byID[r.Receipt.Job]
			for _, l := range r.Receipt.Leaves {
				i := j.index[l.Task]
				if l.Outcome != job.Succeeded || j.done[i] {
					continue
				}
				j.done[i] = true
				out = append(out, dispatch.Enter{ID: j.id, Fence: l.Fence, Worker: e.Peer, Leaf: l})
				for _, n := range j.after[i] {
					if j.need[n]--; j.need[n] == 0 {
						j.open(n)
					}
				}
				if j.left--; j.left == 0 {
					out = append(out, dispatch.Clean{ID: j.id})
				}
			}
		}
		delete(f.wants, e.Peer)
		if len(e.Report.Bids) > 0 && e.Report.Leaving == "" && len(e.Report.Progress) == 0 {
			f.wants[e.Peer] = e.Report.Bids[0]
			if !f.asking[e.Peer] {
				f.asking[e.Peer] = true
				f.asked = append(f.asked, e.Peer)
			}
		}
	}
	return f.serve(now, out)
}

func (j *fifoJob) open(i int) {
	if j.tasks[i].Place == job.AtRequester {
		j.home = append(j.home, i)
	} else {
		j.next = append(j.next, i)
	}
}

// serve gives one task to each who waits.
func (f *FIFO) serve(now time.Time, out []dispatch.Effect) []dispatch.Effect {
	var still []peer.ID
	for i, p := range f.asked {
		b, ok := f.wants[p]
		if !ok {
			delete(f.asking, p)
			continue
		}
		j, t := f.take(p == f.self)
		if j == nil {
			if anywhere, home := f.some(); !anywhere && !home {
				still = append(still, f.asked[i:]...)
				break
			}
			still = append(still, p)
			continue
		}
		delete(f.wants, p)
		delete(f.asking, p)
		f.leases++
		l := job.Lease{ID: job.LeaseID(job.NewID(time.UnixMilli(int64(f.leases)))), Job: j.id, Device: b.Device, TTL: f.deadline,
			Tasks: []job.Granted{{Task: j.tasks[t], Fence: f.leases}}}
		heap.Push(&f.timers, fifoTimer{now.Add(f.deadline), j, t})
		out = append(out, dispatch.Send{Peer: p, Stream: f.streams[p], Order: job.Order{Leases: []job.Lease{l}, BeatEvery: 20 * time.Second}})
	}
	f.asked = still
	return out
}

// some reports whether anything is open anywhere.
func (f *FIFO) some() (anywhere, home bool) {
	for _, j := range f.jobs {
		anywhere = anywhere || len(j.next) > 0
		home = home || len(j.home) > 0
	}
	return anywhere, home
}

func (f *FIFO) take(home bool) (*fifoJob, int) {
	for _, j := range f.jobs {
		q := &j.next
		if home {
			q = &j.home
		}
		for len(*q) > 0 {
			i := (*q)[0]
			*q = (*q)[1:]
			if !j.done[i] {
				return j, i
			}
		}
	}
	return nil, 0
}
