package p2p

import (
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// learn takes in a certificate and addresses that somebody showed. Older
// certificates than the known one are ignored.
func (m *Membership) learn(s job.Signed, addrs []ma.Multiaddr) (peer.ID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" {
		return "", ErrNoFarm
	}
	cert, p, err := openCertificate(s, m.root, m.id)
	if err != nil {
		return "", err
	}
	if m.revokedLocked(p, cert) {
		return p, fmt.Errorf("%s: %w", p, ErrRevoked)
	}
	if !time.Now().Before(cert.Expires) {
		return p, fmt.Errorf("%s: certificate expired at %s", p, cert.Expires.Format(time.DateTime))
	}
	old, ok := m.members[p]
	switch {
	case !ok && len(m.members) >= maxMembers:
		return p, fmt.Errorf("farm is full: %d members", len(m.members))
	case p == m.self && m.farm.Stranger:
		return p, nil // members come in with a ticket
	case !ok:
		m.members[p] = &memberState{cert: cert, signed: s, turn: len(m.chain), addrs: addrs}
	case old.turn != len(m.chain) || cert.Issued.After(old.cert.Issued):
		old.cert, old.signed, old.turn = cert, s, len(m.chain)
		if p == m.self {
			m.farm.Certificate = s
			if err := m.dir.write("farm", farmMagic, m.farm); err != nil {
				return p, err
			}
		}
	default:
		// What others say of addresses only fills a gap: the peer itself
		// and our own connections know better.
		if len(old.addrs) == 0 && len(addrs) > 0 && p != m.self {
			old.addrs, m.dirty = addrs, true
		}
		return p, nil
	}
	delete(m.strangers, p) // it is more now
	m.dirty, m.fresh = true, true
	m.tellLocked()
	return p, nil
}

// seen notes that p is here now, and where it says it listens.
func (m *Membership) seen(p peer.ID, addrs []ma.Multiaddr) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.members[p]
	if !ok || p == m.self {
		return
	}
	s.lastSeen, m.moved = time.Now(), true
	// An idle machine writes nothing: who was here a moment ago is worth a write
	// at the end, or now and then.
	m.dirty = m.dirty || s.lastSeen.Sub(s.kept) > keepSeen
	addrs = addrs[:min(len(addrs), wire.MaxAddrs)]
	if len(addrs) > 0 && !slices.EqualFunc(s.addrs, addrs, ma.Multiaddr.Equal) {
		// Where a member is must survive a crash: both sides may restart.
		s.addrs, m.fresh = addrs, true
	}
}

// keepSeen is how old the time may be that is on disk for a member that is here.
const keepSeen = time.Hour

// save writes what changed since the last time; at the end also what changes
// all the time.
func (m *Membership) save(end bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirty && !(end && m.moved) || m.root == "" {
		return nil
	}
	return m.saveLocked()
}

// saveFresh writes new members and addresses, of which many may have come at
// once.
func (m *Membership) saveFresh() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.fresh || m.root == "" {
		return
	}
	if err := m.saveLocked(); err != nil {
		m.log.Error("members not written", "err", err) // tried again with the next save
	}
}

func (m *Membership) saveLocked() error {
	all := make([]memberFile, 0, len(m.members))
	for p, s := range m.members {
		if p != m.self {
			all = append(all, memberFile{s.signed, addrBytes(s.addrs), s.lastSeen})
			s.kept = s.lastSeen
		}
	}
	if err := m.dir.write("members", membersMagic, all); err != nil {
		return fmt.Errorf("members: %w", err)
	}
	m.dirty, m.fresh, m.moved = false, false, false
	return nil
}

// contacts returns the known members but us, with where they were.
func (m *Membership) contacts() map[peer.ID]contact {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[peer.ID]contact, len(m.members))
	now := time.Now()
	for p, s := range m.members {
		// One whose certificate is by an earlier root is dialled too: either side
		// may have what the other one lacks.
		late := s.turn != len(m.chain) && now.Before(s.cert.Expires) && !m.revokedLocked(p, s.cert) && !m.farm.Revoked
		if p != m.self && (late || m.knownLocked(p, now)) {
			out[p] = contact{slices.Clone(s.addrs), s.lastSeen}
		}
	}
	return out
}

type contact struct {
	addrs    []ma.Multiaddr
	lastSeen time.Time
}

// records are the members for a hello, the newest seen first.
func (m *Membership) records() []*wire.MemberRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var out []*wire.MemberRecord
	for p, s := range m.members {
		if p == m.self || s.turn != len(m.chain) || !m.knownLocked(p, now) {
			continue
		}
		r := &wire.MemberRecord{Certificate: wire.FromSigned(s.signed), Addrs: addrBytes(s.addrs)}
		if !s.lastSeen.IsZero() {
			r.LastSeenMs = s.lastSeen.UnixMilli()
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *wire.MemberRecord) int { return int(b.LastSeenMs - a.LastSeenMs) })
	return out[:min(len(out), wire.MaxHelloMembers)]
}
