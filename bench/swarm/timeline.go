package swarm

import (
	"math"
	"time"
)

// Minute is what the machines that were there did in one minute, as shares of
// the speed that was there.
type Minute struct {
	Works   float64 // at a task, or starting for one
	Fetches float64 // have a lease whose content is on its way
	Waits   float64 // have none
	Open    float64 // share of the tasks that nobody has yet, at its end
	Wasted  float64 // work that was not used: whose machine left is not in it
	Slow    int     // steps of the board that took longer than slowStep
}

// sampleEvery is how often it is looked what machines do.
const sampleEvery = 5 * time.Second

// minute is the present one.
func (w *world) minute() *Minute {
	at := int(w.now / time.Minute)
	for len(w.r.Minutes) <= at {
		w.r.Minutes = append(w.r.Minutes, Minute{})
	}
	return &w.r.Minutes[at]
}

// sample looks at everybody, again and again.
func (w *world) sample() {
	m := w.minute()
	held := 0
	for _, n := range w.nodes[1:] {
		switch {
		case !n.on:
		case n.run == nil:
			m.Waits += n.speed
		case n.run.task < 0:
			m.Fetches += n.speed
		default:
			m.Works += n.speed
		}
		for _, h := range n.holds() {
			held += len(h.lease.Tasks) - max(h.task, 0)
		}
	}
	all, done := 0, 0
	for _, j := range w.jobs {
		all, done = all+j.tasks, done+j.done
	}
	m.Open = max(0, float64(all-done-held)) / float64(all)
	if w.open > 0 {
		w.at(sampleEvery, w.sample)
	}
}

func (m *Minute) shares() {
	if all := m.Works + m.Fetches + m.Waits; all > 0 {
		m.Wasted /= all * sampleEvery.Seconds()
		m.Works, m.Fetches, m.Waits = m.Works/all, m.Fetches/all, m.Waits/all
	}
}

// able is the speed of those that could work, from a moment on, and work that was
// lost then.
type able struct{ at, speed, lost float64 }

// comes notes when a machine that is here now can work: when it has the smallest
// scene, by its own line and, at the beginning, by the requester's, and Blender
// has started.
func (w *world) comes(n *node) {
	d := w.p.Load
	if !w.p.Warm {
		least := math.Inf(1)
		for _, j := range w.jobs {
			fetch := j.bits / n.down
			if w.now < time.Minute {
				fetch = max(fetch, j.bits/w.p.Uplink)
			}
			least = min(least, fetch)
		}
		d += least
	}
	gone := n.gone
	w.at(seconds(d), func() {
		if n.gone == gone && n.on {
			n.able = true
			w.canWork(n.speed, 0)
		}
	})
}

// goes notes that it left: where frames are whole, with half a frame on the average.
func (w *world) goes(n *node) {
	if !n.able {
		return
	}
	n.able = false
	frames, sum := 0, 0.0
	for _, j := range w.jobs {
		frames, sum = frames+j.tasks, sum+j.total
	}
	w.canWork(-n.speed, sum/float64(frames)/2)
}

func (w *world) canWork(more, lost float64) {
	now := 0.0
	if n := len(w.able); n > 0 {
		now = w.able[n-1].speed
	}
	w.able = append(w.able, able{w.now.Seconds(), now + more, lost})
}

// bound is a time that can hardly be beaten, whoever decides. The ideal has all
// machines work from the first second, on anything: here they need a scene first,
// and who leaves loses what it is at. That the last frames do not end all at
// once is not in it.
func (w *world) bound(work float64) float64 {
	for i, x := range w.able {
		end := math.Inf(1)
		if i+1 < len(w.able) {
			end = w.able[i+1].at
		}
		work += x.lost
		if d := work / x.speed; x.speed > 0 && x.at+d <= end {
			return x.at + d
		}
		work -= x.speed * (end - x.at)
	}
	return math.NaN()
}
