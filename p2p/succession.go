package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

const (
	// CarryTime is how long, as a rule, members of a farm whose root key was
	// replaced know each other by their old certificates: their new ones come
	// meanwhile.
	CarryTime = 10 * time.Minute
	// MaxCarry is the longest time for that.
	MaxCarry = 24 * time.Hour

	// renewEvery is how often a node without a certificate by the newest root
	// asks a member for it.
	renewEvery = 2 * time.Second
)

// Succession is a root's word that another key takes its place. From then on
// nothing that the old root signs counts any more, and of what it signed before
// only what a node knew already, and only for a while. It travels and is stored
// as job.Signed in job.ContextSuccession, by Root.
//
// Who has stolen a root key after it was replaced can do nothing with it where
// the replacement is known: a chain of successions only ever grows. Where it is
// not known yet he can show another one. Whoever sees both keeps the first and
// says so.
type Succession struct {
	Version int       `cbor:"v"` // 1
	Farm    FarmID    `cbor:"farm"`
	No      int       `cbor:"no"`   // 1 for the successor of the first root
	Root    []byte    `cbor:"root"` // peer ID of the root that is replaced
	Next    []byte    `cbor:"next"` // peer ID of the new one
	At      time.Time `cbor:"at"`
	Carry   int64     `cbor:"carry"` // seconds for which known members need no new certificate
}

// link is a Succession that was checked.
type link struct {
	signed     job.Signed
	root, next peer.ID
	carry      time.Duration
}

// ErrForked: a root has two successors, so somebody else has its key.
var ErrForked = errors.New("the farm's root key has two successors: somebody else has that key")

// openLink checks one succession by itself. farm may be "" where that is to be
// found out.
func openLink(s job.Signed, no int, root peer.ID, farm FarmID) (link, error) {
	var v Succession
	if err := s.Open(root, job.ContextSuccession, wire.MaxSignedBytes, &v); err != nil {
		return link{}, fmt.Errorf("succession: %w", err)
	}
	next, err := peer.IDFromBytes(v.Next)
	if err != nil || v.Version != 1 || v.No != no || v.Farm != farm || string(v.Root) != string(root) || next == root ||
		v.Carry < 0 || v.Carry > int64(MaxCarry/time.Second) {
		return link{}, fmt.Errorf("succession: not number %d of this farm", no)
	}
	return link{s, root, next, time.Duration(v.Carry) * time.Second}, nil
}

// openChain checks how root came after the first root of its farm, and returns
// the farm.
func openChain(root peer.ID, signed []job.Signed) ([]link, FarmID, error) {
	if len(signed) > wire.MaxSuccessions {
		return nil, "", fmt.Errorf("successions: %d, at most %d", len(signed), wire.MaxSuccessions)
	}
	at := root
	if len(signed) > 0 {
		var first Succession
		if err := job.Decode(signed[0].Body, wire.MaxSignedBytes, &first); err != nil {
			return nil, "", fmt.Errorf("succession: %w", err)
		}
		var err error
		if at, err = peer.IDFromBytes(first.Root); err != nil {
			return nil, "", fmt.Errorf("succession: root: %w", err)
		}
	}
	id := farmIDOf(at)
	var chain []link
	for i, s := range signed {
		l, err := openLink(s, i+1, at, id)
		if err != nil {
			return nil, "", err
		}
		chain, at = append(chain, l), l.next
	}
	if at != root {
		return nil, "", errors.New("successions: they do not end at the root")
	}
	return chain, id, nil
}

// idOfChain is the farm of a root and its chain, "" where they do not match.
func idOfChain(root peer.ID, chain []job.Signed) FarmID {
	_, id, err := openChain(root, chain)
	if err != nil {
		return ""
	}
	return id
}

// chain checks what the inviter showed of how the ticket's root came about.
func (t Ticket) chain(shown []*wire.Signed) ([]job.Signed, error) {
	signed, err := signedValues(shown, wire.MaxSuccessions)
	if err != nil {
		return nil, err
	}
	_, id, err := openChain(t.root(), signed)
	if err != nil {
		return nil, err
	}
	if id != t.Farm || len(signed) != t.Turn {
		return nil, fmt.Errorf("%w: its key is not one of the farm that it names", ErrTicketMalformed)
	}
	return signed, nil
}

func signedValues(ws []*wire.Signed, most int) ([]job.Signed, error) {
	if len(ws) > most {
		return nil, fmt.Errorf("%d successions, at most %d", len(ws), most)
	}
	var out []job.Signed
	for _, w := range ws {
		s, err := w.Value(wire.MaxSignedBytes)
		if err != nil {
			return nil, fmt.Errorf("succession: %w", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// rootAt is the root after i replacements.
func (m *Membership) rootAt(i int) peer.ID {
	if i < len(m.chain) {
		return m.chain[i].root
	}
	return m.root
}

// openAnyLocked opens a certificate by the newest root or an earlier one, and
// says by which. It is for what this node accepted before, and never for what
// somebody shows: who has an old key can date a certificate back.
func (m *Membership) openAnyLocked(s job.Signed) (c Certificate, p peer.ID, turn int, err error) {
	for turn = len(m.chain); turn >= 0; turn-- {
		if c, p, err = openCertificate(s, m.rootAt(turn), m.id); err == nil {
			return c, p, turn, nil
		}
	}
	return c, p, 0, err
}

// openCurrent opens a certificate by the newest root.
func (m *Membership) openCurrent(s job.Signed) (Certificate, peer.ID, error) {
	m.mu.Lock()
	root, id := m.root, m.id
	m.mu.Unlock()
	return openCertificate(s, root, id)
}

// successionsLocked are the newest successions, most of them at most.
func (m *Membership) successionsLocked(most int) []*wire.Signed {
	var out []*wire.Signed
	for _, l := range m.chain[max(0, len(m.chain)-most):] {
		out = append(out, wire.FromSigned(l.signed))
	}
	return out
}

func (m *Membership) successions(most int) []*wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.successionsLocked(most)
}

// certificateOf is what this node has of p by the newest root.
func (m *Membership) certificateOf(p peer.ID) *wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.members[p]; ok && m.root != "" && s.turn == len(m.chain) && m.knownLocked(p, time.Now()) {
		return wire.FromSigned(s.signed)
	}
	return nil
}

// late reports whether s is p's certificate by an earlier root of this farm: p
// belongs here, and what it belongs by has to be found elsewhere.
func (m *Membership) late(p peer.ID, s job.Signed) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.chain {
		if _, subject, err := openCertificate(s, m.chain[i].root, m.id); err == nil && subject == p {
			return true
		}
	}
	return false
}

// left reports whether this node has no certificate by the newest root.
func (m *Membership) left() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.root != "" && !m.farm.Stranger && m.members[m.self].turn != len(m.chain)
}

// learnSuccessions takes in what somebody showed, whoever that is: signatures
// decide. news is set where this node's root is another one now, which is on
// disk then.
func (m *Membership) learnSuccessions(shown []job.Signed) (news bool, err error) {
	if len(shown) == 0 {
		return false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" {
		return false, ErrNoFarm
	}
	chain := slices.Clone(m.chain)
	for _, s := range shown {
		var v Succession
		if err := job.Decode(s.Body, wire.MaxSignedBytes, &v); err != nil {
			return false, fmt.Errorf("succession: %w", err)
		}
		switch {
		case v.No < 1 || v.No > min(len(chain)+1, wire.MaxSuccessions):
			return false, fmt.Errorf("succession: number %d, where %d are known", v.No, len(chain))
		case v.No <= len(chain):
			known := chain[v.No-1]
			l, err := openLink(s, v.No, known.root, m.id)
			if err != nil {
				return false, err
			}
			if l.next != known.next {
				if !m.forked {
					m.forked = true
					m.log.Error("somebody shows another successor of a root key of this farm: that key is in other hands, and what it signed lately should not be trusted", "farm", m.farm.Name, "number", v.No)
				}
				return false, ErrForked
			}
		default:
			at := m.root
			if len(chain) > 0 {
				at = chain[len(chain)-1].next
			}
			l, err := openLink(s, v.No, at, m.id)
			if err != nil {
				return false, err
			}
			chain = append(chain, l)
		}
	}
	if len(chain) == len(m.chain) {
		return false, nil
	}
	return true, m.turnLocked(chain)
}

// turnLocked makes the end of chain the root.
func (m *Membership) turnLocked(chain []link) error {
	file := m.farm
	file.Chain = nil
	for _, l := range chain {
		file.Chain = append(file.Chain, l.signed)
	}
	last := chain[len(chain)-1]
	file.Root = []byte(last.next)
	if err := m.dir.write("farm", farmMagic, file); err != nil {
		return err
	}
	m.farm, m.root, m.chain = file, last.next, chain
	m.carried = time.Now().Add(last.carry)
	if file.Stranger {
		m.members[m.self].turn = len(chain)
	}
	if m.rootKey != nil && !m.root.MatchesPrivateKey(m.rootKey) {
		m.rootKey = nil
		m.log.Warn("the farm's root key was replaced elsewhere: the one on this node is worth nothing any more, and it is no owner", "farm", m.farm.Name)
	}
	m.log.Info("the farm's root key was replaced", "farm", m.farm.Name, "number", len(chain))
	m.tellLocked()
	return nil
}

// Rotate replaces the farm's root key by a new one, which the old one vouches
// for. Members that are away accept it when they come back, at whichever member.
// For the time of carry the members that a node knows need no new certificate.
func (m *Membership) Rotate(carry time.Duration) (Farm, error) {
	if carry < 0 || carry > MaxCarry {
		return Farm{}, fmt.Errorf("rotate: members carried over for %v: at most %v is possible", carry, MaxCarry)
	}
	m.mu.Lock()
	f, last, err := m.rotateLocked(carry)
	m.mu.Unlock()
	if err != nil {
		return Farm{}, err
	}
	m.host.turned(&last)
	return f, nil
}

func (m *Membership) rotateLocked(carry time.Duration) (Farm, job.Signed, error) {
	fail := func(err error) (Farm, job.Signed, error) { return Farm{}, job.Signed{}, err }
	switch {
	case m.root == "":
		return fail(ErrNoFarm)
	case m.rootKey == nil:
		return fail(ErrNotOwner)
	case len(m.chain) >= wire.MaxSuccessions:
		return fail(fmt.Errorf("rotate: the key was replaced %d times already: make a new farm", len(m.chain)))
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return fail(err)
	}
	next, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return fail(err)
	}
	s, err := job.Sign(m.rootKey, job.ContextSuccession, Succession{
		Version: 1, Farm: m.id, No: len(m.chain) + 1, Root: []byte(m.root), Next: []byte(next), At: time.Now(), Carry: int64(carry / time.Second),
	})
	if err != nil {
		return fail(err)
	}
	l, err := openLink(s, len(m.chain)+1, m.root, m.id)
	if err != nil {
		return fail(err)
	}
	// Both keys are on disk until the file that says which one counts is there.
	if err := m.dir.writeRoot(nextKeyFile, key); err != nil {
		return fail(fmt.Errorf("rotate: %w", err))
	}
	old := m.rootKey
	m.rootKey = key
	if err := m.turnLocked(append(slices.Clone(m.chain), l)); err != nil {
		m.rootKey = old
		return fail(fmt.Errorf("rotate: %w", err))
	}
	if err := m.dir.takeNext(); err != nil {
		return fail(fmt.Errorf("rotate: the new key counts, but the old one could not be removed: %w", err)) // the next start takes it
	}
	if err := m.reissueLocked(); err != nil {
		return fail(fmt.Errorf("rotate: the new key counts, but members have no new certificates until the next start: %w", err))
	}
	return m.farmLocked(), s, nil
}

// reissueLocked signs anew, where the root key is here, what an earlier root
// signed and still counts: members, revocations, the content key.
func (m *Membership) reissueLocked() error {
	if m.rootKey == nil || len(m.chain) == 0 {
		return nil
	}
	if err := m.reopenLocked(); err != nil {
		return err
	}
	now := time.Now()
	changed := false
	for p, s := range m.members {
		if s.turn == len(m.chain) || !now.Before(s.cert.Expires) || m.revokedLocked(p, s.cert) {
			continue
		}
		c := s.cert
		c.Issued = now
		signed, err := job.Sign(m.rootKey, job.ContextMember, c)
		if err != nil {
			return err
		}
		s.cert, s.signed, s.turn = c, signed, len(m.chain)
		if p == m.self {
			m.farm.Certificate = signed
		}
		changed = true
	}
	if !changed {
		return nil
	}
	var all []job.Signed
	for p, r := range m.revoked {
		signed, err := job.Sign(m.rootKey, job.ContextRevoke, Revocation{Version: 1, Farm: m.id, Peer: p.String(), At: r.at})
		if err != nil {
			return err
		}
		m.revoked[p] = revokedState{signed, r.at, r.no}
		all = append(all, signed)
	}
	if err := m.dir.write("revoked", revokedMagic, all); err != nil {
		return err
	}
	if !m.content.issued.IsZero() {
		signed, err := job.Sign(m.rootKey, job.ContextContentKey, ContentKey{Version: 1, Farm: m.id, Key: m.content.key[:], Issued: now})
		if err == nil {
			err = m.keepContentKeyLocked(signed)
		}
		if err != nil {
			return err
		}
	}
	if err := m.dir.write("farm", farmMagic, m.farm); err != nil {
		return err
	}
	m.tellLocked()
	return m.saveLocked()
}

// heed takes in successions that a peer showed, and passes on what is new.
func (h *Host) heed(p peer.ID, shown []*wire.Signed, most int) {
	if len(shown) == 0 {
		return
	}
	signed, err := signedValues(shown, most)
	if err == nil {
		var news bool
		if news, err = h.members.learnSuccessions(signed); news && err == nil {
			h.turned(&signed[len(signed)-1])
		}
	}
	if err != nil && !errors.Is(err, ErrNoFarm) {
		h.log.Debug("succession not believed", "peer", p, "err", err)
	}
}

// turned does what a new root asks for. The owner gives everybody new
// certificates; others fetch theirs.
func (h *Host) turned(spread *job.Signed) {
	h.goRun(func(ctx context.Context) {
		h.renew(ctx) // without a certificate nobody listens
		if spread != nil {
			if err := h.offers.publish(&wire.Gossip{Body: &wire.Gossip_Succession{Succession: wire.FromSigned(*spread)}}); err != nil {
				h.log.Debug("succession not announced", "err", err)
			}
		}
		if f, _ := h.members.Farm(); f.Owner {
			h.Tell()
		}
	})
	h.keeper.wake()
}

// renew asks connected members for this node's new certificate until it is
// there: the owner told those that were connected to it.
func (h *Host) renew(ctx context.Context) {
	if !h.renewing.CompareAndSwap(false, true) {
		return
	}
	defer h.renewing.Store(false)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for h.members.left() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// In no order, as a map is walked: another one each time.
		asked := false
		for p := range h.members.contacts() {
			if len(h.host.Network().ConnsToPeer(p)) == 0 {
				continue
			}
			if err := h.hello(ctx, p); err != nil {
				h.log.Debug("asked in vain for a new certificate", "peer", p, "err", err)
			}
			if asked = true; ctx.Err() != nil || !h.members.left() {
				return
			}
			break
		}
		if !asked {
			tick.Reset(retryRecent) // who comes back is greeted anyway
		}
	}
}
