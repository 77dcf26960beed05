package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// door is a Strangers.
type door struct {
	mu     sync.Mutex
	banned map[peer.ID]string
}

func (d *door) Banned(p peer.ID) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.banned[p]
}

func takes(c *Config) { c.Strangers = &door{} }

// openFarm starts n members that take strangers, in a farm that is open.
func openFarm(t testing.TB, n int, change ...func(*Config)) (hosts []*Host, text string) {
	t.Helper()
	change = append([]func(*Config){takes}, change...)
	owner := newHost(t, "owner", change...)
	if _, err := owner.Membership().CreateFarm("open farm"); err != nil {
		t.Fatal(err)
	}
	hosts = []*Host{owner}
	for len(hosts) < n {
		h := newHost(t, "member", change...)
		joinFarm(t, owner, h)
		hosts = append(hosts, h)
	}
	text, err := owner.Membership().Open(time.Hour, MinDifficulty)
	if err != nil {
		t.Fatal(err)
	}
	return hosts, text
}

func stranger(t testing.TB, text string, change ...func(*Config)) *Host {
	t.Helper()
	h := newHost(t, "somebody", change...)
	if _, err := h.Membership().Join(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	return h
}

// hosts reports whether a has b here as a stranger.
func hosts(a, b *Host) bool {
	for _, p := range a.Strangers() {
		if p.Peer == b.ID() {
			return p.Connected
		}
	}
	return false
}

func TestStrangerInAnOpenFarm(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 2)
	owner, member := farm[0], farm[1]
	shy := newHost(t, "shy") // a member that takes no strangers
	joinFarm(t, owner, shy)
	c := newCoordinator()
	owner.ServeSync(c)
	owner.ServeBlocks(newMemory([]byte("content")), allowAll, nil, nil)
	owner.ServeFarmJobs(nil)
	eventually(t, within, "the farm knows that it is open, and who takes strangers", func() bool {
		_, a := member.Membership().Opening()
		_, b := shy.Membership().Opening()
		return a && b && len(owner.takers()) == 1 && len(member.takers()) == 1
	})

	s := stranger(t, text)
	eventually(t, within, "the stranger is let in", func() bool { return hosts(owner, s) && connected(s, owner.ID()) })
	eventually(t, within, "it hears of another member", func() bool { return hosts(member, s) && connected(s, member.ID()) })
	if owner.Membership().Known(s.ID()) || len(owner.Membership().Members()) != 3 || !owner.Membership().Stranger(s.ID()) {
		t.Errorf("a stranger counts as a member: %v", owner.Membership().Members())
	}
	if f := s.farm(t); f.Role != RoleStranger || f.Owner || f.Name != "open farm" || f.Open.IsZero() || f.Left {
		t.Errorf("the stranger's farm %+v", f)
	}
	if _, ok := s.Membership().ContentKey(); ok {
		t.Error("a stranger has the farm's content key")
	}
	if shy.Membership().Admitted(s.ID()) {
		t.Error("let in where no strangers are taken")
	}

	// Both directions of work.
	link, err := s.Join(t.Context(), owner.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Send(t.Context(), job.Report{Session: "s"}); err != nil {
		t.Fatal(err)
	}
	if ses := <-c.sessions; ses.worker != s.ID() || (<-ses.in).Session != "s" {
		t.Errorf("session of %s", ses.worker)
	}
	d := newCoordinator()
	s.ServeSync(d)
	if _, err := owner.Join(t.Context(), s.ID()); err != nil {
		t.Errorf("a stranger's worker: %v", err)
	}
	if _, err := s.Ping(t.Context(), owner.ID()); err != nil {
		t.Errorf("ping: %v", err)
	}

	// What is for members only answers nothing.
	for _, p := range []string{string(idOf(ProtocolFarmJobs)), string(idOf(ProtocolProbe)), "/meshsub/1.1.0"} {
		st, err := s.host.NewStream(t.Context(), owner.ID(), protoID(p))
		if err != nil {
			continue // refused already
		}
		_, _ = st.Write([]byte("{}"))
		_ = st.CloseWrite()
		if b, _ := io.ReadAll(st); len(b) > 0 {
			t.Errorf("%s answered a stranger: %q", p, b)
		}
	}

	// Offers: members' where they say so, and its own.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan job.ID, 16)
	go func() {
		for o := range s.Offers(ctx) {
			heard <- o.Job
		}
	}()
	private, public := offer(owner), offer(owner)
	public.Strangers = true
	for _, o := range []job.Offer{private, public} {
		if err := owner.Announce(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if id := <-heard; id != public.Job {
		t.Errorf("heard of %s, want %s", id, public.Job)
	}
	mine := offer(s)
	if err := s.Announce(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*Host{owner, member} {
		for o := range h.Offers(ctx) {
			if o.Job == mine.Job {
				break
			}
		}
	}
	if id := <-heard; id != mine.Job {
		t.Errorf("heard of %s, want its own", id)
	}

	// A ticket makes it a member, everywhere.
	joinFarm(t, owner, s)
	eventually(t, within, "a member now", func() bool {
		return connected(owner, s.ID()) && connected(member, s.ID()) && connected(shy, s.ID()) && !hosts(owner, s) && !hosts(member, s)
	})
	if _, ok := s.Membership().ContentKey(); !ok {
		t.Error("no content key as a member")
	}
}

// shows has h say hello with a certificate of itself and returns the answer.
func shows(t *testing.T, h, to *Host, signed job.Signed) *wire.Hello {
	t.Helper()
	if err := h.host.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := h.host.NewStream(t.Context(), to.ID(), idOf(ProtocolHello))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if _, err := wire.Write(s, &wire.Hello{Stranger: wire.FromSigned(signed), Capability: Capability}, wire.MaxAdmitRequest); err != nil {
		t.Fatal(err)
	}
	var answer wire.Hello
	if _, err := wire.Read(bufio.NewReader(s), &answer, wire.MaxHello); err != nil {
		t.Fatal(err)
	}
	return &answer
}

func TestStrangersThatAreRefused(t *testing.T) {
	t.Parallel()
	guard := &door{banned: map[peer.ID]string{}}
	owner := newHost(t, "owner", func(c *Config) { c.Strangers = guard })
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	// Twelve bits: a nonce that is any is wrong but once in 4096 times.
	if _, err := owner.Membership().Open(48*time.Hour, 12); err != nil {
		t.Fatal(err)
	}
	o, _ := owner.Membership().Opening()
	good := func(h *Host) Pass {
		return Pass{Version: 1, Farm: o.Farm, Peer: h.ID().String(), Epoch: o.Epoch, Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	}
	signed := func(key crypto.PrivKey, p Pass) job.Signed {
		s, err := job.Sign(key, job.ContextStranger, p)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	worked := func(p Pass) Pass {
		if err := p.work(t.Context(), o.Difficulty); err != nil {
			t.Fatal(err)
		}
		return p
	}
	other := newHost(t, "other")
	for name, c := range map[string]struct {
		make func(h *Host) job.Signed
		code wire.Refusal_Code
	}{
		"no work": {func(h *Host) job.Signed {
			p := good(h)
			for d, _ := p.digest(); worth(d, p.Nonce) >= o.Difficulty; p.Nonce++ {
			}
			return signed(h.cfg.Key, p)
		}, wire.Refusal_MALFORMED},
		"work for another expiry": {func(h *Host) job.Signed {
			p := worked(good(h))
			p.Expires = p.Expires.Add(time.Hour)
			for d, _ := p.digest(); worth(d, p.Nonce) >= o.Difficulty; d, _ = p.digest() {
				p.Expires = p.Expires.Add(time.Second)
			}
			return signed(h.cfg.Key, p)
		}, wire.Refusal_MALFORMED},
		"expired": {func(h *Host) job.Signed {
			p := good(h)
			p.Expires = time.Now().Add(-time.Second)
			return signed(h.cfg.Key, worked(p))
		}, wire.Refusal_CLOSED},
		"for too long": {func(h *Host) job.Signed {
			p := good(h)
			p.Expires = o.Expires.Add(time.Hour)
			return signed(h.cfg.Key, worked(p))
		}, wire.Refusal_MALFORMED},
		"another farm": {func(h *Host) job.Signed {
			p := good(h)
			p.Farm = farmIDOf(h.ID())
			return signed(h.cfg.Key, worked(p))
		}, wire.Refusal_OTHER_FARM},
		"another opening": {func(h *Host) job.Signed {
			p := good(h)
			p.Epoch--
			return signed(h.cfg.Key, worked(p))
		}, wire.Refusal_CLOSED},
		"another's certificate": {func(h *Host) job.Signed { return signed(other.cfg.Key, worked(good(other))) }, wire.Refusal_MALFORMED},
		"another's key":         {func(h *Host) job.Signed { return signed(other.cfg.Key, worked(good(h))) }, wire.Refusal_MALFORMED},
		"nothing":               {func(h *Host) job.Signed { return job.Signed{Body: []byte{0}, Sig: []byte{0}} }, wire.Refusal_MALFORMED},
		"revoked": {func(h *Host) job.Signed {
			if err := owner.Membership().Revoke(h.ID()); err != nil {
				t.Fatal(err)
			}
			return signed(h.cfg.Key, worked(good(h)))
		}, wire.Refusal_REVOKED},
		"banned": {func(h *Host) job.Signed {
			guard.mu.Lock()
			guard.banned[h.ID()] = "cheated"
			guard.mu.Unlock()
			return signed(h.cfg.Key, worked(good(h)))
		}, wire.Refusal_REVOKED},
		"in order": {func(h *Host) job.Signed { return signed(h.cfg.Key, worked(good(h))) }, wire.Refusal_UNSPECIFIED},
	} {
		h := newHost(t, "h")
		answer := shows(t, h, owner, c.make(h))
		if answer.GetRefusal().GetCode() != c.code || owner.Membership().Admitted(h.ID()) != (c.code == wire.Refusal_UNSPECIFIED) {
			t.Errorf("%s: %v", name, answer.GetRefusal())
		}
		if c.code != wire.Refusal_UNSPECIFIED && (answer.Details != nil || answer.Certificates != nil) {
			t.Errorf("%s: told something", name)
		}
		if c.code == wire.Refusal_UNSPECIFIED && (answer.GetDetails().GetContentKey() != nil || len(answer.GetDetails().GetWords()) > 0) {
			t.Errorf("%s: told too much: %v", name, answer.GetDetails())
		}
	}
	// A stranger that is here is put out at once.
	h := newHost(t, "h")
	if r := shows(t, h, owner, signed(h.cfg.Key, worked(good(h)))).GetRefusal(); r != nil {
		t.Fatal(r)
	}
	if err := owner.Membership().Revoke(h.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "it is put out", func() bool { return owner.host.Network().Connectedness(h.ID()) != network.Connected })
	if owner.Membership().Admitted(h.ID()) {
		t.Error("still admitted")
	}
}

func TestOpeningsThatDoNotWork(t *testing.T) {
	t.Parallel()
	owner, member := newFarm(t, 2)[0], newHost(t, "m")
	joinFarm(t, owner, member)
	if _, err := owner.Membership().OpeningText(); !errors.Is(err, ErrClosed) {
		t.Errorf("text of a closed farm: %v", err)
	}
	if err := owner.Membership().CloseFarm(); !errors.Is(err, ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	for _, h := range []*Host{member, newHost(t, "alone")} {
		want := ErrNotOwner
		if h != member {
			want = ErrNoFarm
		}
		if _, err := h.Membership().Open(time.Hour, MinDifficulty); !errors.Is(err, want) {
			t.Errorf("opened by another: %v", err)
		}
		if err := h.Membership().CloseFarm(); !errors.Is(err, want) {
			t.Errorf("closed by another: %v", err)
		}
	}
	for _, c := range []struct {
		valid time.Duration
		bits  int
	}{{0, 20}, {MaxOpen + time.Hour, 20}, {time.Hour, MinDifficulty - 1}, {time.Hour, MaxDifficulty + 1}} {
		if _, err := owner.Membership().Open(c.valid, c.bits); err == nil {
			t.Errorf("opened for %v at %d bits", c.valid, c.bits)
		}
	}
	good, err := owner.Membership().Open(time.Hour, MinDifficulty)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parseOpening(good)
	if err != nil {
		t.Fatal(err)
	}
	remade := func(change func(o *Opening, t *OpenText), by *Host) string {
		o, v := parsed.opening, parsed
		change(&o, &v)
		if v.Opening, err = job.Sign(by.members.rootKey, job.ContextOpening, o); err != nil {
			t.Fatal(err)
		}
		text, err := v.text()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	foreign := newFarm(t, 1)[0]
	closed := func(o *Opening, _ *OpenText) { o.Closed = true }
	past := func(o *Opening, _ *OpenText) { o.Expires = time.Now().Add(-time.Second) }
	cheap := func(o *Opening, _ *OpenText) { o.Difficulty = 0 }
	dear := func(o *Opening, _ *OpenText) { o.Difficulty = 60 }
	same := func(*Opening, *OpenText) {}
	crowd := func(_ *Opening, v *OpenText) { v.Contacts = make([]Contact, maxContacts+1) }
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"closed":       {remade(closed, owner), ErrClosed},
		"expired":      {remade(past, owner), ErrClosed},
		"too cheap":    {remade(cheap, owner), ErrOpeningMalformed},
		"too dear":     {remade(dear, owner), ErrOpeningMalformed},
		"forged":       {remade(same, foreign), ErrOpeningMalformed},
		"too many":     {remade(crowd, owner), ErrOpeningMalformed},
		"cut short":    {good[:len(good)-9], ErrOpeningMalformed},
		"one changed":  {good[:60] + flip(good[60:61]) + good[61:], ErrOpeningMalformed},
		"prefix only":  {openingPrefix, ErrOpeningMalformed},
		"far too long": {openingPrefix + strings.Repeat("A", 1<<20), ErrOpeningMalformed},
	} {
		h := newHost(t, "h")
		if _, err := h.Membership().Join(t.Context(), c.text); !errors.Is(err, c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := h.Membership().Farm(); ok {
			t.Errorf("%s: in a farm now", name)
		}
	}
	if _, err := foreign.Membership().Join(t.Context(), good); !errors.Is(err, ErrOtherFarm) {
		t.Errorf("member of another farm: %v", err)
	}
	if f, err := member.Membership().Join(t.Context(), good); err != nil || f.Role != RoleMember {
		t.Errorf("a member became %+v, %v", f, err)
	}
	// Nobody of this farm takes strangers.
	line := remade(func(_ *Opening, v *OpenText) {
		v.Contacts = []Contact{{[]byte(owner.ID()), addrBytes(owner.host.Addrs())}}
	}, owner)
	h := stranger(t, " "+line[:50]+"\n "+line[50:])
	eventually(t, within, "refused", func() bool {
		h.keeper.mu.Lock()
		defer h.keeper.mu.Unlock()
		s := h.keeper.dials[owner.ID()]
		return s != nil && s.refused > 0
	})
	if owner.Membership().Admitted(h.ID()) {
		t.Error("let in")
	}
	// Work that is long can be called off.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newHost(t, "x").Membership().Join(ctx, remade(func(o *Opening, _ *OpenText) { o.Difficulty = MaxDifficulty }, owner)); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
}

// TestClosingAFarm: a closing takes effect on open connections, at members that
// are away when they are back, and a new opening lets the same strangers in when
// they have worked again, which they do by themselves.
func TestClosingAFarm(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 2)
	owner, member := farm[0], farm[1]
	s := stranger(t, text)
	eventually(t, within, "let in by both", func() bool { return hosts(owner, s) && hosts(member, s) })
	if err := owner.Membership().CloseFarm(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for _, h := range farm {
		eventually(t, 10*time.Second, "the stranger is gone", func() bool {
			return !h.Membership().Admitted(s.ID()) && h.host.Network().Connectedness(s.ID()) != network.Connected
		})
	}
	t.Logf("gone after %v", time.Since(start))
	eventually(t, within, "it knows why", func() bool { _, open := s.Membership().Opening(); return !open && s.farm(t).Open.IsZero() })
	if _, err := newHost(t, "late").Membership().Join(t.Context(), text); err != nil {
		t.Errorf("an old line is as good as it looks, and the members know better: %v", err)
	}
	if _, err := owner.Membership().Open(time.Hour, MinDifficulty+1); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "back", func() bool { return hosts(owner, s) && hosts(member, s) })
	// A statement of before changes nothing.
	old, err := parseOpening(text)
	if err != nil {
		t.Fatal(err)
	}
	if news, err := member.Membership().applyOpening(old.Opening); news || err != nil {
		t.Errorf("an outdated opening: %v %v", news, err)
	}
}

// TestOpeningEnds: the time alone ends it, too.
func TestOpeningEnds(t *testing.T) {
	t.Parallel()
	owner := newHost(t, "owner", takes)
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	text, err := owner.Membership().Open(4*time.Second, MinDifficulty)
	if err != nil {
		t.Fatal(err)
	}
	s := stranger(t, text)
	eventually(t, within, "let in", func() bool { return hosts(owner, s) })
	eventually(t, 4*time.Second+10*time.Second, "gone", func() bool { return owner.host.Network().Connectedness(s.ID()) != network.Connected })
}

func TestStrangersStayOverAnotherRoot(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 2)
	owner, member := farm[0], farm[1]
	s := stranger(t, text)
	eventually(t, within, "let in by both", func() bool { return hosts(owner, s) && hosts(member, s) })
	if _, err := owner.Membership().Rotate(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "everybody knows the new root", func() bool {
		a, okA := member.Membership().Opening()
		b, okB := s.Membership().Opening()
		return okA && okB && a.Turn == 1 && b.Turn == 1 && hosts(owner, s) && hosts(member, s) && connected(s, member.ID())
	})
	// The line of before and that of now both lead in.
	now, err := owner.Membership().OpeningText()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{text, now} {
		h := stranger(t, line)
		eventually(t, within, "let in", func() bool { return hosts(owner, h) })
	}
}

func TestStrangerAfterARestart(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 2)
	owner, member := farm[0], farm[1]
	dir, key := t.TempDir(), newKey(t)
	config := func(c *Config) { c.DataDir, c.Key = dir, key }
	s := stranger(t, text, config)
	eventually(t, within, "let in by both", func() bool { return hosts(owner, s) && hosts(member, s) })
	s.Close()
	eventually(t, within, "forgotten", func() bool { return !owner.Membership().Admitted(s.ID()) && len(owner.Strangers()) == 0 })
	s = newHost(t, "somebody", config)
	if f := s.farm(t); f.Role != RoleStranger || f.Open.IsZero() {
		t.Errorf("after a restart %+v", f)
	}
	eventually(t, within, "let in by both again", func() bool { return hosts(owner, s) && hosts(member, s) })
	if err := s.Membership().Leave(); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "gone", func() bool { return !hosts(owner, s) && !hosts(member, s) })
}

// A delta tells of its base: that it is here, and how it differs. A stranger gets
// none of a block that it may not read.
func TestStrangersGetNoDeltaOfWhatTheyMayNotRead(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 1)
	owner := farm[0]
	secret, open := noise(1, 100_000), noise(2, 100_000)
	ofSecret, ofOpen := append(bytes.Clone(secret), noise(3, 500)...), append(bytes.Clone(open), noise(4, 500)...)
	owner.ServeBlocks(newMemory(secret, open, ofSecret, ofOpen), grantsFunc(func(_, _ peer.ID, _ job.ID, _ job.Signed, id cid.Cid) bool {
		return id != block(secret)
	}), suffixCodec{}, nil)
	s := stranger(t, text)
	s.ServeBlocks(newMemory(secret, open), allowAll, suffixCodec{}, nil) // it guessed the one
	eventually(t, within, "the stranger is let in", func() bool { return hosts(owner, s) && connected(s, owner.ID()) })
	req := request(owner.ID(), ofSecret, ofOpen)
	req.Wants[0].Bases, req.Wants[1].Bases = []cid.Cid{block(secret)}, []cid.Cid{block(open)}
	got, err := fetchAll(t.Context(), s, owner.ID(), req)
	if err != nil {
		t.Fatal(err)
	}
	if r := got[block(ofSecret)]; r.Err != nil || !bytes.Equal(r.Data, ofSecret) || r.Moved < 100_000 {
		t.Errorf("%d bytes for what is like a block that it may not read: %v", r.Moved, r.Err)
	}
	if r := got[block(ofOpen)]; r.Err != nil || !bytes.Equal(r.Data, ofOpen) || r.Moved > 5000 { // half of the padding of a frame that holds both
		t.Errorf("%d bytes for a difference of 500: %v", r.Moved, r.Err)
	}
}

// A stranger says itself until when its certificate counts: one that ends between
// two messages of a hello makes nobody a member.
func TestStrangerWhoseTimeEndsAmidAHello(t *testing.T) {
	t.Parallel()
	farm, text := openFarm(t, 1)
	owner := farm[0]
	s := stranger(t, text)
	eventually(t, within, "the stranger is let in", func() bool { return hosts(owner, s) })
	says := func() *wire.Details {
		d := &wire.Details{Strangers: true}
		for range 2 * maxStrangerOffers {
			d.Offers = append(d.Offers, wire.FromOffer(job.Offer{Requester: s.ID(), Job: job.NewID(time.Now()), Kind: "echo", Open: 1, Expires: time.Now().Add(time.Minute)}))
		}
		return d
	}
	heard := func() (offers int, taker bool) {
		owner.offers.mu.Lock()
		defer owner.offers.mu.Unlock()
		owner.mu.Lock()
		defer owner.mu.Unlock()
		return owner.offers.count[s.ID()], owner.taking[s.ID()]
	}
	owner.hear(s.ID(), says())
	if n, taker := heard(); n != maxStrangerOffers || taker {
		t.Errorf("%d offers of a stranger, and it takes others: %v", n, taker)
	}
	owner.offers.drop(s.ID())
	owner.members.mu.Lock()
	owner.members.strangers[s.ID()].pass.Expires = time.Now().Add(-time.Second)
	owner.members.mu.Unlock()
	owner.hear(s.ID(), says())
	if n, taker := heard(); n != 0 || taker {
		t.Errorf("%d offers of somebody whose time is over, and it takes others: %v", n, taker)
	}
}

// TestFloodOfStrangers: as many as there is room for come in, of one network no
// more than its share, and a member always comes in.
func TestFloodOfStrangers(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	config := func(c *Config) { c.DataDir, c.Key = dir, key }
	farm, text := openFarm(t, 1)
	owner := farm[0]
	owner.members.mu.Lock()
	owner.members.mostStrangers, owner.members.mostOfNetwork = 3, 2
	owner.members.mu.Unlock()
	member := newHost(t, "member", config)
	joinFarm(t, owner, member)
	member.Close()
	counts := func() (all, near int) {
		for _, p := range owner.Strangers() {
			all++
			if strings.HasPrefix(p.Addr, "/ip4/127.0.1.") {
				near++
			}
		}
		return all, near
	}
	at := func(network, host int) func(*Config) {
		return func(c *Config) { c.Listen = []string{fmt.Sprintf("/ip4/127.0.%d.%d/tcp/0", network, host)} }
	}
	var flood []*Host
	refused := func(h *Host) bool {
		h.keeper.mu.Lock()
		defer h.keeper.mu.Unlock()
		s := h.keeper.dials[owner.ID()]
		return s != nil && s.refused > 0
	}
	for i := range 5 {
		flood = append(flood, stranger(t, text, at(1, i+1)))
	}
	eventually(t, within, "the first network has its share", func() bool {
		no := 0
		for _, h := range flood {
			if refused(h) {
				no++
			}
		}
		all, near := counts()
		return all == 2 && near == 2 && no == 3
	})
	for i := range 3 {
		flood = append(flood, stranger(t, text, at(2, i+1)))
	}
	eventually(t, within, "the room is full", func() bool {
		no := 0
		for _, h := range flood {
			if refused(h) {
				no++
			}
		}
		all, _ := counts()
		return all == 3 && no == 5
	})
	member = newHost(t, "member", config)
	eventually(t, within, "the member is back", func() bool { return connected(owner, member.ID()) })
	joinFarm(t, owner, newHost(t, "new")) // and a ticket still works
	if all, near := counts(); all != 3 || near != 2 {
		t.Errorf("%d strangers, %d of one network", all, near)
	}
	// Somebody who goes makes room, and the refused come again.
	for _, h := range flood {
		if hosts(owner, h) {
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	eventually(t, within, "its place is taken", func() bool {
		all, _ := counts()
		return all == 3
	})
}

// TestStrangerThatHangsUp: whoever goes while it is being let in takes no place.
func TestStrangerThatHangsUp(t *testing.T) {
	t.Parallel()
	farm, _ := openFarm(t, 1)
	owner := farm[0]
	o, _ := owner.Membership().Opening()
	h := newHost(t, "h")
	signed, err := h.certify(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r := owner.admitStranger(h.ID(), wire.FromSigned(signed)); r.GetCode() != wire.Refusal_BUSY || owner.Membership().Admitted(h.ID()) {
		t.Errorf("let in without a connection: %v", r)
	}
	if r := shows(t, h, owner, signed).GetRefusal(); r != nil || !owner.Membership().Admitted(h.ID()) {
		t.Errorf("not let in with one: %v", r)
	}
}

func TestNetworksOfStrangers(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.200/udp/4/quic-v1", true},
		{"/ip4/198.51.100.1/tcp/1", "/ip4/198.51.101.1/tcp/1", false},
		{"/ip6/2001:db8:1:200::1/tcp/1", "/ip6/2001:db8:1:2ff::9/tcp/1", true},
		{"/ip6/2001:db8:1:200::1/tcp/1", "/ip6/2001:db8:1:300::1/tcp/1", false},
		{"/ip6/::ffff:198.51.100.1/tcp/1", "/ip4/198.51.100.9/tcp/1", true},
	} {
		if got := networkOf(ma.StringCast(c.a)) == networkOf(ma.StringCast(c.b)); got != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

func BenchmarkWork(b *testing.B) {
	var d [32]byte
	for i := range b.N {
		worth(d, uint64(i))
	}
}

func FuzzParseOpening(f *testing.F) {
	key := newKey(f)
	root, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	s, err := job.Sign(key, job.ContextOpening, Opening{Version: 1, Farm: farmIDOf(root), Name: "f", Root: []byte(root), Epoch: 1, Difficulty: MinDifficulty, Expires: time.Unix(1e9, 0)})
	if err != nil {
		f.Fatal(err)
	}
	good, err := OpenText{Opening: s, Contacts: []Contact{{[]byte(root), nil}}}.text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(openingPrefix)
	f.Add(good[:100])
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseOpening(s)
		if err != nil {
			return
		}
		if o := v.Farm(); o.Difficulty < MinDifficulty || o.Difficulty > MaxDifficulty || len(v.Contacts) > maxContacts {
			t.Fatal("an opening that cannot be")
		}
	})
}

func FuzzPass(f *testing.F) {
	key := newKey(f)
	p, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	o := Opening{Farm: "f", Epoch: 7, Difficulty: MinDifficulty}
	v := Pass{Version: 1, Farm: "f", Peer: p.String(), Epoch: 7, Expires: time.Unix(1e9, 0)}
	if err := v.work(context.Background(), o.Difficulty); err != nil {
		f.Fatal(err)
	}
	s, err := job.Sign(key, job.ContextStranger, v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Body, s.Sig)
	f.Fuzz(func(t *testing.T, body, sig []byte) {
		v, err := openPass(job.Signed{Body: body, Sig: sig}, p, o)
		if err == nil && (v.Peer != p.String() || v.Epoch != o.Epoch) {
			t.Fatal("another's certificate was taken")
		}
	})
}

// from is a connection of which only the other end is asked.
type from struct {
	network.Conn
	addr ma.Multiaddr
}

func (f *from) RemoteMultiaddr() ma.Multiaddr { return f.addr }

// TestQuarantineOfOneNetwork: one public network fills a half of the quarantine,
// a private one all of it, and a member needs no place in it.
func TestQuarantineOfOneNetwork(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	g := newGate(farm[0].members, 8, farm[0].log)
	nobody, err := peer.IDFromPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	fill := func(of string) (n int) {
		for i := range 20 {
			c := &from{addr: ma.StringCast(fmt.Sprintf("/ip4/%s.%d/tcp/4747", of, i+1))}
			if g.InterceptSecured(inbound, nobody, c) {
				g.timers[c] = nil
				n++
			}
		}
		return n
	}
	if n := fill("8.8.8"); n != 4 {
		t.Errorf("%d of one public network", n)
	}
	if n := fill("9.9.9"); n != 4 {
		t.Errorf("%d of another", n)
	}
	if n := fill("1.1.1"); n != 0 {
		t.Errorf("%d where it is full", n)
	}
	if !g.InterceptSecured(inbound, farm[1].ID(), &from{addr: ma.StringCast("/ip4/8.8.8.99/tcp/4747")}) {
		t.Error("a member is kept out")
	}
	clear(g.timers)
	if n := fill("192.168.1"); n != 8 {
		t.Errorf("%d of a private network", n)
	}
}

const inbound = network.DirInbound
