package p2p

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/p2p/wire"
)

// Bounds of a hello between a member and a stranger. There may be many strangers,
// and they come and go as they like.
const (
	maxStrangerOffers      = 8 // in either direction
	maxStrangerHello       = 64 << 10
	maxStrangerTakers      = 32
	maxStrangerRevocations = 128
)

// forStranger is what a stranger is told: enough to find others that may have
// work for it, and what the root says.
func (h *Host) forStranger(p peer.ID) *wire.Details {
	d := &wire.Details{
		Revocations: h.members.revocationsFor(p, time.Now()), Addrs: addrBytes(h.addrs()), Opening: h.members.openingSigned(), Strangers: h.cfg.Strangers != nil,
	}
	takers := h.takers()
	for _, r := range h.members.records() { // the newest seen first
		if len(d.Members) == maxStrangerTakers {
			break
		}
		cert, err := r.GetCertificate().Value(wire.MaxSignedBytes)
		if err != nil {
			continue
		}
		if _, q, err := h.members.openCurrent(cert); err == nil && slices.Contains(takers, q) {
			r.LastSeenMs = 0 // when somebody was here is nobody's business
			d.Members = append(d.Members, r)
		}
	}
	for _, o := range h.offers.ownOpen() {
		if o.Strangers && len(d.Offers) < maxStrangerOffers {
			d.Offers = append(d.Offers, wire.FromOffer(o))
		}
	}
	return d
}

// byStranger is what this node tells a member where it is a stranger itself:
// nobody would believe anything else.
func (h *Host) byStranger() *wire.Details {
	d := &wire.Details{Addrs: addrBytes(h.addrs()), Opening: h.members.openingSigned(), Strangers: h.cfg.Strangers != nil}
	open := h.offers.ownOpen()
	for _, o := range open[:min(len(open), maxStrangerOffers)] {
		d.Offers = append(d.Offers, wire.FromOffer(o))
	}
	return d
}

// revocationsFor are those of the root's statements that a stranger is told with
// one hello, of those that it was not told since it came. First come those about
// peers that still have a certificate which would count without: one of them may
// show it to the stranger. What others have lost they could show to nobody who
// knows the farm's root, a stranger's pass above all, whose bearers are members'
// business; they fill what room is left, the newest first.
func (m *Membership) revocationsFor(p peer.ID, now time.Time) []*wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	told := uint64(0)
	if s, ok := m.strangers[p]; ok {
		told = s.told
	}
	var first, rest []revokedState
	for q, r := range m.revoked {
		switch s, ok := m.members[q]; {
		case r.no <= told:
		case ok && now.Before(s.cert.Expires) && m.revokedLocked(q, s.cert):
			first = append(first, r)
		default:
			rest = append(rest, r)
		}
	}
	newest := func(a, b revokedState) int { return b.at.Compare(a.at) }
	slices.SortFunc(first, newest)
	slices.SortFunc(rest, newest)
	var out []*wire.Signed
	for _, r := range slices.Concat(first, rest) {
		if len(out) == maxStrangerRevocations {
			break
		}
		out = append(out, wire.FromSigned(r.signed))
	}
	return out
}

// revocationNo is the number of the newest revocation that this program took in.
func (m *Membership) revocationNo() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revocationsIn
}

// told notes that a stranger was told of revocations up to the one of a number:
// the next hello has only later ones.
func (m *Membership) told(p peer.ID, no uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.strangers[p]; ok {
		s.told = max(s.told, no)
	}
}

// heedStranger takes in what a stranger tells: where it is, and what it offers.
func (h *Host) heedStranger(p peer.ID, d *wire.Details) {
	if d == nil {
		return
	}
	h.hearOpening(p, d.GetOpening())
	h.members.strangerSeen(p, reachable(addrsFrom(d.GetAddrs()), h.near(p)))
	offers := d.GetOffers()
	for _, o := range offers[:min(len(offers), maxStrangerOffers)] {
		v, err := o.Value()
		if err != nil || v.Requester != p {
			h.stats.malformed.Add(1)
			continue
		}
		h.offers.note(v, time.Now())
	}
}

// taker notes whether a member said that it takes strangers.
func (h *Host) taker(p peer.ID, yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if yes {
		h.taking[p] = true
	} else {
		delete(h.taking, p)
	}
}

// takers are the connected members that take strangers.
func (h *Host) takers() []peer.ID {
	h.mu.Lock()
	all := make([]peer.ID, 0, len(h.taking))
	for p := range h.taking {
		all = append(all, p)
	}
	h.mu.Unlock()
	return slices.DeleteFunc(all, func(p peer.ID) bool {
		return !h.members.Known(p) || h.host.Network().Connectedness(p) != network.Connected
	})
}
