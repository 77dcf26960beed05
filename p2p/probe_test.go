package p2p

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func TestMeasure(t *testing.T) {
	t.Parallel() // a stranger waits for its answer
	farm := newFarm(t, 2)
	m, err := farm[0].Measure(t.Context(), farm[1].ID(), true)
	if err != nil {
		t.Fatal(err)
	}
	// One machine, one clock: off by what the answer took at most.
	if m.RTT <= 0 || m.Clock.Abs() > m.RTT || m.Up <= 0 || m.Down <= 0 || m.Description != "" {
		t.Errorf("%+v", m)
	}
	if m, err := farm[0].Measure(t.Context(), farm[1].ID(), false); err != nil || m.Up != 0 {
		t.Errorf("%+v, %v", m, err)
	}
	stranger := newHost(t, "stranger")
	if _, err := stranger.Measure(t.Context(), farm[1].ID(), false); err == nil {
		t.Error("a stranger was answered")
	}
}

func TestProbeBounds(t *testing.T) {
	farm := newFarm(t, 2)
	for _, q := range [][]byte{
		binary.BigEndian.AppendUint64([]byte{'d'}, maxProbeBytes+1),
		binary.BigEndian.AppendUint64([]byte{'u'}, 1<<63),
		binary.BigEndian.AppendUint64([]byte{'x'}, 1),
	} {
		s, err := farm[0].guarded.NewStream(t.Context(), farm[1].ID(), idOf(ProtocolProbe))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(q); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, s); n != 0 || err == nil {
			t.Errorf("%q: %d bytes, %v", q, n, err)
		}
	}
	if got := farm[1].Stats().Malformed; got != 3 {
		t.Errorf("%d malformed", got)
	}
}

func addr(t *testing.T, s string) ma.Multiaddr {
	t.Helper()
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNATKind(t *testing.T) {
	own := []ma.Multiaddr{addr(t, "/ip4/192.168.1.2/udp/4001/quic-v1"), addr(t, "/ip4/11.9.9.9/udp/4001/quic-v1")}
	type seen struct {
		by, at string
		port   bool
	}
	for name, c := range map[string]struct {
		seen []seen
		want NAT
	}{
		"nobody sees us":        {nil, NATUnknown},
		"one does":              {[]seen{{"a", "/ip4/11.0.0.1/udp/4001/quic-v1", true}}, NATUnknown},
		"two see one port":      {[]seen{{"a", "/ip4/11.0.0.1/udp/4001/quic-v1", true}, {"b", "/ip4/11.0.0.1/udp/4001/quic-v1", true}}, NATCone},
		"two see two":           {[]seen{{"a", "/ip4/11.0.0.1/udp/4001/quic-v1", true}, {"b", "/ip4/11.0.0.1/udp/4002/quic-v1", true}}, NATSymmetric},
		"of TCP any port":       {[]seen{{"a", "/ip4/11.0.0.1/tcp/4001", true}, {"b", "/ip4/11.0.0.1/tcp/4002", true}}, NATUnknown},
		"another port of ours":  {[]seen{{"a", "/ip4/11.0.0.1/udp/4001/quic-v1", true}, {"b", "/ip4/11.0.0.1/udp/9/quic-v1", false}}, NATCone},
		"neighbours see little": {[]seen{{"a", "/ip4/192.168.1.2/udp/4001/quic-v1", true}, {"b", "/ip4/192.168.1.2/udp/4001/quic-v1", true}}, NATUnknown},
		"our own address":       {[]seen{{"a", "/ip4/11.9.9.9/udp/4001/quic-v1", true}}, NATNone},
	} {
		p := newPaths()
		for _, s := range c.seen {
			p.see(peer.ID(s.by), addr(t, s.at), s.port)
		}
		if got, _ := p.natKind(own); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Anybody who connects may say where it sees us, and members dial what comes of
// it: only members' words count.
func TestWhereOthersSeeUsIsTheMembersWord(t *testing.T) {
	p := newPaths()
	member := false
	p.member = func(id peer.ID) bool { return id == "a" && member }
	for _, by := range []peer.ID{"a", "outsider"} {
		p.see(by, addr(t, "/ip4/11.0.0.1/udp/4001/quic-v1"), true)
	}
	if got := p.seen(); len(got) != 0 {
		t.Errorf("%v by the word of outsiders", got)
	}
	member = true // it showed its certificate after it was identified
	p.see("outsider", addr(t, "/ip4/11.0.0.66/udp/53/quic-v1"), true)
	if got := p.seen(); len(got) != 1 || got[0].String() != "/ip4/11.0.0.1/udp/4001/quic-v1" {
		t.Errorf("seen at %v", got)
	}
	if kind, at := p.natKind(nil); kind != NATUnknown || len(at) != 1 {
		t.Errorf("%s, seen at %v", kind, at)
	}
}

// TestWakeDialsAtOnce: the pauses of before count no more.
func TestWakeDialsAtOnce(t *testing.T) {
	farm := newFarm(t, 2)
	eventually(t, within, "connected", func() bool { return connected(farm[1], farm[0].ID()) })
	k := farm[1].keeper
	k.mu.Lock()
	s := k.stateLocked(farm[0].ID())
	s.failures, s.next = 7, time.Now().Add(time.Hour)
	k.mu.Unlock()
	farm[1].afresh(interfaceAddrs(), false)
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.dials[farm[0].ID()]; s.failures != 0 || !s.next.IsZero() {
		t.Errorf("%+v", s)
	}
	if !connected(farm[1], farm[0].ID()) {
		t.Error("a connection that works was closed")
	}
}
