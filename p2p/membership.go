package p2p

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// How long what the root says holds.
const (
	certificateLife = 10 * 365 * 24 * time.Hour
	// MaxInvite is the longest time for which a ticket can be valid.
	MaxInvite = 30 * 24 * time.Hour

	maxMembers = 65536
)

// Membership decides who belongs to this node's farm: who may speak to it
// beyond admission. Everything else in this package asks it.
//
// What it knows, it knows from certificates that the farm's root signed; it
// keeps them on disk, so that a node that was restarted knows its peers before
// it reaches any of them.
type Membership struct {
	// constant after construction
	self    peer.ID
	name    string // of this node, for people
	dataDir string
	log     *slog.Logger
	host    *Host // through which farms are joined

	mu      sync.Mutex
	dir     farmDir
	id      FarmID         // hash of the first root
	root    peer.ID        // the newest; "": in no farm
	chain   []link         // from the first root to it
	carried time.Time      // until then certificates by an earlier root count that were known before
	forked  bool           // somebody showed another successor than the known one
	rootKey crypto.PrivKey // nil: not the owner's node
	farm    farmFile
	content contentState
	members map[peer.ID]*memberState
	revoked map[peer.ID]revokedState
	// revocationsIn counts statements that were taken in, see revokedState.
	revocationsIn uint64
	opening       openingState
	// Strangers that are here, and how many may be: in all, and of one network.
	strangers                    map[peer.ID]*strangerState
	mostStrangers, mostOfNetwork int

	dirty bool          // members differ from the disk
	moved bool          // so do the times when they were seen
	fresh bool          // by more than times and addresses
	news  chan struct{} // closed and replaced when somebody becomes known
}

type memberState struct {
	cert     Certificate
	signed   job.Signed
	turn     int            // how often the root key had been replaced when the certificate was made
	addrs    []ma.Multiaddr // newest first
	lastSeen time.Time
	kept     time.Time // lastSeen as it is on disk
}

type revokedState struct {
	signed job.Signed
	at     time.Time
	no     uint64 // of those that this program took in
}

// Farm is what this node is a member of.
type Farm struct {
	ID      FarmID
	Name    string
	Owner   bool // this node holds the root key
	Role    Role // of this node
	Revoked bool // the root took this node's right away
	// Turn is how often the root key was replaced. Left is set where this node
	// has no certificate by the newest one yet, Forked where two successors of
	// the same root were seen: somebody else has that key.
	Turn         int
	Left, Forked bool
	// Open is until when strangers are let in; zero: they are not.
	Open time.Time
}

// Member is one peer of the farm.
type Member struct {
	Peer     peer.ID
	Name     string
	Role     Role
	Self     bool
	Issued   time.Time
	Expires  time.Time
	LastSeen time.Time // zero: never since it is known here
}

func openMembership(self peer.ID, name, dataDir string, log *slog.Logger) (*Membership, error) {
	m := &Membership{
		self: self, name: name, dataDir: dataDir, log: log,
		members: map[peer.ID]*memberState{}, revoked: map[peer.ID]revokedState{},
		strangers: map[peer.ID]*strangerState{}, mostStrangers: maxAdmitted, mostOfNetwork: maxPerNetwork,
		news: make(chan struct{}),
	}
	dir, ok, err := findFarmDir(dataDir)
	if err != nil || !ok {
		return m, err
	}
	if err := m.load(dir); err != nil {
		return nil, fmt.Errorf("farm: %w", err)
	}
	return m, nil
}

func (m *Membership) load(dir farmDir) error {
	if err := dir.read("farm", farmMagic, &m.farm); err != nil {
		return err
	}
	root, err := peer.IDFromBytes(m.farm.Root)
	if err != nil {
		return fmt.Errorf("%s: %w", dir.file("farm"), err)
	}
	m.dir, m.root = dir, root
	if m.chain, m.id, err = openChain(root, m.farm.Chain); err != nil {
		return fmt.Errorf("%s: %w", dir.file("farm"), err)
	}
	if err := m.loadOpeningLocked(); err != nil {
		return err
	}
	subject := m.self
	if m.farm.Stranger {
		_, err = m.strangerSelf()
	} else {
		_, subject, _, err = m.openAnyLocked(m.farm.Certificate)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir.file("farm"), err)
	}
	if subject != m.self {
		return fmt.Errorf("%s: the certificate is for peer %s, but this node's identity is %s", dir.file("farm"), subject, m.self)
	}
	if m.rootKey, err = dir.rootOf(root); err != nil {
		return err
	}
	if err := m.loadContentKeyLocked(); err != nil {
		return err
	}
	var revoked []job.Signed
	if err := dir.read("revoked", revokedMagic, &revoked); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, s := range revoked {
		for i := range len(m.chain) + 1 { // it was good when it was written
			if r, p, err := openRevocation(s, m.rootAt(i), m.id); err == nil {
				m.revokeLocked(p, s, r.At)
			}
		}
	}
	var members []memberFile
	if err := dir.read("members", membersMagic, &members); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range members {
		if cert, p, turn, err := m.openAnyLocked(f.Certificate); err == nil {
			m.members[p] = &memberState{cert: cert, signed: f.Certificate, turn: turn, addrs: addrsFrom(f.Addrs), lastSeen: f.LastSeen, kept: f.LastSeen}
		}
	}
	if err := m.addSelfLocked(); err != nil {
		return err
	}
	return m.reissueLocked()
}

// addSelfLocked puts our own certificate among the members.
func (m *Membership) addSelfLocked() error {
	if m.farm.Stranger {
		self, err := m.strangerSelf()
		if err == nil {
			m.members[m.self] = self
		}
		return err
	}
	cert, p, turn, err := m.openAnyLocked(m.farm.Certificate)
	if err != nil {
		return err
	}
	m.members[p] = &memberState{cert: cert, signed: m.farm.Certificate, turn: turn}
	return nil
}

// Farm returns what this node is a member of; false where it is in no farm.
func (m *Membership) Farm() (Farm, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" {
		return Farm{}, false
	}
	return m.farmLocked(), true
}

func (m *Membership) farmLocked() Farm {
	var open time.Time
	if m.openLocked(time.Now()) {
		open = m.opening.Expires
	}
	return Farm{
		Open: open, ID: m.id, Name: m.farm.Name, Owner: m.rootKey != nil,
		Role: m.members[m.self].cert.Role, Revoked: m.farm.Revoked,
		Turn: len(m.chain), Left: !m.farm.Stranger && m.members[m.self].turn != len(m.chain), Forked: m.forked,
	}
}

// FarmID returns the farm's name among machines, "" where there is none.
func (m *Membership) FarmID() FarmID {
	f, _ := m.Farm()
	return f.ID
}

// rootID is the farm's root key, "" where there is no farm.
func (m *Membership) rootID() peer.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.root
}

// Known reports whether p may speak to us: a member now, by a certificate
// that is neither expired nor revoked.
func (m *Membership) Known(p peer.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.knownLocked(p, time.Now())
}

func (m *Membership) knownLocked(p peer.ID, now time.Time) bool {
	if m.root == "" || m.farm.Revoked {
		return false
	}
	s, ok := m.members[p]
	return ok && now.Before(s.cert.Expires) && !m.revokedLocked(p, s.cert) && (s.turn == len(m.chain) || now.Before(m.carried))
}

func (m *Membership) revokedLocked(p peer.ID, c Certificate) bool {
	r, ok := m.revoked[p]
	return ok && !c.Issued.After(r.at)
}

// nameOf is what p's certificate calls it; empty: none is known.
func (m *Membership) nameOf(p peer.ID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.members[p]; ok {
		return s.cert.Name
	}
	return ""
}

// await waits until p is known, or was let in as a stranger, at most until ctx
// ends.
func (m *Membership) await(ctx context.Context, p peer.ID, strangers bool) bool {
	for {
		m.mu.Lock()
		now := time.Now()
		known, news := m.knownLocked(p, now) || strangers && m.strangerLocked(p, now), m.news
		m.mu.Unlock()
		if known {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
}

// Members lists the farm, this node included, by name.
func (m *Membership) Members() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	var out []Member
	for p, s := range m.members {
		if !m.knownLocked(p, now) {
			continue
		}
		out = append(out, Member{
			Peer: p, Name: s.cert.Name, Role: s.cert.Role, Self: p == m.self,
			Issued: s.cert.Issued, Expires: s.cert.Expires, LastSeen: s.lastSeen,
		})
	}
	slices.SortFunc(out, func(a, b Member) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(string(a.Peer), string(b.Peer))
	})
	return out
}

// CreateFarm makes a farm whose root key lies on this node.
func (m *Membership) CreateFarm(name string) (Farm, error) {
	if err := checkName(name); err != nil {
		return Farm{}, fmt.Errorf("create farm: %w", err)
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return Farm{}, err
	}
	root, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return Farm{}, err
	}
	now := time.Now()
	cert, err := job.Sign(key, job.ContextMember, Certificate{
		Version: 1, Farm: farmIDOf(root), Peer: m.self.String(), Name: m.name, Role: RoleOwner,
		Issued: now, Expires: now.Add(certificateLife),
	})
	if err != nil {
		return Farm{}, err
	}
	f, err := m.enter(root, key, farmFile{Root: []byte(root), Name: name, Certificate: cert})
	if err != nil {
		return Farm{}, fmt.Errorf("create farm: %w", err)
	}
	m.log.Info("farm created", "farm", f.ID, "name", name)
	m.host.farmReady()
	return f, nil
}

// enter makes this node a member, on disk first.
func (m *Membership) enter(root peer.ID, key crypto.PrivKey, file farmFile) (Farm, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root != "" && !(m.id == idOfChain(root, file.Chain) && (m.farm.Revoked || m.farm.Stranger)) {
		return Farm{}, fmt.Errorf("this node already belongs to farm %q: leave it first", m.farm.Name)
	}
	chain, id, err := openChain(root, file.Chain)
	if err != nil {
		return Farm{}, err
	}
	dir, err := newFarmDir(m.dataDir, id)
	if err != nil {
		return Farm{}, err
	}
	if key != nil {
		if err := dir.writeRoot(rootKeyFile, key); err != nil {
			return Farm{}, err
		}
	}
	// The file that makes this folder a farm comes last.
	if err := dir.write("farm", farmMagic, file); err != nil {
		return Farm{}, err
	}
	m.dir, m.id, m.root, m.chain, m.rootKey, m.farm = dir, id, root, chain, key, file
	m.carried, m.forked = time.Time{}, false
	if err := m.loadOpeningLocked(); err != nil {
		return Farm{}, err
	}
	if err := m.loadContentKeyLocked(); err != nil {
		return Farm{}, err
	}
	if err := m.addSelfLocked(); err != nil {
		return Farm{}, err
	}
	m.tellLocked()
	return m.farmLocked(), nil
}

// Leave ends this node's membership on its own side: its peers close, and it
// can join another farm. The owner stays: the root key is its farm.
func (m *Membership) Leave() error {
	m.mu.Lock()
	switch {
	case m.root == "":
		m.mu.Unlock()
		return ErrNoFarm
	case m.rootKey != nil:
		m.mu.Unlock()
		return fmt.Errorf("leave: the root key of farm %q is on this node", m.farm.Name)
	}
	if err := os.Rename(m.dir.file("farm"), m.dir.file("farm.left")); err != nil {
		m.mu.Unlock()
		return fmt.Errorf("leave: %w", err)
	}
	m.log.Info("farm left", "name", m.farm.Name)
	m.id, m.root, m.chain, m.farm, m.dir, m.dirty, m.fresh = "", "", nil, farmFile{}, farmDir{}, false, false
	m.content, m.opening = contentState{}, openingState{}
	clear(m.members)
	clear(m.revoked)
	clear(m.strangers)
	m.mu.Unlock()
	m.host.farmGone()
	return nil
}

// Find returns the member that a person named: by its name or its peer ID.
func (m *Membership) Find(name string) (peer.ID, error) {
	var found []peer.ID
	for _, v := range m.Members() {
		if v.Peer.String() == name {
			return v.Peer, nil
		}
		if v.Name == name {
			found = append(found, v.Peer)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%q: %w", name, ErrNotMember)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q names %d members: give the peer ID", name, len(found))
}

// tellLocked wakes whoever awaits a peer.
func (m *Membership) tellLocked() {
	close(m.news)
	m.news = make(chan struct{})
}

// Invite returns a ticket with which one peer can join until it expires.
func (m *Membership) Invite(valid time.Duration) (string, error) {
	return m.invite(valid, RoleMember, 0)
}

// InviteGuest is Invite for a peer that is a member for so long after it came,
// in whole seconds.
func (m *Membership) InviteGuest(valid, stay time.Duration) (string, error) {
	if stay < time.Second || stay > certificateLife {
		return "", fmt.Errorf("invite: a guest for %v: a second at least and ten years at most are possible", stay)
	}
	return m.invite(valid, RoleGuest, stay)
}

func (m *Membership) invite(valid time.Duration, role Role, stay time.Duration) (string, error) {
	if valid <= 0 || valid > MaxInvite {
		return "", fmt.Errorf("invite: valid for %v: more than nothing and at most %v is possible", valid, MaxInvite)
	}
	addrs := m.host.direct() // relays carry members only
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" {
		return "", ErrNoFarm
	}
	if m.rootKey == nil {
		return "", ErrNotOwner
	}
	var issued int64
	if m.farm.Recovered > 0 {
		issued = time.Now().UnixMilli() // after that; of all others the time is of no use
	}
	return newTicket(m.rootKey, Ticket{
		Issued: issued, Farm: m.id, Turn: len(m.chain), Name: m.farm.Name, Root: []byte(m.root), Inviter: m.self.String(),
		Addrs: addrBytes(addrs), Role: role, Expires: time.Now().Add(valid), Stay: int64(stay / time.Second),
	})
}

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

// certificates are ours, to be shown to members.
func (m *Membership) certificates() []*wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" || m.farm.Stranger {
		return nil
	}
	return []*wire.Signed{wire.FromSigned(m.farm.Certificate)}
}
