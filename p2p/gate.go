package p2p

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// quarantine is how long a peer may stay that has not shown a certificate.
	quarantine = 5 * time.Second
	// maxQuarantined bounds the peers in quarantine at one time.
	maxQuarantined = 64
	// maxAsking is that where nodes of a DHT, which are nobody, ask this one.
	maxAsking = 256
)

// gate keeps strangers apart. libp2p's gater sees only a peer ID, so a peer
// that is not known yet is let in for a moment: admit, hello and identify
// answer it, every other handler waits for it to become known, and its
// connections are closed when the quarantine is over.
type gate struct {
	members *Membership
	log     interface{ Debug(string, ...any) }
	most    int // in quarantine; half of them from one network

	mu       sync.Mutex
	timers   map[network.Conn]*time.Timer // in quarantine
	passed   map[network.Conn]struct{}    // of members
	expected map[peer.ID]int              // peers that we are joining through
}

var (
	_ connmgr.ConnectionGater = (*gate)(nil)
	_ network.Notifiee        = (*gate)(nil)
)

func newGate(m *Membership, most int, log interface{ Debug(string, ...any) }) *gate {
	return &gate{members: m, log: log, most: most, timers: map[network.Conn]*time.Timer{}, passed: map[network.Conn]struct{}{}, expected: map[peer.ID]int{}}
}

// expect keeps connections to p until released, stranger or not.
func (g *gate) expect(p peer.ID) (release func()) {
	g.mu.Lock()
	g.expected[p]++
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.expected[p]--; g.expected[p] == 0 {
			delete(g.expected, p)
		}
	}
}

// Connected implements network.Notifiee.
func (g *gate) Connected(_ network.Network, c network.Conn) {
	p := c.RemotePeer()
	known := g.members.Admitted(p)
	crowd := known && g.members.Stranger(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if crowd {
		conns := 0
		for other := range g.passed {
			if other.RemotePeer() == p {
				conns++
			}
		}
		if conns >= maxStrangerConns {
			go c.Close()
			return
		}
	}
	if known {
		g.passed[c] = struct{}{}
		return
	}
	g.timers[c] = time.AfterFunc(quarantine, func() { g.over(c) })
}

// over ends a quarantine.
func (g *gate) over(c network.Conn) {
	p := c.RemotePeer()
	known := g.members.Admitted(p)
	g.mu.Lock()
	_, mine := g.timers[c]
	keep := known || g.expected[p] > 0
	if mine && g.expected[p] > 0 && !known {
		g.timers[c].Reset(quarantine) // look again
	} else {
		delete(g.timers, c)
		if mine && known {
			g.passed[c] = struct{}{}
		}
	}
	g.mu.Unlock()
	if mine && !keep {
		g.log.Debug("stranger closed after quarantine", "peer", p)
		c.Close()
	}
}

// Disconnected implements network.Notifiee.
func (g *gate) Disconnected(n network.Network, c network.Conn) {
	if p := c.RemotePeer(); n.Connectedness(p) != network.Connected {
		g.members.strangerGone(p)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.passed, c)
	if t, ok := g.timers[c]; ok {
		t.Stop()
		delete(g.timers, c)
	}
}

// Listen implements network.Notifiee.
func (g *gate) Listen(network.Network, ma.Multiaddr) {}

// ListenClose implements network.Notifiee.
func (g *gate) ListenClose(network.Network, ma.Multiaddr) {}

// sweep closes the connections of peers that were let in and may not be here any
// more: revoked, their certificate ended, or the farm is closed to strangers.
func (g *gate) sweep() {
	g.mu.Lock()
	all := slices.Collect(maps.Keys(g.passed))
	g.mu.Unlock()
	for _, c := range all {
		if p := c.RemotePeer(); !g.members.Admitted(p) {
			g.log.Debug("connection of somebody who was let in closed", "peer", p)
			c.Close()
		}
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c, t := range g.timers {
		t.Stop()
		delete(g.timers, c)
	}
}

// InterceptPeerDial implements connmgr.ConnectionGater.
func (g *gate) InterceptPeerDial(peer.ID) bool { return true }

// InterceptAddrDial implements connmgr.ConnectionGater.
func (g *gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept implements connmgr.ConnectionGater.
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured refuses peers that are not known while too many of them are
// here, of all networks or of one at a public address. Members always come in.
func (g *gate) InterceptSecured(d network.Direction, p peer.ID, at network.ConnMultiaddrs) bool {
	if d == network.DirOutbound || g.members.Known(p) {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.timers) >= g.most {
		return false
	}
	if !manet.IsPublicAddr(at.RemoteMultiaddr()) {
		return true // a studio's machines come together
	}
	net, near := networkOf(at.RemoteMultiaddr()), 0
	for c := range g.timers {
		if networkOf(c.RemoteMultiaddr()) == net {
			near++
		}
	}
	return near < g.most/2
}

// InterceptUpgraded implements connmgr.ConnectionGater.
func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// membersHost is a host on which others than members do not exist: streams from
// and to a peer wait for it to become known, at most for the quarantine.
type membersHost struct {
	host.Host
	members   *Membership
	refused   func()
	strangers bool // those that were let in are here, too
}

func (h membersHost) guard(next network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		ctx, cancel := context.WithTimeout(context.Background(), quarantine)
		defer cancel()
		if !h.members.await(ctx, s.Conn().RemotePeer(), h.strangers) {
			h.refused()
			s.Reset()
			return
		}
		next(s)
	}
}

// SetStreamHandler implements host.Host.
func (h membersHost) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	h.Host.SetStreamHandler(id, h.guard(f))
}

// SetStreamHandlerMatch implements host.Host.
func (h membersHost) SetStreamHandlerMatch(id protocol.ID, m func(protocol.ID) bool, f network.StreamHandler) {
	h.Host.SetStreamHandlerMatch(id, m, h.guard(f))
}

// NewStream implements host.Host.
func (h membersHost) NewStream(ctx context.Context, p peer.ID, ids ...protocol.ID) (network.Stream, error) {
	wait, cancel := context.WithTimeout(ctx, quarantine)
	defer cancel()
	if !h.members.await(wait, p, h.strangers) {
		return nil, ErrNotMember
	}
	return h.Host.NewStream(ctx, p, ids...)
}
