package p2p

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	pingEvery   = time.Minute     // of every member; yamux and QUIC ask by themselves after half a minute of silence
	pingEngaged = 5 * time.Second // of those with a job
	pingTime    = 10 * time.Second
	// maxUnanswered pings in a row are a dead connection: after a cut, TCP may
	// wait for as long as the cut lasted before it tries again.
	maxUnanswered = 2
)

// Peer is a member as this node sees it now.
type Peer struct {
	Member
	Connected bool
	Path      Path          // how; empty: not connected
	Transport string        // "tcp", "quic"
	Via       peer.ID       // the relay
	PunchTook time.Duration // from the relayed connection to the direct one; 0: there was none
	PunchFail string        // why the last hole punch failed
	Trouble   string        // why it is not connected
	Agent     string        // program and version of a connected one, by its word
	// Apart says why this machine and the member do not work together: one of the
	// programs is too old. Empty: they do, as far as is known.
	Apart string
	// Capability that the member told of; 0: not heard yet.
	Capability uint32
	Addr       string        // the other end of the connection
	RTT        time.Duration // smoothed; 0: not measured yet
}

// Peers lists every member, this node included, with its connection.
func (h *Host) Peers() []Peer { return h.peers(h.members.Members()) }

// Strangers lists those that were let in and are here, with their connections.
func (h *Host) Strangers() []Peer { return h.peers(h.members.Strangers()) }

func (h *Host) peers(all []Member) []Peer {
	var out []Peer
	for _, m := range all {
		v := Peer{Member: m}
		if c := best(h.host.Network().ConnsToPeer(m.Peer)); c != nil {
			v.Connected, v.Addr = true, c.RemoteMultiaddr().String()
			s := h.paths.state(m.Peer)
			v.Path, v.Transport, v.Via = path(c, s.punched), transport(c), via(c)
			v.PunchTook, v.PunchFail = s.took, s.failed
			v.RTT = h.host.Peerstore().LatencyEWMA(m.Peer)
			if a, err := h.host.Peerstore().Get(m.Peer, "AgentVersion"); err == nil {
				v.Agent, _ = a.(string)
			}
			h.mu.Lock()
			v.Capability = h.abilities[m.Peer]
			h.mu.Unlock()
		} else if !m.Self {
			v.Trouble = h.keeper.trouble(m.Peer)
		}
		v.Apart = h.skews.text(m.Peer)
		out = append(out, v)
	}
	return out
}

// best is the connection over which streams go: direct before relayed, and
// the older one of two.
func best(conns []network.Conn) network.Conn {
	if len(conns) == 0 {
		return nil
	}
	return slices.MinFunc(conns, func(a, b network.Conn) int {
		if l, m := relayed(a), relayed(b); l != m {
			if l {
				return 1
			}
			return -1
		}
		return a.Stat().Opened.Compare(b.Stat().Opened)
	})
}

// Path is how a member is reached.
type Path string

// Paths, best first.
const (
	PathHost    Path = "same machine"
	PathLAN     Path = "LAN"     // at a private address
	PathDirect  Path = "direct"  // at a public address
	PathPunched Path = "punched" // through a hole in one router or two
	PathRelayed Path = "relayed" // by way of another member
)

func path(c network.Conn, punched bool) Path {
	a := c.RemoteMultiaddr()
	switch {
	case relayed(c):
		return PathRelayed
	case punched:
		return PathPunched
	case manet.IsIPLoopback(a):
		return PathHost
	case manet.IsPrivateAddr(a):
		return PathLAN
	}
	return PathDirect
}

func transport(c network.Conn) string {
	a := c.RemoteMultiaddr()
	if _, err := a.ValueForProtocol(ma.P_QUIC_V1); err == nil {
		return "quic"
	}
	if _, err := a.ValueForProtocol(ma.P_TCP); err == nil {
		return "tcp"
	}
	return ""
}

// via is the relay of a relayed connection.
func via(c network.Conn) peer.ID {
	if !relayed(c) {
		return ""
	}
	v, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_P2P)
	if err != nil {
		return ""
	}
	id, err := peer.Decode(v)
	if err != nil {
		return ""
	}
	return id
}

// servePing answers the pings of members.
func (h *Host) servePing() { ping.NewPingService(h.shared) }

// Ping measures the round trip to a connected member.
func (h *Host) Ping(ctx context.Context, p peer.ID) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	select {
	case r := <-ping.Ping(ctx, h.shared, p):
		return r.RTT, r.Error
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// pingAll measures the connected members, or those with a job and those that
// were not measured yet, for Peers. A connection that does not answer is closed.
func (h *Host) pingAll(all bool) {
	for _, p := range h.host.Network().Peers() {
		if !h.members.Admitted(p) || !all && !h.isEngaged(p) && h.host.Peerstore().LatencyEWMA(p) > 0 {
			continue
		}
		h.goRun(func(ctx context.Context) {
			if h.isEngaged(p) {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, pingEngaged)
				defer cancel()
			}
			if _, err := h.Ping(network.WithNoDial(ctx, "ping"), p); err != nil {
				h.log.Debug("no ping", "peer", p, "err", err)
				if errors.Is(err, context.DeadlineExceeded) && h.keeper.unanswered(p) >= maxUnanswered {
					_ = h.host.Network().ClosePeer(p)
				}
			} else {
				h.keeper.answered(p)
				h.members.seen(p, nil)
			}
		})
	}
}
