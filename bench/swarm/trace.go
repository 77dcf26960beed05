package swarm

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"idlewild/job"
)

// Trace is a job as it was on real machines, to be played again: what its
// frames cost and who was there when.
type Trace struct {
	// Frames are the costs of frames in order, in seconds of a device of speed 1.
	Frames   []float64 `json:"frames_s"`
	Machines []Machine `json:"machines"`
	// Took is how long the job took there, in seconds; 0: not known.
	Took float64 `json:"took_s,omitempty"`
}

// Machine is one device of a trace.
type Machine struct {
	Speed float64 `json:"speed"`
	// Here is from when to when it was there, in seconds from the job's begin; an
	// end of 0 is none.
	Here [][2]float64 `json:"here"`
}

// Bounds of a trace.
const (
	mostTraceFrames   = 1_000_000
	mostTraceMachines = 100_000
)

// Validate refuses what cannot be played.
func (t Trace) Validate() error {
	switch {
	case len(t.Frames) == 0 || len(t.Frames) > mostTraceFrames:
		return job.Refuse("trace", fmt.Sprintf("has %d frames", len(t.Frames)), fmt.Sprintf("give 1 to %d", mostTraceFrames))
	case len(t.Machines) == 0 || len(t.Machines) > mostTraceMachines:
		return job.Refuse("trace", fmt.Sprintf("has %d machines", len(t.Machines)), fmt.Sprintf("give 1 to %d", mostTraceMachines))
	}
	good := func(x float64) bool { return x > 0 && x < 1e9 }
	for i, c := range t.Frames {
		if !good(c) {
			return job.Refuse("trace", fmt.Sprintf("frame %d costs %v", i, c), "give seconds, more than 0")
		}
	}
	for i, m := range t.Machines {
		if !good(m.Speed) || len(m.Here) == 0 {
			return job.Refuse("trace", fmt.Sprintf("machine %d has speed %v and is there %d times", i, m.Speed, len(m.Here)), "give a speed above 0 and when it was there")
		}
		last := 0.0
		for k, h := range m.Here {
			if !(h[0] >= last && h[0] < 1e9) || h[1] != 0 && !(h[1] > h[0] && h[1] < 1e9) || h[1] == 0 && k < len(m.Here)-1 {
				return job.Refuse("trace", fmt.Sprintf("machine %d is there from %v to %v", i, h[0], h[1]), "give times that follow each other; only the last may have no end")
			}
			last = h[1]
		}
	}
	return nil
}

// TraceOf makes a trace of what a job's status says of its frames. Who did a
// frame in which time shows how fast machines are to each other: costs are those
// of the frames beside it, speeds the medians over a machine's frames. When a
// machine came is not in a status: each counts as there from the beginning, for
// as long as it was.
func TraceOf(s job.Status) (Trace, error) {
	type done struct {
		at, by int
		took   float64
	}
	machines, no := []string{}, map[string]int{}
	var all []done
	for i, f := range s.Frames {
		if f.Worker == "" || !(f.RenderSeconds > 0) {
			continue
		}
		w, ok := no[f.Worker]
		if !ok {
			w = len(machines)
			no[f.Worker] = w
			machines = append(machines, f.Worker)
		}
		all = append(all, done{i, w, f.RenderSeconds})
	}
	if len(all) == 0 {
		return Trace{}, job.Refuse("trace", "the job has no frames that somebody rendered", "save what `idlewild status JOB --json` says of a finished job")
	}
	logs := make([]float64, len(machines)) // of speeds
	cost := make([]float64, len(all))
	for range 16 {
		for i, d := range all {
			cost[i] = math.Log(d.took) + logs[d.by]
		}
		seen := make([][]float64, len(machines))
		for i, d := range all {
			near, n := 0.0, 0
			for k := max(0, i-4); k < min(len(all), i+5); k++ {
				if k != i {
					near, n = near+cost[k], n+1
				}
			}
			if n > 0 {
				seen[d.by] = append(seen[d.by], near/float64(n)-cost[i])
			}
		}
		for w, e := range seen {
			if len(e) > 0 {
				logs[w] += median(e) / 2
			}
		}
	}
	var t Trace
	for i, d := range all {
		cost[i] = d.took * math.Exp(logs[d.by])
		t.Frames = append(t.Frames, cost[i])
	}
	for w, name := range machines {
		joined := 0.0
		for _, x := range s.Workers {
			if x.Peer == name {
				joined = max(joined, x.JoinedSeconds)
			}
		}
		if joined >= .95*s.WallSeconds {
			joined = 0
		}
		t.Machines = append(t.Machines, Machine{Speed: math.Exp(logs[w]), Here: [][2]float64{{0, joined}}})
	}
	t.Took = s.WallSeconds
	return t, t.Validate()
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// machines makes the machines of a trace.
func (w *world) machines(ms []Machine) {
	for i, m := range ms {
		n := w.newNode(i+1, fmt.Sprint("node ", i+1))
		n.speed, n.up, n.down, n.lie = m.Speed, 1000, 1000, 1
		w.lifeOf(n, uint64(i+1))
		for _, h := range m.Here {
			come := func() {
				n.on = true
				w.speedChanged(n.speed)
				n.join()
			}
			if h[0] == 0 {
				n.on = true
				w.speed += n.speed
				w.at(seconds(n.noise.Float64()/10), n.join)
			} else {
				w.at(seconds(h[0]), come)
			}
			if h[1] > 0 {
				w.at(seconds(h[1]), func() {
					w.speedChanged(-n.speed)
					n.leave(true)
					n.on = false
				})
			}
		}
	}
}

// IdealOf is when work would be done by machines that are there as they are,
// if nobody ever lost a second.
func IdealOf(work float64, ms []Machine) float64 {
	type change struct{ at, by float64 }
	var cs []change
	for _, m := range ms {
		for _, h := range m.Here {
			cs = append(cs, change{h[0], m.Speed})
			if h[1] > 0 {
				cs = append(cs, change{h[1], -m.Speed})
			}
		}
	}
	sort.Slice(cs, func(i, k int) bool { return cs[i].at < cs[k].at })
	speed, last := 0.0, 0.0
	for _, c := range cs {
		if d := speed * (c.at - last); d >= work && speed > 0 {
			return last + work/speed
		} else {
			work -= d
		}
		speed, last = speed+c.by, c.at
	}
	if speed <= 1e-12 {
		return math.Inf(1)
	}
	return last + work/speed
}
