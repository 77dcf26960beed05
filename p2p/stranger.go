package p2p

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// RoleStranger is below every other: a peer that no root vouches for. It may
// ask for work and offer it, no more.
const RoleStranger Role = "stranger"

const (
	// MaxStay is how far ahead a stranger's certificate may expire: it works anew
	// after that.
	MaxStay = 30 * 24 * time.Hour
	// clockSlack is what two clocks may differ by.
	clockSlack = 10 * time.Minute

	// Bounds of the strangers that are let in at one time, by how many connections
	// each, and how many of them from one network: an IPv4 /24 or an IPv6 /56.
	maxAdmitted      = 64
	maxPerNetwork    = 4
	maxStrangerConns = 4

	// strangerHellos in a row, and one more each strangerPause.
	strangerHellos = 16
	strangerPause  = 10 * time.Second
)

// Strangers is what a node that takes strangers has to say about them.
type Strangers interface {
	// Banned says why a peer is not let in; "": nothing speaks against it.
	Banned(p peer.ID) string
}

// strangerState is a stranger that is here.
type strangerState struct {
	pass   Pass
	net    netip.Prefix
	addrs  []ma.Multiaddr
	since  time.Time
	hellos *rate.Limiter
	told   uint64 // of the root's revocations, see tell
}

// Admitted reports whether p may ask for work and offer it: a member, or a
// stranger that was let in.
func (m *Membership) Admitted(p peer.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.admittedLocked(p, time.Now())
}

func (m *Membership) admittedLocked(p peer.ID, now time.Time) bool {
	return m.knownLocked(p, now) || m.strangerLocked(p, now)
}

// Stranger reports whether p is here as one, and is no member.
func (m *Membership) Stranger(p peer.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	return !m.knownLocked(p, now) && m.strangerLocked(p, now)
}

func (m *Membership) strangerLocked(p peer.ID, now time.Time) bool {
	s, ok := m.strangers[p]
	return ok && m.openLocked(now) && s.pass.Epoch == m.opening.Epoch && now.Before(s.pass.Expires) && !m.barredLocked(p)
}

// barredLocked reports whether the root took a peer's right away that has no
// certificate which it issued later. A stranger dates its certificate itself,
// so that any statement about it counts.
func (m *Membership) barredLocked(p peer.ID) bool {
	_, ok := m.revoked[p]
	return ok
}

// Strangers lists those that are here, the first first.
func (m *Membership) Strangers() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var out []Member
	for p, s := range m.strangers {
		if m.strangerLocked(p, now) && !m.knownLocked(p, now) {
			out = append(out, Member{Peer: p, Name: strangerName(p), Role: RoleStranger, Issued: s.since, Expires: s.pass.Expires, LastSeen: now})
		}
	}
	slices.SortFunc(out, func(a, b Member) int { return a.Issued.Compare(b.Issued) })
	return out
}

// strangerName is what people see of a stranger. It gives itself none: it could
// be a member's.
func strangerName(p peer.ID) string {
	s := p.String()
	return "stranger-" + s[len(s)-6:]
}

// networkOf is what addresses that are easily had together have in common.
func networkOf(a ma.Multiaddr) netip.Prefix {
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Prefix{}
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}
	}
	addr = addr.Unmap()
	size := 56
	if addr.Is4() {
		size = 24
	}
	out, err := addr.Prefix(size)
	if err != nil {
		return netip.Prefix{}
	}
	return out
}

// admitStranger looks at what a peer without a certificate by the root shows;
// nil lets it in.
func (h *Host) admitStranger(p peer.ID, w *wire.Signed) *wire.Refusal {
	m := h.members
	s, err := w.Value(wire.MaxSignedBytes)
	if err != nil {
		return &wire.Refusal{Code: wire.Refusal_MALFORMED, Text: err.Error()}
	}
	net := netip.Prefix{}
	if c := best(h.host.Network().ConnsToPeer(p)); c != nil {
		net = networkOf(c.RemoteMultiaddr())
	}
	closed := func(text string) *wire.Refusal {
		return &wire.Refusal{Code: wire.Refusal_CLOSED, Text: text, Opening: m.openingSigned()}
	}
	if h.cfg.Strangers == nil {
		return closed("this member takes no strangers (swarm.accept)")
	}
	now := time.Now()
	m.mu.Lock()
	o, open, known := m.opening.Opening, m.openLocked(now), m.strangerLocked(p, now)
	full := m.fullLocked(p, net, now)
	barred := m.barredLocked(p)
	rev := m.revoked[p].signed
	if known && !m.strangers[p].hellos.AllowN(now, 1) {
		m.mu.Unlock()
		return &wire.Refusal{Code: wire.Refusal_BUSY, Text: "too many greetings"}
	}
	m.mu.Unlock()
	if !open {
		return closed(ErrClosed.Error())
	}
	pass, err := openPass(s, p, o)
	switch {
	case errors.Is(err, errOtherOpening):
		return closed(err.Error())
	case errors.Is(err, ErrOtherFarm):
		return &wire.Refusal{Code: wire.Refusal_OTHER_FARM, Text: err.Error()}
	case err != nil:
		return &wire.Refusal{Code: wire.Refusal_MALFORMED, Text: err.Error()}
	case !now.Before(pass.Expires):
		return closed("stranger's certificate: expired at " + pass.Expires.Format(time.DateTime))
	case pass.Expires.After(now.Add(MaxStay+clockSlack)) || pass.Expires.After(o.Expires):
		return &wire.Refusal{Code: wire.Refusal_MALFORMED, Text: "stranger's certificate: for too long a time"}
	case barred:
		return &wire.Refusal{Code: wire.Refusal_REVOKED, Text: "this peer is put out of the farm", Revocation: wire.FromSigned(rev)}
	case full:
		return &wire.Refusal{Code: wire.Refusal_BUSY, Text: "as many strangers are here as this member takes: try another one"}
	}
	if why := h.cfg.Strangers.Banned(p); why != "" {
		return &wire.Refusal{Code: wire.Refusal_REVOKED, Text: "this member does not work with this peer: " + why}
	}
	if r := m.letIn(p, pass, net, now); r != nil {
		return r
	}
	if h.host.Network().Connectedness(p) != network.Connected {
		m.strangerGone(p) // it hung up before it was let in, and nobody would tell us again
		return &wire.Refusal{Code: wire.Refusal_BUSY, Text: "the connection is gone"}
	}
	return nil
}

// letIn counts a stranger among those that are here, if there still is room.
func (m *Membership) letIn(p peer.ID, pass Pass, net netip.Prefix, now time.Time) *wire.Refusal {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.openLocked(now) || m.opening.Epoch != pass.Epoch {
		return &wire.Refusal{Code: wire.Refusal_BUSY, Text: "the opening has just changed"}
	}
	if m.fullLocked(p, net, now) { // others may have come meanwhile
		return &wire.Refusal{Code: wire.Refusal_BUSY, Text: "as many strangers are here as this member takes: try another one"}
	}
	old, again := m.strangers[p]
	if again {
		old.pass, old.net = pass, net
		return nil
	}
	m.strangers[p] = &strangerState{pass: pass, net: net, since: now, hellos: rate.NewLimiter(rate.Every(strangerPause), strangerHellos)}
	m.host.callers.letIn.Add(1)
	m.log.Info("stranger let in", "peer", p, "network", net)
	m.tellLocked()
	return nil
}

// fullLocked reports whether there is no room for one more stranger from a
// network.
func (m *Membership) fullLocked(p peer.ID, net netip.Prefix, now time.Time) bool {
	near, all := 0, 0
	for q, s := range m.strangers {
		if q == p || !m.strangerLocked(q, now) {
			continue
		}
		all++
		if s.net == net {
			near++
		}
	}
	return all >= m.mostStrangers || near >= m.mostOfNetwork
}

// strangerSeen notes where a stranger says it listens.
func (m *Membership) strangerSeen(p peer.ID, addrs []ma.Multiaddr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.strangers[p]; ok {
		s.addrs = addrs[:min(len(addrs), wire.MaxAddrs)]
	}
}

// strangerGone forgets a stranger: when it comes back it shows its certificate.
func (m *Membership) strangerGone(p peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.strangers, p)
}

// pass is what this node shows of itself where it is a stranger.
func (m *Membership) pass() *wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" || !m.farm.Stranger {
		return nil
	}
	return wire.FromSigned(m.farm.Certificate)
}

// isStranger reports whether this node is one in its farm.
func (m *Membership) isStranger() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.root != "" && m.farm.Stranger
}

// certify does the work for an opening and signs it with this node's key.
func (h *Host) certify(ctx context.Context, o Opening) (job.Signed, error) {
	now := time.Now()
	expires := now.Add(MaxStay)
	if o.Expires.Before(expires) {
		expires = o.Expires
	}
	pass := Pass{Version: 1, Farm: o.Farm, Peer: h.ID().String(), Epoch: o.Epoch, Expires: expires.UTC().Truncate(time.Second)}
	if err := pass.work(ctx, o.Difficulty); err != nil {
		return job.Signed{}, err
	}
	h.log.Info("worked to be let in", "farm", o.Farm, "bits", o.Difficulty, "took", time.Since(now))
	return job.Sign(h.host.Peerstore().PrivKey(h.ID()), job.ContextStranger, pass)
}

// joinOpen makes this node a stranger in the farm that an opening is of.
func (m *Membership) joinOpen(ctx context.Context, text string) (Farm, error) {
	h := m.host
	t, err := parseOpening(text)
	if err != nil {
		return Farm{}, err
	}
	o := t.opening
	if f, ok := m.Farm(); ok && !f.Revoked {
		switch {
		case f.ID != o.Farm:
			return Farm{}, fmt.Errorf("the opening is %w (%q): this node already belongs to %q; to be in both: idlewild farm join --as NAME OPENING, to leave that one: idlewild farm leave", ErrOtherFarm, o.Name, f.Name)
		case f.Role != RoleStranger:
			return f, nil // a member is more
		}
	}
	now := time.Now()
	switch {
	case o.Closed:
		return Farm{}, fmt.Errorf("join: %w any more", ErrClosed)
	case !o.in(now):
		return Farm{}, fmt.Errorf("join: %w any more: it was until %s", ErrClosed, o.Expires.Format(time.DateTime))
	}
	s, err := h.certify(ctx, o)
	if err != nil {
		return Farm{}, fmt.Errorf("join: %w", err)
	}
	if f, ok := m.Farm(); ok && f.ID != o.Farm { // which revoked this node
		if err := m.Leave(); err != nil {
			return Farm{}, err
		}
	}
	root, _ := peer.IDFromBytes(o.Root) // parseOpening looked
	f, err := m.enter(root, nil, farmFile{Root: o.Root, Chain: t.Chain, Name: o.Name, Certificate: s, Stranger: true, Contacts: t.Contacts})
	if err != nil {
		return Farm{}, fmt.Errorf("join: %w", err)
	}
	if _, err := m.applyOpening(t.Opening); err != nil {
		return Farm{}, fmt.Errorf("join: %w", err)
	}
	m.log.Info("farm joined as a stranger", "farm", f.ID, "name", f.Name)
	h.farmReady()
	return f, nil
}

// workAnew gets this node a certificate for the newest opening, and again when
// it has nearly expired.
func (h *Host) workAnew(ctx context.Context) {
	if !h.working.CompareAndSwap(false, true) {
		return
	}
	defer h.working.Store(false)
	for {
		o, ok := h.members.passDue(time.Now())
		if !ok {
			return
		}
		s, err := h.certify(ctx, o)
		if err == nil {
			err = h.members.takePass(s, o)
		}
		if err != nil {
			h.log.Warn("no new certificate for an open farm", "err", err)
			return // the next look at the time tries again
		}
		h.keeper.anew()
		for _, p := range h.host.Network().Peers() { // who refused us may take us now
			if h.members.Known(p) {
				h.goRun(func(ctx context.Context) { h.keeper.greet(ctx, p) })
			}
		}
	}
}

// passDue returns the opening for which this node has to work; false: none.
func (m *Membership) passDue(now time.Time) (Opening, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" || !m.farm.Stranger || !m.openLocked(now) {
		return Opening{}, false
	}
	var pass Pass
	err := job.Decode(m.farm.Certificate.Body, wire.MaxSignedBytes, &pass)
	// A tenth of its time is left to be let in with the next one.
	due := err != nil || pass.Epoch != m.opening.Epoch || m.opening.Expires.Sub(pass.Expires) > time.Minute && now.Add(MaxStay/10).After(pass.Expires)
	return m.opening.Opening, due
}

// takePass makes s what this node shows.
func (m *Membership) takePass(s job.Signed, o Opening) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" || !m.farm.Stranger || m.opening.Epoch != o.Epoch {
		return nil // another one was said meanwhile, and is worked for next
	}
	file := m.farm
	file.Certificate = s
	if err := m.dir.write("farm", farmMagic, file); err != nil {
		return err
	}
	m.farm = file
	return m.addSelfLocked()
}

// strangerSelf is what stands among the members for this node where it is a
// stranger: it knows itself.
func (m *Membership) strangerSelf() (*memberState, error) {
	var pass Pass
	if err := m.farm.Certificate.Open(m.self, job.ContextStranger, wire.MaxSignedBytes, &pass); err != nil {
		return nil, err
	}
	// To itself it does not expire: whether others let it in is theirs to say.
	return &memberState{signed: m.farm.Certificate, turn: len(m.chain), cert: Certificate{
		Version: 1, Farm: m.id, Peer: m.self.String(), Name: m.name, Role: RoleStranger, Expires: time.Now().Add(certificateLife),
	}}, nil
}

// firstContacts are the members that the text of the opening named.
func (m *Membership) firstContacts() []peer.AddrInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []peer.AddrInfo
	for _, c := range m.farm.Contacts[:min(len(m.farm.Contacts), maxContacts)] {
		if v, ok := c.info(); ok {
			out = append(out, v)
		}
	}
	return out
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
