package p2p

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// What dials for others reaches a host over TCP and over QUIC, opens a stream
// there, and may be closed twice.
func TestTheDialerDials(t *testing.T) {
	const id = protocol.ID("/idlewild/test-dialled/1.0.0")
	h := newHost(t, "dialled", func(c *Config) {
		c.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	})
	came := make(chan peer.ID, 2)
	h.host.SetStreamHandler(id, func(s network.Stream) {
		came <- s.Conn().RemotePeer()
		s.Close()
	})
	for _, a := range h.host.Network().ListenAddresses() {
		d, err := newDialer(h.host.Network().ResourceManager())
		if err != nil {
			t.Fatal(err)
		}
		if d.ID() == h.ID() {
			t.Error("it dials under the identity of its host")
		}
		if err := d.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: []ma.Multiaddr{a}}); err != nil {
			t.Fatalf("%v: %v", a, err)
		}
		s, err := d.NewStream(t.Context(), h.ID(), id)
		if err != nil {
			t.Fatalf("%v: %v", a, err)
		}
		if p := <-came; p != d.ID() {
			t.Errorf("%v came from %v, not %v", a, p, d.ID())
		}
		s.Close()
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if n := len(h.host.Network().ListenAddresses()); n != 2 {
		t.Errorf("%d ways were tried", n)
	}
}
