package p2p

import (
	"net"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
)

// streamWindow is how many bytes may come on a stream of TCP before they are
// read, to begin with. yamux (go-yamux 5.1.0) lets a window grow with the way,
// but whenever it does, half of what it grows by is never told to the sender:
// when an update is due the sender has half of the first window left, whatever
// the window is by then. With libp2p's 256 KiB a line that holds more than
// 128 KiB stands still for a round trip with each update: 100 Mbit/s with 40 ms,
// which hold 500 KB, lost an eighth.
const streamWindow = 1 << 20

// measureEvery is how often yamux measures the round trip, by which it paces the
// growth of windows. It does so on each connection, also where nothing moves.
const measureEvery = 5 * time.Minute

// Muxer is the stream multiplexer of a host that moves blocks.
func Muxer() libp2p.Option {
	t := *yamux.DefaultTransport
	t.InitialStreamWindowSize, t.MeasureRTTInterval = streamWindow, measureEvery
	return libp2p.Muxer(yamux.ID, muxer{&t})
}

// muxer is yamux with streamWindow, all of which counts as memory: yamux itself
// reserves 256 KiB for a stream, whatever its window.
type muxer struct{ *yamux.Transport }

// NewConn implements network.Multiplexer.
func (m muxer) NewConn(c net.Conn, isServer bool, scope network.PeerScope) (network.MuxedConn, error) {
	if scope != nil {
		scope = windowScope{scope}
	}
	return m.Transport.NewConn(c, isServer, scope)
}

type windowScope struct{ network.PeerScope }

// BeginSpan implements network.ResourceScope; yamux begins one for each stream.
func (s windowScope) BeginSpan() (network.ResourceScopeSpan, error) {
	span, err := s.PeerScope.BeginSpan()
	if err != nil {
		return nil, err
	}
	return &windowSpan{ResourceScopeSpan: span}, nil
}

type windowSpan struct {
	network.ResourceScopeSpan
	begun bool
}

// ReserveMemory implements network.ResourceScope. The first is of the stream's
// first window, later ones of what it grows by.
func (s *windowSpan) ReserveMemory(size int, prio uint8) error {
	if !s.begun {
		s.begun, size = true, max(size, streamWindow)
	}
	return s.ResourceScopeSpan.ReserveMemory(size, prio)
}
