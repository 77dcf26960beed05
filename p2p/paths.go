package p2p

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// settleTime is how long a relayed connection stays beside a direct one: what
// is being said over it is said.
const settleTime = 2 * time.Second

// paths remembers how members came to be connected, and where they see us.
type paths struct {
	mu       sync.Mutex
	peers    map[peer.ID]*pathState
	observed map[peer.ID]map[string]observation // by whom, by transport
	member   func(peer.ID) bool                 // nil: everybody is one
}

// observation is how a member sees one of our connections.
type observation struct {
	addr ma.Multiaddr
	port bool // the connection has a port on which we listen
}

type pathState struct {
	relayedAt time.Time     // when the relayed connection came up; zero: there was none
	punched   bool          // the direct connection was made by hole punching
	took      time.Duration // from the relayed connection to the direct one
	failed    string        // why the last hole punch failed
}

func newPaths() *paths {
	return &paths{peers: map[peer.ID]*pathState{}, observed: map[peer.ID]map[string]observation{}}
}

func (p *paths) stateLocked(id peer.ID) *pathState {
	s, ok := p.peers[id]
	if !ok {
		s = &pathState{}
		p.peers[id] = s
	}
	return s
}

// connected notes a new connection; true: it is the direct one after a relayed.
func (p *paths) connected(c network.Conn, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stateLocked(c.RemotePeer())
	if relayed(c) {
		if s.relayedAt.IsZero() {
			s.relayedAt, s.took = now, 0
		}
		return false
	}
	if s.relayedAt.IsZero() {
		return false
	}
	s.took, s.relayedAt = now.Sub(s.relayedAt), time.Time{}
	return true
}

// gone forgets a peer that is not connected any more.
func (p *paths) gone(id peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.peers, id)
	delete(p.observed, id)
}

func (p *paths) punched(id peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.peers[id]
	return ok && s.punched
}

func (p *paths) state(id peer.ID) pathState {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.peers[id]; ok {
		return *s
	}
	return pathState{}
}

// Trace implements holepunch.EventTracer.
func (p *paths) Trace(e *holepunch.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch v := e.Evt.(type) {
	case *holepunch.EndHolePunchEvt:
		s := p.stateLocked(e.Remote)
		s.punched, s.failed = v.Success, v.Error
	case *holepunch.ProtocolErrorEvt:
		p.stateLocked(e.Remote).failed = v.Error
	}
}

// observe follows what members say of where they see us.
func (h *Host) observe(ctx context.Context) {
	sub, err := h.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.Name("paths"))
	if err != nil {
		h.log.Error("addresses are not observed", "err", err)
		return
	}
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-sub.Out():
			if !ok {
				return
			}
			v := e.(event.EvtPeerIdentificationCompleted)
			if v.ObservedAddr != nil && !relayed(v.Conn) && !v.Conn.IsClosed() {
				h.paths.see(v.Peer, v.ObservedAddr, h.listens(v.Conn.LocalMultiaddr()))
				h.puncher.ready()
			}
			h.reserver.wake() // it may be a relay
		}
	}
}

func (p *paths) see(by peer.ID, a ma.Multiaddr, port bool) {
	kind := "tcp"
	if _, err := a.ValueForProtocol(ma.P_UDP); err == nil {
		kind = "udp"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.observed[by] == nil {
		p.observed[by] = map[string]observation{}
	}
	p.observed[by][kind] = observation{a, port}
}

// listens reports whether a has a port on which this node listens.
func (h *Host) listens(a ma.Multiaddr) bool {
	for _, code := range []int{ma.P_TCP, ma.P_UDP} {
		port, err := a.ValueForProtocol(code)
		if err != nil {
			continue
		}
		for _, l := range h.host.Network().ListenAddresses() {
			if p, err := l.ValueForProtocol(code); err == nil && p == port {
				return true
			}
		}
	}
	return false
}

// told is what members say of where they see us. What others say is none of it:
// members dial the addresses that come of it. mu is held.
func (p *paths) told() (out []map[string]observation) {
	for by, what := range p.observed {
		if p.member == nil || p.member(by) {
			out = append(out, what)
		}
	}
	return out
}

// seen are the public addresses at which members see ports where we listen.
func (p *paths) seen() []ma.Multiaddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []ma.Multiaddr
	for _, by := range p.told() {
		for _, o := range by {
			if o.port && manet.IsPublicAddr(o.addr) {
				out = append(out, o.addr)
			}
		}
	}
	return out
}

// NAT is what stands between this machine and the members that it knows.
type NAT string

// Kinds of NAT.
const (
	NATUnknown   NAT = "unknown"   // fewer than two members outside see this machine
	NATNone      NAT = "none"      // this machine has the address at which others see it
	NATCone      NAT = "cone"      // one public port for everybody: holes can be punched
	NATSymmetric NAT = "symmetric" // another public port for each: only relays help
)

// natKind judges by what members outside see. own are this machine's addresses.
func (p *paths) natKind(own []ma.Multiaddr) (NAT, []ma.Multiaddr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[string]ma.Multiaddr{}
	quic := map[string]bool{}
	observers := 0
	for _, by := range p.told() {
		counted := false
		for kind, o := range by {
			a := o.addr
			if !manet.IsPublicAddr(a) {
				continue
			}
			seen[a.String()] = a
			counted = true
			if kind == "udp" && o.port {
				quic[a.String()] = true
			}
		}
		if counted {
			observers++
		}
	}
	var out []ma.Multiaddr
	mine := map[string]bool{}
	for _, a := range own {
		if ip, err := manet.ToIP(a); err == nil {
			mine[ip.String()] = true
		}
	}
	direct := false
	for _, a := range seen {
		out = append(out, a)
		if ip, err := manet.ToIP(a); err == nil && mine[ip.String()] {
			direct = true
		}
	}
	switch {
	case direct:
		return NATNone, out
	case observers < 2 || len(quic) == 0:
		return NATUnknown, out
	case len(quic) == 1:
		return NATCone, out
	}
	return NATSymmetric, out
}
