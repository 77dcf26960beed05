package p2p

import (
	"cmp"
	"fmt"
	"maps"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// Revoke takes a peer's membership away, for good until it is invited anew.
// Every member closes its connections as soon as it hears of it.
func (m *Membership) Revoke(p peer.ID) error {
	m.mu.Lock()
	if m.root == "" {
		m.mu.Unlock()
		return ErrNoFarm
	}
	if m.rootKey == nil {
		m.mu.Unlock()
		return ErrNotOwner
	}
	id, key := m.id, m.rootKey
	_, known := m.members[p]
	known = known || m.opening.Epoch > 0 // a stranger may be at another member
	m.mu.Unlock()
	if p == m.self {
		return fmt.Errorf("revoke: the owner cannot revoke itself")
	}
	if !known {
		return fmt.Errorf("revoke %s: %w", p, ErrNotMember)
	}
	s, err := job.Sign(key, job.ContextRevoke, Revocation{Version: 1, Farm: id, Peer: p.String(), At: time.Now()})
	if err != nil {
		return err
	}
	if _, err := m.applyRevocation(s); err != nil {
		return fmt.Errorf("revoke %s: %w", p, err)
	}
	m.log.Info("member revoked", "peer", p)
	m.host.spread(s)
	return nil
}

// applyRevocation takes in a statement from whomever; news reports whether it
// was not known before. It is on disk when it takes effect.
func (m *Membership) applyRevocation(s job.Signed) (news bool, err error) {
	return m.applyRevocations([]job.Signed{s})
}

// applyRevocations does the same for several with one write. What is wrong with
// one of them keeps out no other.
func (m *Membership) applyRevocations(said []job.Signed) (news bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" {
		return false, ErrNoFarm
	}
	before := maps.Clone(m.revoked)
	var wrong error // the first one
	for _, s := range said {
		r, p, err := openRevocation(s, m.root, m.id)
		if err == nil {
			err = m.roomForLocked(p)
		}
		if err != nil {
			wrong = cmp.Or(wrong, err)
		} else if old, ok := m.revoked[p]; !ok || r.At.After(old.at) {
			m.revokeLocked(p, s, r.At)
			news = true
		}
	}
	if !news {
		return false, wrong
	}
	all := make([]job.Signed, 0, len(m.revoked))
	for _, v := range m.revoked {
		all = append(all, v.signed)
	}
	if err := m.dir.write("revoked", revokedMagic, all); err != nil {
		m.revoked = before
		return false, err
	}
	if _, ok := m.revoked[m.self]; ok && !m.farm.Revoked && m.revokedLocked(m.self, m.members[m.self].cert) {
		m.farm.Revoked = true
		m.log.Warn("this node's membership was revoked by the farm's owner", "farm", m.farm.Name)
		if err := m.dir.write("farm", farmMagic, m.farm); err != nil {
			m.log.Error("farm file not written", "err", err)
		}
	}
	m.host.keeper.wake() // closes its connections
	return true, wrong
}

// roomForLocked says why no statement about p is taken in that is the first about
// it; nil: it is.
func (m *Membership) roomForLocked(p peer.ID) error {
	if _, ok := m.revoked[p]; ok {
		return nil
	}
	if len(m.revoked) >= wire.MaxRevocations {
		return fmt.Errorf("%d revocations already: make a new farm", len(m.revoked))
	}
	if _, member := m.members[p]; !member && m.rootKey != nil && len(m.revoked) >= wire.MaxRevocations/2 {
		return fmt.Errorf("%d revocations already, and the rest is kept for members: close the farm and open it anew, with more work", len(m.revoked))
	}
	return nil
}

func (m *Membership) revokeLocked(p peer.ID, s job.Signed, at time.Time) {
	m.revocationsIn++
	m.revoked[p] = revokedState{s, at, m.revocationsIn}
}

func (m *Membership) revokedLocked(p peer.ID, c Certificate) bool {
	r, ok := m.revoked[p]
	return ok && !c.Issued.After(r.at)
}

type revokedState struct {
	signed job.Signed
	at     time.Time
	no     uint64 // of those that this program took in
}

func (m *Membership) revocations() []*wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*wire.Signed
	for _, r := range m.revoked {
		out = append(out, wire.FromSigned(r.signed))
	}
	return out
}

// revocationOf returns the root's statement about p that is in force.
func (m *Membership) revocationOf(p peer.ID) (job.Signed, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.revoked[p]
	if s, member := m.members[p]; ok && member && !m.revokedLocked(p, s.cert) {
		ok = false
	}
	return r.signed, ok
}
