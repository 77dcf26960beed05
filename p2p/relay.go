package p2p

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// Limits of the relay service. libp2p's own cut a circuit at 128 KiB and two
// minutes, for a public network where a relay only introduces. Here members
// carry the work of members who cannot reach each other otherwise, so circuits
// last, and what they carry is bounded in bytes for all of them together.
const (
	reservationLife  = 30 * time.Minute
	maxReservations  = 256
	maxCircuits      = 64 // of one member
	relayBufferBytes = 64 << 10
)

// errRelayBudget ends circuits when the day's bytes are used up.
var errRelayBudget = errors.New("this node has relayed all that it may in a day")

// relayBudget is what may be relayed in a day. It fills up evenly, so that a
// day's bytes may pass at once after a day of rest, and never all of two days.
type relayBudget struct {
	perDay int64

	mu   sync.Mutex
	left float64
	at   time.Time
}

func newRelayBudget(perDay int64, now time.Time) *relayBudget {
	return &relayBudget{perDay: perDay, left: float64(perDay), at: now}
}

func (b *relayBudget) fillLocked(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.left = min(float64(b.perDay), b.left+float64(b.perDay)*d.Hours()/24)
		b.at = now
	}
}

// take pays for n bytes; false: there is not that much.
func (b *relayBudget) take(n int, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fillLocked(now)
	if b.left < float64(n) {
		return false
	}
	b.left -= float64(n)
	return true
}

// some reports whether a new circuit is worth opening.
func (b *relayBudget) some(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fillLocked(now)
	return b.left > float64(b.perDay)/100
}

// startRelay serves other members as a relay. What passes counts as sent, for
// the limit on bytes in a second too.
func (h *Host) startRelay() error {
	if h.cfg.RelayBytes <= 0 {
		return nil
	}
	budget := newRelayBudget(h.cfg.RelayBytes, time.Now())
	_, err := relay.New(relayHost{membersHost: h.guarded.(membersHost), h: h, budget: budget},
		relay.WithResources(relay.Resources{
			ReservationTTL: reservationLife, MaxReservations: maxReservations, MaxCircuits: maxCircuits, BufferSize: relayBufferBytes,
			MaxReservationsPerIP: maxReservations, MaxReservationsPerASN: maxReservations,
		}),
		relay.WithACL(relayACL{h.members, budget}),
		relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }),
	)
	if err != nil {
		return fmt.Errorf("p2p: relay: %w", err)
	}
	return nil
}

// relayACL lets members in, and only while there are bytes left.
type relayACL struct {
	members *Membership
	budget  *relayBudget
}

// AllowReserve implements relay.ACLFilter.
func (a relayACL) AllowReserve(p peer.ID, _ ma.Multiaddr) bool {
	return a.members.Known(p) && a.budget.some(time.Now())
}

// AllowConnect implements relay.ACLFilter.
func (a relayACL) AllowConnect(from peer.ID, _ ma.Multiaddr, to peer.ID) bool {
	return a.members.Known(from) && a.members.Known(to) && a.budget.some(time.Now())
}

// relayHost is what the relay service sees of a host: members only, and
// streams that count what they carry.
type relayHost struct {
	membersHost
	h      *Host
	budget *relayBudget
}

// SetStreamHandler implements host.Host.
func (r relayHost) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	r.membersHost.SetStreamHandler(id, func(s network.Stream) { f(&relayStream{Stream: s, r: r}) })
}

// NewStream implements host.Host.
func (r relayHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	s, err := r.membersHost.NewStream(ctx, p, ids...)
	if err != nil {
		return nil, err
	}
	return &relayStream{Stream: s, r: r}, nil
}

type relayStream struct {
	network.Stream
	r relayHost
}

// Write implements io.Writer.
func (s *relayStream) Write(p []byte) (int, error) {
	if !s.r.budget.take(len(p), time.Now()) {
		return 0, errRelayBudget
	}
	if err := s.r.h.up.pay(s.r.h.ctx, turn{peer: s.Conn().RemotePeer()}, len(p)); err != nil {
		return 0, err
	}
	n, err := s.Stream.Write(p)
	s.r.h.stats.relayed.Add(int64(n))
	return n, err
}
