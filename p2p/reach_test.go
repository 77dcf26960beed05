package p2p

import (
	"net"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"idlewild/p2p/kad"
)

// nobodyThere is an address that takes a connection and closes it: a router that
// does not pass the port on.
func nobodyThere(t *testing.T) ma.Multiaddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	a, err := manet.FromNetAddr(l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestOnlyWhoIsReachedAnswersInTheDHT: a member dials back by AutoNATv2, and what
// comes of that decides whether a node answers in the farm's DHT or only asks. That
// others say they dial back is nothing to a node.
func TestOnlyWhoIsReachedAnswersInTheDHT(t *testing.T) {
	t.Parallel()
	boots, serve := bootstraps(t)
	at := func(addrs *atomic.Pointer[[]ma.Multiaddr]) func(*Config) {
		return func(c *Config) {
			c.Traverse, c.DHT, c.Bootstraps, c.pace = true, true, boots, fastDHT
			c.outside = func() []ma.Multiaddr {
				if v := addrs.Load(); v != nil {
					return append([]ma.Multiaddr(nil), *v...)
				}
				return nil
			}
		}
	}
	farm, _ := openFarm(t, 1, at(&atomic.Pointer[[]ma.Multiaddr]{}))
	owner := farm[0]
	serve(owner.Membership().FarmID())
	asked := atomic.Int64{}
	answers := func(h *Host) bool {
		c := bare(t, nil)
		if err := c.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.host.Addrs()}); err != nil {
			t.Fatal(err)
		}
		s, err := c.NewStream(t.Context(), h.ID(), kad.Prefix(string(owner.Membership().FarmID()))+"/kad/1.0.0")
		if err != nil {
			return false
		}
		s.Reset()
		return true
	}
	for name, c := range map[string]struct {
		addrs func(h *Host) []ma.Multiaddr
		want  bool
	}{
		"reached":     {func(h *Host) []ma.Multiaddr { return h.host.Addrs()[:1] }, true},
		"not reached": {func(*Host) []ma.Multiaddr { return []ma.Multiaddr{nobodyThere(t)} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var addrs atomic.Pointer[[]ma.Multiaddr]
			h := newHost(t, "member", takes, at(&addrs))
			joinFarm(t, owner, h)
			if h.isPublic() {
				t.Error("it counts as reachable before anybody dialled")
			}
			v := c.addrs(h)
			addrs.Store(&v)
			// One who is no member and would say yes to everything.
			liar := bare(t, nil)
			liar.SetStreamHandler(autonatv2.DialProtocol, func(s network.Stream) { asked.Add(1); s.Reset() })
			if err := liar.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.host.Addrs()}); err != nil {
				t.Fatal(err)
			}
			eventually(t, within, "it knows that the liar dials for others", func() bool { return speaks(h.host, liar.ID(), autonatv2.DialProtocol) })
			eventually(t, within, "a verdict", func() bool {
				h.reach.check(t.Context())
				open, shut := h.reach.known()
				return len(open)+len(shut) > 0
			})
			if got := h.isPublic(); got != c.want {
				t.Errorf("it counts as reachable: %v", got)
			}
			h.lookDHT()
			eventually(t, within, "its part in the DHT", func() bool {
				s, ok := h.DHT()
				return ok && s.Nodes > 0 && s.Server == c.want
			})
			if got := answers(h); got != c.want {
				t.Errorf("it answers in the DHT: %v", got)
			}
		})
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("somebody who is no member was asked %d times", n)
	}
}

func speaks(h host.Host, p peer.ID, id string) bool {
	got, err := h.Peerstore().SupportsProtocols(p, protoID(id))
	return err == nil && len(got) > 0
}
