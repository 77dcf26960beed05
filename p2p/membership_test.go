package p2p

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"idlewild/job"
	"idlewild/p2p/wire"
)

func TestJoinByTicket(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 3)
	for _, h := range farm {
		f, ok := h.Membership().Farm()
		if !ok || f.Name != "test farm" || f.ID != farm[0].Membership().FarmID() {
			t.Fatalf("farm %+v %v", f, ok)
		}
		if f.Owner != (h == farm[0]) {
			t.Errorf("owner %v", f.Owner)
		}
		// The second and third member meet through the owner.
		eventually(t, within, "everybody connected to everybody", func() bool {
			n := 0
			for _, p := range h.Peers() {
				if p.Connected || p.Self {
					n++
				}
			}
			return n == 3
		})
	}
	var names []string
	for _, m := range farm[1].Membership().Members() {
		names = append(names, m.Name)
	}
	if got := strings.Join(names, " "); got != "member member-2 owner" {
		t.Errorf("names %q", got)
	}
	for _, p := range farm[0].Peers() {
		if !p.Self && p.Transport != "tcp" { // QUIC is there too, and slower here
			t.Errorf("path %q of %s", p.Path, p.Addr)
		}
	}
	if rtt, err := farm[0].Ping(t.Context(), farm[1].ID()); err != nil || rtt <= 0 {
		t.Errorf("ping %v %v", rtt, err)
	}
}

func TestTicketIsUsedOnce(t *testing.T) {
	owner := newFarm(t, 1)[0]
	ticket, err := owner.Membership().Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	first := newHost(t, "first")
	if _, err := first.Membership().Join(t.Context(), ticket); err != nil {
		t.Fatal(err)
	}
	if _, err := newHost(t, "second").Membership().Join(t.Context(), ticket); !errors.Is(err, ErrTicketUsed) {
		t.Errorf("second use: %v", err)
	}
	// The peer that used it may ask again, should its answer have been lost.
	again := newHost(t, "again", func(c *Config) { c.Key = first.cfg.Key })
	if _, err := again.Membership().Join(t.Context(), ticket); err != nil {
		t.Errorf("same peer again: %v", err)
	}
}

func TestSpentTicketStaysSpentAfterRestart(t *testing.T) {
	dir := t.TempDir()
	key := newKey(t)
	config := func(c *Config) { c.DataDir, c.Key = dir, key }
	owner := newHost(t, "owner", config)
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	ticket, err := owner.Membership().Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newHost(t, "a").Membership().Join(t.Context(), ticket); err != nil {
		t.Fatal(err)
	}
	listen := []string{owner.host.Addrs()[0].String()}
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	newHost(t, "owner", config, func(c *Config) { c.Listen = listen })
	if _, err := newHost(t, "b").Membership().Join(t.Context(), ticket); !errors.Is(err, ErrTicketUsed) {
		t.Errorf("after restart: %v", err)
	}
}

func TestTicketsThatDoNotWork(t *testing.T) {
	t.Parallel()
	owner, other := newFarm(t, 1)[0], newFarm(t, 1)[0]
	good, err := owner.Membership().Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := newTicket(owner.members.rootKey, Ticket{
		Farm: owner.Membership().FarmID(), Name: "f", Root: []byte(owner.members.root), Inviter: owner.ID().String(),
		Addrs: addrBytes(owner.host.Addrs()), Role: RoleMember, Expires: time.Now().Add(-time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	// A ticket of another farm that names this owner as its inviter.
	misled, err := newTicket(other.members.rootKey, Ticket{
		Farm: other.Membership().FarmID(), Name: "f", Root: []byte(other.members.root), Inviter: owner.ID().String(),
		Addrs: addrBytes(owner.host.Addrs()), Role: RoleMember, Expires: time.Now().Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ticket string
		want   error
	}{
		"expired":     {expired, ErrTicketExpired},
		"other farm":  {misled, ErrOtherFarm},
		"cut short":   {good[:len(good)-7], ErrTicketMalformed},
		"no prefix":   {good[3:], ErrTicketMalformed},
		"empty":       {"", ErrTicketMalformed},
		"one changed": {good[:60] + flip(good[60:61]) + good[61:], ErrTicketMalformed},
	} {
		h := newHost(t, "joiner")
		if _, err := h.Membership().Join(t.Context(), c.ticket); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one line: %v", name, err)
		}
		if _, ok := h.Membership().Farm(); ok {
			t.Errorf("%s: in a farm now", name)
		}
	}
	member := newHost(t, "member")
	joinFarm(t, other, member)
	if _, err := member.Membership().Join(t.Context(), good); !errors.Is(err, ErrOtherFarm) {
		t.Errorf("member of another farm: %v", err)
	}
	// A broken line in a mail does no harm, and the owner still takes it.
	if _, err := newHost(t, "j").Membership().Join(t.Context(), " "+good[:40]+"\n  "+good[40:]+"\n"); err != nil {
		t.Errorf("broken line: %v", err)
	}
	if _, err := member.Membership().Invite(time.Minute); !errors.Is(err, ErrNotOwner) {
		t.Errorf("invite by a member: %v", err)
	}
	if _, err := newHost(t, "x").Membership().Invite(time.Minute); !errors.Is(err, ErrNoFarm) {
		t.Errorf("invite without a farm: %v", err)
	}
}

func flip(s string) string {
	if s == "A" {
		return "B"
	}
	return "A"
}

func TestInviterAway(t *testing.T) {
	t.Parallel()
	owner := newHost(t, "owner")
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	ticket, err := owner.Membership().Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	owner.Close()
	if _, err := newHost(t, "j").Membership().Join(t.Context(), ticket); err == nil || !strings.Contains(err.Error(), "cannot reach") {
		t.Errorf("%v", err)
	}
}

func TestStrangerIsQuarantined(t *testing.T) {
	t.Parallel()
	owner := newFarm(t, 1)[0]
	owner.ServeSync(&coordinator{})
	owner.ServeBlocks(newMemory(), allowAll, nil, nil)
	stranger := newHost(t, "stranger")
	info := peer.AddrInfo{ID: owner.ID(), Addrs: owner.host.Addrs()}
	if err := stranger.host.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, id := range []string{string(idOf(ProtocolSync)), string(idOf(ProtocolBlocks)), "/ipfs/ping/1.0.0", "/meshsub/1.1.0"} {
		s, err := stranger.host.NewStream(t.Context(), owner.ID(), protoID(id))
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if _, err := s.Write(make([]byte, 32)); err != nil {
			t.Logf("%s: %v", id, err)
		}
		t.Cleanup(func() { s.Reset() })
		go func() {
			b, _ := io.ReadAll(s)
			if len(b) > 0 {
				t.Errorf("%s answered a stranger: %q", id, b)
			}
		}()
	}
	eventually(t, within, "the stranger is closed", func() bool {
		return owner.host.Network().Connectedness(stranger.ID()) != network.Connected
	})
	if d := time.Since(start); d < quarantine-time.Second {
		t.Errorf("closed after %v already", d)
	}
	eventually(t, within, "streams are refused", func() bool { return owner.Stats().Refused >= 3 })
}

func TestHelloTellsStrangersNothing(t *testing.T) {
	owner, other := newFarm(t, 1)[0], newFarm(t, 1)[0]
	if err := owner.Announce(t.Context(), offer(owner)); err != nil {
		t.Fatal(err)
	}
	if err := other.host.Connect(t.Context(), peer.AddrInfo{ID: owner.ID(), Addrs: owner.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := other.host.NewStream(t.Context(), owner.ID(), idOf(ProtocolHello))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Write(s, &wire.Hello{Certificates: other.members.certificates()}, wire.MaxAdmitRequest); err != nil {
		t.Fatal(err)
	}
	var h wire.Hello
	if _, err := wire.Read(bufio.NewReader(s), &h, wire.MaxHello); err != nil {
		t.Fatal(err)
	}
	if h.GetRefusal().GetCode() != wire.Refusal_OTHER_FARM || h.Details != nil || h.Certificates != nil {
		t.Errorf("answer %v", &h)
	}
}

func TestCertificateOfAnotherPeerDoesNotHelp(t *testing.T) {
	farm := newFarm(t, 2)
	stranger := newHost(t, "stranger")
	if err := stranger.host.Connect(t.Context(), peer.AddrInfo{ID: farm[0].ID(), Addrs: farm[0].host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := stranger.host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolHello))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Write(s, &wire.Hello{Certificates: farm[1].members.certificates()}, wire.MaxAdmitRequest); err != nil {
		t.Fatal(err)
	}
	var h wire.Hello
	if _, err := wire.Read(bufio.NewReader(s), &h, wire.MaxHello); err != nil {
		t.Fatal(err)
	}
	if h.GetRefusal() == nil || farm[0].Membership().Known(stranger.ID()) {
		t.Errorf("let in: %v", &h)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 3)
	owner, bad, third := farm[0], farm[1], farm[2]
	eventually(t, within, "members connected", func() bool { return connected(third, bad.ID()) && connected(bad, owner.ID()) })
	if err := third.Membership().Revoke(bad.ID()); !errors.Is(err, ErrNotOwner) {
		t.Errorf("revoked by a member: %v", err)
	}
	if err := owner.Membership().Revoke(bad.ID()); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Host{owner, third} {
		eventually(t, within, "the revoked peer is gone", func() bool {
			return !h.Membership().Known(bad.ID()) && h.host.Network().Connectedness(bad.ID()) != network.Connected
		})
	}
	eventually(t, within, "the revoked peer knows", func() bool { f, _ := bad.Membership().Farm(); return f.Revoked })
	if _, err := bad.Join(t.Context(), owner.ID()); !errors.Is(err, ErrNotMember) {
		t.Errorf("revoked peer joins: %v", err)
	}
	// A new ticket makes it a member again, everywhere.
	joinFarm(t, owner, bad)
	eventually(t, within, "back", func() bool { return connected(owner, bad.ID()) && connected(third, bad.ID()) })
}

func TestRevokedPeerLearnsItOnReturn(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	config := func(c *Config) { c.DataDir, c.Key = dir, key }
	owner := newFarm(t, 1)[0]
	bad := newHost(t, "bad", config)
	joinFarm(t, owner, bad)
	bad.Close()
	if err := owner.Membership().Revoke(bad.ID()); err != nil {
		t.Fatal(err)
	}
	bad = newHost(t, "bad", config)
	eventually(t, within, "told", func() bool { f, _ := bad.Membership().Farm(); return f.Revoked })
	if owner.Membership().Known(bad.ID()) {
		t.Error("still known")
	}
}

// TestGuest: a guest is a member like others, and its time ends open
// connections.
func TestGuest(t *testing.T) {
	t.Parallel()
	owner := newFarm(t, 1)[0]
	for _, stay := range []time.Duration{0, time.Millisecond, 11 * 365 * 24 * time.Hour} {
		if _, err := owner.Membership().InviteGuest(time.Minute, stay); err == nil {
			t.Errorf("a guest for %v", stay)
		}
	}
	const stay = 3 * time.Second
	ticket, err := owner.Membership().InviteGuest(time.Minute, stay)
	if err != nil {
		t.Fatal(err)
	}
	guest := newHost(t, "guest")
	asked := time.Now()
	f, err := guest.Membership().Join(t.Context(), ticket)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range owner.Membership().Members() {
		if m.Peer == guest.ID() && (m.Role != RoleGuest || m.Expires.After(time.Now().Add(stay)) || m.Expires.Before(asked.Add(stay))) {
			t.Errorf("%+v", m)
		}
	}
	eventually(t, within, "the guest's time is over, and its connections", func() bool {
		return !owner.Membership().Known(guest.ID()) && owner.host.Network().Connectedness(guest.ID()) != network.Connected
	})
	if got := time.Since(asked); got < stay {
		t.Errorf("over after %v", got)
	}
	// A ticket with a stay is a guest's, and the other way round.
	for _, bad := range []Ticket{{Role: RoleMember, Stay: 5}, {Role: RoleGuest}, {Role: RoleGuest, Stay: -1}, {Role: RoleGuest, Stay: 1 << 60}} {
		m := owner.Membership()
		bad.Farm, bad.Name, bad.Root, bad.Inviter, bad.Expires = f.ID, f.Name, []byte(m.rootID()), owner.ID().String(), time.Now().Add(time.Hour)
		text, err := newTicket(m.rootKey, bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTicket(text); !errors.Is(err, ErrTicketMalformed) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestForgedRevocation(t *testing.T) {
	farm := newFarm(t, 2)
	s, err := job.Sign(farm[1].cfg.Key, job.ContextRevoke, Revocation{Version: 1, Farm: farm[0].Membership().FarmID(), Peer: farm[0].ID().String(), At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := farm[0].members.applyRevocation(s); err == nil {
		t.Error("believed")
	}
}

func TestMembersAreRememberedAcrossRestart(t *testing.T) {
	t.Parallel()
	dirs, keys, listen := []string{t.TempDir(), t.TempDir()}, []func(*Config){}, loopback
	for i := range dirs {
		key := newKey(t)
		keys = append(keys, func(c *Config) { c.DataDir, c.Key = dirs[i], key })
	}
	a, b := newHost(t, "a", keys[0]), newHost(t, "b", keys[1])
	if _, err := a.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	joinFarm(t, a, b)
	listen = nil
	for _, x := range a.host.Addrs() {
		listen = append(listen, x.String())
	}
	a.Close()
	b.Close()
	a = newHost(t, "a", keys[0], func(c *Config) { c.Listen = listen })
	b = newHost(t, "b", keys[1])
	eventually(t, within, "connected again by themselves", func() bool { return connected(a, b.ID()) && connected(b, a.ID()) })
	if f, ok := a.Membership().Farm(); !ok || !f.Owner {
		t.Errorf("owner lost its farm: %+v", f)
	}
	if st, err := os.Stat(filepath.Join(dirs[0], "farm", string(a.Membership().FarmID()), "root.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("root key: %v %v", st, err)
	}
}

func TestReconnectAfterCut(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	eventually(t, within, "connected", func() bool { return connected(farm[0], farm[1].ID()) })
	for range 3 {
		if err := farm[0].host.Network().ClosePeer(farm[1].ID()); err != nil {
			t.Fatal(err)
		}
		eventually(t, within, "reconnected", func() bool { return connected(farm[0], farm[1].ID()) && connected(farm[1], farm[0].ID()) })
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	h := newHost(t, "other")
	_, tcpPort, _ := net.SplitHostPort(l.Addr().String())
	_, udpPort, _ := net.SplitHostPort(u.LocalAddr().String())
	for _, addr := range []string{
		"/ip4/127.0.0.1/tcp/" + tcpPort,
		"/ip4/127.0.0.1/udp/" + udpPort + "/quic-v1",
		h.host.Addrs()[0].String(), // of another idlewild, which shares its port
	} {
		other, err := New(Config{Key: newKey(t), DataDir: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0", addr}})
		if err == nil {
			other.Close()
			t.Errorf("%s: no error", addr)
		} else if !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestPortsAreKept(t *testing.T) {
	dir, key := t.TempDir(), newKey(t)
	config := func(c *Config) { c.DataDir, c.Key, c.Listen = dir, key, nil }
	h := newHost(t, "h", config)
	listening := func() string {
		var all []string
		for _, a := range h.host.Network().ListenAddresses() {
			if s := a.String(); strings.HasPrefix(s, "/ip4/") {
				all = append(all, s)
			}
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	want := listening()
	h.Close()
	h = newHost(t, "h", config)
	if got := listening(); got != want {
		t.Errorf("%s, was %s", got, want)
	}
}

func TestDataFolderOfAnotherIdentity(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, "h", func(c *Config) { c.DataDir = dir })
	if _, err := h.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if _, err := New(Config{Key: newKey(t), DataDir: dir, Listen: loopback}); err == nil || !strings.Contains(err.Error(), "identity") {
		t.Errorf("%v", err)
	}
}

// Nothing but mDNS can tell these two where the other one is now.
func TestFoundByMDNS(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	onEveryInterface := func(c *Config) { c.MDNS, c.Listen = true, []string{"/ip4/0.0.0.0/tcp/0"} }
	config := func(c *Config) { c.DataDir, c.Key = dir, key; onEveryInterface(c) }
	owner := newHost(t, "owner", config)
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "member", onEveryInterface)
	joinFarm(t, owner, h)
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	h.members.mu.Lock()
	h.members.members[owner.ID()].addrs = nil
	h.members.mu.Unlock()
	h.host.Peerstore().ClearAddrs(owner.ID())
	owner = newHost(t, "owner", config)
	owner.members.mu.Lock()
	owner.members.members[h.ID()].addrs = nil
	owner.members.mu.Unlock()
	owner.host.Peerstore().ClearAddrs(h.ID())
	deadline, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !connected(h, owner.ID()) {
		select {
		case <-tick.C:
		case <-deadline.Done():
			if !multicast(t) {
				t.Skip("NOT RUN: multicast does not work on this machine")
			}
			t.Fatal("not found on the local network")
		}
	}
}

// multicast reports whether a packet to the mDNS group comes back to us.
func multicast(t *testing.T) bool {
	group := &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}
	l, err := net.ListenMulticastUDP("udp4", nil, group)
	if err != nil {
		return false
	}
	defer l.Close()
	c, err := net.DialUDP("udp4", nil, group)
	if err != nil {
		return false
	}
	defer c.Close()
	if _, err := c.Write([]byte("idlewild?")); err != nil {
		return false
	}
	_ = l.SetReadDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 1500)
	for {
		n, err := l.Read(b)
		if err != nil {
			return false
		}
		if string(b[:n]) == "idlewild?" {
			return true
		}
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	a, b := newHost(t, "a", func(c *Config) { c.MDNS = true }), newHost(t, "b")
	if _, err := a.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	joinFarm(t, a, b)
	c := newCoordinator()
	a.ServeSync(c)
	link, err := b.Join(t.Context(), a.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Send(t.Context(), job.Report{Session: "s"}); err != nil {
		t.Fatal(err)
	}
	s := receive(t, c.sessions, "session")
	receive(t, s.in, "report")
	for _, h := range []*Host{b, a} {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	closed(t, s.in, "reports")
	close(s.out)
	for range link.Orders() {
	}
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/libp2p/go-libp2p-pubsub/timecache.background"))
}

func TestQUICWhereThereIsNoTCP(t *testing.T) {
	quic := func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"} }
	owner, h := newHost(t, "owner", quic), newHost(t, "h", quic)
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	joinFarm(t, owner, h)
	for _, p := range h.Peers() {
		if !p.Self && p.Transport != "quic" {
			t.Errorf("path %q", p.Path)
		}
	}
}

func TestLeaveAndJoinAnotherFarm(t *testing.T) {
	t.Parallel()
	one, two := newFarm(t, 1)[0], newFarm(t, 1)[0]
	h := newHost(t, "h")
	joinFarm(t, one, h)
	if err := one.Membership().Leave(); err == nil {
		t.Error("the owner left")
	}
	if err := h.Membership().Leave(); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "the old farm is gone", func() bool { return h.host.Network().Connectedness(one.ID()) != network.Connected })
	joinFarm(t, two, h)
	o := offer(two)
	if err := two.Announce(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for v := range h.Offers(t.Context()) {
		if v.Job == o.Job {
			break
		}
	}
	// A revoked node is not held in its farm.
	if err := two.Membership().Revoke(h.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "revoked", func() bool { f, _ := h.Membership().Farm(); return f.Revoked })
	joinFarm(t, one, h)
	if f, _ := h.Membership().Farm(); f.ID != one.Membership().FarmID() {
		t.Errorf("in farm %v", f)
	}
	if p, err := one.Membership().Find("h"); err != nil || p != h.ID() {
		t.Errorf("%v %v", p, err)
	}
	if _, err := one.Membership().Find("nobody"); !errors.Is(err, ErrNotMember) {
		t.Errorf("%v", err)
	}
}

// The farm outlives a full disk: nobody is admitted who would be forgotten.
func TestTicketIsNotSpentWhereItCannotBeRecorded(t *testing.T) {
	owner := newFarm(t, 1)[0]
	ticket, err := owner.Membership().Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	tickets := owner.members.dir.file("tickets")
	if err := os.Remove(tickets); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tickets, nil, 0o600); err != nil { // in the way of the folder
		t.Fatal(err)
	}
	h := newHost(t, "h")
	if _, err := h.Membership().Join(t.Context(), ticket); err == nil || owner.Membership().Known(h.ID()) {
		t.Errorf("admitted: %v", err)
	}
	if err := os.Remove(tickets); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tickets, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Membership().Join(t.Context(), ticket); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

// A member that the newcomer cannot dial dials the newcomer.
func TestNewMemberIsAnnounced(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	eventually(t, within, "subscribed", func() bool { return len(farm[0].offers.topic.ListPeers()) == 1 })
	owner, hidden := farm[0], farm[1]
	owner.members.mu.Lock() // as if it had no address
	owner.members.members[hidden.ID()].addrs = nil
	owner.members.mu.Unlock()
	fresh := newHost(t, "fresh")
	joinFarm(t, owner, fresh)
	eventually(t, within, "the hidden member found it", func() bool { return connected(hidden, fresh.ID()) && connected(fresh, hidden.ID()) })
}

// TestRevocationOfTheSameMoment: a revocation voids what was issued until then,
// that moment included, and nothing that was issued after it.
func TestRevocationOfTheSameMoment(t *testing.T) {
	at := time.Now()
	m := &Membership{revoked: map[peer.ID]revokedState{"p": {at: at}}}
	for past, void := range map[time.Duration]bool{-time.Second: true, 0: true, time.Microsecond: false} {
		if got := m.revokedLocked("p", Certificate{Issued: at.Add(past)}); got != void {
			t.Errorf("issued %v after it: void %t", past, got)
		}
	}
	if m.revokedLocked("q", Certificate{Issued: at}) {
		t.Error("somebody else's is void")
	}
}

// TestRootsSpeakForTheirFarmAlone: what a root signs for a farm that is not its
// own (it may be root of another) counts for nothing.
func TestRootsSpeakForTheirFarmAlone(t *testing.T) {
	key, other, member := newKey(t), newKey(t), newKey(t)
	id := func(k crypto.PrivKey) peer.ID {
		p, err := peer.IDFromPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	root, own, now := id(key), farmIDOf(id(key)), time.Now()
	for farm, good := range map[FarmID]bool{own: true, farmIDOf(id(other)): false, "": false} {
		c, err := job.Sign(key, job.ContextMember, Certificate{Version: 1, Farm: farm, Peer: id(member).String(), Name: "m", Role: RoleMember, Issued: now, Expires: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if _, p, err := openCertificate(c, root, own); (err == nil) != good || good && p != id(member) {
			t.Errorf("a certificate for %q: %v", farm, err)
		}
		r, err := job.Sign(key, job.ContextRevoke, Revocation{Version: 1, Farm: farm, Peer: id(member).String(), At: now})
		if err != nil {
			t.Fatal(err)
		}
		if _, p, err := openRevocation(r, root, own); (err == nil) != good || good && p != id(member) {
			t.Errorf("a revocation for %q: %v", farm, err)
		}
		text, err := newTicket(key, Ticket{Farm: farm, Name: "f", Root: []byte(root), Inviter: id(member).String(), Role: RoleMember, Expires: now.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTicket(text); (err == nil) != good || !good && !errors.Is(err, ErrTicketMalformed) {
			t.Errorf("a ticket for %q: %v", farm, err)
		}
	}
}
