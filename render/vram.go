package render

import (
	"context"
	"sync"
	"time"

	"idlewild/job"
	"idlewild/render/gpu"
)

// vramEvery is how often the driver is asked while a task runs on a GPU.
const vramEvery = 500 * time.Millisecond

// watch measures how much of a GPU's memory a session takes until the function
// is called that it returns: bytes at the highest, 0 where that cannot be told.
func (r *Runner) watch(s Session, on job.Device) func() int64 {
	tree, ok := s.(interface{ processes() []proc })
	if r.opts.GPUs == nil || on.Type != "gpu" || !ok {
		return func() int64 { return 0 }
	}
	hold := func(bool) {}
	if h, ok := r.opts.GPUs.(gpu.Holder); ok {
		hold = h.Hold
	}
	ctx, cancel := context.WithCancel(context.Background())
	var peak int64
	hold(true)
	var run sync.WaitGroup
	run.Go(func() {
		tick := time.NewTicker(vramEvery)
		defer tick.Stop()
		for {
			if found, err := r.opts.GPUs.Devices(ctx); err == nil {
				peak = max(peak, vramOf(found, on.Name, tree.processes()))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() int64 {
		cancel()
		run.Wait()
		hold(false)
		return peak
	}
}

// vramOf adds up what the processes of a tree take of a GPU's memory. In a
// container the driver may name processes by the host's numbers: then it is 0,
// and never what strangers take.
func vramOf(found []gpu.Device, name string, tree []proc) (sum int64) {
	ours := map[int]bool{}
	for _, p := range tree {
		ours[p.pid] = true
	}
	for _, d := range found {
		if d.UUID != name {
			continue
		}
		for _, p := range d.Processes {
			if ours[p.PID] { // once, though it may both compute and draw
				ours[p.PID] = false
				sum += p.MemoryBytes
			}
		}
		if d.MemoryBytes > 0 {
			sum = min(sum, d.MemoryBytes)
		}
	}
	return sum
}
