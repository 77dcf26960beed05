package dispatch

import (
	"container/heap"
	"math"
	"time"
)

// moment is a time in nanoseconds since the board's first step, and one: 0 is no
// time. Of leases and devices there are many, and a time.Time is three times as
// long.
type moment int64

// moment is now.
func (b *Board) moment() moment {
	if b.base.IsZero() {
		if b.now.IsZero() {
			return 0
		}
		b.base = b.now
	}
	return moment(b.now.Sub(b.base)) + 1
}

// since is how long ago m was: very long where it never was.
func (b *Board) since(m moment) time.Duration {
	if m == 0 {
		return math.MaxInt64
	}
	return time.Duration(b.moment() - m)
}

type timer struct {
	at time.Time
	no uint64
	f  func()
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].no < h[j].no
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}

// after calls f in the first Step d from now. f checks whether it still matters.
func (b *Board) after(d time.Duration, f func()) {
	b.timerNo++
	heap.Push(&b.timers, timer{b.now.Add(d), b.timerNo, f})
}

// fire runs the timers that are due; those they set are for later steps.
func (b *Board) fire() {
	var due []timer
	for len(b.timers) > 0 && !b.timers[0].at.After(b.now) {
		due = append(due, heap.Pop(&b.timers).(timer))
	}
	for _, t := range due {
		t.f()
	}
}
