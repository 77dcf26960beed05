package dispatch

import "sync"

// pool runs functions, at most limit at a time, in the order in which they came.
type pool struct {
	limit int
	wg    *sync.WaitGroup

	mu      sync.Mutex
	queue   []func()
	running int
}

func (p *pool) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == p.limit {
		p.queue = append(p.queue, f)
		return
	}
	p.running++
	p.wg.Go(func() { p.run(f) })
}

func (p *pool) run(f func()) {
	for {
		f()
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.running--
			p.mu.Unlock()
			return
		}
		f, p.queue = p.queue[0], p.queue[1:]
		p.mu.Unlock()
	}
}
