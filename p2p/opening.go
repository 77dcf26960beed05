package p2p

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/job"
	"idlewild/p2p/wire"
)

const (
	// OpenTime is how long a farm is open where nothing else is said, and MaxOpen
	// the longest time.
	OpenTime = 30 * 24 * time.Hour
	MaxOpen  = 366 * 24 * time.Hour

	// Difficulty of the work that a stranger does once, in leading zero bits of a
	// hash: each bit doubles it. One core does some five million hashes in a
	// second, so that 24 bits take it four seconds, 30 bits four minutes.
	Difficulty    = 24
	MinDifficulty = 8
	MaxDifficulty = 30

	openingMagic  = "idlewild opening 1\n"
	openingPrefix = "idlewild-open1:"

	maxContacts     = 4  // in the text of an opening
	maxContactAddrs = 4  // of each
	maxContactBytes = 64 // of each peer ID
)

// Opening is the root's word that peers without its certificate may speak to
// members of a farm, or, with Closed, that they may not any more. Of two the
// one by the later root counts, of those by one root that of the greater
// epoch. It travels and is stored as job.Signed in job.ContextOpening.
type Opening struct {
	Version    int       `cbor:"v"` // 1
	Farm       FarmID    `cbor:"farm"`
	Name       string    `cbor:"name"` // of the farm
	Root       []byte    `cbor:"root"` // peer ID of the root key
	Turn       int       `cbor:"turn"` // how often the root key had been replaced
	Epoch      uint64    `cbor:"epoch"`
	Difficulty int       `cbor:"bits"` // of a stranger's work
	Expires    time.Time `cbor:"expires"`
	Closed     bool      `cbor:"closed,omitempty"`
}

// in reports whether the farm is open by o at a time.
func (o Opening) in(now time.Time) bool { return !o.Closed && now.Before(o.Expires) }

// before reports whether other outdates o.
func (o Opening) before(other Opening) bool {
	if o.Turn != other.Turn {
		return o.Turn < other.Turn
	}
	return o.Epoch < other.Epoch
}

// openOpening checks signature, farm and form. Its time is checked where it is
// used.
func openOpening(s job.Signed, root peer.ID, farm FarmID) (Opening, error) {
	var o Opening
	if err := s.Open(root, job.ContextOpening, wire.MaxSignedBytes, &o); err != nil {
		return Opening{}, fmt.Errorf("opening: %w", err)
	}
	if o.Version != 1 || o.Farm != farm || string(o.Root) != string(root) || o.Turn < 0 || o.Turn > wire.MaxSuccessions || checkName(o.Name) != nil ||
		o.Difficulty < MinDifficulty || o.Difficulty > MaxDifficulty || o.Epoch == 0 {
		return Opening{}, errors.New("opening: not one of this farm")
	}
	return o, nil
}

// openingState is the newest opening that a node knows; its epoch is 0 where
// there was none.
type openingState struct {
	Opening
	signed job.Signed
}

// OpenText is what a stranger needs to come into an open farm. As text it is
// openingPrefix and base64url of the CBOR.
type OpenText struct {
	Opening job.Signed `cbor:"opening"`
	// Chain is how its root came after the farm's first one.
	Chain []job.Signed `cbor:"chain,omitempty"`
	// Contacts are members that may be asked first. Nobody vouches for them, and
	// nobody has to: a member shows its certificate.
	Contacts []Contact `cbor:"at,omitempty"`

	opening Opening
}

// Contact is where a member may be.
type Contact struct {
	Peer  []byte   `cbor:"peer"`
	Addrs [][]byte `cbor:"addrs"`
}

func (c Contact) info() (peer.AddrInfo, bool) {
	if len(c.Peer) > maxContactBytes || len(c.Addrs) > maxContactAddrs {
		return peer.AddrInfo{}, false
	}
	p, err := peer.IDFromBytes(c.Peer)
	return peer.AddrInfo{ID: p, Addrs: addrsFrom(c.Addrs)}, err == nil
}

// ErrOpeningMalformed is matched by the refusal of a text that is no opening.
var ErrOpeningMalformed = errors.New("this is not a valid opening of a farm")

// ErrClosed is matched by a refusal because a farm takes no strangers.
var ErrClosed = errors.New("this farm is not open to strangers")

// isOpening reports whether a text that a person pasted claims to be an opening,
// and no ticket.
func isOpening(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), openingPrefix) }

// maxOpeningBytes holds a whole chain of successions.
const maxOpeningBytes = 32 << 10

// parseOpening reads an opening as a person pasted it, and checks that the farm
// that it names said so. Its time is not checked.
func parseOpening(text string) (OpenText, error) {
	malformed := func(why string) (OpenText, error) {
		return OpenText{}, fmt.Errorf("%w: %s", ErrOpeningMalformed, why)
	}
	if len(text) > 2*maxOpeningBytes {
		return malformed("too long")
	}
	body, ok := strings.CutPrefix(strings.Join(strings.Fields(text), ""), openingPrefix)
	if !ok {
		return malformed("it does not begin with " + openingPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return malformed("a character is wrong or missing")
	}
	var t OpenText
	switch err := job.Decode(b, maxOpeningBytes, &t); {
	case errors.Is(err, job.ErrUnknownField):
		return malformed("it is damaged, or of a newer idlewild than this one: update idlewild here")
	case err != nil:
		return malformed("it is damaged or incomplete")
	}
	// The root key is inside what it signed: look at it first, then verify.
	var o Opening
	if err := job.Decode(t.Opening.Body, wire.MaxSignedBytes, &o); err != nil {
		return malformed("it is damaged or incomplete")
	}
	root, err := peer.IDFromBytes(o.Root)
	if err != nil {
		return malformed("its key is damaged")
	}
	_, farm, err := openChain(root, t.Chain)
	if err != nil || farm != o.Farm || o.Turn != len(t.Chain) {
		return malformed("its key is not one of the farm that it names")
	}
	if t.opening, err = openOpening(t.Opening, root, farm); err != nil {
		return malformed("its signature or its content is wrong")
	}
	if len(t.Contacts) > maxContacts || slices.ContainsFunc(t.Contacts, func(c Contact) bool { _, ok := c.info(); return !ok }) {
		return malformed("its contacts are wrong")
	}
	return t, nil
}

func (t OpenText) text() (string, error) {
	b, err := job.Encode(t)
	if err != nil {
		return "", err
	}
	return openingPrefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// Farm is what the opening is of.
func (t OpenText) Farm() Opening { return t.opening }

// Open lets strangers speak to those members that take them, for so long, and
// returns the text by which they come. It outdates an earlier opening, whose
// strangers have to work anew.
func (m *Membership) Open(valid time.Duration, difficulty int) (string, error) {
	if valid < time.Second || valid > MaxOpen {
		return "", fmt.Errorf("open: for %v: a second at least and %d hours at most are possible", valid, int(MaxOpen.Hours()))
	}
	if difficulty < MinDifficulty || difficulty > MaxDifficulty {
		return "", fmt.Errorf("open: difficulty %d: %d to %d bits are possible", difficulty, MinDifficulty, MaxDifficulty)
	}
	if err := m.publishOpening(Opening{Difficulty: difficulty, Expires: time.Now().Add(valid).UTC()}); err != nil {
		return "", err
	}
	return m.OpeningText()
}

// CloseFarm ends the farm's opening: every member lets its strangers go as soon
// as it hears of it.
func (m *Membership) CloseFarm() error {
	m.mu.Lock()
	o, owner, in := m.opening, m.rootKey != nil, m.root != ""
	m.mu.Unlock()
	switch {
	case !in:
		return ErrNoFarm
	case !owner:
		return ErrNotOwner
	case !o.in(time.Now()):
		return fmt.Errorf("close: %w anyway", ErrClosed)
	}
	return m.publishOpening(Opening{Difficulty: o.Difficulty, Expires: o.Expires, Closed: true})
}

func (m *Membership) publishOpening(o Opening) error {
	m.mu.Lock()
	if m.root == "" {
		m.mu.Unlock()
		return ErrNoFarm
	}
	if m.rootKey == nil {
		m.mu.Unlock()
		return ErrNotOwner
	}
	o.Version, o.Farm, o.Name, o.Root, o.Turn = 1, m.id, m.farm.Name, []byte(m.root), len(m.chain)
	// The clock makes an epoch that is later than what was said before a recovery
	// from a backup, of which this node does not know.
	o.Epoch = max(m.opening.Epoch+1, uint64(max(time.Now().Unix(), 0)))
	s, err := job.Sign(m.rootKey, job.ContextOpening, o)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	if _, err := m.applyOpening(s); err != nil {
		return err
	}
	m.log.Info("opening of the farm", "closed", o.Closed, "until", o.Expires, "difficulty", o.Difficulty, "epoch", o.Epoch)
	m.host.spreadOpening(s)
	return nil
}

// applyOpening takes in a statement from whomever: its signature decides. news
// reports whether it was not known before. It is on disk when it takes effect.
func (m *Membership) applyOpening(s job.Signed) (news bool, err error) {
	m.mu.Lock()
	if m.root == "" {
		m.mu.Unlock()
		return false, ErrNoFarm
	}
	o, err := openOpening(s, m.root, m.id)
	if err != nil || o.Turn != len(m.chain) || !m.opening.Opening.before(o) {
		m.mu.Unlock()
		return false, err
	}
	if err := m.dir.write("opening", openingMagic, s); err != nil {
		m.mu.Unlock()
		return false, err
	}
	m.opening = openingState{o, s}
	mine := m.farm.Stranger
	m.tellLocked()
	m.mu.Unlock()
	m.host.keeper.wake() // closes the connections of those who may be here no more
	if mine {
		m.host.goRun(m.host.workAnew)
	}
	return true, nil
}

// loadOpeningLocked reads what was said last.
func (m *Membership) loadOpeningLocked() error {
	m.opening = openingState{}
	var s job.Signed
	if err := m.dir.read("opening", openingMagic, &s); err != nil {
		return ignoreAbsent(err)
	}
	for turn := len(m.chain); turn >= 0; turn-- { // the root may have been replaced since
		if o, err := openOpening(s, m.rootAt(turn), m.id); err == nil {
			m.opening = openingState{o, s}
			return nil
		}
	}
	return fmt.Errorf("%s: not an opening of this farm", m.dir.file("opening"))
}

// reopenLocked signs the opening anew after the root key was replaced. Its epoch
// stays, and so strangers do.
func (m *Membership) reopenLocked() error {
	if m.rootKey == nil || m.opening.Epoch == 0 || m.opening.Turn == len(m.chain) {
		return nil
	}
	o := m.opening.Opening
	o.Root, o.Turn = []byte(m.root), len(m.chain)
	s, err := job.Sign(m.rootKey, job.ContextOpening, o)
	if err != nil {
		return err
	}
	if err := m.dir.write("opening", openingMagic, s); err != nil {
		return err
	}
	m.opening = openingState{o, s}
	return nil
}

// Opening returns the newest opening that this node knows; false where the farm
// is not open by it.
func (m *Membership) Opening() (Opening, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opening.Opening, m.openLocked(time.Now())
}

// openLocked reports whether strangers may be let in now. What an earlier root
// said counts as long as its certificates do.
func (m *Membership) openLocked(now time.Time) bool {
	return m.root != "" && !m.farm.Revoked && m.opening.in(now) && (m.opening.Turn == len(m.chain) || now.Before(m.carried))
}

// OpeningText is the line by which strangers come, made by any node that knows
// the opening. It names this node, and members that take strangers, as those
// to ask first.
func (m *Membership) OpeningText() (string, error) {
	addrs := m.host.direct()
	takers := m.host.takers()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.root == "" {
		return "", ErrNoFarm
	}
	if !m.openLocked(time.Now()) {
		return "", fmt.Errorf("%w: its owner opens it with: idlewild farm open", ErrClosed)
	}
	t := OpenText{Opening: m.opening.signed}
	for _, l := range m.chain {
		t.Chain = append(t.Chain, l.signed)
	}
	add := func(p peer.ID, addrs []ma.Multiaddr) {
		if len(addrs) > 0 && len(t.Contacts) < maxContacts {
			t.Contacts = append(t.Contacts, Contact{[]byte(p), addrBytes(addrs[:min(len(addrs), maxContactAddrs)])})
		}
	}
	if m.host.cfg.Strangers != nil && !m.farm.Stranger {
		add(m.self, addrs)
	}
	for _, p := range takers {
		if s, ok := m.members[p]; ok {
			add(p, s.addrs)
		}
	}
	return t.text()
}

// openingSigned is what goes with a hello, nil where nothing was ever said.
func (m *Membership) openingSigned() *wire.Signed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return wire.FromSigned(m.opening.signed)
}

// hearOpening takes in an opening that came with a message.
func (h *Host) hearOpening(p peer.ID, w *wire.Signed) {
	if w == nil {
		return
	}
	s, err := w.Value(wire.MaxSignedBytes)
	if err == nil && len(s.Body) > 0 {
		_, err = h.members.applyOpening(s)
	}
	if err != nil {
		h.log.Debug("opening not believed", "peer", p, "err", err)
	}
}

// spreadOpening tells every connected member, beside the topic.
func (h *Host) spreadOpening(s job.Signed) {
	if err := h.offers.publish(&wire.Gossip{Body: &wire.Gossip_Opening{Opening: wire.FromSigned(s)}}); err != nil {
		h.log.Debug("opening not announced", "err", err)
	}
	h.Tell()
}
