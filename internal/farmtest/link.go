package farmtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/worker"
)

// link is one open stream between a worker and a requester. Messages are
// encoded and decoded on the way, take the farm's latency and keep their order.
type link struct {
	farm     *Farm
	from, to peer.ID
	reports  chan parcel
	orders   chan parcel
	down     chan struct{} // cut
	closing  chan struct{} // closed by the worker: what was sent still arrives
	once     sync.Once
	closed   sync.Once
}

type parcel struct {
	body []byte
	at   time.Time // of arrival
}

var errCut = errors.New("link cut")

// join opens a link from a worker to the dispatcher of another machine, or of
// its own.
func (f *Farm) join(ctx context.Context, from, to peer.ID) (worker.Link, error) {
	if from != to {
		if err := wait(ctx, f.Latency); err != nil {
			return nil, err
		}
	}
	h, err := f.reach(from, to)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	accept := h.accept
	h.mu.Unlock()
	if accept == nil {
		return nil, fmt.Errorf("%s: nobody takes reports there", h.name)
	}
	l := &link{
		farm: f, from: from, to: to, reports: make(chan parcel, 64), orders: make(chan parcel, 64),
		down: make(chan struct{}), closing: make(chan struct{}),
	}
	f.mu.Lock()
	f.links[l] = true
	f.mu.Unlock()
	in, out := accept(from)
	go l.carryReports(in)
	go l.carryOrders(out)
	return l, nil
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *link) cut() {
	l.once.Do(func() {
		close(l.down)
		l.farm.mu.Lock()
		delete(l.farm.links, l)
		l.farm.mu.Unlock()
	})
}

func (l *link) parcel(v any) (parcel, error) {
	b, err := job.Encode(v)
	if err != nil {
		return parcel{}, err
	}
	p := parcel{body: b, at: time.Now()}
	if l.from != l.to {
		p.at = p.at.Add(l.farm.Latency)
		l.farm.mu.Lock()
		l.farm.sent++
		l.farm.mu.Unlock()
	}
	return p, nil
}

// arrive waits for the parcel's time, unless the link is cut first.
func (l *link) arrive(p parcel) bool {
	t := time.NewTimer(time.Until(p.at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.down:
		return false
	}
}

const maxMessage = 2 << 20

// carryReports brings reports to the dispatcher and closes in at the end.
func (l *link) carryReports(in chan<- job.Report) {
	defer close(in)
	defer l.cut()
	for {
		var p parcel
		select {
		case p = <-l.reports:
		case <-l.down:
			return
		case <-l.closing:
			select {
			case p = <-l.reports:
			default:
				return
			}
		}
		var r job.Report
		if err := job.Decode(p.body, maxMessage, &r); err != nil {
			l.farm.T.Errorf("report: %v", err)
			return
		}
		if !l.arrive(p) {
			return
		}
		select {
		case in <- r:
		case <-l.down:
			return
		}
	}
}

// carryOrders brings orders to the worker; the link ends with them.
func (l *link) carryOrders(out <-chan job.Order) {
	defer l.cut()
	for o := range out {
		p, err := l.parcel(o)
		if err != nil {
			l.farm.T.Errorf("order: %v", err)
			return
		}
		select {
		case l.orders <- p:
		case <-l.down:
			return
		}
	}
}

// Send implements worker.Link.
func (l *link) Send(ctx context.Context, r job.Report) error {
	if err := r.Validate(); err != nil {
		l.farm.T.Errorf("a worker sends what no requester takes: %v", err)
		return err
	}
	p, err := l.parcel(r)
	if err != nil {
		l.farm.T.Errorf("report: %v", err)
		return err
	}
	select {
	case <-l.down:
		return errCut
	default:
	}
	select {
	case l.reports <- p:
		return nil
	case <-l.down:
		return errCut
	case <-l.closing:
		return errCut
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Orders implements worker.Link.
func (l *link) Orders() iter.Seq[job.Order] {
	return func(yield func(job.Order) bool) {
		for {
			select {
			case p := <-l.orders:
				var o job.Order
				if err := job.Decode(p.body, 64<<20, &o); err != nil {
					l.farm.T.Errorf("order: %v", err)
					return
				}
				if !l.arrive(p) || !yield(o) {
					return
				}
			case <-l.down:
				return
			case <-l.closing:
				return
			}
		}
	}
}

// Close implements worker.Link.
func (l *link) Close() error {
	l.closed.Do(func() { close(l.closing) })
	return nil
}

// swarm is the farm as one machine sees it.
type swarm struct {
	h *host
}

// Offers implements worker.Swarm.
func (s swarm) Offers(ctx context.Context) iter.Seq[job.Offer] {
	return func(yield func(job.Offer) bool) {
		c := make(chan job.Offer, 256)
		f := s.h.farm
		f.mu.Lock()
		f.hear[s.h.id] = c
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.hear[s.h.id] == c {
				delete(f.hear, s.h.id)
			}
		}()
		for {
			select {
			case o := <-c:
				if !yield(o) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// Join implements worker.Swarm.
func (s swarm) Join(ctx context.Context, to peer.ID) (worker.Link, error) {
	return s.h.farm.join(ctx, s.h.id, to)
}

// Announce implements dispatch.Market.
func (s swarm) Announce(ctx context.Context, o job.Offer) error {
	f := s.h.farm
	if err := wait(ctx, f.Latency); err != nil {
		return err
	}
	f.mu.Lock()
	to := map[peer.ID]chan job.Offer{}
	for id, c := range f.hear {
		if id != s.h.id {
			to[id] = c
		}
	}
	f.mu.Unlock()
	for id, c := range to {
		if _, err := f.reach(s.h.id, id); err != nil {
			continue
		}
		select {
		case c <- o:
		default: // gossip is lossy
		}
	}
	return nil
}
