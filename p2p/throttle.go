package p2p

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// throttle bounds how many bytes of blocks pass in a second, for all streams
// together, and decides who is next: what a device waits for goes first, and
// among equals the peers take turns, however many streams each has. Nil lets
// everything pass.
//
// Without a bound the transport's own fairness holds, which is that between
// connections; only the precedence of what is urgent is kept.
type throttle struct {
	bucket *rate.Limiter // nil: no bound

	mu     sync.Mutex
	last   time.Time // when something urgent passed
	queues [2][]*queue
	busy   bool // somebody has the turn
	turns  uint // that were given
}

// turn is whose bytes are to pass.
type turn struct {
	peer   peer.ID
	urgent bool
}

// queue is what one peer waits with.
type queue struct {
	peer    peer.ID
	waiting []chan struct{}
}

const (
	// burst is what may pass at once after a rest: more than a packet train,
	// less than what anybody notices.
	burst = 128 << 10
	// urgentHolds is how long others wait after something urgent has passed,
	// and with urgentMost how long one of their writes waits at most.
	urgentHolds = 50 * time.Millisecond
	urgentMost  = time.Second / 4
	// othersEvery is how many turns go by until what is not urgent has one in
	// any case.
	othersEvery = 8
)

// newThrottle makes one of a bound; 0: none.
func newThrottle(bytesPerSecond int64) *throttle {
	t := &throttle{}
	if bytesPerSecond > 0 {
		t.bucket = rate.NewLimiter(rate.Limit(bytesPerSecond), burst)
	}
	return t
}

// bound is the bucket; nil: no bound.
func (t *throttle) bound() *rate.Limiter {
	if t == nil {
		return nil
	}
	return t.bucket
}

func class(urgent bool) int {
	if urgent {
		return 0
	}
	return 1
}

// enter waits for the turn; the caller then takes from the bucket and leaves.
func (t *throttle) enter(ctx context.Context, who turn) error {
	t.mu.Lock()
	if !t.busy {
		t.busy = true
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{}, 1)
	c := class(who.urgent)
	var q *queue
	for _, x := range t.queues[c] {
		if x.peer == who.peer {
			q = x
		}
	}
	if q == nil {
		q = &queue{peer: who.peer}
		t.queues[c] = append(t.queues[c], q)
	}
	q.waiting = append(q.waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-mine: // it was given meanwhile
		t.passLocked()
	default:
		for i, w := range q.waiting {
			if w == mine {
				q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
				break
			}
		}
	}
	return ctx.Err()
}

func (t *throttle) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.passLocked()
}

// passLocked gives the turn to the next: the first of the first peer's, who
// then goes behind the others.
func (t *throttle) passLocked() {
	t.turns++
	for c := range t.queues {
		if t.turns%othersEvery == 0 {
			c = 1 - c
		}
		for len(t.queues[c]) > 0 {
			q := t.queues[c][0]
			t.queues[c] = t.queues[c][1:]
			if len(q.waiting) == 0 {
				continue
			}
			next := q.waiting[0]
			if q.waiting = q.waiting[1:]; len(q.waiting) > 0 {
				t.queues[c] = append(t.queues[c], q)
			}
			next <- struct{}{}
			return
		}
	}
	t.busy = false
}

// wait returns when n bytes may pass, or ctx has ended.
func (t *throttle) wait(ctx context.Context, who turn, n int) error {
	if t.bound() == nil {
		return t.yield(ctx, who)
	}
	return t.pay(ctx, who, n)
}

// pay is wait for what yields to nobody where there is no bound.
func (t *throttle) pay(ctx context.Context, who turn, n int) error {
	if t.bound() == nil {
		return nil
	}
	for n > 0 {
		part := min(n, burst)
		if err := t.enter(ctx, who); err != nil {
			return err
		}
		err := t.bucket.WaitN(ctx, part)
		t.leave()
		if err != nil {
			return err
		}
		n -= part
	}
	return nil
}

// yield lets what is urgent pass first.
func (t *throttle) yield(ctx context.Context, who turn) error {
	if t == nil {
		return nil
	}
	for waited := time.Duration(0); ; {
		t.mu.Lock()
		if who.urgent {
			t.last = time.Now()
		}
		left := time.Until(t.last.Add(urgentHolds))
		t.mu.Unlock()
		if who.urgent || left <= 0 || waited >= urgentMost {
			return nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
			waited += left
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// write writes p as fast as it may. until wraps each write in a bound of its
// own, because waiting for the bucket is nobody's fault.
func (t *throttle) write(ctx context.Context, who turn, w io.Writer, p []byte, until func() (stop func() bool)) error {
	for first := true; first || len(p) > 0; first = false {
		part := p
		if t.bound() != nil {
			part = p[:min(len(p), burst)]
		}
		if err := t.wait(ctx, who, len(part)); err != nil {
			return err
		}
		stop := until()
		_, err := w.Write(part)
		stop()
		if err != nil {
			return err
		}
		p = p[len(part):]
	}
	return nil
}

// reader reads from r as fast as it may: what was read is paid for before the
// next read, so that the sender is slowed down by a full window.
func (t *throttle) reader(ctx context.Context, who turn, r io.Reader) io.Reader {
	if t.bound() == nil {
		return r
	}
	return &slowReader{ctx: ctx, who: who, t: t, r: r}
}

type slowReader struct {
	ctx  context.Context
	who  turn
	t    *throttle
	r    io.Reader
	owed int
}

// Read implements io.Reader.
func (s *slowReader) Read(p []byte) (int, error) {
	if err := s.t.wait(s.ctx, s.who, s.owed); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.owed = n
	return n, err
}
