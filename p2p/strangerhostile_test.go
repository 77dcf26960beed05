package p2p

import (
	"bufio"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"idlewild/job"
	"idlewild/p2p/kad"
	"idlewild/p2p/wire"
)

// revokeMany has the farm's root put out so many peers of whom nobody knows a
// certificate, as after a flood of strangers.
func revokeMany(t *testing.T, owner *Host, n int) {
	t.Helper()
	m := owner.members
	m.mu.Lock()
	defer m.mu.Unlock()
	for range n {
		p, err := peer.IDFromPrivateKey(newKey(t))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Hour) // newer than what matters
		s, err := job.Sign(m.rootKey, job.ContextRevoke, Revocation{Version: 1, Farm: m.id, Peer: p.String(), At: at})
		if err != nil {
			t.Fatal(err)
		}
		m.revokeLocked(p, s, at)
	}
}

// TestHelloToAStrangerIsSmall: however many were put out of the farm. What one of
// them could pass itself off with comes first, and nothing twice.
func TestHelloToAStrangerIsSmall(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 3)
	owner, member, other := farm[0], farm[1], farm[2]
	if err := owner.Membership().Revoke(member.ID()); err != nil {
		t.Fatal(err)
	}
	revokeMany(t, owner, wire.MaxRevocations-1)
	d := owner.forStranger("nobody yet")
	if n := proto.Size(d); len(d.Revocations) != maxStrangerRevocations || n > maxStrangerHello {
		t.Errorf("%d revocations, %d bytes", len(d.Revocations), n)
	}
	if s, err := d.Revocations[0].Value(wire.MaxSignedBytes); err != nil {
		t.Fatal(err)
	} else if _, p, err := openRevocation(s, owner.members.rootID(), owner.members.FarmID()); err != nil || p != member.ID() {
		t.Errorf("the first one is of %s, %v", p, err)
	}

	s := stranger(t, text)
	knows := func(p peer.ID) bool {
		s.members.mu.Lock()
		defer s.members.mu.Unlock()
		_, ok := s.members.revoked[p]
		return ok
	}
	eventually(t, within, "the stranger knows of the member that was put out", func() bool { return hosts(owner, s) && knows(member.ID()) })
	eventually(t, within, "nothing is told twice", func() bool { return len(owner.forStranger(s.ID()).Revocations) == 0 })
	// What is new is told to those who are here.
	owner.members.mu.Lock()
	owner.members.revoked = map[peer.ID]revokedState{}
	owner.members.mu.Unlock()
	if err := owner.Membership().Revoke(other.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "it hears of the next one", func() bool { return knows(other.ID()) })
}

// guest is a libp2p host of ours to misbehave with, let in as a stranger.
func guest(t *testing.T, owner *Host) host.Host {
	t.Helper()
	o, _ := owner.Membership().Opening()
	h := newHost(t, "guest", func(c *Config) { c.MaxPeers = -1 })
	signed, err := h.certify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r := shows(t, h, owner, signed).GetRefusal(); r != nil {
		t.Fatal(r)
	}
	return h.host
}

func dialled(t *testing.T, from host.Host, to *Host) {
	t.Helper()
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

// cut waits until the other side ended a stream.
func cut(t *testing.T, s network.Stream) {
	t.Helper()
	ends := make(chan struct{})
	go func() {
		defer close(ends)
		b := make([]byte, 4096)
		for {
			if _, err := s.Read(b); err != nil {
				return
			}
		}
	}()
	select {
	case <-ends:
	case <-time.After(within):
		t.Error("the stream is still there")
	}
}

// TestHostileHellos: what peers that are nobody, and strangers that were let in, may
// send in a hello.
func TestHostileHellos(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 1)
	owner := farm[0]
	open := func(t *testing.T, h host.Host) network.Stream {
		s, err := h.NewStream(t.Context(), owner.ID(), idOf(ProtocolHello))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, b := range map[string][]byte{
		"oversize":    binary.AppendUvarint(nil, wire.MaxAdmitRequest+1),
		"huge":        binary.AppendUvarint(nil, 1<<40),
		"no protobuf": append(binary.AppendUvarint(nil, 3), 0xff, 0xff, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			h := bare(t, nil)
			dialled(t, h, owner)
			before := owner.Stats().Malformed
			s := open(t, h)
			if _, err := s.Write(b); err != nil {
				t.Fatal(err)
			}
			cut(t, s)
			if owner.Stats().Malformed == before || owner.Membership().Admitted(h.ID()) {
				t.Error("not noticed")
			}
		})
	}
	t.Run("slow loris", func(t *testing.T) {
		// Many streams that say half a word; meanwhile others come in.
		h := bare(t, nil)
		dialled(t, h, owner)
		var all []network.Stream
		for range 64 {
			s, err := h.NewStream(t.Context(), owner.ID(), idOf(ProtocolHello))
			if err != nil {
				break // that many are enough for one peer
			}
			if _, err := s.Write([]byte{0x80}); err == nil {
				all = append(all, s)
			}
		}
		s := stranger(t, text)
		eventually(t, within, "another one is let in", func() bool { return hosts(owner, s) })
		for _, s := range all {
			cut(t, s)
		}
		eventually(t, within, "the silent one is put out", func() bool { return owner.host.Network().Connectedness(h.ID()) != network.Connected })
	})
	t.Run("an oversize end", func(t *testing.T) {
		o, _ := owner.Membership().Opening()
		h := newHost(t, "guest", func(c *Config) { c.MaxPeers = -1 })
		signed, err := h.certify(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		dialled(t, h.host, owner)
		s := open(t, h.host)
		if _, err := wire.Write(s, &wire.Hello{Stranger: wire.FromSigned(signed), Capability: Capability}, wire.MaxAdmitRequest); err != nil {
			t.Fatal(err)
		}
		var answer wire.Hello
		r := bufio.NewReader(s)
		if _, err := wire.Read(r, &answer, wire.MaxHello); err != nil || answer.GetRefusal() != nil {
			t.Fatal(err, answer.GetRefusal())
		}
		if _, err := s.Write(binary.AppendUvarint(nil, maxStrangerHello+1)); err != nil {
			t.Fatal(err)
		}
		cut(t, s)
	})
	t.Run("an oversize answer", func(t *testing.T) {
		h := guest(t, owner)
		h.SetStreamHandler(idOf(ProtocolHello), func(s network.Stream) {
			defer s.Close()
			_, _ = s.Write(binary.AppendUvarint(nil, maxStrangerHello+1))
		})
		if err := owner.greet(t.Context(), h.ID()); !errors.Is(err, wire.ErrTooLarge) {
			t.Errorf("greeted: %v", err)
		}
	})
	t.Run("flood", func(t *testing.T) {
		o, _ := owner.Membership().Opening()
		h := newHost(t, "guest", func(c *Config) { c.MaxPeers = -1 })
		signed, err := h.certify(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		busy := 0
		for range 2 * strangerHellos {
			if shows(t, h, owner, signed).GetRefusal().GetCode() == wire.Refusal_BUSY {
				busy++
			}
		}
		if busy == 0 || !owner.Membership().Admitted(h.ID()) {
			t.Errorf("%d of its greetings are too many, it is still here: %v", busy, owner.Membership().Admitted(h.ID()))
		}
	})
}

// TestFloodOfTheDHT: peers that are nobody may ask a node that answers in the DHT,
// and are put out after the quarantine; members and strangers do not notice.
func TestFloodOfTheDHT(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 1, func(c *Config) { c.DHT, c.public, c.pace = true, true, fastDHT })
	owner := farm[0]
	eventually(t, within, "it answers in the DHT", func() bool { s, ok := owner.DHT(); return ok && s.Server })
	var all []network.Stream
	var crowd []host.Host
	for range 8 {
		h := bare(t, nil)
		dialled(t, h, owner)
		crowd = append(crowd, h)
		for i := range 32 {
			s, err := h.NewStream(t.Context(), owner.ID(), kad.Prefix(string(owner.Membership().FarmID()))+"/kad/1.0.0")
			if err != nil {
				break
			}
			b := []byte{0x10} // a message that does not come
			if i%2 == 1 {
				b = binary.AppendUvarint(nil, 4<<20-1)
			}
			if _, err := s.Write(b); err == nil {
				all = append(all, s)
			}
		}
	}
	s := stranger(t, text)
	eventually(t, within, "a stranger is let in", func() bool { return hosts(owner, s) })
	for _, s := range all {
		cut(t, s)
	}
	for _, h := range crowd {
		eventually(t, within, "it is put out", func() bool { return owner.host.Network().Connectedness(h.ID()) != network.Connected })
	}
}

// FuzzOpening: whatever the body says, it is signed here: form alone is tried.
func FuzzOpening(f *testing.F) {
	key := newKey(f)
	root, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	farm := farmIDOf(root)
	s, err := job.Sign(key, job.ContextOpening, Opening{Version: 1, Farm: farm, Name: "f", Root: []byte(root), Epoch: 1, Difficulty: MinDifficulty, Expires: time.Unix(1e9, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		sig, err := key.Sign(append([]byte(job.ContextOpening), body...))
		if err != nil {
			t.Fatal(err)
		}
		o, err := openOpening(job.Signed{Body: body, Sig: sig}, root, farm)
		if err == nil && (o.Farm != farm || o.Epoch == 0 || o.Difficulty < MinDifficulty || o.Difficulty > MaxDifficulty || checkName(o.Name) != nil || o.Turn < 0) {
			t.Fatalf("accepted %+v", o)
		}
	})
}

// FuzzStrangersHello: what a stranger says of itself makes it no member, and fills
// nothing.
func FuzzStrangersHello(f *testing.F) {
	owner := newHost(f, "owner", takes)
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		f.Fatal(err)
	}
	if _, err := owner.Membership().Open(time.Hour, MinDifficulty); err != nil {
		f.Fatal(err)
	}
	o, _ := owner.Membership().Opening()
	h := newHost(f, "guest")
	signed, err := h.certify(f.Context(), o)
	if err != nil {
		f.Fatal(err)
	}
	var pass Pass
	if err := signed.Open(h.ID(), job.ContextStranger, wire.MaxSignedBytes, &pass); err != nil {
		f.Fatal(err)
	}
	if r := owner.members.letIn(h.ID(), pass, networkOf(h.host.Addrs()[0]), time.Now()); r != nil {
		f.Fatal(r)
	}
	said := &wire.Details{Addrs: addrBytes(h.addrs()), Opening: owner.members.openingSigned(), Strangers: true}
	said.Offers = append(said.Offers, wire.FromOffer(offer(h)))
	for _, v := range []*wire.Hello{{Stranger: wire.FromSigned(signed), Capability: Capability}, {Details: said}, {Certificates: owner.members.certificates(), Details: owner.details(h.ID())}} {
		b, err := proto.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v wire.Hello
		if len(b) > maxStrangerHello || proto.Unmarshal(b, &v) != nil {
			return
		}
		owner.meet(h.ID(), &v)
		if owner.members.Known(h.ID()) || len(owner.members.Members()) != 1 {
			t.Fatal("it counts as a member")
		}
		_ = owner.members.letIn(h.ID(), pass, networkOf(h.host.Addrs()[0]), time.Now()) // a pass of its own outdates it
		owner.hear(h.ID(), v.GetDetails())
		owner.members.mu.Lock()
		defer owner.members.mu.Unlock()
		if len(owner.members.members) != 1 || len(owner.members.revoked) > 0 || len(owner.members.strangers) != 1 || owner.members.opening.Epoch != o.Epoch {
			t.Fatal("it changed what the farm is")
		}
		if n := len(owner.members.strangers[h.ID()].addrs); n > wire.MaxAddrs {
			t.Fatalf("%d addresses", n)
		}
		owner.offers.mu.Lock()
		defer owner.offers.mu.Unlock()
		if n := owner.offers.count[h.ID()]; n > maxStrangerOffers {
			t.Fatalf("%d offers", n)
		}
	})
}
