package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// pacedHost is a host whose streams keep to this node's bounds, for protocols
// that are not ours.
type pacedHost struct {
	host.Host
	ctx      context.Context // of the streams
	up, down *throttle
}

// paced returns h, within the bounds where there are any.
func (h *Host) paced(of host.Host) host.Host {
	if h.up.bound() == nil && h.down.bound() == nil {
		return of
	}
	return &pacedHost{Host: of, ctx: h.ctx, up: h.up, down: h.down}
}

func (p *pacedHost) NewStream(ctx context.Context, id peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	s, err := p.Host.NewStream(ctx, id, protocols...)
	if err != nil {
		return nil, err
	}
	return p.wrap(s), nil
}

func (p *pacedHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	p.Host.SetStreamHandler(id, func(s network.Stream) { handle(p.wrap(s)) })
}

func (p *pacedHost) SetStreamHandlerMatch(id protocol.ID, match func(protocol.ID) bool, handle network.StreamHandler) {
	p.Host.SetStreamHandlerMatch(id, match, func(s network.Stream) { handle(p.wrap(s)) })
}

func (p *pacedHost) wrap(s network.Stream) network.Stream {
	return &pacedStream{Stream: s, host: p, who: turn{peer: s.Conn().RemotePeer()}}
}

// pacedWrite is how long a part of a write may take once it is its turn.
const pacedWrite = 30 * time.Second

type pacedStream struct {
	network.Stream
	host *pacedHost
	who  turn
}

// Read implements io.Reader.
func (s *pacedStream) Read(b []byte) (int, error) {
	if s.host.down.bound() == nil {
		return s.Stream.Read(b)
	}
	n, err := s.Stream.Read(b[:min(len(b), burst)])
	// Paid for at once: such a stream often ends with what was read last.
	if paid := s.host.down.wait(s.host.ctx, s.who, n); err == nil {
		err = paid
	}
	return n, err
}

// Write implements io.Writer. Its deadline is its own: to wait for the bound is
// nobody's fault.
func (s *pacedStream) Write(b []byte) (int, error) {
	if s.host.up.bound() == nil {
		return s.Stream.Write(b)
	}
	n := 0
	for first := true; first || n < len(b); first = false {
		part := b[n:min(len(b), n+burst)]
		if err := s.host.up.wait(s.host.ctx, s.who, len(part)); err != nil {
			return n, err
		}
		if err := s.Stream.SetWriteDeadline(time.Now().Add(pacedWrite)); err != nil {
			return n, err
		}
		w, err := s.Stream.Write(part)
		n += w
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// SetDeadline sets that of reading alone where writing is bound; see Write.
func (s *pacedStream) SetDeadline(t time.Time) error {
	if s.host.up.bound() == nil {
		return s.Stream.SetDeadline(t)
	}
	return s.Stream.SetReadDeadline(t)
}

// SetWriteDeadline does nothing where writing is bound; see Write.
func (s *pacedStream) SetWriteDeadline(t time.Time) error {
	if s.host.up.bound() == nil {
		return s.Stream.SetWriteDeadline(t)
	}
	return nil
}
