package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// ProtocolAdmit changes a ticket for a certificate. With identify and hello it
// is all that answers a peer that is not a member.
const ProtocolAdmit Protocol = "admit"

// exchangeTime bounds an admission or a hello, from open to close.
const exchangeTime = 10 * time.Second

// Join makes this node a member of the farm that a ticket is for, or a stranger
// in the one that an opening is of. Once it returns without error that is on
// disk. A stranger may not have met anybody yet.
func (m *Membership) Join(ctx context.Context, text string) (Farm, error) {
	if isOpening(text) {
		return m.joinOpen(ctx, text)
	}
	h := m.host
	t, err := ParseTicket(text)
	if err != nil {
		return Farm{}, err
	}
	if f, ok := m.Farm(); ok && !f.Revoked && !(f.ID == t.Farm && f.Role == RoleStranger) {
		if f.ID == t.Farm {
			return f, nil // nothing to do, and the ticket stays good
		}
		return Farm{}, fmt.Errorf("the ticket is %w (%q): this node already belongs to %q; to be in both: idlewild farm join --as NAME TICKET, to leave that one: idlewild farm leave", ErrOtherFarm, t.Name, f.Name)
	}
	inviter := t.inviter()
	release := h.gate.expect(inviter.ID)
	defer release()
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	answer, err := h.present(ctx, inviter, text)
	if err != nil {
		if errors.Is(err, errUnreached) && time.Now().After(t.Expires) {
			return Farm{}, fmt.Errorf("%w: it was good until %s", ErrTicketExpired, t.Expires.Format(time.DateTime))
		}
		return Farm{}, err
	}
	s, err := answer.GetCertificate().Value(wire.MaxSignedBytes)
	if err != nil {
		return Farm{}, fmt.Errorf("join: %w", err)
	}
	chain, err := t.chain(answer.GetSuccessions())
	if err != nil {
		return Farm{}, fmt.Errorf("join: %w", err)
	}
	_, subject, err := openCertificate(s, t.root(), t.Farm)
	if err != nil {
		return Farm{}, fmt.Errorf("join: %w", err)
	}
	if subject != m.self {
		return Farm{}, fmt.Errorf("join: the certificate is for another peer, %s", subject)
	}
	if f, ok := m.Farm(); ok && f.ID != t.Farm { // which revoked this node: nothing holds it there
		if err := m.Leave(); err != nil {
			return Farm{}, err
		}
	}
	before, _ := m.Farm()
	f, err := m.enter(t.root(), nil, farmFile{Root: t.Root, Chain: chain, Name: t.Name, Certificate: s})
	if err != nil {
		return Farm{}, fmt.Errorf("join: %w", err)
	}
	m.log.Info("farm joined", "farm", f.ID, "name", f.Name)
	if before.Role == RoleStranger {
		// Connections of a stranger are without gossip, and stay so.
		for _, p := range h.host.Network().Peers() {
			if p != inviter.ID {
				h.goRun(func(context.Context) { _ = h.host.Network().ClosePeer(p) })
			}
		}
		defer func() { _ = h.host.Network().ClosePeer(inviter.ID) }()
	}
	h.absorb(inviter.ID, answer.GetDetails())
	h.farmReady()
	// The inviter knows us by now; greet it, so that offers come at once.
	if err := h.hello(ctx, inviter.ID); err != nil {
		m.log.Debug("no hello after joining", "peer", inviter.ID, "err", err)
	}
	return f, nil
}

var errUnreached = errors.New("cannot reach the node that made the ticket")

// present shows a ticket to the node that made it. A connection that breaks
// on the way is tried again: to the same peer a ticket gives the same answer.
func (h *Host) present(ctx context.Context, inviter peer.AddrInfo, text string) (*wire.AdmitAnswer, error) {
	for try := 1; ; try++ {
		h.clearBackoff(inviter.ID)
		if err := h.host.Connect(ctx, inviter); err != nil {
			return nil, fmt.Errorf("%w, at %s: is it running? (%w)", errUnreached, listAddrs(inviter), cause(err))
		}
		answer, err := h.askAdmission(ctx, inviter.ID, text)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) || try == 3 || ctx.Err() != nil {
			return answer, err
		}
		h.log.Debug("ticket shown again", "peer", inviter.ID, "err", err)
		_ = h.host.Network().ClosePeer(inviter.ID) // likely the other side's doing: begin anew
	}
}

func (h *Host) askAdmission(ctx context.Context, p peer.ID, ticket string) (*wire.AdmitAnswer, error) {
	s, err := h.host.NewStream(ctx, p, h.ids(ProtocolAdmit)...)
	if err != nil {
		return nil, fmt.Errorf("join: the node that made the ticket does not answer: %w", cause(err))
	}
	defer s.Close()
	stop := watch(s, exchangeTime)
	defer stop()
	req := &wire.AdmitRequest{Ticket: ticket, Name: h.members.name, Capability: h.release.Capability, Version: h.cfg.Version, Addrs: addrBytes(h.addrs())}
	if _, err := wire.Write(s, req, wire.MaxAdmitRequest); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	var answer wire.AdmitAnswer
	if _, err := wire.Read(bufio.NewReader(s), &answer, wire.MaxHello); err != nil {
		return nil, fmt.Errorf("join: no answer to the ticket: %w", err)
	}
	if r := answer.GetRefusal(); r != nil {
		return nil, fmt.Errorf("join: %w", refusalError(r))
	}
	return &answer, nil
}

// answerAdmit is the owner's side.
func (h *Host) answerAdmit(s network.Stream) {
	defer s.Close()
	stop := watch(s, exchangeTime)
	defer stop()
	var req wire.AdmitRequest
	if _, err := wire.Read(bufio.NewReader(s), &req, wire.MaxAdmitRequest); err != nil {
		h.stats.malformed.Add(1)
		s.Reset()
		return
	}
	joiner := s.Conn().RemotePeer()
	answer := &wire.AdmitAnswer{Refusal: h.tooOld(joiner, h.joinerName(joiner, req.GetName()), req.GetCapability(), req.GetVersion())}
	if answer.Refusal == nil {
		answer = h.members.admit(joiner, &req)
	}
	if answer.Refusal == nil {
		answer.Details = h.details(joiner)
		h.members.seen(joiner, h.order(joiner, reachable(addrsFrom(req.GetAddrs()), h.near(joiner))))
		h.members.saveFresh()
		h.tellAdmitted(joiner)
		h.log.Info("member admitted", "peer", joiner, "name", req.GetName())
	} else {
		h.log.Info("admission refused", "peer", joiner, "reason", answer.Refusal.Text)
	}
	if _, err := wire.Write(s, answer, wire.MaxHello); err != nil {
		h.log.Debug("admission not answered", "peer", joiner, "err", err)
	}
}

// joinerName is what to call somebody who is not a member yet.
func (h *Host) joinerName(p peer.ID, asked string) string {
	if checkName(asked) == nil {
		return asked
	}
	return h.nameOf(p)
}

// tellAdmitted lets the farm know of a new member. Without it those that the
// newcomer cannot dial would not hear of it until their next hello.
func (h *Host) tellAdmitted(p peer.ID) {
	for _, r := range h.members.records() {
		cert, err := r.GetCertificate().Value(wire.MaxSignedBytes)
		if err != nil {
			continue
		}
		if _, subject, err := h.members.openCurrent(cert); err != nil || subject != p {
			continue
		}
		for { // as many addresses as fit
			err := h.offers.publish(&wire.Gossip{Body: &wire.Gossip_Member{Member: r}})
			if errors.Is(err, wire.ErrTooLarge) && len(r.Addrs) > 0 {
				r.Addrs = r.Addrs[:len(r.Addrs)-1]
				continue
			}
			if err != nil {
				h.log.Debug("new member not announced", "peer", p, "err", err)
			}
			return
		}
	}
}

// admit checks a ticket and, the first time, spends it.
func (m *Membership) admit(joiner peer.ID, req *wire.AdmitRequest) *wire.AdmitAnswer {
	refuse := func(code wire.Refusal_Code, text string) *wire.AdmitAnswer {
		return &wire.AdmitAnswer{Refusal: &wire.Refusal{Code: code, Text: text}}
	}
	t, err := ParseTicket(req.GetTicket())
	if err != nil {
		return refuse(wire.Refusal_MALFORMED, err.Error())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root != "" && t.root() != m.root && t.Farm == m.id {
		return refuse(wire.Refusal_EXPIRED, "the farm's key was replaced after the ticket was made: ask for a new one")
	}
	if m.root == "" || t.root() != m.root {
		return refuse(wire.Refusal_OTHER_FARM, "the ticket is for another farm than this node's")
	}
	if m.rootKey == nil {
		return refuse(wire.Refusal_NOT_OWNER, ErrNotOwner.Error())
	}
	spent, used, err := m.dir.spent(t.Secret)
	if err != nil {
		m.log.Error("spent ticket not read", "err", err)
		return refuse(wire.Refusal_FAILED, "the owner's node cannot read its tickets")
	}
	if used && spent.Peer != joiner.String() {
		return refuse(wire.Refusal_USED, fmt.Sprintf("%v, at %s: ask for a new one", ErrTicketUsed, spent.At.Format(time.DateTime)))
	}
	now := time.Now()
	if !used && m.farm.Recovered > 0 && t.Issued <= m.farm.Recovered {
		// Whether it was used before, this node cannot know.
		return refuse(wire.Refusal_EXPIRED, "the farm was recovered from a backup after the ticket was made: ask for a new one")
	}
	if !used && now.After(t.Expires) {
		return refuse(wire.Refusal_EXPIRED, fmt.Sprintf("%v: it was good until %s; ask for a new one", ErrTicketExpired, t.Expires.Format(time.DateTime)))
	}
	if !used {
		cert, err := job.Sign(m.rootKey, job.ContextMember, Certificate{
			Version: 1, Farm: t.Farm, Peer: joiner.String(), Name: m.freeNameLocked(req.GetName(), joiner), Role: t.Role,
			Issued: now, Expires: now.Add(t.stay()),
		})
		if err != nil {
			return refuse(wire.Refusal_FAILED, "the owner's node cannot sign")
		}
		spent = spentFile{Peer: joiner.String(), Certificate: cert, At: now}
		if err := m.dir.spend(t.Secret, spent); err != nil {
			m.log.Error("ticket not spent", "err", err)
			return refuse(wire.Refusal_FAILED, "the owner's node cannot write to its disk")
		}
	}
	cert, _, err := openCertificate(spent.Certificate, m.root, m.id)
	if err != nil {
		return refuse(wire.Refusal_FAILED, "the owner's node cannot read its tickets")
	}
	if m.revokedLocked(joiner, cert) {
		return refuse(wire.Refusal_REVOKED, ErrRevoked.Error()+": ask for a new ticket")
	}
	if old, ok := m.members[joiner]; !ok || cert.Issued.After(old.cert.Issued) {
		m.members[joiner] = &memberState{cert: cert, signed: spent.Certificate, turn: len(m.chain)}
	}
	if err := m.saveLocked(); err != nil {
		m.log.Error("members not written", "err", err) // the spent ticket has the certificate
	}
	m.tellLocked()
	return &wire.AdmitAnswer{FarmName: m.farm.Name, Certificate: wire.FromSigned(spent.Certificate), Successions: m.successionsLocked(wire.MaxSuccessions)}
}

// freeNameLocked returns name, or a variant of it that no other member has.
func (m *Membership) freeNameLocked(name string, p peer.ID) string {
	if checkName(name) != nil || len(name) > wire.MaxNameBytes-8 {
		s := p.String()
		name = "node-" + s[len(s)-6:]
	}
	taken := func(s string) bool {
		for q, v := range m.members {
			if q != p && v.cert.Name == s {
				return true
			}
		}
		return false
	}
	out := name
	for i := 2; taken(out); i++ {
		out = fmt.Sprintf("%s-%d", name, i)
	}
	return out
}

// RefusedError is a no from another peer, with its sentence.
type RefusedError struct {
	Code wire.Refusal_Code
	Text string
}

func (e *RefusedError) Error() string { return e.Text }

// Is matches the sentinels of this package.
func (e *RefusedError) Is(target error) bool {
	switch target {
	case ErrTicketMalformed:
		return e.Code == wire.Refusal_MALFORMED
	case ErrTicketExpired:
		return e.Code == wire.Refusal_EXPIRED
	case ErrTicketUsed:
		return e.Code == wire.Refusal_USED
	case ErrOtherFarm:
		return e.Code == wire.Refusal_OTHER_FARM
	case ErrRevoked:
		return e.Code == wire.Refusal_REVOKED
	case ErrNotOwner:
		return e.Code == wire.Refusal_NOT_OWNER
	case ErrClosed:
		return e.Code == wire.Refusal_CLOSED
	case ErrTooOld:
		return e.Code == wire.Refusal_TOO_OLD
	}
	return false
}

func refusalError(r *wire.Refusal) error {
	text := r.GetText()
	if text == "" || len(text) > job.MaxReasonBytes {
		text = "refused: " + strings.ToLower(r.GetCode().String())
	}
	return &RefusedError{r.GetCode(), text}
}

// watch resets s unless stopped within d. Deadlines would do on sockets, but
// streams in memory have none.
func watch(s network.Stream, d time.Duration) (stop func() bool) {
	return time.AfterFunc(d, func() { s.Reset() }).Stop
}

// cause shortens libp2p's long lists of dial errors to one line.
func cause(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	line, _, more := strings.Cut(err.Error(), "\n")
	if !more {
		return err
	}
	return errors.New(strings.TrimSuffix(line, ":"))
}

func listAddrs(p peer.AddrInfo) string {
	var out []string
	for _, a := range p.Addrs {
		out = append(out, a.String())
	}
	if len(out) == 0 {
		return "no address"
	}
	return strings.Join(out, ", ")
}
