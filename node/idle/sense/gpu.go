package sense

import (
	"context"
	"errors"
	"time"

	"idlewild/node/idle"
	"idlewild/render/gpu"
)

// gpus asks the driver who uses each GPU, how hot it is and what it draws.
type gpus struct {
	o    Options
	ours func() map[int]bool
	last time.Time
}

// mostEnergy is the longest time between two looks for which a draw is counted.
const mostEnergy = 30 * time.Second

// Sense implements Source.
func (g *gpus) Sense(ctx context.Context) (func(*idle.Signals), error) {
	if h, ok := g.o.GPUs.(gpu.Holder); ok {
		h.Hold(g.working())
	}
	found, err := g.o.GPUs.Devices(ctx)
	if err != nil && len(g.o.GPUNames) == 0 {
		if errors.Is(err, gpu.ErrNoDriver) {
			return func(*idle.Signals) {}, nil // a machine without one
		}
		return nil, err
	}
	now := time.Now()
	passed := min(now.Sub(g.last), mostEnergy)
	g.last = now
	var ours map[int]bool
	if len(found) > 0 {
		ours = g.ours()
	}
	out := map[string]idle.GPU{}
	for _, d := range found {
		x := g.device(d, ours)
		if x.OursRuns && x.PowerW != nil && g.o.GPUEnergy != nil {
			g.o.GPUEnergy(*x.PowerW, passed, d.UUID)
		}
		out[d.UUID] = x
	}
	for _, name := range g.o.GPUNames {
		if _, there := out[name]; there {
			continue
		}
		why := "the driver does not list it any more"
		if err != nil {
			why = err.Error()
		}
		out[name] = idle.GPU{Lost: why}
	}
	return func(s *idle.Signals) {
		s.GPUs = out
		if g.o.GPUTodayWh != nil {
			s.GPUTodayWh = g.o.GPUTodayWh()
		}
	}, nil
}

// working reports whether a task of ours is on any GPU.
func (g *gpus) working() bool {
	for _, name := range g.o.GPUNames {
		if g.o.OursRuns != nil && g.o.OursRuns(name) {
			return true
		}
	}
	return false
}

func (g *gpus) device(d gpu.Device, ours map[int]bool) idle.GPU {
	x := idle.GPU{MemoryBytes: d.MemoryBytes}
	if g.o.OursRuns != nil {
		x.OursRuns = g.o.OursRuns(d.UUID)
	}
	if d.Busy >= 0 {
		x.Busy = &d.Busy
	}
	if d.TempC > 0 {
		x.TempC = &d.TempC
	}
	if d.PowerW > 0 {
		x.PowerW = &d.PowerW
	}
	othersBusy, mine, told := 0.0, int64(0), len(d.Processes) > 0
	counted := map[int]bool{} // one process may compute and draw
	for _, p := range d.Processes {
		if counted[p.PID] {
			continue
		}
		counted[p.PID] = true
		if ours[p.PID] {
			x.OursRuns = true
			mine += p.MemoryBytes
			told = told && p.MemoryBytes > 0
			continue
		}
		if p.Busy > 0 {
			othersBusy += p.Busy
		}
		if p.Busy > 0.01 || p.MemoryBytes > d.MemoryBytes/20 {
			if name := processName(p.PID); name != "" {
				x.Others = append(x.Others, name)
			}
		}
	}
	if g.foreign(d, ours) && x.OursRuns {
		// In a container the driver counts processes as the host does, and
		// nothing tells which are ours. Ours must not count as others'.
		x.Others = nil
		return x
	}
	if d.SharesTold {
		x.OthersBusy = &othersBusy
	}
	// What nobody is named for is the desktop's and the driver's own; where the
	// driver names our own share it is taken off the sum.
	if d.MemoryBytes > 0 && (told || !x.OursRuns) {
		rest := max(d.UsedBytes-mine, 0)
		x.OthersBytes = &rest
		x.OursBytes = &mine
	}
	return x
}

// foreign reports whether the driver names processes by numbers that mean
// nothing here.
func (g *gpus) foreign(d gpu.Device, ours map[int]bool) bool {
	none := false
	for _, p := range d.Processes {
		if ours[p.PID] {
			return false
		}
		none = none || !pidKnown(p.PID)
	}
	return none
}
