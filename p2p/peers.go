package p2p

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	pingEvery = 15 * time.Second
	pingTime  = 10 * time.Second
)

// Peer is a member as this node sees it now.
type Peer struct {
	Member
	Connected bool
	Path      string        // "direct tcp", "direct quic", "relayed"; empty: not connected
	Addr      string        // the other end of the connection
	RTT       time.Duration // smoothed; 0: not measured yet
}

// Peers lists every member, this node included, with its connection.
func (h *Host) Peers() []Peer {
	var out []Peer
	for _, m := range h.members.Members() {
		v := Peer{Member: m}
		if c := best(h.host.Network().ConnsToPeer(m.Peer)); c != nil {
			v.Connected, v.Addr, v.Path = true, c.RemoteMultiaddr().String(), path(c)
			v.RTT = h.host.Peerstore().LatencyEWMA(m.Peer)
		}
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
		if l, m := a.Stat().Limited, b.Stat().Limited; l != m {
			if l {
				return 1
			}
			return -1
		}
		return a.Stat().Opened.Compare(b.Stat().Opened)
	})
}

func path(c network.Conn) string {
	a := c.RemoteMultiaddr()
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return "relayed"
	}
	if strings.Contains(a.String(), "/quic") {
		return "direct quic"
	}
	if _, err := a.ValueForProtocol(ma.P_TCP); err == nil {
		return "direct tcp"
	}
	return "direct"
}

// servePing answers the pings of members.
func (h *Host) servePing() { ping.NewPingService(h.guarded) }

// Ping measures the round trip to a connected member.
func (h *Host) Ping(ctx context.Context, p peer.ID) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	select {
	case r := <-ping.Ping(ctx, h.guarded, p):
		return r.RTT, r.Error
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// pingAll measures every connected member, for Peers.
func (h *Host) pingAll() {
	for _, p := range h.host.Network().Peers() {
		if !h.members.Known(p) {
			continue
		}
		h.goRun(func(ctx context.Context) {
			if _, err := h.Ping(network.WithNoDial(ctx, "ping"), p); err != nil {
				h.log.Debug("no ping", "peer", p, "err", err)
			} else {
				h.members.seen(p, nil)
			}
		})
	}
}
