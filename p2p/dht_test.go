package p2p

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/kad"
	"idlewild/p2p/kad/kadtest"
	"idlewild/p2p/wire"
)

var fastDHT = kad.Pace{Search: 200 * time.Millisecond, Say: time.Second, Refresh: time.Second}

// bare is a libp2p host that is none of ours.
func bare(t *testing.T, key crypto.PrivKey) host.Host {
	t.Helper()
	opts := []libp2p.Option{libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics(), Muxer()}
	if key != nil {
		opts = append(opts, libp2p.Identity(key))
	}
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func line(t *testing.T, h host.Host) string {
	t.Helper()
	as, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	return as[0].String()
}

// bootstraps are two nodes of a farm's DHT that are no members, one of them away.
func bootstraps(t *testing.T) (addrs []string, serve func(FarmID)) {
	t.Helper()
	boot, gone := bare(t, nil), bare(t, nil)
	addrs = []string{line(t, gone), line(t, boot)}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	return addrs, func(f FarmID) {
		table, err := kad.Start(kad.Config{Host: boot, Farm: string(f), Pace: fastDHT, Found: func(peer.AddrInfo) {}, Public: func() bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { table.Close() })
	}
}

// without takes the contacts out of the text of an opening.
func without(t *testing.T, text string) string {
	t.Helper()
	v, err := parseOpening(text)
	if err != nil {
		t.Fatal(err)
	}
	v.Contacts = nil
	if text, err = v.text(); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAnyOneWayDead: a stranger comes to both members of an open farm whichever
// of the ways to find them is dead, and by each that can do it alone.
func TestAnyOneWayDead(t *testing.T) {
	boots, serve := bootstraps(t)
	onDHT := func(c *Config) { c.DHT, c.Bootstraps, c.pace = true, boots, fastDHT }
	onMDNS := func(c *Config) { c.MDNS, c.Listen = true, []string{"/ip4/0.0.0.0/tcp/0"} }
	farm, text := openFarm(t, 2, onDHT, onMDNS, func(c *Config) { c.public = true })
	owner, member := farm[0], farm[1]
	serve(owner.Membership().FarmID())
	plain := without(t, text)
	lan := multicast(t)

	arrives := func(t *testing.T, s *Host) {
		t.Helper()
		eventually(t, time.Minute, "both members let the stranger in", func() bool {
			return hosts(owner, s) && hosts(member, s) && connected(s, owner.ID()) && connected(s, member.ID())
		})
	}
	t.Run("by the DHT alone", func(t *testing.T) { arrives(t, stranger(t, plain, onDHT)) })
	t.Run("by mDNS alone", func(t *testing.T) {
		if !lan {
			t.Skip("NOT RUN: multicast does not work on this machine")
		}
		arrives(t, stranger(t, plain, onMDNS))
	})
	// The line names the owner; of the other it hears there.
	t.Run("by contacts and peer exchange alone", func(t *testing.T) { arrives(t, stranger(t, text)) })
	t.Run("by what it remembers alone", func(t *testing.T) {
		dir, key := t.TempDir(), newKey(t)
		config := func(c *Config) { c.DataDir, c.Key = dir, key }
		s := stranger(t, plain, config, onDHT)
		arrives(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		arrives(t, newHost(t, "somebody", config))
	})

	for name, c := range map[string]struct {
		text   string
		change []func(*Config)
	}{
		"without the DHT":    {text, []func(*Config){onMDNS}},
		"without mDNS":       {text, []func(*Config){onDHT}},
		"without a contact":  {plain, []func(*Config){onDHT, onMDNS}},
		"without a memory":   {text, []func(*Config){onDHT, onMDNS}}, // whoever is new has none
		"without bootstraps": {text, []func(*Config){onDHT, func(c *Config) { c.Bootstraps = nil }}},
	} {
		t.Run(name, func(t *testing.T) { arrives(t, stranger(t, c.text, c.change...)) })
	}
	t.Run("without peer exchange", func(t *testing.T) {
		// Nobody tells of anybody: they do not know who takes strangers.
		for _, h := range farm {
			h.mu.Lock()
			clear(h.taking)
			h.mu.Unlock()
		}
		arrives(t, stranger(t, text, onDHT))
	})
}

// TestEclipseOfAnOpenFarm: liars near the farm's key, which are the bootstraps as
// well and name each other and nobody else, do not keep a stranger from the
// farm while one other way lives, and get nothing from it.
func TestEclipseOfAnOpenFarm(t *testing.T) {
	farm, text := openFarm(t, 1)
	owner := farm[0]
	id := owner.Membership().FarmID()
	var all []peer.AddrInfo
	var liars []host.Host
	var asked atomic.Int64
	for len(liars) < 40 {
		key := newKey(t)
		p, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if kadtest.Near(p, string(id)) < 5 {
			continue
		}
		liars = append(liars, bare(t, key))
	}
	// Whatever a liar is asked for it tries to get content in return.
	secret := []byte("what the stranger renders")
	took := make(chan string, 1)
	for _, l := range liars {
		all = append(all, peer.AddrInfo{ID: l.ID(), Addrs: l.Addrs()})
	}
	steal := func(l host.Host, from peer.ID) {
		s, err := l.NewStream(t.Context(), from, idOf(ProtocolBlocks))
		if err != nil {
			return
		}
		defer s.Reset()
		ask := &wire.Ask{Scope: &wire.Scope{Job: string(job.NewID(time.Now())), Requester: []byte(from)}, Wants: []*wire.Want{{Index: 1, Cid: block(secret).Bytes()}}}
		if _, err := wire.Write(s, ask, wire.MaxAsk); err != nil {
			return
		}
		if b, _ := io.ReadAll(s); len(b) > 0 {
			select {
			case took <- string(b):
			default:
			}
		}
	}
	for _, l := range liars {
		kadtest.Lie(l, string(id), func() []peer.AddrInfo { return all }, func() {
			asked.Add(1)
			for _, p := range l.Network().Peers() {
				if p == owner.ID() {
					continue
				}
				go steal(l, p)
			}
		})
	}
	eclipsed := func(c *Config) {
		c.DHT, c.pace, c.Strangers = true, fastDHT, &door{}
		for _, l := range liars[:3] {
			c.Bootstraps = append(c.Bootstraps, line(t, l))
		}
	}
	dir, key := t.TempDir(), newKey(t)
	config := func(c *Config) { c.DataDir, c.Key = dir, key }
	s := stranger(t, without(t, text), config, eclipsed)
	s.ServeBlocks(newMemory(secret), allowAll, nil, nil)
	s.ServeSync(newCoordinator())
	eventually(t, time.Minute, "the liars are believed to be there", func() bool {
		s.keeper.mu.Lock()
		defer s.keeper.mu.Unlock()
		return asked.Load() > 40 && len(s.keeper.candidates) > 0
	})
	if connected(s, owner.ID()) {
		t.Fatal("found by the DHT: it is not eclipsed")
	}
	// The other way comes: somebody on the local network, say.
	s.keeper.found(peer.AddrInfo{ID: owner.ID(), Addrs: owner.host.Addrs()}, byMDNS)
	arrived := func() bool { return hosts(owner, s) && connected(s, owner.ID()) }
	eventually(t, time.Minute, "it comes by the one way that is left", arrived)
	for _, l := range liars {
		if s.Membership().Admitted(l.ID()) {
			t.Error("a liar was let in")
		}
		if _, err := s.Join(t.Context(), l.ID()); err == nil {
			t.Error("it works for a liar")
		}
	}
	s.keeper.mu.Lock()
	liarsKept := 0
	for _, c := range s.keeper.candidates {
		if c.by == byDHT {
			liarsKept++
		}
	}
	s.keeper.mu.Unlock()
	if liarsKept > maxCandidates[byDHT] {
		t.Errorf("%d candidates of the DHT", liarsKept)
	}
	// Memory alone does, too.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = newHost(t, "somebody", config, eclipsed)
	eventually(t, time.Minute, "it comes back by what it remembers", arrived)
	select {
	case b := <-took:
		t.Errorf("a liar was given %q", b)
	default:
	}
}

func TestBootstrapsThatAreNone(t *testing.T) {
	for _, s := range []string{"", "198.51.100.7:4747", "/ip4/198.51.100.7/tcp/4747", "/p2p/12D3KooWFBZNqJL6zeYJgPdLd2mcnS2mgU7XaYNvZHvoRe4Bz3WR"} {
		if err := CheckBootstraps([]string{s}); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	if err := CheckBootstraps([]string{"/ip4/198.51.100.7/tcp/4747/p2p/12D3KooWFBZNqJL6zeYJgPdLd2mcnS2mgU7XaYNvZHvoRe4Bz3WR"}); err != nil {
		t.Error(err)
	}
	if err := CheckBootstraps(make([]string, maxBootstraps+1)); err == nil {
		t.Error("too many are taken")
	}
}
