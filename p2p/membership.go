package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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

// certificates are ours, to be shown to members.
func (m *Membership) certificates() []*wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" || m.farm.Stranger {
		return nil
	}
	return []*wire.Signed{wire.FromSigned(m.farm.Certificate)}
}
