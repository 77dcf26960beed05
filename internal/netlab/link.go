package netlab

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// queueTime is how long a packet may wait for a slow link; what would wait
// longer is dropped.
const queueTime = 100 * time.Millisecond

// link is one direction of a cable.
type link struct {
	bits    float64
	delay   time.Duration
	loss    float64
	deliver func([]byte)

	cut   atomic.Bool
	bytes atomic.Int64
	lost  atomic.Int64 // packets, by chance

	mu     sync.Mutex
	free   time.Time // when the last packet will have left
	closed bool
	queue  chan timed
}

type timed struct {
	at time.Time
	b  []byte
}

func newLink(bits float64, delay time.Duration, loss float64, deliver func([]byte)) *link {
	l := &link{bits: bits, delay: delay, loss: loss, deliver: deliver, queue: make(chan timed, 16<<10)}
	go func() {
		for t := range l.queue {
			if d := time.Until(t.at); d > 0 {
				time.Sleep(d)
			}
			if !l.cut.Load() {
				l.deliver(t.b)
			}
		}
	}()
	return l
}

// send takes ownership of b.
func (l *link) send(b []byte) {
	if l.cut.Load() {
		return
	}
	if l.loss > 0 && rand.Float64() < l.loss {
		l.lost.Add(1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	if l.bits > 0 {
		if l.free.Sub(now) > queueTime {
			return
		}
		l.free = l.free.Add(time.Duration(float64(len(b)) * 8 / l.bits * float64(time.Second)))
	}
	select {
	case l.queue <- timed{l.free.Add(l.delay), b}:
		l.bytes.Add(int64(len(b)))
	default: // this machine is too slow: like a full queue
	}
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
}
