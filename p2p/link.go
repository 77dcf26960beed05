package p2p

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// Link is a worker's sync stream to one requester.
type Link struct {
	orders chan job.Order
	send   func(ctx context.Context, r job.Report) error
	close  func()
	done   <-chan struct{}
	cause  func() error
}

// Send queues a report. It waits while the queue is full, and returns an
// error that matches ErrLinkCut once the link is cut.
func (l *Link) Send(ctx context.Context, r job.Report) error {
	if err := r.Validate(); err != nil {
		return err // the other side would cut us for it
	}
	return l.send(ctx, r)
}

// Orders yields what the requester says, until the link is cut or closed.
// One loop at a time.
func (l *Link) Orders() iter.Seq[job.Order] {
	return func(yield func(job.Order) bool) {
		for o := range l.orders {
			if !yield(o) {
				return
			}
		}
	}
}

// Err says why the link is over: nil while it is up, and when it was closed
// in order by either side.
func (l *Link) Err() error {
	select {
	case <-l.done:
		return l.cause()
	default:
		return nil
	}
}

// Close sends what is queued and ends the link.
func (l *Link) Close() error {
	l.close()
	<-l.done
	return nil
}

// Join opens the sync stream to a requester, connecting first where needed.
// The requester may be this node itself.
func (h *Host) Join(ctx context.Context, requester peer.ID) (*Link, error) {
	if requester == h.ID() {
		return h.joinSelf()
	}
	s, err := h.open(ctx, requester, ProtocolSync)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", requester, err)
	}
	ses := newSession(s, &h.stats)
	orders := make(chan job.Order)
	l := &Link{orders: orders, done: ses.done, close: ses.end, cause: ses.cause}
	l.send = func(ctx context.Context, r job.Report) error {
		ms, err := splitReport(r)
		if err != nil {
			return err
		}
		for _, m := range ms {
			select {
			case <-ses.done:
				return l.over()
			case <-ses.closing:
				return l.over()
			default:
			}
			ses.queuedBytes.Add(int64(proto.Size(m)))
			select {
			case ses.queue <- m:
				continue
			case <-ses.done:
				err = l.over()
			case <-ses.closing:
				err = l.over()
			case <-ctx.Done():
				err = ctx.Err()
			}
			ses.queuedBytes.Add(-int64(proto.Size(m)))
			return err
		}
		return nil
	}
	started := h.goRun(func(ctx context.Context) {
		defer close(orders)
		defer h.engage(requester)()
		stop := context.AfterFunc(ctx, func() { ses.cut(fmt.Errorf("%w: this node is leaving", ErrLinkCut)) })
		defer stop()
		ses.read(func(m *wire.Sync) error {
			o, ok := m.GetBody().(*wire.Sync_Order)
			if !ok {
				h.stats.unknown.Add(1)
				return nil // of a later version
			}
			v, err := o.Order.Value()
			if err != nil {
				h.stats.malformed.Add(1)
				return fmt.Errorf("%w: %w", ErrLinkCut, err)
			}
			select {
			case orders <- v:
				return nil
			case <-ses.done:
				return nil
			}
		})
		if err := ses.cause(); err != nil {
			h.log.Debug("link cut", "peer", requester, "err", err)
			h.apart(requester, err)
			h.suspect(requester, err)
		}
	})
	if !started {
		ses.cut(fmt.Errorf("%w: this node is leaving", ErrLinkCut))
		return nil, fmt.Errorf("join %s: %w", requester, ses.cause())
	}
	h.goRun(func(context.Context) { ses.write() })
	return l, nil
}

func (l *Link) over() error {
	if err := l.cause(); err != nil {
		return err
	}
	return fmt.Errorf("%w: closed", ErrLinkCut)
}

// open opens a stream to a member, dialling where it is not connected, or to a
// stranger that was let in.
func (h *Host) open(ctx context.Context, p peer.ID, proto Protocol) (network.Stream, error) {
	if !h.members.Known(p) && !(forStrangers[proto] && h.members.Stranger(p)) {
		return nil, ErrNotMember
	}
	if h.host.Network().Connectedness(p) != network.Connected {
		h.clearBackoff(p)
		ctx, cancel := context.WithTimeout(ctx, exchangeTime)
		defer cancel()
		addrs := append(h.through(p), h.members.contacts()[p].addrs...)
		if err := h.host.Connect(ctx, peer.AddrInfo{ID: p, Addrs: addrs}); err != nil {
			return nil, fmt.Errorf("cannot be reached: %w", cause(err))
		}
	}
	s, err := h.stream(network.WithAllowLimitedConn(ctx, string(proto)), p, proto)
	if err != nil {
		return nil, cause(err)
	}
	return s, nil
}

// suspect closes the connection over which a stream died of silence, so that
// the reconnect loop begins anew rather than trust it.
func (h *Host) suspect(p peer.ID, err error) {
	if errors.Is(err, errSilent) {
		_ = h.host.Network().ClosePeer(p)
	}
}

// joinSelf is a link without a network: this node's workers serve its own
// jobs like anybody's.
func (h *Host) joinSelf() (*Link, error) {
	h.mu.Lock()
	c := h.coord
	h.mu.Unlock()
	if c == nil {
		return nil, errors.New("join: this node coordinates nothing")
	}
	ctx, cancel := context.WithCancel(h.ctx)
	in, out := c.Open(ctx, h.ID())
	reports := make(chan job.Report, maxQueued)
	orders := make(chan job.Order)
	closing, done, hungUp := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var once sync.Once
	l := &Link{orders: orders, done: done, cause: func() error { return nil }}
	l.close = func() { once.Do(func() { close(closing) }) }
	l.send = func(ctx context.Context, r job.Report) error {
		select {
		case <-closing:
			return l.over()
		default:
		}
		select {
		case reports <- r:
			return nil
		case <-closing:
			return l.over()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	go func() { // reports; like the stream of another peer it sends what is queued before it ends
		defer close(done)
		defer close(in)
		defer cancel()
		for {
			select {
			case r := <-reports:
				select {
				case in <- r:
				case <-hungUp:
				case <-ctx.Done():
				}
				continue
			default:
			}
			select {
			case r := <-reports:
				select {
				case in <- r:
				case <-hungUp:
				case <-ctx.Done():
				}
			case <-closing:
				if len(reports) == 0 {
					return
				}
			case <-hungUp:
				l.close()
				return
			case <-ctx.Done():
				l.close()
				return
			}
		}
	}()
	go func() { // orders, until the coordinator hangs up
		defer close(orders)
		defer close(hungUp)
		for o := range out {
			select {
			case orders <- o:
			case <-done: // drain
			}
		}
	}()
	return l, nil
}
