package node

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/worker"
	"idlewild/p2p"
)

// memoryLink joins a worker to a dispatcher of the same process.
type memoryLink struct {
	ctx     context.Context
	cancel  context.CancelFunc
	reports chan<- job.Report
	orders  <-chan job.Order

	mu     sync.Mutex
	closed bool
}

var _ worker.Link = (*memoryLink)(nil)

var errLinkClosed = errors.New("link is closed")

// joinHere opens a worker's session with a coordinator of this process. It
// lives until it is closed, or the coordinator ends it.
func joinHere(life context.Context, c p2p.Coordinator, self peer.ID) *memoryLink {
	ctx, cancel := context.WithCancel(life)
	reports, orders := c.Open(ctx, self)
	return &memoryLink{ctx: ctx, cancel: cancel, reports: reports, orders: orders}
}

// Send implements worker.Link. It is called by one goroutine at a time.
func (l *memoryLink) Send(ctx context.Context, r job.Report) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errLinkClosed
	}
	select {
	case l.reports <- r:
		return nil
	case <-l.ctx.Done():
		return errLinkClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Orders implements worker.Link.
func (l *memoryLink) Orders() iter.Seq[job.Order] {
	return func(yield func(job.Order) bool) {
		for {
			select {
			case o, ok := <-l.orders:
				if !ok {
					l.cancel()
					return
				}
				if !yield(o) {
					return
				}
			case <-l.ctx.Done():
				return
			}
		}
	}
}

// Close implements worker.Link.
func (l *memoryLink) Close() error {
	l.cancel() // wakes a Send that waits, so that the lock comes free
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.reports)
	}
	return nil
}

// swarm is worker.Swarm: this machine's own dispatcher is joined in memory,
// every other requester over the network.
type swarm struct {
	life context.Context
	self peer.ID
	own  p2p.Coordinator
	host *p2p.Host
}

var _ worker.Swarm = (*swarm)(nil)

func (s *swarm) Offers(ctx context.Context) iter.Seq[job.Offer] { return s.host.Offers(ctx) }

func (s *swarm) Join(ctx context.Context, requester peer.ID) (worker.Link, error) {
	if requester == s.self {
		return joinHere(s.life, s.own, s.self), nil
	}
	return s.host.Join(ctx, requester)
}

// bazaar is a market inside one process: dispatch.Market on one side,
// worker.Swarm on the other. A late comer hears what is open.
type bazaar struct {
	own p2p.Coordinator

	mu     sync.Mutex
	open   map[job.ID]job.Offer
	update chan struct{} // closed at each announcement
}

func newBazaar() *bazaar {
	return &bazaar{open: map[job.ID]job.Offer{}, update: make(chan struct{})}
}

var _ dispatch.Market = (*bazaar)(nil)

// Announce implements dispatch.Market.
func (b *bazaar) Announce(_ context.Context, o job.Offer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[o.Job] = o
	close(b.update)
	b.update = make(chan struct{})
	return nil
}

// stall is one worker's place in a bazaar.
type stall struct {
	*bazaar
	life context.Context
	self peer.ID
}

var _ worker.Swarm = stall{}

func (s stall) Offers(ctx context.Context) iter.Seq[job.Offer] {
	return func(yield func(job.Offer) bool) {
		for {
			s.mu.Lock()
			wait := s.update
			var offers []job.Offer
			for _, o := range s.open {
				offers = append(offers, o)
			}
			s.mu.Unlock()
			for _, o := range offers {
				if !yield(o) {
					return
				}
			}
			select {
			case <-wait:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s stall) Join(context.Context, peer.ID) (worker.Link, error) {
	return joinHere(s.life, s.own, s.self), nil
}
