package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	ma "github.com/multiformats/go-multiaddr"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// ProtocolHello is how members show each other their certificates, and then
// what they know: members, revocations, addresses, their open offers.
const ProtocolHello Protocol = "hello"

// hello greets a connected peer. After it returned nil both sides know each
// other as members, and each works with what the other can.
func (h *Host) hello(ctx context.Context, p peer.ID) error {
	err := h.greet(ctx, p)
	if err == nil {
		h.skews.over(p)
	} else {
		h.apart(p, err)
	}
	return err
}

func (h *Host) greet(ctx context.Context, p peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	s, err := h.host.NewStream(network.WithNoDial(ctx, "hello"), p, h.ids(ProtocolHello)...)
	if err != nil {
		return fmt.Errorf("hello to %s: %w", p, h.noHello(p, err))
	}
	defer s.Close()
	stop := watch(s, exchangeTime)
	defer stop()
	mine, pass := h.members.certificates(), h.members.pass()
	if mine == nil && pass == nil {
		return ErrNoFarm
	}
	first := &wire.Hello{Certificates: mine, Stranger: pass, Capability: h.release.Capability, Version: h.cfg.Version, Successions: h.members.successions(wire.MaxFirstSuccs)}
	if _, err := wire.Write(s, first, wire.MaxAdmitRequest); err != nil {
		return fmt.Errorf("hello to %s: %w", p, err)
	}
	var theirs wire.Hello
	most := wire.MaxHello
	if h.members.Stranger(p) {
		most = maxStrangerHello
	}
	if _, err := wire.Read(bufio.NewReader(s), &theirs, most); err != nil {
		return fmt.Errorf("hello to %s: %w", p, err)
	}
	h.heed(p, theirs.GetSuccessions(), wire.MaxSuccessions)
	if r := theirs.GetRefusal(); r != nil {
		if rev, err := r.GetRevocation().Value(wire.MaxSignedBytes); err == nil && len(rev.Body) > 0 {
			// Its signature decides, not who sent it.
			if _, err := h.members.applyRevocation(rev); err != nil {
				h.log.Debug("revocation not believed", "peer", p, "err", err)
			}
		}
		h.hearOpening(p, r.GetOpening())
		return fmt.Errorf("hello to %s: %w", p, refusalError(r))
	}
	if r := h.meet(p, &theirs); r != nil {
		return fmt.Errorf("hello to %s: %w", p, refusalError(r))
	}
	h.able(p, theirs.GetCapability())
	if r := h.tooOld(p, h.nameOf(p), theirs.GetCapability(), theirs.GetVersion()); r != nil {
		_, _ = wire.Write(s, &wire.Hello{Refusal: r, Capability: h.release.Capability, Version: h.cfg.Version}, wire.MaxHello)
		return fmt.Errorf("hello to %s: %w", p, refusalError(r))
	}
	h.mine(theirs.GetYours())
	h.hear(p, theirs.GetDetails())
	no := h.members.revocationNo()
	if _, err := wire.Write(s, &wire.Hello{Details: h.details(p), Successions: h.members.successions(wire.MaxSuccessions), Yours: h.members.certificateOf(p)}, wire.MaxHello); err != nil {
		return fmt.Errorf("hello to %s: %w", p, err)
	}
	h.members.told(p, no)
	return nil
}

// answerHello is the other side. It speaks with strangers: nothing but a
// refusal goes to one.
func (h *Host) answerHello(s network.Stream) {
	defer s.Close()
	stop := watch(s, exchangeTime)
	defer stop()
	p := s.Conn().RemotePeer()
	r := bufio.NewReader(s)
	var first wire.Hello
	if _, err := wire.Read(r, &first, wire.MaxAdmitRequest); err != nil {
		h.stats.malformed.Add(1)
		s.Reset()
		return
	}
	h.heed(p, first.GetSuccessions(), wire.MaxFirstSuccs)
	refusal := h.meet(p, &first)
	if refusal == nil {
		h.able(p, first.GetCapability())
		if refusal = h.tooOld(p, h.nameOf(p), first.GetCapability(), first.GetVersion()); refusal != nil {
			h.apart(p, refusalError(refusal))
			h.members.strangerGone(p)
		}
	}
	if refusal != nil {
		h.log.Debug("hello refused", "peer", p, "reason", refusal.Text)
		answer := &wire.Hello{Refusal: refusal, Capability: h.release.Capability, Version: h.cfg.Version}
		if h.lateOf(p, first.GetCertificates()) {
			answer.Successions = h.members.successions(wire.MaxSuccessions)
		}
		_, _ = wire.Write(s, answer, wire.MaxHello)
		return
	}
	no := h.members.revocationNo()
	answer := &wire.Hello{Certificates: h.members.certificates(), Stranger: h.members.pass(), Capability: h.release.Capability, Version: h.cfg.Version, Details: h.details(p),
		Successions: h.members.successions(wire.MaxSuccessions), Yours: h.members.certificateOf(p)}
	if _, err := wire.Write(s, answer, wire.MaxHello); err != nil {
		return
	}
	var last wire.Hello
	most := wire.MaxHello
	if !h.members.Known(p) {
		most = maxStrangerHello
	}
	if _, err := wire.Read(r, &last, most); err != nil {
		return // it knows us now; what it knows comes another time
	}
	h.members.told(p, no)
	h.heed(p, last.GetSuccessions(), wire.MaxSuccessions)
	if r := last.GetRefusal(); r != nil {
		h.apart(p, refusalError(r))
		return
	}
	h.skews.over(p)
	h.mine(last.GetYours())
	h.hear(p, last.GetDetails())
}

// meet checks the certificates that a peer showed of itself; nil lets it in, as a
// member or as a stranger.
func (h *Host) meet(p peer.ID, shown *wire.Hello) *wire.Refusal {
	certs := shown.GetCertificates()
	if len(certs) > wire.MaxCertificates {
		return &wire.Refusal{Code: wire.Refusal_MALFORMED, Text: "too many certificates"}
	}
	if _, ok := h.members.Farm(); !ok {
		return &wire.Refusal{Code: wire.Refusal_OTHER_FARM, Text: "this node is in no farm"}
	}
	refusal := &wire.Refusal{Code: wire.Refusal_OTHER_FARM, Text: "no certificate of this node's farm was shown"}
	for _, c := range certs {
		s, err := c.Value(wire.MaxSignedBytes)
		if err != nil {
			continue
		}
		subject, err := h.members.learn(s, nil)
		switch {
		case subject != p:
			continue // also what cannot be read: it may be of another farm of that peer
		case errors.Is(err, ErrRevoked):
			rev, _ := h.members.revocationOf(p)
			return &wire.Refusal{Code: wire.Refusal_REVOKED, Text: ErrRevoked.Error(), Revocation: wire.FromSigned(rev)}
		case err != nil:
			refusal = &wire.Refusal{Code: wire.Refusal_EXPIRED, Text: err.Error()}
		case h.members.Known(p):
			h.members.saveFresh()
			return nil
		}
	}
	// Its certificate may be by a root that was replaced since. Who it is, the
	// connection says; that it is a member, what others told of it.
	if h.lateOf(p, certs) {
		if h.members.Known(p) {
			return nil
		}
		refusal.Text = "the farm's root key was replaced, and nobody here has a new certificate for this peer: wait until the owner is there, or ask for a ticket"
		return refusal
	}
	if w := shown.GetStranger(); w != nil {
		r := h.admitStranger(p, w)
		h.callers.refused(r)
		return r
	}
	return refusal
}

// lateOf reports whether p shows a certificate by an earlier root.
func (h *Host) lateOf(p peer.ID, certs []*wire.Signed) bool {
	for _, c := range certs[:min(len(certs), wire.MaxCertificates)] {
		if s, err := c.Value(wire.MaxSignedBytes); err == nil && h.members.late(p, s) {
			return true
		}
	}
	return false
}

// mine takes in this node's own certificate as another member has it.
func (h *Host) mine(w *wire.Signed) {
	if w == nil {
		return
	}
	s, err := w.Value(wire.MaxSignedBytes)
	if err == nil {
		var p peer.ID
		if _, p, err = h.members.openCurrent(s); err == nil && p == h.ID() {
			_, err = h.members.learn(s, nil)
		}
	}
	if err != nil {
		h.log.Debug("certificate not believed", "err", err)
	}
}

// details is what goes to somebody who was let in.
func (h *Host) details(p peer.ID) *wire.Details {
	if !h.members.Known(p) {
		return h.forStranger(p)
	}
	if h.members.isStranger() {
		return h.byStranger()
	}
	d := &wire.Details{
		Members: h.members.records(), Revocations: h.members.revocations(), Addrs: addrBytes(h.addrs()), ContentKey: h.members.contentKey(),
		Opening: h.members.openingSigned(), Strangers: h.cfg.Strangers != nil,
	}
	if h.cfg.Words != nil {
		said := h.cfg.Words.Words()
		for _, s := range said[:min(len(said), wire.MaxHelloWords)] {
			d.Words = append(d.Words, wire.FromSigned(s))
		}
	}
	for _, o := range h.offers.ownOpen() {
		d.Offers = append(d.Offers, wire.FromOffer(o))
	}
	return d
}

// hear takes in what somebody tells in a hello. Who is neither member nor
// stranger any more, because its certificate has expired between two messages
// say, tells nothing.
func (h *Host) hear(p peer.ID, d *wire.Details) {
	switch {
	case h.members.Known(p):
		h.absorb(p, d)
	case h.members.Stranger(p):
		h.heedStranger(p, d)
	}
}

// absorb takes in what a member tells, or whoever let this node in.
func (h *Host) absorb(p peer.ID, d *wire.Details) {
	if d == nil || !h.members.Known(p) && h.members.FarmID() == "" {
		return
	}
	h.hearOpening(p, d.GetOpening())
	h.taker(p, d.GetStrangers())
	h.hearRevocations(p, d.GetRevocations())
	if k := d.GetContentKey(); k != nil {
		if err := h.members.learnContentKey(k); err != nil {
			h.log.Debug("content key not believed", "peer", p, "err", err)
		}
	}
	if h.cfg.Words != nil && h.members.Known(p) {
		said := d.GetWords()
		for _, w := range said[:min(len(said), wire.MaxHelloWords)] {
			s, err := w.Value(wire.MaxSignedBytes)
			if err != nil {
				h.stats.malformed.Add(1)
				continue
			}
			h.cfg.Words.Heard(p, s)
		}
	}
	near := h.near(p)
	recs := d.GetMembers()
	for _, r := range recs[:min(len(recs), wire.MaxHelloMembers)] {
		s, err := r.GetCertificate().Value(wire.MaxSignedBytes)
		if err != nil {
			continue
		}
		if _, err := h.members.learn(s, reachable(addrsFrom(r.GetAddrs()), near)); err != nil {
			h.log.Debug("member not believed", "peer", p, "err", err)
		}
	}
	h.members.seen(p, h.order(p, reachable(addrsFrom(d.GetAddrs()), near)))
	h.members.saveFresh()
	if len(recs) > 0 {
		h.keeper.wake() // to dial whom it told of
	}
	h.host.ConnManager().TagPeer(p, "member", 50) // one with a job is protected, see engage
	h.keeper.met(p)
	h.puncher.ready() // what it said of where it sees us counts now
	h.reserver.wake()
	offers := d.GetOffers()
	for _, o := range offers[:min(len(offers), wire.MaxHelloOffers)] {
		v, err := o.Value()
		if err != nil || v.Requester != p {
			h.stats.malformed.Add(1)
			continue
		}
		h.offers.note(v, time.Now())
	}
}

// hearRevocations takes in what the root says of peers, as p tells it.
func (h *Host) hearRevocations(p peer.ID, said []*wire.Signed) {
	var all []job.Signed
	for _, r := range said[:min(len(said), wire.MaxRevocations)] {
		if s, err := r.Value(wire.MaxSignedBytes); err == nil {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return
	}
	if _, err := h.members.applyRevocations(all); err != nil {
		h.log.Debug("revocation not believed", "peer", p, "err", err)
	}
}

// near reports whether p is on this machine.
func (h *Host) near(p peer.ID) bool {
	for _, c := range h.host.Network().ConnsToPeer(p) {
		if manet.IsIPLoopback(c.RemoteMultiaddr()) {
			return true
		}
	}
	return false
}

// reachable leaves out loopback addresses of peers on other machines.
func reachable(addrs []ma.Multiaddr, near bool) []ma.Multiaddr {
	if near {
		return addrs
	}
	var out []ma.Multiaddr
	for _, a := range addrs {
		if !manet.IsIPLoopback(a) {
			out = append(out, a)
		}
	}
	return out
}

// order puts the address by which we reached p first.
func (h *Host) order(p peer.ID, addrs []ma.Multiaddr) []ma.Multiaddr {
	for _, c := range h.host.Network().ConnsToPeer(p) {
		if c.Stat().Direction != network.DirOutbound || relayed(c) {
			continue
		}
		first := c.RemoteMultiaddr()
		out := []ma.Multiaddr{first}
		for _, a := range addrs {
			if !a.Equal(first) {
				out = append(out, a)
			}
		}
		return out
	}
	return addrs
}

// spread passes a revocation on to every connected member, beside the topic.
func (h *Host) spread(s job.Signed) {
	h.offers.publish(&wire.Gossip{Body: &wire.Gossip_Revocation{Revocation: wire.FromSigned(s)}})
	h.Tell()
}

// Tell greets everybody again who is connected, because there is news for them:
// what this machine says of others, say.
func (h *Host) Tell() {
	for _, p := range h.host.Network().Peers() {
		if h.members.Admitted(p) {
			h.goRun(func(ctx context.Context) {
				if err := h.hello(ctx, p); err != nil {
					h.log.Debug("news not passed on", "peer", p, "err", err)
				}
			})
		}
	}
}
