package p2p

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

func TestRelayBudget(t *testing.T) {
	start := time.Now()
	b := newRelayBudget(2400, start)
	for _, c := range []struct {
		after time.Duration
		take  int
		ok    bool
		some  bool // afterwards
	}{
		{0, 2000, true, true},
		{0, 401, false, true}, // what is refused costs nothing
		{0, 400, true, false},
		{time.Hour, 100, true, false}, // a day's bytes in a day
		{time.Hour, 1, false, false},
		{1000 * time.Hour, 2400, true, false}, // and never more
		{1000 * time.Hour, 1, false, false},
		{999 * time.Hour, 0, true, false}, // a clock that goes back gives nothing
	} {
		at := start.Add(c.after)
		if got := b.take(c.take, at); got != c.ok {
			t.Errorf("after %v: %d bytes: %v", c.after, c.take, got)
		}
		if got := b.some(at); got != c.some {
			t.Errorf("after %v and %d bytes: some left: %v", c.after, c.take, got)
		}
	}
}

// relayFarm is a farm whose owner relays so many bytes in a day, and two
// members that know no other way to each other.
func relayFarm(t *testing.T, bytes int64) (relay, a, b *Host, way ma.Multiaddr) {
	t.Helper()
	relay = newHost(t, "relay", func(c *Config) { c.Traverse, c.RelayBytes = true, bytes })
	if _, err := relay.Membership().CreateFarm("farm"); err != nil {
		t.Fatal(err)
	}
	for _, h := range []**Host{&a, &b} {
		*h = newHost(t, "member", func(c *Config) { c.Traverse, c.MaxPeers = true, -1 }) // it dials nobody by itself
		joinFarm(t, relay, *h)
	}
	if _, err := client.Reserve(t.Context(), b.guarded, peer.AddrInfo{ID: relay.ID()}); err != nil {
		t.Fatal(err)
	}
	way, err := circuit(relay.ID())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Host{a, b} {
		other := a.ID()
		if h == a {
			other = b.ID()
		}
		_ = h.host.Network().ClosePeer(other)
		h.host.Peerstore().ClearAddrs(other)
	}
	return relay, a, b, way
}

func TestRelayCarriesMembers(t *testing.T) {
	t.Parallel()
	relay, a, b, way := relayFarm(t, 1<<30)
	if err := a.host.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{way}}); err != nil {
		t.Fatal(err)
	}
	if err := a.hello(t.Context(), b.ID()); err != nil {
		t.Fatal("hello over the relay:", err)
	}
	found := false
	for _, p := range a.Peers() {
		if p.Peer == b.ID() {
			found = true
			if p.Path != PathRelayed || p.Via != relay.ID() {
				t.Errorf("path %q via %s", p.Path, p.Via)
			}
		}
	}
	if !found {
		t.Error("the member is not listed")
	}
	// More than libp2p's own limit for a circuit, both ways.
	m, err := a.Measure(t.Context(), b.ID(), true)
	if err != nil || m.Up <= 0 || m.Down <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if relay.Stats().Relayed < 128<<10 {
		t.Errorf("relayed %d bytes", relay.Stats().Relayed)
	}
	// A direct connection makes the relayed one superfluous.
	c := a.host.Network().ConnsToPeer(b.ID())[0]
	direct := network.WithForceDirectDial(t.Context(), "test")
	if err := a.host.Connect(direct, peer.AddrInfo{ID: b.ID(), Addrs: b.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "the relayed connection is closed", c.IsClosed)
	for _, p := range a.Peers() {
		if p.Peer == b.ID() && p.Path != PathHost {
			t.Errorf("path %q", p.Path)
		}
	}
}

func TestRelayEndsWithItsBudget(t *testing.T) {
	relay, a, b, way := relayFarm(t, 100<<10)
	if err := a.host.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{way}}); err != nil {
		t.Fatal(err)
	}
	if err := a.hello(t.Context(), b.ID()); err != nil {
		t.Fatal(err)
	}
	if m, err := a.Measure(t.Context(), b.ID(), true); err == nil && m.Description == "" {
		t.Errorf("%d bytes passed a relay of 100 KiB: %+v", relay.Stats().Relayed, m)
	}
	if got := relay.Stats().Relayed; got > 100<<10 {
		t.Errorf("relayed %d bytes", got)
	}
}

func TestRelayIsForMembers(t *testing.T) {
	t.Parallel() // a stranger waits for its answer
	relay, _, b, way := relayFarm(t, 1<<30)
	stranger := newHost(t, "stranger", func(c *Config) { c.Traverse = true })
	if err := stranger.host.Connect(t.Context(), peer.AddrInfo{ID: relay.ID(), Addrs: relay.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), stranger.host, peer.AddrInfo{ID: relay.ID()}); err == nil {
		t.Error("a stranger has a reservation")
	}
	if err := stranger.host.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{way}}); err == nil {
		t.Error("a stranger passed the relay")
	}
	acl := relayACL{relay.members, newRelayBudget(1, time.Now())}
	if acl.AllowReserve(stranger.ID(), nil) || acl.AllowConnect(stranger.ID(), nil, b.ID()) || acl.AllowConnect(b.ID(), nil, stranger.ID()) {
		t.Error("a stranger may")
	}
	if !acl.AllowReserve(b.ID(), nil) {
		t.Error("a member may not")
	}
}
